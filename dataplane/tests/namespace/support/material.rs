//! Files and certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::net::{SERVER4, SERVER6};

/// A directory; gone when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Its path is short: sockets are in it.
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(directory.join("www")).expect("there's room for a directory");
        Self(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes directories of test processes that are no more.
pub(crate) fn remove_stale() {
    for entry in fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(PREFIX).is_some_and(is_of_the_dead) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether a name, the prefix taken off, begins with the number of a process that is no more.
pub(crate) fn is_of_the_dead(name: &str) -> bool {
    let process = name
        .split('-')
        .next()
        .filter(|pid| pid.parse::<u32>().is_ok());
    process.is_some_and(|process| !Path::new("/proc").join(process).exists())
}

/// Bytes that look random, the same ones for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Writes a self-signed certificate and its key: `{stem}.crt` and `{stem}.key`.
pub(crate) fn certificate(
    directory: &Path,
    stem: &str,
    algorithm: &'static SignatureAlgorithm,
    names: &[&str],
) {
    let key = KeyPair::generate_for(algorithm).expect("a key can be made");
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).expect("the names are names");
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, stem);
    let certificate = parameters.self_signed(&key).expect("it signs itself");
    let write = |extension: &str, text: String| {
        let file = directory.join(stem).with_extension(extension);
        fs::write(file, text).expect("there's room for a file");
    };
    write("crt", certificate.pem());
    write("key", key.serialize_pem());
}

/// Names of the appliance's certificates.
pub(crate) const NAMES: &[&str] = &[HOST, SERVER4, SERVER6];

/// The name of the appliance.
pub(crate) const HOST: &str = "lockgate.test";

/// The certificates in these files, as what a client trusts.
pub(crate) fn roots(files: &[PathBuf]) -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    for file in files {
        let certificate = CertificateDer::from_pem_file(file).expect("it was written by us");
        store.add(certificate).expect("it's a certificate");
    }
    Arc::new(store)
}

const PREFIX: &str = "lockgate-ns-";
