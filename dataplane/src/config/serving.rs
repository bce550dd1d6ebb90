//! Parses `[[certificate]]`, `[[site]]` and `[control]`, which name files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lockgate_cache::RootId;
use lockgate_stack::tls::Certificate;

use super::document::Document;
use super::reader::Located;
use super::{Config, Host};
use crate::certificates::{self, CertificateFileError};
use crate::server::{HostPattern, Site, Sites};

/// Loads the certificates. An expired one is a warning: clients decide for themselves, and the
/// other certificates and plain HTTP still work.
pub(super) fn certificates(
    document: &Document<'_>,
    file: &Path,
    host: &Host,
) -> (Vec<Certificate>, Vec<super::Fault>) {
    let (mut loaded, mut warnings) = (Vec::new(), Vec::new());
    for reader in document.many("certificate") {
        let chain = reader
            .text("chain")
            .map(|at| Config::resolve(file, &at.value));
        let key = reader
            .text("key")
            .map(|at| Config::resolve(file, &at.value));
        let (Some(chain), Some(key)) = (chain, key) else {
            continue;
        };
        match certificates::load(&chain, &key) {
            Ok((certificate, validity)) => {
                if let Some(warning) = validity.validity_at(host.unix_seconds) {
                    let message = format!("{}: {warning}", chain.display());
                    warnings.push(super::Fault::new(file, reader.place("chain"), message));
                }
                loaded.push(certificate);
            }
            Err(error) => {
                let name = match &error {
                    CertificateFileError::Chain { .. } => "chain",
                    CertificateFileError::Key { .. } | CertificateFileError::Mismatch { .. } => {
                        "key"
                    }
                };
                reader.fault(name, error.to_string());
            }
        }
    }
    (loaded, warnings)
}

/// Parses the sites, and the directories that they are served from. A directory whose file system
/// doesn't answer is a warning: the other sites still work.
pub(super) fn sites(
    document: &Document<'_>,
    file: &Path,
) -> (Sites, Vec<PathBuf>, Vec<super::Fault>) {
    let mut sites = Sites::new();
    let mut roots = Vec::new();
    let mut places = Vec::new();
    let mut taken: HashMap<HostPattern, u32> = HashMap::new();
    for reader in document.many("site") {
        let mut hosts = Vec::new();
        for Located { value, place } in reader.texts("hosts") {
            let Ok(host) = value.parse::<HostPattern>() else {
                let message = format!("expected a host name, *.domain or *, found {value:?}");
                document.fault(place, message);
                continue;
            };
            match taken.insert(host.clone(), place.line) {
                Some(line) => {
                    document.fault(
                        place,
                        format!("\"{host}\" comes twice, first in line {line}"),
                    );
                }
                None => hosts.push(host),
            }
        }
        let root = reader
            .text("root")
            .map(|at| Config::resolve(file, &at.value));
        let index = reader
            .text("index")
            .map(|at| at.value)
            .filter(|name| !name.is_empty());
        if index.as_deref().is_some_and(|name| !is_file_name(name)) {
            reader.fault("index", "expected a file name without a directory");
        }
        let site = Site {
            root: RootId::new(u16::try_from(roots.len()).unwrap_or(u16::MAX)),
            index: index.map(Arc::from),
        };
        for host in hosts {
            sites.insert(host, site.clone());
        }
        if root.is_some() {
            places.push((roots.len(), reader.place("root")));
        }
        roots.push(root.unwrap_or_default());
    }
    let check = |(at, _): &(usize, _)| {
        let root: PathBuf = roots.get(*at).cloned().unwrap_or_default();
        move || check_directory(&root)
    };
    let checked = lockgate_cache::results_within(ROOT_WAIT, places.iter().map(check));
    let mut warnings = Vec::new();
    for ((at, place), result) in places.into_iter().zip(checked) {
        match result {
            Some(Ok(())) => {}
            Some(Err(message)) => document.fault(place, message),
            None => {
                let root = roots.get(at).map(|root| root.display());
                let root = root.map(|root| root.to_string()).unwrap_or_default();
                let message = format!(
                    "{root}: the file system doesn't answer; the site has no files until it does"
                );
                warnings.push(super::Fault::new(file, place, message));
            }
        }
    }
    (sites, roots, warnings)
}

pub(super) fn control_socket(document: &Document<'_>, file: &Path) -> Option<PathBuf> {
    let control = document.one("control");
    let socket = control
        .text("socket")
        .map(|at| Config::resolve(file, &at.value));
    if let Some(path) = &socket {
        let length = path.as_os_str().len();
        if path.file_name().is_none() || path.is_dir() {
            control.fault("socket", "expected the path of a socket");
        } else if length > SOCKET_PATH_MAX {
            let message = format!("{length} bytes long; a socket's path has {SOCKET_PATH_MAX}");
            control.fault("socket", message);
        } else if let Some(Err(message)) = path.parent().map(check_directory) {
            control.fault("socket", message);
        }
    }
    socket
}

fn check_directory(path: &Path) -> Result<(), String> {
    // The file was named without a directory.
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(format!("{} is not a directory", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

fn is_file_name(name: &str) -> bool {
    name.len() <= 255 && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// How long all roots together may take to answer.
const ROOT_WAIT: Duration = Duration::from_secs(2);

/// `sun_path` has 108 bytes, one of them for the end.
const SOCKET_PATH_MAX: usize = 107;
