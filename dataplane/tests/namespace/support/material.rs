//! Files and certificates.

use std::path::PathBuf;
use std::sync::Arc;

use lockgate_testing::Random;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use lockgate_testing::network::{SERVER4, SERVER6};

/// Random bytes, the same ones for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    Random::new(seed).bytes(len)
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
