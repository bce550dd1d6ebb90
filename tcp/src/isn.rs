//! Initial sequence numbers and timestamp offsets that an off-path attacker can't guess (RFC 6528).

use core::hash::Hasher;
use core::net::IpAddr;

use lockgate_wire::{Endpoint, FourTuple, Instant, SeqNum};
use siphasher::sip::SipHasher24;

/// Generates initial sequence numbers and timestamp offsets, keyed with a secret drawn at start-up.
///
/// Immutable, so that all workers share one.
#[derive(Clone)]
pub struct IsnSource {
    secret: [u64; 2],
}

impl IsnSource {
    /// Creates a source. `secret` must come from a cryptographic random number generator.
    pub const fn new(secret: [u64; 2]) -> Self {
        Self { secret }
    }

    /// The initial sequence number of a connection with this four-tuple that opens now.
    //= https://www.rfc-editor.org/rfc/rfc6528#section-3
    //# ISN = M + F(localip, localport, remoteip, remoteport, secretkey)
    //#
    //# where M is the 4 microsecond timer, and F() is a pseudorandom
    //# function (PRF) of the connection-id.
    pub fn isn(&self, now: Instant, tuple: &FourTuple) -> SeqNum {
        SeqNum(low(now.as_nanos() / 4_000).wrapping_add(self.prf(tuple, Purpose::Isn)))
    }

    /// The offset added to the clock to form timestamps of this four-tuple. It is the same for all
    /// incarnations, so that timestamps increase and a peer in TIME-WAIT accepts the next one (RFC
    /// 6191).
    //= https://www.rfc-editor.org/rfc/rfc7323#section-5.4
    //# A random offset may be added to the timestamp clock on a per-
    //# connection basis.
    pub fn timestamp_offset(&self, tuple: &FourTuple) -> u32 {
        self.prf(tuple, Purpose::Timestamp)
    }

    fn prf(&self, tuple: &FourTuple, purpose: Purpose) -> u32 {
        let mut hasher = SipHasher24::new_with_keys(self.secret[0], self.secret[1]);
        for Endpoint { addr, port } in [tuple.local, tuple.remote] {
            match addr {
                IpAddr::V4(a) => hasher.write_u32(a.to_bits()),
                IpAddr::V6(a) => hasher.write_u128(a.to_bits()),
            }
            hasher.write_u16(port);
        }
        hasher.write_u8(purpose as u8);
        low(hasher.finish())
    }
}

impl core::fmt::Debug for IsnSource {
    /// Does not print the secret.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("IsnSource")
    }
}

/// Returns the seed of one of several random streams that are drawn from one secret.
///
/// What a peer learns of one stream tells nothing about the secret, and so nothing about the other
/// streams.
pub fn stream_seed(secret: u64, stream: u64) -> u64 {
    SipHasher24::new_with_keys(secret, stream).finish()
}

/// Separates the two uses of one secret.
#[derive(Clone, Copy)]
enum Purpose {
    Isn = 0,
    Timestamp = 1,
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "sequence numbers are modulo 2^32"
)]
const fn low(n: u64) -> u32 {
    n as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::SocketAddr;

    use super::*;

    fn tuple(remote: &str) -> FourTuple {
        let local: SocketAddr = "198.18.0.1:443".parse().unwrap();
        let remote: SocketAddr = remote.parse().unwrap();
        FourTuple::new(local.into(), remote.into())
    }

    #[test]
    fn the_same_name_grows_by_one_every_four_microseconds() {
        let source = IsnSource::new([1, 2]);
        let name = tuple("198.18.0.2:4000");
        let first = source.isn(Instant::from_millis(5), &name);
        let later = source.isn(
            Instant::from_millis(5) + core::time::Duration::from_secs(1),
            &name,
        );
        assert_eq!(later.since(first), 250_000);
    }

    #[test]
    fn names_and_secrets_and_purposes_are_unrelated() {
        let mut seen = HashSet::new();
        for secret in 0..10 {
            let source = IsnSource::new([secret, 7]);
            for port in 0..100 {
                let name = tuple(&format!("198.18.0.2:{}", 4000 + port));
                assert!(seen.insert(source.isn(Instant::ZERO, &name).0));
                assert!(seen.insert(source.timestamp_offset(&name)));
                assert_eq!(
                    source.timestamp_offset(&name),
                    source.timestamp_offset(&name)
                );
            }
        }
        let source = IsnSource::new([1, 7]);
        assert!(seen.insert(source.isn(Instant::ZERO, &tuple("[2001:db8::1]:4000")).0));
    }

    #[test]
    fn the_secret_is_not_printed() {
        assert_eq!(
            format!("{:?}", IsnSource::new([0xdead, 0xbeef])),
            "IsnSource"
        );
    }
}
