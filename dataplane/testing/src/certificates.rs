//! Keys and certificates, made anew for each test.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    Ecdsa,
    /// RSA of 2048 bits. Generating one is slow.
    Rsa,
    /// Ed25519, whose signatures are all of the same length.
    Ed25519,
}

impl KeyKind {
    fn generate(self) -> KeyPair {
        let algorithm = match self {
            Self::Ecdsa => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::Rsa => &rcgen::PKCS_RSA_SHA256,
            Self::Ed25519 => &rcgen::PKCS_ED25519,
        };
        KeyPair::generate_for(algorithm).expect("a key can be generated")
    }
}

/// A certificate and its private key.
#[derive(Clone, Debug)]
pub struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
    pem: (String, String),
}

impl Identity {
    /// Makes a self-signed certificate for these names or addresses.
    #[must_use]
    pub fn self_signed(names: &[&str], key: KeyKind) -> Self {
        Self::sign(params(names), key)
    }

    /// Makes the same with a common name.
    #[must_use]
    pub fn named(common_name: &str, names: &[&str], key: KeyKind) -> Self {
        let mut params = params(names);
        let subject = &mut params.distinguished_name;
        subject.push(DnType::CommonName, common_name);
        Self::sign(params, key)
    }

    /// Makes a self-signed certificate with an ECDSA key, valid from the first day of one year to
    /// the first day of another.
    #[must_use]
    pub fn valid_in(names: &[&str], years: (i32, i32)) -> Self {
        let mut params = params(names);
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        Self::sign(params, KeyKind::Ecdsa)
    }

    fn sign(params: CertificateParams, key: KeyKind) -> Self {
        let key = key.generate();
        let certificate = params.self_signed(&key).expect("the parameters are valid");
        Self::new(&certificate, &key)
    }

    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
            pem: (certificate.pem(), key.serialize_pem()),
        }
    }

    /// Returns the certificate in DER.
    #[must_use]
    pub fn certificate(&self) -> Vec<u8> {
        self.certificate.clone()
    }

    /// Returns the key in DER, as PKCS #8.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        self.key.clone()
    }

    /// Returns the certificate in PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.pem.0
    }

    /// Returns the key in PEM.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.pem.1
    }

    /// Writes the files `{stem}.crt` and `{stem}.key`.
    ///
    /// # Panics
    ///
    /// If a file can't be written.
    pub fn write(&self, directory: &Path, stem: &str) {
        for (extension, text) in [("crt", &self.pem.0), ("key", &self.pem.1)] {
            let file = directory.join(format!("{stem}.{extension}"));
            fs::write(&file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }
}

/// A certificate authority.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// Makes an authority with this common name.
    ///
    /// # Panics
    ///
    /// If no key can be generated.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyKind::Ed25519.generate();
        Self(CertifiedIssuer::self_signed(params, key).expect("the parameters are valid"))
    }

    /// Returns the authority's own certificate in DER.
    #[must_use]
    pub fn certificate(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    /// Issues a certificate for these names.
    ///
    /// # Panics
    ///
    /// If one of them isn't a name.
    #[must_use]
    pub fn issue(&self, names: &[&str], key: KeyKind) -> Identity {
        let key = key.generate();
        let certificate = params(names).signed_by(&key, &self.0);
        Identity::new(&certificate.expect("the parameters are valid"), &key)
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let owned: Vec<String> = names.iter().map(ToString::to_string).collect();
    CertificateParams::new(owned).expect("names or addresses")
}
