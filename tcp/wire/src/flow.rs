//! Endpoints and four-tuples of connections, and hashes of them.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

/// An IP address and a TCP port.
///
/// Unlike `SocketAddr` it has no IPv6 flow label or scope, which don't distinguish connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The IP address.
    pub addr: IpAddr,
    /// The TCP port.
    pub port: u16,
}

impl Endpoint {
    /// Makes an endpoint.
    pub const fn new(addr: IpAddr, port: u16) -> Self {
        Self { addr, port }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(a: SocketAddr) -> Self {
        Self::new(a.ip(), a.port())
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(e: Endpoint) -> Self {
        Self::new(e.addr, e.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&SocketAddr::from(*self), f)
    }
}

/// The addresses and ports that identify a connection, seen from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FourTuple {
    /// Our endpoint.
    pub local: Endpoint,
    /// The peer's endpoint.
    pub remote: Endpoint,
}

impl FourTuple {
    /// Makes a four-tuple.
    pub const fn new(local: Endpoint, remote: Endpoint) -> Self {
        Self { local, remote }
    }

    /// Returns the four-tuple as the peer sees it.
    pub const fn reversed(&self) -> Self {
        Self {
            local: self.remote,
            remote: self.local,
        }
    }

    /// Returns a hash for tables, keyed so that peers can't choose tuples that collide.
    ///
    /// It isn't symmetric, and NICs don't compute it: see [`Toeplitz`].
    pub fn hash(&self, secret: u64) -> u32 {
        let ports = u64::from(self.local.port) << 16 | u64::from(self.remote.port);
        let mut h = fold(secret ^ K[0], ports ^ K[1]);
        for (i, addr) in [self.local.addr, self.remote.addr].into_iter().enumerate() {
            let (hi, lo) = match addr {
                IpAddr::V4(a) => (K[2], u64::from(a.to_bits())),
                IpAddr::V6(a) => split(a.to_bits()),
            };
            // The secret enters every multiplication. A peer who doesn't know it can't choose an
            // input that makes a factor zero.
            h = fold(h ^ hi ^ K[i], lo ^ secret.rotate_left(32)) ^ fold(h ^ lo, hi ^ secret);
        }
        let h = fold(h, secret ^ K[2]);
        #[expect(clippy::cast_possible_truncation, reason = "the hash is the low half")]
        let low = h as u32;
        low
    }
}

impl fmt::Display for FourTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <-> {}", self.local, self.remote)
    }
}

/// The Toeplitz hash of receive side scaling (RSS), as NICs compute it.
///
/// A key that repeats every 16 bits makes it symmetric: both directions of a connection get the
/// same hash, and so the same queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toeplitz {
    key: [u8; 40],
}

impl Toeplitz {
    /// The symmetric key, 0x6d5a repeated (Woo and Park, "Scalable TCP Session Monitoring with
    /// Symmetric Receive-side Scaling", 2012).
    pub const SYMMETRIC: Self = Self::new(symmetric_key());

    /// Makes a hash with this RSS key.
    pub const fn new(key: [u8; 40]) -> Self {
        Self { key }
    }

    /// Returns the RSS key, for the NIC's configuration.
    pub const fn key(&self) -> &[u8; 40] {
        &self.key
    }

    /// Returns the hash of a received segment of the connection: its source is the remote endpoint.
    pub fn hash(&self, flow: &FourTuple) -> u32 {
        let mut hash = Hasher {
            key: &self.key,
            at: 0,
            sum: 0,
        };
        for addr in [flow.remote.addr, flow.local.addr] {
            match addr {
                IpAddr::V4(a) => hash.write(&a.octets()),
                IpAddr::V6(a) => hash.write(&a.octets()),
            }
        }
        hash.write(&flow.remote.port.to_be_bytes());
        hash.write(&flow.local.port.to_be_bytes());
        hash.sum
    }
}

struct Hasher<'a> {
    key: &'a [u8; 40],
    at: usize,
    sum: u32,
}

impl Hasher<'_> {
    /// For each input bit that is set, XOR in the 32 key bits that begin at the bit's position. The
    /// longest input is 36 bytes, so the 40 bytes of key suffice.
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let mut window = [0; 8];
            for (w, k) in window.iter_mut().zip(self.key.iter().skip(self.at)) {
                *w = *k;
            }
            let window = u64::from_be_bytes(window);
            for bit in 0..8 {
                if byte & (0x80 >> bit) != 0 {
                    #[expect(clippy::cast_possible_truncation, reason = "32 bits of the window")]
                    let key_bits = (window >> (32 - bit)) as u32;
                    self.sum ^= key_bits;
                }
            }
            self.at += 1;
        }
    }
}

const fn symmetric_key() -> [u8; 40] {
    let mut key = [0; 40];
    let mut i = 0;
    while i < 40 {
        key[i] = if i % 2 == 0 { 0x6d } else { 0x5a };
        i += 1;
    }
    key
}

/// The two halves of the 128-bit product, XORed: every input bit reaches every output bit.
const fn fold(a: u64, b: u64) -> u64 {
    let (hi, lo) = split(a as u128 * b as u128);
    hi ^ lo
}

const fn split(n: u128) -> (u64, u64) {
    #[expect(clippy::cast_possible_truncation, reason = "each half is taken")]
    let halves = ((n >> 64) as u64, n as u64);
    halves
}

/// Digits of pi: nothing up the sleeve.
const K: [u64; 3] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7344,
    0xa409_3822_299f_31d0,
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// The key and vectors of Microsoft's "Verifying the RSS Hash Calculation".
    const MICROSOFT: Toeplitz = Toeplitz::new([
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ]);

    fn tuple(remote: &str, local: &str) -> FourTuple {
        let e = |s: &str| Endpoint::from(s.parse::<SocketAddr>().unwrap());
        FourTuple::new(e(local), e(remote))
    }

    #[test]
    fn toeplitz_vectors() {
        for (src, dst, hash) in [
            ("66.9.149.187:2794", "161.142.100.80:1766", 0x51cc_c178),
            ("199.92.111.2:14230", "65.69.140.83:4739", 0xc626_b0ea),
            ("24.19.198.95:12898", "12.22.207.184:38024", 0x5c2b_394a),
            ("38.27.205.30:48228", "209.142.163.6:2217", 0xafc7_327f),
            ("153.39.163.191:44251", "202.188.127.2:1303", 0x10e8_28a2),
            (
                "[3ffe:2501:200:1fff::7]:2794",
                "[3ffe:2501:200:3::1]:1766",
                0x4020_7d3d,
            ),
            (
                "[3ffe:501:8::260:97ff:fe40:efab]:14230",
                "[ff02::1]:4739",
                0xdde5_1bbf,
            ),
            (
                "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251",
                "[fe80::200:f8ff:fe21:67cf]:38024",
                0x02d1_feef,
            ),
        ] {
            assert_eq!(MICROSOFT.hash(&tuple(src, dst)), hash, "{src} {dst}");
        }
    }

    #[test]
    fn keyed_hash_spreads() {
        // One peer, every source port: the low bits, which tables use, must spread.
        let mut seen = HashSet::new();
        let mut buckets = [0u32; 256];
        for port in 0..u16::MAX {
            let t = FourTuple::new(
                Endpoint::new(IpAddr::from([10, 0, 0, 1]), 443),
                Endpoint::new(IpAddr::from([10, 0, 0, 2]), port),
            );
            let h = t.hash(0x1234_5678_9abc_def0);
            seen.insert(h);
            buckets[usize::from(h.to_le_bytes()[0])] += 1;
        }
        assert!(seen.len() > 65_000, "{} different hashes", seen.len());
        assert!(
            buckets.iter().all(|n| (150..=370).contains(n)),
            "{buckets:?}"
        );
    }

    #[test]
    fn keyed_hash_depends_on_every_part() {
        let t = tuple("[2001:db8::1]:1000", "[2001:db8::2]:443");
        let others = [
            t.reversed(),
            tuple("[2001:db8::1]:1001", "[2001:db8::2]:443"),
            tuple("[2001:db8::1]:1000", "[2001:db8::2]:444"),
            tuple("[2001:db8:1::1]:1000", "[2001:db8::2]:443"),
            tuple("[2001:db8::1]:1000", "[2001:db8:1::2]:443"),
            tuple("0.0.0.1:1000", "0.0.0.2:443"),
        ];
        for o in others {
            assert_ne!(t.hash(7), o.hash(7), "{o}");
        }
        assert_ne!(t.hash(7), t.hash(8));
    }

    proptest! {
        #![proptest_config(lockgate_testing::proptest_config(256))]

        #[test]
        fn symmetric_key_is_symmetric(a: [u8; 4], b: [u8; 4], p: u16, q: u16) {
            let t = FourTuple::new(Endpoint::new(a.into(), p), Endpoint::new(b.into(), q));
            prop_assert_eq!(Toeplitz::SYMMETRIC.hash(&t), Toeplitz::SYMMETRIC.hash(&t.reversed()));
        }

        #[test]
        fn symmetric_key_is_symmetric_v6(a: [u8; 16], b: [u8; 16], p: u16, q: u16) {
            let t = FourTuple::new(Endpoint::new(a.into(), p), Endpoint::new(b.into(), q));
            prop_assert_eq!(Toeplitz::SYMMETRIC.hash(&t), Toeplitz::SYMMETRIC.hash(&t.reversed()));
        }
    }
}
