//! Key schedules: the part of TLS 1.3's that is used after the handshake (RFC 8446, 7), and the
//! keys of TLS 1.2 (RFC 5246, 5 and 6.3).

use aws_lc_rs::{hkdf, tls_prf};

use crate::suite::{NONCE_LEN, Suite};

/// Fills `out` with HKDF-Expand-Label(`secret`, `label`, `context`, length of `out`), using the
/// hash of `suite`.
///
/// Lengths in bytes: `label` at most 12, `context` at most a hash, `secret` and `out` at most 64.
pub fn expand_label(suite: Suite, secret: &[u8], label: &str, context: &[u8], out: &mut [u8]) {
    //= https://www.rfc-editor.org/rfc/rfc8446#section-7.1
    //# struct {
    //#     uint16 length = Length;
    //#     opaque label<7..255> = "tls13 " + Label;
    //#     opaque context<0..255> = Context;
    //# } HkdfLabel;
    let byte = |len: usize| u8::try_from(len).unwrap_or(u8::MAX);
    let info: [&[u8]; 5] = [
        &[0, byte(out.len()), byte(PREFIX.len() + label.len())],
        PREFIX,
        label.as_bytes(),
        &[byte(context.len())],
        context,
    ];
    let algorithm = if has_sha384(suite) {
        hkdf::HKDF_SHA384
    } else {
        hkdf::HKDF_SHA256
    };
    let filled = hkdf::Prk::new_less_safe(algorithm, secret)
        .expand(&info, Length(out.len()))
        .and_then(|okm| okm.fill(out));
    assert!(filled.is_ok(), "HKDF output is far below 255 hashes");
}

/// Derives the traffic secret that follows `secret`. Both are as long as the suite's hash.
pub fn next_secret(suite: Suite, secret: &[u8], next: &mut [u8]) {
    //= https://www.rfc-editor.org/rfc/rfc8446#section-7.2
    //# application_traffic_secret_N+1 =
    //#     HKDF-Expand-Label(application_traffic_secret_N,
    //#                       "traffic upd", "", Hash.length)
    expand_label(suite, secret, "traffic upd", &[], next);
}

/// Derives key and IV from a traffic secret. `key` is as long as the suite's key.
pub fn traffic_keys(suite: Suite, secret: &[u8], key: &mut [u8], iv: &mut [u8; NONCE_LEN]) {
    //= https://www.rfc-editor.org/rfc/rfc8446#section-7.3
    //# [sender]_write_key = HKDF-Expand-Label(Secret, "key", "", key_length)
    //# [sender]_write_iv  = HKDF-Expand-Label(Secret, "iv", "", iv_length)
    expand_label(suite, secret, "key", &[], key);
    expand_label(suite, secret, "iv", &[], iv);
}

/// Fills `out` with PRF(`secret`, `label`, `seed`) of TLS 1.2, using the hash of `suite`.
pub fn prf(suite: Suite, secret: &[u8], label: &str, seed: &[&[u8]], out: &mut [u8]) {
    if out.is_empty() {
        return;
    }
    let algorithm = if has_sha384(suite) {
        &tls_prf::P_SHA384
    } else {
        &tls_prf::P_SHA256
    };
    let seed = seed.concat();
    //= https://www.rfc-editor.org/rfc/rfc5246#section-5
    //# PRF(secret, label, seed) = P_<hash>(secret, label + seed)
    //
    // The library wipes its intermediate values and the result, which HMACs of our own would leave
    // on the stack.
    let derived = tls_prf::Secret::new(algorithm, secret)
        .and_then(|secret| secret.derive(label.as_bytes(), &seed, out.len()));
    assert!(derived.is_ok(), "a master secret isn't empty");
    if let Ok(derived) = derived {
        out.copy_from_slice(derived.as_ref());
    }
}

/// Whether the hash of the suite's key schedule is SHA-384; SHA-256 otherwise.
const fn has_sha384(suite: Suite) -> bool {
    suite.secret_len() == 48
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

const PREFIX: &[u8] = b"tls13 ";

#[cfg(test)]
mod tests;
