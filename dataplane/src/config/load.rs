//! Loads a configuration file into a [`Config`].

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::document::Document;
use super::fault::{Fault, Faults, Place};
use super::{Config, Host, memory, network, sections, serving};

/// Reads and checks a configuration file and the files that it names.
///
/// # Errors
/// All faults of the file.
pub fn load(file: &Path, host: &Host) -> Result<Config, Faults> {
    parse(file, &read(file)?, host)
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
    let document = Document::parse(file, text)?;
    let workers = network::workers(&document, host);
    let (limits, pool) = (sections::limits(&document), sections::pool(&document));
    let ports = network::ports(&document, workers.cores.len());
    let interfaces = network::interfaces(&document, &ports);
    let routes = network::routes(&document, &interfaces);
    let ktls = sections::ktls(&document);
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
    let (certificates, mut warnings) = serving::certificates(&document, file, host);
    let (sites, roots, of_sites) = serving::sites(&document, file);
    warnings.extend(of_sites);
    if !document.many("listener").is_empty() && roots.is_empty() {
        document.fault(
            Place::new(0, "site"),
            "there is no [[site]]: listeners serve nothing",
        );
    }
    let (cache, cache_bytes) = sections::cache(&document);
    let ports = network::settings(ports, &interfaces, &document, workers.cores.len());
    let settings = ports.iter().map(|port| &port.settings);
    let needed = memory::needed(workers.cores.len(), settings, pool, cache_bytes);
    let config = Config {
        file: file.to_path_buf(),
        eal: sections::eal(&document, needed, &ports),
        tcp: sections::tcp(&document),
        tls: sections::tls(&document),
        http: sections::http(&document),
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
        certificates,
        listeners,
        sites,
        roots,
        cache,
        cache_bytes,
        limits,
        pool,
        warnings,
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
