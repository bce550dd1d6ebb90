//! Loads a configuration file into a [`Config`].

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::document::Document;
use super::fault::{Fault, Faults, Place};
use super::memory::MemorySum;
use super::{Config, Host, network, process, sections, serving};
use crate::privileges::Identity;

/// Reads and checks a configuration file and the files that it names.
///
/// # Errors
/// All faults of the file.
pub fn load(file: &Path, host: &Host) -> Result<Config, Faults> {
    parse(file, &read(file)?, host)
}

/// As [`load`], for a process that runs the configuration. If it drops root, the directories of
/// sites aren't checked here but opened after the drop.
///
/// The check has threads, and a file system that hangs keeps them. Such a thread would stay root,
/// and `setresuid` of glibc would wait for it for ever.
///
/// # Errors
/// All faults of the file.
pub fn load_to_run(file: &Path, host: &Host) -> Result<Config, Faults> {
    parse_with(file, &read(file)?, host, |identity| identity.is_none())
}

/// Returns the control socket that a configuration file names. Nothing else in it is checked, so
/// that `lockgate stats` works while the file is being edited.
///
/// # Errors
/// The file can't be read, or names no control socket.
pub fn control_socket(file: &Path) -> Result<PathBuf, Faults> {
    let text = read(file)?;
    let socket = serving::control_socket(&Document::parse(file, &text)?, file);
    let missing = || Faults::from(Fault::new(file, Place::new(0, "control.socket"), "not set"));
    socket.ok_or_else(missing)
}

/// Checks the text of a configuration file and the files that it names. Relative paths start at the
/// directory of `file`, which need not exist.
///
/// # Errors
/// All faults of the text.
pub fn parse(file: &Path, text: &str, host: &Host) -> Result<Config, Faults> {
    parse_with(file, text, host, |_| true)
}

/// As [`parse`]. `checks_roots` says for the identity whether the sites' directories are checked.
fn parse_with(
    file: &Path,
    text: &str,
    host: &Host,
    checks_roots: fn(Option<&Identity>) -> bool,
) -> Result<Config, Faults> {
    let document = Document::parse(file, text)?;
    let workers = network::workers(&document, host);
    let (limits, pool) = (sections::limits(&document), sections::pool(&document));
    let ports = network::ports(&document, workers.cores.len());
    let interfaces = network::interfaces(&document, &ports);
    let routes = network::routes(&document, &interfaces);
    let ktls = sections::ktls(&document, host, &workers.cores);
    let has_certificate = !document.many("certificate").is_empty();
    let listeners = network::listeners(&document, &interfaces, || {
        if !has_certificate {
            Err("there is no [[certificate]]")
        } else if !ktls.enable {
            Err("ktls.enable is false, so there can be no TLS")
        } else {
            Ok(())
        }
    });
    let mut loaded = serving::certificates(&document, file, host);
    let identity = process::identity(&document);
    let sites = serving::sites(&document, file, checks_roots(identity.as_ref()));
    loaded.warnings.extend(sites.warnings);
    if !document.many("listener").is_empty() && sites.roots.is_empty() {
        document.fault(
            Place::new(0, "site"),
            "there is no [[site]]: listeners serve nothing",
        );
    }
    let (cache, cache_bytes) = sections::cache(&document);
    let ports = network::settings(ports, &interfaces, &document, workers.cores.len());
    let settings = ports.iter().map(|port| &port.settings);
    let needed = MemorySum::new(workers.cores.len(), settings, pool, cache_bytes);
    let config = Config {
        file: file.to_path_buf(),
        eal: sections::eal(&document, needed, &ports),
        tcp: sections::tcp(&document),
        tls: sections::tls(&document),
        http: sections::http(&document),
        identity,
        control_socket: serving::control_socket(&document, file),
        drain_deadline: document.one("drain").time("deadline"),
        log_level: sections::log_level(&document),
        #[cfg(feature = "fault-injection")]
        test: sections::test(&document),
        workers,
        ports,
        interfaces,
        routes,
        ktls,
        certificates: loaded.certificates,
        certificate_files: loaded.files,
        listeners,
        sites: sites.sites,
        roots: sites.roots,
        root_places: sites.places,
        cache,
        cache_bytes,
        limits,
        pool,
        warnings: loaded.warnings,
    };
    document.finish()?;
    Ok(config)
}

fn read(file: &Path) -> Result<String, Faults> {
    let whole = |message: String| Faults::from(Fault::new(file, Place::default(), message));
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file);
    let read = opened.and_then(|f| f.take(FILE_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| whole(format!("can't be read: {error}")))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_MAX) {
        return Err(whole(format!("larger than {} MiB", FILE_MAX >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let lines = error.as_bytes()[..valid]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        let line = u32::try_from(lines + 1).unwrap_or(u32::MAX);
        Faults::from(Fault::new(file, Place::new(line, ""), "not UTF-8"))
    })
}

/// The longest configuration file, in bytes.
const FILE_MAX: u64 = 4 << 20;
