//! Facts of a ClientHello that the TLS library doesn't report.
//!
//! The library tells the certificate resolver neither which versions a client offers nor whether an
//! extension is missing. The first decides which certificates fit, the second which alert does.

use lockgate_ktls::Version;

/// What a ClientHello says about versions and mandatory extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HelloFacts {
    legacy_version: [u8; 2],
    supported_versions: Option<Offered>,
    /// Whether there is a supported_groups extension.
    pub(super) has_groups: bool,
    /// Whether early data may follow.
    pub(super) has_early_data: bool,
}

/// Versions listed in supported_versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Offered {
    pub(super) tls12: bool,
    pub(super) tls13: bool,
}

impl HelloFacts {
    /// Reads a whole ClientHello message, its header of four bytes included. Returns `None` if
    /// it's malformed, which the library reports.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let mut rest = message.get(MESSAGE_HEADER_LEN..)?;
        let legacy_version = *rest.first_chunk::<2>()?;
        take(&mut rest, 2 + RANDOM_LEN)?;
        take_vector8(&mut rest)?; // session id
        take_vector16(&mut rest)?; // cipher suites
        take_vector8(&mut rest)?; // compression methods
        let mut facts = Self {
            legacy_version,
            supported_versions: None,
            has_groups: false,
            has_early_data: false,
        };
        if rest.is_empty() {
            return Some(facts);
        }
        let mut extensions = take_vector16(&mut rest)?;
        while !extensions.is_empty() {
            let kind = u16::from_be_bytes(*take(&mut extensions, 2)?.first_chunk()?);
            let mut body = take_vector16(&mut extensions)?;
            match kind {
                SUPPORTED_GROUPS => facts.has_groups = true,
                EARLY_DATA => facts.has_early_data = true,
                SUPPORTED_VERSIONS => {
                    let listed = take_vector8(&mut body)?;
                    let has = |version: [u8; 2]| listed.chunks_exact(2).any(|v| v == version);
                    facts.supported_versions = Some(Offered {
                        tls12: has(TLS12),
                        tls13: has(TLS13),
                    });
                }
                _ => {}
            }
        }
        Some(facts)
    }

    /// Returns the version that a server which speaks `ours` negotiates; `None` if there's none in
    /// common.
    pub(super) fn negotiates(&self, ours: Offered) -> Option<Version> {
        //= https://www.rfc-editor.org/rfc/rfc8446#section-4.2.1
        //# If this extension is present in the ClientHello, servers MUST NOT use
        //# the ClientHello.legacy_version value for version negotiation and MUST
        //# use only the "supported_versions" extension to determine client
        //# preferences.
        let theirs = self.supported_versions.unwrap_or(Offered {
            tls12: self.legacy_version >= TLS12,
            tls13: false,
        });
        if theirs.tls13 && ours.tls13 {
            Some(Version::Tls13)
        } else if theirs.tls12 && ours.tls12 {
            Some(Version::Tls12)
        } else {
            None
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

/// Takes a vector whose length has one byte.
fn take_vector8<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take(rest, 1)?[0];
    take(rest, usize::from(len))
}

/// Takes a vector whose length has two bytes.
fn take_vector16<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u16::from_be_bytes(*take(rest, 2)?.first_chunk()?);
    take(rest, usize::from(len))
}

/// Bytes of a handshake message's header: type and length.
pub(super) const MESSAGE_HEADER_LEN: usize = 4;
const RANDOM_LEN: usize = 32;
const SUPPORTED_GROUPS: u16 = 10;
const EARLY_DATA: u16 = 42;
const SUPPORTED_VERSIONS: u16 = 43;
const TLS12: [u8; 2] = [3, 3];
const TLS13: [u8; 2] = [3, 4];

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello of this legacy version, with these extensions.
    fn hello(legacy_version: [u8; 2], extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut listed = Vec::new();
        for (kind, body) in extensions {
            listed.extend(kind.to_be_bytes());
            listed.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
            listed.extend(*body);
        }
        let mut body = legacy_version.to_vec();
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        if !extensions.is_empty() {
            body.extend(u16::try_from(listed.len()).unwrap().to_be_bytes());
            body.extend(listed);
        }
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[1, 0, len[0], len[1]][..], &body].concat()
    }

    #[test]
    fn supported_versions_decide_and_suites_do_not() {
        let both = Offered {
            tls12: true,
            tls13: true,
        };
        let only12 = Offered {
            tls13: false,
            ..both
        };
        let only13 = Offered {
            tls12: false,
            ..both
        };
        let (v12, v13) = (Some(Version::Tls12), Some(Version::Tls13));
        let all = &[4, 3, 4, 3, 3][..];
        // (legacy version, supported_versions, with both, with 1.2 alone, with 1.3 alone)
        let rows = [
            ([3, 3], None, v12, v12, None),
            ([3, 4], None, v12, v12, None),
            ([3, 2], None, None, None, None),
            ([3, 3], Some(all), v13, v12, v13),
            ([3, 1], Some(all), v13, v12, v13),
            ([3, 3], Some(&[2, 3, 3]), v12, v12, None),
            ([3, 3], Some(&[2, 3, 4]), v13, None, v13),
            ([3, 3], Some(&[2, 3, 2]), None, None, None),
            ([3, 3], Some(&[6, 0x7f, 0x1c, 3, 4, 3, 2]), v13, None, v13),
        ];
        for (legacy, versions, with_both, with12, with13) in rows {
            let extensions: Vec<_> = versions.map(|v| (43, v)).into_iter().collect();
            let facts = HelloFacts::parse(&hello(legacy, &extensions)).unwrap();
            let found = [both, only12, only13].map(|ours| facts.negotiates(ours));
            assert_eq!(
                found,
                [with_both, with12, with13],
                "{legacy:?} {versions:?}"
            );
            assert!(!facts.has_groups);
        }
    }

    #[test]
    fn a_hello_cut_anywhere_is_no_hello() {
        let whole = hello([3, 3], &[(10, &[0, 2, 0, 29]), (43, &[2, 3, 4])]);
        assert!(HelloFacts::parse(&whole).unwrap().has_groups);
        let without_extensions = hello([3, 3], &[]).len();
        for len in 0..whole.len() {
            let facts = HelloFacts::parse(&whole[..len]);
            assert_eq!(facts.is_some(), len == without_extensions, "{len}");
        }
    }
}
