//! Lists of suites for tests.

use crate::{BackendChoice, Ciphers, Params, Version};

/// Every suite that can be sent.
pub(crate) fn sending() -> Vec<Params> {
    let ciphers = Ciphers::new(BackendChoice::Auto, 1);
    let supported = |params: &Params| ciphers.supports(*params);
    Params::ALL.into_iter().filter(supported).collect()
}

/// Every suite that can be received.
pub(crate) fn receiving() -> Vec<Params> {
    let mut all = sending();
    all.retain(|params| params.can_receive());
    all
}

pub(crate) fn tls13() -> Vec<Params> {
    let mut all = receiving();
    all.retain(|params| params.version == Version::Tls13);
    all
}

pub(crate) fn before_tls13() -> Vec<Params> {
    let mut all = receiving();
    all.retain(|params| params.version != Version::Tls13);
    all
}

/// AES-CBC since TLS 1.1.
pub(crate) fn cbc_nonzero() -> Vec<Params> {
    let mut all = receiving();
    all.retain(|params| params.suite.is_cbc());
    all
}

/// Suites whose records have an explicit nonce or IV.
pub(crate) fn explicit() -> Vec<Params> {
    let mut all = receiving();
    all.retain(|params| params.shape().explicit_len > 0);
    all
}

/// The suite's name in FreeBSD's `ktls_test.c`, which has no CCM.
pub(crate) fn name(params: Params) -> &'static str {
    let names = [
        "aes128_gcm_1_2",
        "aes256_gcm_1_2",
        "chacha20_poly1305_1_2",
        "aes128_gcm_1_3",
        "aes256_gcm_1_3",
        "chacha20_poly1305_1_3",
        "aes128_ccm_1_2",
        "aes256_ccm_1_2",
        "aes128_ccm8_1_2",
        "aes128_ccm_1_3",
        "aes128_ccm8_1_3",
        "aes128_cbc_1_0_sha1",
        "aes256_cbc_1_0_sha1",
        "aes128_cbc_1_1_sha1",
        "aes256_cbc_1_1_sha1",
        "aes128_cbc_1_2_sha1",
        "aes256_cbc_1_2_sha1",
        "aes128_cbc_1_2_sha256",
        "aes256_cbc_1_2_sha256",
        "aes128_cbc_1_2_sha384",
        "aes256_cbc_1_2_sha384",
    ];
    let at = Params::ALL.iter().position(|&one| one == params);
    names[at.expect("a suite that is defined")]
}
