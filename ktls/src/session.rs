//! Sessions: immutable keys of one direction of a connection.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::role::Role;
use crate::schedule;
use crate::suite::{NONCE_LEN, Params, Suite, Version};

/// Identifier of a session, unique in the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionId(u64);

impl SessionId {
    fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
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

/// A traffic secret, or IV and key, with the session's identifier. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Material {
    bytes: [u8; MATERIAL_LEN],
    #[zeroize(skip)]
    id: SessionId,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeySource {
    TrafficSecret,
    KeyAndIv,
}

impl Session {
    /// Creates a TLS 1.3 session from its traffic secret. Returns `None` if the secret isn't as
    /// long as the suite's hash.
    pub fn from_secret(suite: Suite, secret: &[u8]) -> Option<Self> {
        if secret.len() != suite.secret_len() {
            return None;
        }
        let params = Params::new(suite, Version::Tls13);
        Some(Self::new(params, KeySource::TrafficSecret, |material| {
            material[..secret.len()].copy_from_slice(secret);
        }))
    }

    /// Creates a session from key and IV: TLS 1.2, or TLS 1.3 without key changes. Returns `None`
    /// if the key isn't as long as the suite's.
    ///
    /// The IV has 12 bytes in every suite. In TLS 1.2 AES-GCM the first four are the salt; the
    /// other eight, XOR the sequence number, are the explicit nonce.
    pub fn from_key(params: Params, key: &[u8], iv: &[u8; NONCE_LEN]) -> Option<Self> {
        if key.len() != params.suite.key_len() {
            return None;
        }
        Some(Self::new(params, KeySource::KeyAndIv, |material| {
            material[..NONCE_LEN].copy_from_slice(iv);
            material[NONCE_LEN..][..key.len()].copy_from_slice(key);
        }))
    }

    /// Creates the TLS 1.2 session of what `sender` sends, from the master secret and the randoms
    /// of client and server.
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
        let secret = &self.material.bytes[..len];
        let next = Self::new(self.params, KeySource::TrafficSecret, |material| {
            schedule::next_secret(suite, secret, &mut material[..len]);
        });
        Some(next)
    }

    /// Returns key and IV, derived from the traffic secret if there is one.
    pub fn keys(&self) -> Keys {
        let suite = self.params.suite;
        let len = suite.key_len();
        let mut keys = Box::new(KeyAndIv {
            key: [0; KEY_MAX],
            iv: [0; NONCE_LEN],
        });
        let material = &self.material.bytes;
        match self.source {
            KeySource::TrafficSecret => schedule::traffic_keys(
                suite,
                &material[..suite.secret_len()],
                &mut keys.key[..len],
                &mut keys.iv,
            ),
            KeySource::KeyAndIv => {
                keys.iv.copy_from_slice(&material[..NONCE_LEN]);
                keys.key.copy_from_slice(&material[NONCE_LEN..][..KEY_MAX]);
            }
        }
        Keys { keys, len }
    }

    /// Creates a session whose key material is written where it stays.
    fn new(params: Params, source: KeySource, fill: impl FnOnce(&mut [u8; MATERIAL_LEN])) -> Self {
        let mut material = Arc::new(Material {
            bytes: [0; MATERIAL_LEN],
            id: SessionId::fresh(),
        });
        if let Some(material) = Arc::get_mut(&mut material) {
            fill(&mut material.bytes);
        }
        Self {
            material,
            params,
            source,
        }
    }

    /// Returns the session's identifier.
    pub fn id(&self) -> SessionId {
        self.material.id
    }

    /// Returns suite and version.
    pub const fn params(&self) -> Params {
        self.params
    }

    /// Whether a KeyUpdate can follow.
    pub const fn can_rekey(&self) -> bool {
        matches!(self.source, KeySource::TrafficSecret)
    }

    /// Whether both are references to the same keys.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.material, &other.material)
    }

    /// Returns the IV for the explicit nonce of TLS 1.2 GCM, without deriving anything. Sessions
    /// made from a secret are TLS 1.3, whose records have no explicit nonce.
    pub(crate) fn explicit_iv(&self) -> &[u8; NONCE_LEN] {
        match self.source {
            KeySource::KeyAndIv => self.material.bytes.first_chunk().unwrap_or(&NO_IV),
            KeySource::TrafficSecret => &NO_IV,
        }
    }
}

// Its only secret is in `Material`, which the last reference wipes.
impl ZeroizeOnDrop for Session {}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.material.id.0;
        write!(f, "Session({id}, {}, keys withheld)", self.params)
    }
}

/// A session's key and IV, wiped when dropped. In a box, so that moving them leaves no copy.
pub struct Keys {
    keys: Box<KeyAndIv>,
    len: usize,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct KeyAndIv {
    key: [u8; KEY_MAX],
    iv: [u8; NONCE_LEN],
}

impl Keys {
    /// Returns the key.
    pub fn key(&self) -> &[u8] {
        &self.keys.key[..self.len]
    }

    /// Returns the IV.
    pub fn iv(&self) -> &[u8; NONCE_LEN] {
        &self.keys.iv
    }
}

// Its only secrets are in `KeyAndIv`.
impl ZeroizeOnDrop for Keys {}

const KEY_MAX: usize = Suite::key_len_max();
const NO_IV: [u8; NONCE_LEN] = [0; NONCE_LEN];
/// Today a SHA-384 traffic secret.
const MATERIAL_LEN: usize = Suite::material_len_max();

const _: () = assert!(size_of::<Session>() == 16 && size_of::<Material>() == 56);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn material_of_the_wrong_length_makes_no_session() {
        for params in Params::ALL {
            let (suite, iv) = (params.suite, [7; NONCE_LEN]);
            for len in 0..=64 {
                let bytes = vec![1; len];
                assert_eq!(
                    Session::from_key(params, &bytes, &iv).is_some(),
                    len == suite.key_len()
                );
                assert_eq!(
                    Session::from_secret(suite, &bytes).is_some(),
                    len == suite.secret_len()
                );
            }
        }
    }

    #[test]
    fn keys_given_are_keys_kept() {
        for params in Params::ALL {
            let key: Vec<u8> = (1..).take(params.suite.key_len()).collect();
            let iv = core::array::from_fn(|n| 0xa0 + u8::try_from(n).unwrap());
            let session = Session::from_key(params, &key, &iv).unwrap();
            assert_eq!(session.keys().key(), key);
            assert_eq!(session.keys().iv(), &iv);
            assert_eq!(session.explicit_iv(), &iv);
            assert!(!session.can_rekey() && session.next().is_none());
        }
    }

    /// What holds key material wipes it, and is moved by pointer.
    #[test]
    fn key_material_is_wiped_and_not_moved() {
        fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<Material>();
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
