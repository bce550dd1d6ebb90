//! Sessions: immutable keys of one direction of a connection.

use core::fmt;
use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::codec::{self, Head};
use crate::role::Role;
use crate::schedule;
use crate::suite::{ContentType, EXPLICIT_NONCE_LEN, IV_LEN, NONCE_LEN, Params, Suite, Version};

/// Identifier of a session, unique in the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionId(NonZeroU64);

impl SessionId {
    fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(NonZeroU64::new(id).unwrap_or(NonZeroU64::MIN))
    }
}

/// The keys of one direction: immutable, replaced as a whole, wiped when dropped.
///
/// A clone is a counted reference to the same keys: what seals or opens a record elsewhere has one.
///
/// A session has 16 bytes, and 72 on the heap. It stores the traffic secret if there is one,
/// because key, IV and the next secret derive from it; otherwise key and IV. The expanded key that
/// a cipher works with is ten times as large and is cached in the worker's bounded table, see
/// [`Ciphers`](crate::Ciphers).
#[derive(Clone)]
pub struct Session {
    /// On the heap: moving a session moves the pointer, and leaves no copy of the key behind.
    material: Arc<Material>,
    params: Params,
    source: KeySource,
}

/// Key material with the session's identifier. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
enum Material {
    /// A traffic secret, or IV and key.
    Aead {
        bytes: [u8; MATERIAL_LEN],
        #[zeroize(skip)]
        id: SessionId,
    },
    /// In another box, so that the other suites' sessions don't grow.
    Cbc(Box<CbcMaterial>),
}

/// The keys of a CBC suite.
#[derive(Zeroize, ZeroizeOnDrop)]
struct CbcMaterial {
    key: [u8; KEY_MAX],
    mac_key: [u8; MAC_KEY_MAX],
    /// The key that makes explicit IVs.
    iv_key: [u8; IV_KEY_LEN],
    /// TLS 1.0: the IV of the first record.
    first_iv: [u8; IV_LEN],
    #[zeroize(skip)]
    id: SessionId,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeySource {
    TrafficSecret,
    KeyAndIv,
    KeyAndMac,
}

impl Session {
    /// Creates a TLS 1.3 session from its traffic secret. Returns `None` if the secret isn't as
    /// long as the suite's hash, and for a suite that TLS 1.3 doesn't have.
    pub fn from_secret(suite: Suite, secret: &[u8]) -> Option<Self> {
        let params = Params::new(suite, Version::Tls13);
        if secret.len() != suite.secret_len() || !params.is_defined() {
            return None;
        }
        Some(Self::new(params, KeySource::TrafficSecret, |material| {
            material[..secret.len()].copy_from_slice(secret);
        }))
    }

    /// Creates the session of an AEAD from key and IV: TLS 1.2, or TLS 1.3 without key changes.
    /// Returns `None` if the key isn't as long as the suite's, if the version doesn't have the
    /// suite, and for CBC.
    ///
    /// The IV has 12 bytes in every suite. In TLS 1.2 AES-GCM and AES-CCM the first four are the
    /// salt; the other eight, XOR the sequence number, are the explicit nonce.
    pub fn from_key(params: Params, key: &[u8], iv: &[u8; NONCE_LEN]) -> Option<Self> {
        if key.len() != params.suite.key_len() || !params.is_defined() || params.suite.is_cbc() {
            return None;
        }
        Some(Self::new(params, KeySource::KeyAndIv, |material| {
            material[..NONCE_LEN].copy_from_slice(iv);
            material[NONCE_LEN..][..key.len()].copy_from_slice(key);
        }))
    }

    /// Creates the session of a CBC suite from its keys. Returns `None` if a key isn't as long as
    /// the suite's, if the version doesn't have the suite, and for an AEAD.
    ///
    /// `iv` is the IV of the first record in TLS 1.0. Later versions ignore it: each record has an
    /// explicit one.
    pub fn from_key_and_mac(
        params: Params,
        key: &[u8],
        mac_key: &[u8],
        iv: &[u8; IV_LEN],
    ) -> Option<Self> {
        let suite = params.suite;
        let fits = key.len() == suite.key_len() && mac_key.len() == suite.mac_key_len();
        if !fits || !params.is_defined() || !suite.is_cbc() {
            return None;
        }
        let mut material = Box::new(CbcMaterial {
            key: [0; KEY_MAX],
            mac_key: [0; MAC_KEY_MAX],
            iv_key: [0; IV_KEY_LEN],
            first_iv: *iv,
            id: SessionId::fresh(),
        });
        material.key[..key.len()].copy_from_slice(key);
        material.mac_key[..mac_key.len()].copy_from_slice(mac_key);
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, mac_key));
        context.update(key);
        context.update(IV_KEY_LABEL);
        material.iv_key.copy_from_slice(context.sign().as_ref());
        Some(Self {
            material: Arc::new(Material::Cbc(material)),
            params,
            source: KeySource::KeyAndMac,
        })
    }

    /// Creates the TLS 1.2 session of what `sender` sends, from the master secret and the randoms
    /// of client and server. AEADs only.
    pub fn from_master_secret(
        suite: Suite,
        secret: &[u8],
        client_random: &[u8; 32],
        server_random: &[u8; 32],
        sender: Role,
    ) -> Option<Self> {
        //= https://www.rfc-editor.org/rfc/rfc5246#section-6.3
        //# key_block = PRF(SecurityParameters.master_secret,
        //#                 "key expansion",
        //#                 SecurityParameters.server_random +
        //#                 SecurityParameters.client_random);
        if suite.is_cbc() {
            return None;
        }
        let mut block = Zeroizing::new([0; 2 * KEY_MAX + 2 * NONCE_LEN]);
        let seed: [&[u8]; 2] = [server_random, client_random];
        schedule::prf(suite, secret, "key expansion", &seed, &mut block[..]);
        let params = Params::new(suite, Version::Tls12);
        let (key_len, explicit) = (suite.key_len(), usize::from(params.shape().explicit_len));
        let fixed = NONCE_LEN - explicit;
        let second = match sender {
            Role::Client => 0,
            Role::Server => 1,
        };
        let key = &block[second * key_len..][..key_len];
        let mut iv = Zeroizing::new([0; NONCE_LEN]);
        iv[..fixed].copy_from_slice(&block[2 * key_len + second * fixed..][..fixed]);
        // RFC 5288, 3 leaves the explicit part to the sender. As in rustls, it begins with the
        // bytes behind the key block, and each record's number is added by XOR.
        iv[fixed..].copy_from_slice(&block[2 * key_len + 2 * fixed..][..explicit]);
        Self::from_key(params, key, &iv)
    }

    /// Returns the session after a KeyUpdate; `None` if this one has no traffic secret.
    pub fn next(&self) -> Option<Self> {
        if self.source != KeySource::TrafficSecret {
            return None;
        }
        let suite = self.params.suite;
        let len = suite.secret_len();
        let secret = &self.material.bytes()?[..len];
        let next = Self::new(self.params, KeySource::TrafficSecret, |material| {
            schedule::next_secret(suite, secret, &mut material[..len]);
        });
        Some(next)
    }

    /// Returns key and IV, derived from the traffic secret if there is one. With CBC, the key of
    /// the MAC too, and no IV.
    pub fn keys(&self) -> Keys {
        let suite = self.params.suite;
        let len = suite.key_len();
        let mut keys = Box::new(KeyAndIv {
            key: [0; KEY_MAX],
            mac_key: [0; MAC_KEY_MAX],
            iv: [0; NONCE_LEN],
        });
        match &*self.material {
            Material::Aead { bytes, .. } if self.source == KeySource::TrafficSecret => {
                schedule::traffic_keys(
                    suite,
                    &bytes[..suite.secret_len()],
                    &mut keys.key[..len],
                    &mut keys.iv,
                );
            }
            Material::Aead { bytes, .. } => {
                keys.iv.copy_from_slice(&bytes[..NONCE_LEN]);
                keys.key.copy_from_slice(&bytes[NONCE_LEN..][..KEY_MAX]);
            }
            Material::Cbc(material) => {
                keys.key = material.key;
                keys.mac_key = material.mac_key;
            }
        }
        Keys {
            keys,
            len,
            mac_len: suite.mac_key_len(),
        }
    }

    /// Creates a session whose key material is written where it stays.
    fn new(params: Params, source: KeySource, fill: impl FnOnce(&mut [u8; MATERIAL_LEN])) -> Self {
        let mut material = Arc::new(Material::Aead {
            bytes: [0; MATERIAL_LEN],
            id: SessionId::fresh(),
        });
        if let Some(Material::Aead { bytes, .. }) = Arc::get_mut(&mut material) {
            fill(bytes);
        }
        Self {
            material,
            params,
            source,
        }
    }

    /// Returns the session's identifier.
    pub fn id(&self) -> SessionId {
        self.material.id()
    }

    /// Returns suite and version.
    pub const fn params(&self) -> Params {
        self.params
    }

    /// Whether a KeyUpdate can follow.
    pub const fn can_rekey(&self) -> bool {
        matches!(self.source, KeySource::TrafficSecret)
    }

    /// Returns the IV, derived from the traffic secret if there is one.
    pub fn iv(&self) -> [u8; NONCE_LEN] {
        *self.keys().iv()
    }

    /// Whether both have the same key and IV, compared in constant time.
    pub(crate) fn has_keys_of(&self, other: &Self) -> bool {
        let (a, b) = (self.keys(), other.keys());
        let key = verify_slices_are_equal(a.key(), b.key());
        let iv = verify_slices_are_equal(a.iv(), b.iv());
        key.is_ok() && iv.is_ok()
    }

    /// Whether both are references to the same keys.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.material, &other.material)
    }

    /// Returns the head of record `number`, with `content` bytes of type `kind`: at most 2^14.
    pub fn head(&self, number: u64, kind: ContentType, content: u16) -> Head {
        let params = self.params;
        match (params.shape().explicit_len, &*self.material) {
            (0, _) => Head::new(params, &[], kind, content),
            (_, Material::Aead { bytes, .. }) => {
                // The explicit part is the IV's XOR the sequence number, as in every other suite.
                // It is unique for each number in every mode, so no change of mode can repeat one.
                // Sessions made from a secret are TLS 1.3, whose records have no explicit nonce.
                let iv = bytes.first_chunk().unwrap_or(&NO_IV);
                let nonce = codec::nonce(iv, number);
                Head::new(
                    params,
                    &nonce[NONCE_LEN - EXPLICIT_NONCE_LEN..],
                    kind,
                    content,
                )
            }
            (_, Material::Cbc(material)) => {
                Head::new(params, &material.explicit_iv(number), kind, content)
            }
        }
    }

    /// Returns the IV of the first record in TLS 1.0.
    pub(crate) fn first_iv(&self) -> Option<[u8; IV_LEN]> {
        match &*self.material {
            Material::Cbc(material) if self.params.version == Version::Tls10 => {
                Some(material.first_iv)
            }
            Material::Cbc(_) | Material::Aead { .. } => None,
        }
    }
}

impl Material {
    /// Returns a traffic secret, or IV and key.
    fn bytes(&self) -> Option<&[u8; MATERIAL_LEN]> {
        match self {
            Self::Aead { bytes, .. } => Some(bytes),
            Self::Cbc(_) => None,
        }
    }

    fn id(&self) -> SessionId {
        match self {
            Self::Aead { id, .. } => *id,
            Self::Cbc(material) => material.id,
        }
    }
}

impl CbcMaterial {
    /// Returns the explicit IV of record `number`, under TLS 1.1 and 1.2.
    ///
    /// It depends on the number alone, so a record that is sealed again has the same one. A peer
    /// that doesn't have the keys can't predict it, because it is the output of a pseudorandom
    /// function under a key of its own (NIST SP 800-38A, appendix C, has the like with the block
    /// cipher).
    fn explicit_iv(&self, number: u64) -> [u8; IV_LEN] {
        //= https://www.rfc-editor.org/rfc/rfc5246#section-6.2.3.2
        //# The Initialization Vector (IV) SHOULD be chosen at random, and
        //# MUST be unpredictable.
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.iv_key);
        let tag = hmac::sign(&key, &number.to_be_bytes());
        *tag.as_ref().first_chunk().unwrap_or(&[0; IV_LEN])
    }
}

// Its only secret is in `Material`, which the last reference wipes.
impl ZeroizeOnDrop for Session {}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.material.id().0;
        write!(f, "Session({id}, {}, keys withheld)", self.params)
    }
}

/// A session's keys and IV, wiped when dropped. In a box, so that moving them leaves no copy.
pub struct Keys {
    keys: Box<KeyAndIv>,
    len: usize,
    mac_len: usize,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct KeyAndIv {
    key: [u8; KEY_MAX],
    mac_key: [u8; MAC_KEY_MAX],
    iv: [u8; NONCE_LEN],
}

impl Keys {
    /// Returns the key.
    pub fn key(&self) -> &[u8] {
        &self.keys.key[..self.len]
    }

    /// Returns the key of the MAC: of no bytes for an AEAD.
    pub fn mac_key(&self) -> &[u8] {
        &self.keys.mac_key[..self.mac_len]
    }

    /// Returns the IV; zeroes with CBC.
    pub fn iv(&self) -> &[u8; NONCE_LEN] {
        &self.keys.iv
    }
}

// Its only secrets are in `KeyAndIv`.
impl ZeroizeOnDrop for Keys {}

const KEY_MAX: usize = Suite::key_len_max();
const MAC_KEY_MAX: usize = 48;
const IV_KEY_LEN: usize = 32;
const IV_KEY_LABEL: &[u8] = b"explicit IVs of CBC";
const NO_IV: [u8; NONCE_LEN] = [0; NONCE_LEN];
/// Today a SHA-384 traffic secret.
const MATERIAL_LEN: usize = Suite::material_len_max();

const _: () = assert!(size_of::<Session>() == 16 && size_of::<Material>() == 56);

#[cfg(test)]
mod tests {
    use super::*;

    fn every_pair() -> impl Iterator<Item = Params> {
        Suite::ALL.into_iter().flat_map(|suite| {
            [
                Version::Tls10,
                Version::Tls11,
                Version::Tls12,
                Version::Tls13,
            ]
            .map(|version| Params::new(suite, version))
        })
    }

    #[test]
    fn material_of_the_wrong_length_makes_no_session() {
        for params in every_pair() {
            let (suite, iv) = (params.suite, [7; NONCE_LEN]);
            let is_defined = Params::ALL.contains(&params);
            assert_eq!(params.is_defined(), is_defined, "{params}");
            for len in 0..=64 {
                let bytes = vec![1; len];
                assert_eq!(
                    Session::from_key(params, &bytes, &iv).is_some(),
                    is_defined && !suite.is_cbc() && len == suite.key_len()
                );
                assert_eq!(
                    Session::from_secret(suite, &bytes).is_some(),
                    Params::ALL.contains(&Params::new(suite, Version::Tls13))
                        && len == suite.secret_len()
                );
                for mac_len in [0, 16, 19, 20, 21, 32, 48, 64] {
                    let mac = vec![1; mac_len];
                    assert_eq!(
                        Session::from_key_and_mac(params, &bytes, &mac, &[0; 16]).is_some(),
                        is_defined
                            && suite.is_cbc()
                            && len == suite.key_len()
                            && mac_len == suite.tag_len()
                    );
                }
            }
        }
    }

    #[test]
    fn keys_given_are_keys_kept() {
        for params in Params::ALL {
            let key: Vec<u8> = (1..).take(params.suite.key_len()).collect();
            let mac: Vec<u8> = (101..).take(params.suite.mac_key_len()).collect();
            let iv: [u8; 16] = core::array::from_fn(|n| 0xa0 + u8::try_from(n).unwrap());
            let nonce = iv.first_chunk().unwrap();
            let session = if params.suite.is_cbc() {
                Session::from_key_and_mac(params, &key, &mac, &iv).unwrap()
            } else {
                Session::from_key(params, &key, nonce).unwrap()
            };
            let keys = session.keys();
            assert_eq!((keys.key(), keys.mac_key()), (&key[..], &mac[..]));
            if !params.suite.is_cbc() {
                assert_eq!(keys.iv(), nonce);
            }
            let first = (params.version == Version::Tls10).then_some(iv);
            assert_eq!(session.first_iv(), first, "{params}");
            assert!(!session.can_rekey() && session.next().is_none());
        }
    }

    /// An explicit IV is the same whenever its record is framed, and no other record's: not under
    /// the same keys, nor under others.
    #[test]
    fn explicit_ivs_depend_on_keys_and_number() {
        let mut seen = std::collections::HashSet::new();
        let params = Params::new(Suite::Aes128CbcSha1, Version::Tls12);
        for (key, mac) in [(1, 1), (1, 2), (2, 1)] {
            let make = |iv| Session::from_key_and_mac(params, &[key; 16], &[mac; 20], &[iv; 16]);
            let (session, again) = (make(0).unwrap(), make(9).unwrap());
            for number in [0, 1, 2, 255, 256, u64::MAX] {
                let head = session.head(number, ContentType::ALERT, 2);
                assert_eq!(head, session.head(number, ContentType::ALERT, 2));
                assert_eq!(head, again.head(number, ContentType::ALERT, 2));
                let iv: [u8; 16] = head.as_bytes()[5..].try_into().unwrap();
                assert!(seen.insert(iv), "{number}");
            }
        }
        // HMAC-SHA256 as coreutils and OpenSSL have it: the key is
        // HMAC(mac key, cipher key, label), the IV the front of HMAC(key, number).
        let session = Session::from_key_and_mac(params, &[1; 16], &[1; 20], &[0; 16]).unwrap();
        let head = session.head(7, ContentType::ALERT, 2);
        assert_eq!(
            head.as_bytes()[5..],
            crate::testing::hex("76abacbdacbdd24753b2fa983a121b08")
        );
    }

    /// What holds key material wipes it, and is moved by pointer.
    #[test]
    fn key_material_is_wiped_and_not_moved() {
        fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<Material>();
        wiped::<CbcMaterial>();
        wiped::<KeyAndIv>();
        wiped::<Session>();
        wiped::<Keys>();
        assert!(size_of::<Session>() < MATERIAL_LEN && size_of::<Keys>() < KEY_MAX);

        let session = Session::from_secret(Suite::Aes128Gcm, &[0xab; 32]).unwrap();
        let keys = session.keys();
        let before = (&raw const *session.material, &raw const *keys.keys);
        let (session, keys) = core::hint::black_box((Box::new(session), Box::new(keys)));
        let after = (&raw const *session.material, &raw const *keys.keys);
        assert_eq!(before, after);
    }

    /// A clone keeps the keys when the session it was made from is dropped.
    #[test]
    fn clones_share_the_keys() {
        let session = Session::from_secret(Suite::Aes256Gcm, &[7; 48]).unwrap();
        let (clone, other) = (session.clone(), session.next().unwrap());
        assert!(clone.is_same(&session) && !other.is_same(&session));
        assert_eq!(Arc::strong_count(&session.material), 2);
        let (id, key) = (session.id(), session.keys().key().to_vec());
        drop(session);
        assert_eq!((clone.id(), clone.keys().key()), (id, &key[..]));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let session = Session::from_secret(Suite::Aes128Gcm, &[0xab; 32]).unwrap();
        let printed = format!("{session:?}");
        assert!(
            !printed.contains("171") && !printed.contains("ab,"),
            "{printed}"
        );
        assert!(printed.contains("TLS 1.3 AES-128-GCM"), "{printed}");
    }
}
