use super::*;
use crate::{BackendChoice, Mode};

const ALL_ON: EnableSettings = EnableSettings {
    enabled: true,
    cbc_enabled: true,
};

/// Cipher, key length, authentication of a name in FreeBSD's `ktls_test.c`.
fn named(name: &str) -> TlsEnable<'static> {
    const BYTES: [u8; 2048] = [7; 2048];
    let (cipher, key_len) = match name.split_once('_') {
        Some(("aes128", rest)) if rest.starts_with("gcm") => (CipherAlgorithm::AesGcm, 16),
        Some(("aes256", rest)) if rest.starts_with("gcm") => (CipherAlgorithm::AesGcm, 32),
        Some(("aes128", rest)) if rest.starts_with("ccm8") => (CipherAlgorithm::AesCcm8, 16),
        Some(("aes128", rest)) if rest.starts_with("ccm") => (CipherAlgorithm::AesCcm, 16),
        Some(("aes256", rest)) if rest.starts_with("ccm8") => (CipherAlgorithm::AesCcm8, 32),
        Some(("aes256", rest)) if rest.starts_with("ccm") => (CipherAlgorithm::AesCcm, 32),
        Some(("aes128", _)) => (CipherAlgorithm::AesCbc, 16),
        Some(("aes256", _)) => (CipherAlgorithm::AesCbc, 32),
        _ => (CipherAlgorithm::Chacha20Poly1305, 32),
    };
    let minor = match name {
        name if name.contains("_1_0") => 1,
        name if name.contains("_1_1") => 2,
        name if name.contains("_1_2") => 3,
        _ => 4,
    };
    let (auth, auth_len) = match name.rsplit('_').next() {
        Some("sha1") => (Some(AuthAlgorithm::HmacSha1), 20),
        Some("sha256") => (Some(AuthAlgorithm::HmacSha256), 32),
        Some("sha384") => (Some(AuthAlgorithm::HmacSha384), 48),
        _ => (None, 0),
    };
    let iv_len = match (cipher, minor) {
        (CipherAlgorithm::AesCbc, _) => 16,
        (CipherAlgorithm::AesGcm | CipherAlgorithm::AesCcm | CipherAlgorithm::AesCcm8, 3) => 4,
        _ => 12,
    };
    TlsEnable {
        cipher,
        cipher_key: &BYTES[..key_len],
        iv: &BYTES[..iv_len],
        auth,
        auth_key: &BYTES[..auth_len],
        flags: 0,
        version: [3, minor],
        rec_seq: 1,
    }
}

const GCM_12: &str = "aes128_gcm_1_2";
const GCM_13: &str = "aes256_gcm_1_3";
const BOTH: [Direction; 2] = [Direction::Tx, Direction::Rx];

fn invalid(reason: InvalidKeys) -> Result<Params, EnableError> {
    Err(EnableError::Invalid(reason))
}

#[test]
fn valid_parameters_name_a_suite() {
    let rows = [
        ("aes128_gcm_1_2", Suite::Aes128Gcm, Version::Tls12),
        ("aes256_gcm_1_2", Suite::Aes256Gcm, Version::Tls12),
        ("aes128_gcm_1_3", Suite::Aes128Gcm, Version::Tls13),
        ("aes256_gcm_1_3", Suite::Aes256Gcm, Version::Tls13),
        (
            "chacha20_poly1305_1_2",
            Suite::Chacha20Poly1305,
            Version::Tls12,
        ),
        (
            "chacha20_poly1305_1_3",
            Suite::Chacha20Poly1305,
            Version::Tls13,
        ),
        ("aes128_ccm_1_2", Suite::Aes128Ccm, Version::Tls12),
        ("aes256_ccm_1_2", Suite::Aes256Ccm, Version::Tls12),
        ("aes128_ccm_1_3", Suite::Aes128Ccm, Version::Tls13),
        ("aes128_ccm8_1_2", Suite::Aes128Ccm8, Version::Tls12),
        ("aes128_ccm8_1_3", Suite::Aes128Ccm8, Version::Tls13),
    ];
    for (name, suite, version) in rows {
        for direction in BOTH {
            let params = named(name).params(direction);
            assert_eq!(params, Ok(Params::new(suite, version)), "{name}");
        }
    }
    let gmac = Some(AuthAlgorithm::Gmac);
    let legacy = TlsEnable {
        auth: gmac,
        ..named(GCM_12)
    };
    assert_eq!(
        legacy.params(Direction::Tx),
        named(GCM_12).params(Direction::Tx)
    );
}

/// `ktls_transmit_invalid_*` and `ktls_receive_invalid_*`.
#[test]
fn ktls_invalid() {
    let names = [
        "aes128_cbc_1_0_sha256",
        "aes128_cbc_1_0_sha384",
        "aes128_gcm_1_0",
        "chacha20_poly1305_1_0",
        "aes128_cbc_1_1_sha256",
        "aes128_cbc_1_1_sha384",
        "aes128_gcm_1_1",
        "chacha20_poly1305_1_1",
        "aes128_cbc_1_3_sha1",
        "aes128_cbc_1_3_sha256",
        "aes128_cbc_1_3_sha384",
    ];
    for name in names {
        for direction in BOTH {
            let refused = named(name).params(direction);
            assert_eq!(refused, invalid(InvalidKeys::CipherOfVersion), "{name}");
            assert_eq!(refused.map_err(EnableError::errno), Err(Errno::Einval));
        }
    }
}

/// AES-CCM has suites that neither TLS 1.3 nor this record layer has.
#[test]
fn ccm_of_other_versions_and_lengths_is_invalid() {
    let rows = [
        ("aes256_ccm_1_3", InvalidKeys::CipherOfVersion),
        ("aes128_ccm_1_1", InvalidKeys::CipherOfVersion),
        ("aes128_ccm8_1_0", InvalidKeys::CipherOfVersion),
        ("aes256_ccm8_1_2", InvalidKeys::CipherKey),
    ];
    for (name, reason) in rows {
        for direction in BOTH {
            assert_eq!(named(name).params(direction), invalid(reason), "{name}");
        }
    }
    let mac = TlsEnable {
        auth: Some(AuthAlgorithm::Gmac),
        ..named("aes128_ccm_1_2")
    };
    assert_eq!(mac.params(Direction::Tx), invalid(InvalidKeys::Auth));
    // As with AES-GCM, the salt alone or with the explicit nonce of record 0.
    for (len, fits) in [(4, true), (8, false), (12, true)] {
        let enable = TlsEnable {
            iv: &[7; 16][..len],
            ..named("aes128_ccm_1_2")
        };
        assert_eq!(enable.params(Direction::Rx).is_ok(), fits, "{len}");
    }
}

/// `ktls_receive_unsupported_*`.
#[test]
fn ktls_receive_unsupported() {
    for name in ["aes128_cbc_1_0_sha1", "aes256_cbc_1_0_sha1"] {
        let refused = named(name).params(Direction::Rx);
        assert_eq!(refused, Err(EnableError::Unsupported), "{name}");
        assert_eq!(
            refused.map_err(EnableError::errno),
            Err(Errno::Eprotonosupport)
        );
    }
}

/// Rules of ktls(4)'s parameters, each alone: version and key.
#[test]
fn versions_and_keys_are_checked() {
    let long = [0; 2048];
    let gcm = named(GCM_12);
    let chacha = named("chacha20_poly1305_1_2");
    let rows = [
        (
            TlsEnable {
                version: [2, 3],
                ..gcm
            },
            InvalidKeys::Version,
        ),
        (
            TlsEnable {
                version: [3, 0],
                ..gcm
            },
            InvalidKeys::Version,
        ),
        (
            TlsEnable {
                version: [3, 5],
                ..gcm
            },
            InvalidKeys::Version,
        ),
        (
            TlsEnable {
                cipher_key: &[],
                ..gcm
            },
            InvalidKeys::CipherKey,
        ),
        (
            TlsEnable {
                cipher_key: &long[..1025],
                ..gcm
            },
            InvalidKeys::CipherKey,
        ),
        (
            TlsEnable {
                cipher_key: &long[..24],
                ..gcm
            },
            InvalidKeys::CipherKey,
        ),
        (
            TlsEnable {
                cipher_key: &long[..16],
                ..chacha
            },
            InvalidKeys::CipherKey,
        ),
        (
            TlsEnable {
                cipher_key: &[],
                ..gcm
            },
            InvalidKeys::CipherKey,
        ),
    ];
    for (enable, reason) in rows {
        assert_eq!(enable.params(Direction::Tx), invalid(reason), "{enable:?}");
    }
}

/// IV, authentication and flags.
#[test]
fn every_other_parameter_is_checked() {
    let long = [0; 2048];
    let gcm = named(GCM_12);
    let chacha = named("chacha20_poly1305_1_2");
    let rows = [
        (
            TlsEnable {
                iv: &long[..17],
                ..gcm
            },
            InvalidKeys::Iv,
        ),
        (
            TlsEnable {
                iv: &long[..8],
                ..gcm
            },
            InvalidKeys::Iv,
        ),
        (
            TlsEnable {
                iv: &long[..4],
                ..named(GCM_13)
            },
            InvalidKeys::Iv,
        ),
        (
            TlsEnable {
                iv: &long[..4],
                ..chacha
            },
            InvalidKeys::Iv,
        ),
        (
            TlsEnable {
                auth_key: &[1],
                ..gcm
            },
            InvalidKeys::AuthKey,
        ),
        (
            TlsEnable {
                auth: Some(AuthAlgorithm::HmacSha1),
                ..gcm
            },
            InvalidKeys::Auth,
        ),
        (
            TlsEnable {
                auth: Some(AuthAlgorithm::Gmac),
                ..chacha
            },
            InvalidKeys::Auth,
        ),
        (TlsEnable { iv: &[], ..gcm }, InvalidKeys::Iv),
        (TlsEnable { flags: 1, ..gcm }, InvalidKeys::Flags),
        (
            TlsEnable {
                auth_key: &[1],
                ..gcm
            },
            InvalidKeys::AuthKey,
        ),
    ];
    for (enable, reason) in rows {
        assert_eq!(enable.params(Direction::Tx), invalid(reason), "{enable:?}");
    }
}

/// The same for AES-CBC.
#[test]
fn every_parameter_of_cbc_is_checked() {
    let long = [0; 2048];
    let cbc = named("aes128_cbc_1_2_sha1");
    let cbc_10 = named("aes128_cbc_1_0_sha1");
    let rows = [
        (
            TlsEnable {
                auth_key: &[],
                ..cbc
            },
            InvalidKeys::AuthKey,
        ),
        (TlsEnable { auth: None, ..cbc }, InvalidKeys::Auth),
        (
            TlsEnable {
                cipher_key: &long[..24],
                ..cbc
            },
            InvalidKeys::CipherKey,
        ),
        (
            TlsEnable {
                iv: &long[..12],
                ..cbc_10
            },
            InvalidKeys::Iv,
        ),
        (
            TlsEnable {
                auth_key: &long[..1025],
                ..cbc
            },
            InvalidKeys::AuthKey,
        ),
        (
            TlsEnable {
                auth_key: &[],
                ..cbc
            },
            InvalidKeys::AuthKey,
        ),
        (
            TlsEnable {
                auth: Some(AuthAlgorithm::Gmac),
                ..cbc
            },
            InvalidKeys::Auth,
        ),
    ];
    for (enable, reason) in rows {
        assert_eq!(enable.params(Direction::Tx), invalid(reason), "{enable:?}");
    }
}

/// ktls(4)'s order: each row violates the rule that it names and all that come later.
#[test]
fn the_first_violated_rule_is_reported() {
    let off = EnableSettings {
        enabled: false,
        cbc_enabled: false,
    };
    let no_cbc = EnableSettings {
        cbc_enabled: false,
        ..ALL_ON
    };
    let keys = |name| CurrentKeys::Application(named(name).params(Direction::Tx).unwrap());
    let (tls12, tls13) = (keys(GCM_12), keys(GCM_13));
    let bad_cbc = TlsEnable {
        flags: 1,
        ..named("aes128_cbc_1_1_sha1")
    };
    let bad_gcm = TlsEnable {
        flags: 1,
        ..named(GCM_12)
    };
    let old_cbc = named("aes128_cbc_1_0_sha1");
    let rows = [
        (
            bad_cbc,
            off,
            tls12,
            EnableError::Disabled,
            Errno::Enotsup,
            0,
        ),
        (
            bad_cbc,
            no_cbc,
            tls12,
            EnableError::AlreadyEnabled,
            Errno::Ealready,
            1,
        ),
        (
            bad_cbc,
            no_cbc,
            tls13,
            EnableError::CbcDisabled,
            Errno::Enotsup,
            1,
        ),
        (
            bad_gcm,
            ALL_ON,
            tls13,
            EnableError::Invalid(InvalidKeys::Flags),
            Errno::Einval,
            1,
        ),
        (
            old_cbc,
            ALL_ON,
            tls13,
            EnableError::Unsupported,
            Errno::Eprotonosupport,
            1,
        ),
        (
            named(GCM_12),
            ALL_ON,
            tls13,
            EnableError::RekeyMismatch,
            Errno::Einval,
            1,
        ),
    ];
    for (enable, settings, current, error, errno, calls) in rows {
        let mut ciphers = Ciphers::new(BackendChoice::Auto, 2);
        let refused = enable.check(Direction::Rx, settings, current, &mut ciphers);
        assert_eq!(refused, Err(error));
        assert_eq!(error.errno(), errno);
        let value = |counter| ciphers.counters.value(counter);
        assert_eq!(value(Counter::EnableCalls), calls, "{error}");
        assert_eq!(value(Counter::RxRekeyError), calls, "{error}");
    }
    let mut ciphers = Ciphers::new(BackendChoice::Auto, 2);
    let same = named(GCM_13).check(Direction::Tx, ALL_ON, tls13, &mut ciphers);
    assert_eq!(same.map(CurrentKeys::Application), Ok(tls13));
    // The stack changes the keys of its own handshake itself.
    let own = named(GCM_13).check(Direction::Tx, ALL_ON, CurrentKeys::Stack, &mut ciphers);
    assert_eq!(own, Err(EnableError::AlreadyEnabled));
}

#[test]
fn a_backend_that_lacks_the_suite_is_reported() {
    let mut none = Ciphers::with_backends(Vec::new());
    let refused = named(GCM_13).check(Direction::Tx, ALL_ON, CurrentKeys::None, &mut none);
    assert_eq!(refused, Err(EnableError::Unsupported));
    let valid = crate::choose_mode(true, named(GCM_13).params(Direction::Tx).unwrap(), &none);
    assert_ne!(valid, Ok(Mode::Sw));
}

#[test]
fn the_salt_alone_is_completed_by_the_caller() {
    let salt = named(GCM_12);
    let session = salt.session(Direction::Tx, 0x0102_0304_0506_0708).unwrap();
    assert_eq!(session.iv(), [7, 7, 7, 7, 1, 2, 3, 4, 5, 6, 7, 8]);
    let iv = [9; 12];
    let both = TlsEnable { iv: &iv, ..salt };
    assert_eq!(both.session(Direction::Tx, 1).unwrap().iv(), iv);
    let tls13 = named(GCM_13).session(Direction::Rx, 1).unwrap();
    assert_eq!((tls13.iv(), tls13.keys().key()), ([7; 12], &[7; 32][..]));
    assert!(!tls13.can_rekey());
}

#[test]
fn nothing_secret_is_printed() {
    let key = [0xab; 16];
    let enable = TlsEnable {
        cipher_key: &key,
        auth_key: &key,
        ..named(GCM_12)
    };
    let printed = format!("{enable:?}");
    assert!(
        !printed.contains("171") && printed.contains("AesGcm"),
        "{printed}"
    );
}
