//! Parses `[[certificate]]`, `[[site]]` and `[control]`, which name files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lockgate_cache::RootId;
use lockgate_stack::tls::Certificate;

use super::document::Document;
use super::fault::Place;
use super::reader::Located;
use super::{CertificateFiles, Config, Host};
use crate::certificates::{self, CertificateFileError};
use crate::server::{HostPattern, Site, Sites};

/// The sections `[[certificate]]`, loaded.
#[derive(Default)]
pub(super) struct LoadedCertificates {
    pub(super) certificates: Vec<Certificate>,
    pub(super) files: Vec<CertificateFiles>,
    pub(super) warnings: Vec<super::Fault>,
}

/// Loads the certificates. An expired one is a warning: clients decide for themselves, and the
/// other certificates and plain HTTP still work.
pub(super) fn certificates(
    document: &Document<'_>,
    file: &Path,
    host: &Host,
) -> LoadedCertificates {
    let mut loaded = LoadedCertificates::default();
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
                    let place = reader.place("chain");
                    loaded
                        .warnings
                        .push(super::Fault::new(file, place, message));
                }
                loaded.certificates.push(certificate);
                loaded.files.push(CertificateFiles {
                    chain,
                    key,
                    validity,
                });
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
    loaded
}

/// The sections `[[site]]`.
pub(super) struct ParsedSites {
    pub(super) sites: Sites,
    pub(super) roots: Vec<PathBuf>,
    /// Where each root is set.
    pub(super) places: Vec<Place>,
    pub(super) warnings: Vec<super::Fault>,
}

/// Parses the sites, and the directories that they are served from. A directory whose file system
/// doesn't answer is a warning: the other sites still work.
pub(super) fn sites(document: &Document<'_>, file: &Path, checks_roots: bool) -> ParsedSites {
    let mut sites = Sites::new();
    let mut roots = Vec::new();
    let (mut places, mut checked) = (Vec::new(), Vec::new());
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
        places.push(reader.place("root"));
        // A missing one is a fault already.
        checked.push(root.is_some() && checks_roots);
        roots.push(root.unwrap_or_default());
    }
    let each = roots.iter().zip(&places).zip(checked);
    let each: Vec<_> = each.filter(|(_, is_checked)| *is_checked).collect();
    let check = |((root, _), _): &((&PathBuf, _), _)| {
        let root = (*root).clone();
        move || check_directory(&root)
    };
    let results = lockgate_cache::results_within(ROOT_WAIT, each.iter().map(check));
    let mut warnings = Vec::new();
    for (((root, place), _), result) in each.into_iter().zip(results) {
        match result {
            Some(Ok(())) => {}
            Some(Err(message)) => document.fault(place.clone(), message),
            None => {
                let message = format!(
                    "{}: the file system doesn't answer; the site has no files until it does",
                    root.display()
                );
                warnings.push(super::Fault::new(file, place.clone(), message));
            }
        }
    }
    ParsedSites {
        sites,
        roots,
        places,
        warnings,
    }
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
