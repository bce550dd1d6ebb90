//! How far a key may be used, per suite.

use crate::suite::{CipherKind, Suite};

/// Limits of the use of one key in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyLimits {
    /// Sent records after which the key has to be changed: TLS 1.3 by a KeyUpdate, older versions
    /// end the connection.
    pub refresh: u64,
    /// Sent records after which nothing is sealed any more.
    pub spent: u64,
    /// Received records that aren't authentic, after which nothing is opened any more.
    pub forgeries: u8,
}

impl KeyLimits {
    /// Returns the limits of a suite. They are the same in every version: the margins are the
    /// cipher's. RFC 5246, RFC 5288 and RFC 6655 name none.
    pub const fn of(suite: Suite) -> Self {
        match suite.kind() {
            CipherKind::Gcm => Self {
                refresh: GCM_REFRESH,
                spent: GCM_SPENT,
                forgeries: FORGERIES_MAX,
            },
            //= https://www.rfc-editor.org/rfc/rfc8446#section-5.5
            //# For ChaCha20/Poly1305, the record sequence number would wrap before
            //# the safety limit is reached.
            CipherKind::Chacha20 => Self {
                refresh: u64::MAX,
                spent: u64::MAX,
                forgeries: FORGERIES_MAX,
            },
            CipherKind::Ccm => Self {
                refresh: CCM_REFRESH,
                spent: CCM_SPENT,
                forgeries: if suite.tag() < crate::suite::TAG {
                    CCM_8_FORGERIES
                } else {
                    FORGERIES_MAX
                },
            },
            // CBC with random IVs has the birthday bound of GCM, blocks squared over 2^128
            // (Bellare, Desai, Jokipii, Rogaway, "A Concrete Security Treatment of Symmetric
            // Encryption", 1997), and an HMAC of 160 bits or more adds nothing to it. So the limit
            // of RFC 8446, 5.5, leaves the same margin.
            CipherKind::Cbc => Self {
                refresh: GCM_REFRESH,
                spent: GCM_SPENT,
                forgeries: FORGERIES_MAX,
            },
        }
    }
}

/// Records after which a GCM key is changed: rustls's limit too.
const GCM_REFRESH: u64 = 1 << 24;

//= https://www.rfc-editor.org/rfc/rfc8446#section-5.5
//# For AES-GCM, up to 2^24.5 full-size records (about 24 million) may be
//# encrypted on a given connection while keeping a safety margin of
//# approximately 2^-57 for Authenticated Encryption (AE) security.
/// Records after which a GCM key is no longer used: 2^24.5.
const GCM_SPENT: u64 = 23_726_566;

/// Records after which a CCM key is changed: 2^22.5.
const CCM_REFRESH: u64 = 5_931_641;

//= https://www.rfc-editor.org/rfc/rfc9147#section-4.5.3
//# [TLS13] does not specify a limit for AEAD_AES_128_CCM, but the
//# analysis in Appendix B shows that a limit of 2^23 packets can be used
//# to obtain the same confidentiality protection as the limits specified
//# in TLS.
//
// The bound is on blocks of AES, whatever the length of the key or of the tag.
/// Records after which a CCM key is no longer used.
const CCM_SPENT: u64 = 1 << 23;

// RFC 9147, B.3: with a tag of 64 bits, 2^7 attempts leave the margin of 2^-57 that other suites
// have.
/// Received records with a bad tag under a CCM-8 key.
const CCM_8_FORGERIES: u8 = 1 << 7;

// RFC 9147, 4.5.3, has 2^36 for AES-GCM and ChaCha20-Poly1305, and 2^23.5 for AES-CCM. They are for
// datagrams, which anyone may forge. A TCP stream that brings so many bad records is lost, and the
// stricter limit keeps the count in a byte.
/// Received records with a bad tag or MAC under another key.
const FORGERIES_MAX: u8 = u8::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    /// Powers of two with half an exponent.
    fn is_power(n: u64, twice_log2: u32) -> bool {
        let square = u128::from(n) * u128::from(n);
        let next = u128::from(n + 1) * u128::from(n + 1);
        square <= 1 << twice_log2 && next > 1 << twice_log2
    }

    #[test]
    fn limits_are_those_of_the_rfcs() {
        assert!(is_power(GCM_SPENT, 49) && is_power(CCM_REFRESH, 45));
        for suite in Suite::ALL {
            let limits = KeyLimits::of(suite);
            assert!(limits.refresh <= limits.spent, "{suite:?}");
            let (spent, forgeries) = match suite.kind() {
                CipherKind::Chacha20 => (u64::MAX, u8::MAX),
                CipherKind::Ccm if suite == Suite::Aes128Ccm8 => (1 << 23, 128),
                CipherKind::Ccm => (1 << 23, u8::MAX),
                CipherKind::Gcm | CipherKind::Cbc => (23_726_566, u8::MAX),
            };
            assert_eq!(
                (limits.spent, limits.forgeries),
                (spent, forgeries),
                "{suite:?}"
            );
        }
    }
}
