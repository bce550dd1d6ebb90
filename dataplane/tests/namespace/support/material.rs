//! Files and certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockgate_testing::Random;
use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use lockgate_testing::network::{SERVER4, SERVER6};

/// Random bytes, the same ones for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    Random::new(seed).bytes(len)
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
