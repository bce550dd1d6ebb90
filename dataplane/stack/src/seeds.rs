//! Seeds of a stack's random decisions.

use lockgate_tcp::isn::stream_seed;

/// The seeds of random streams that peers can observe. Each stream has one of its own, so that what
/// a peer learns of one (the ports of outgoing connections) predicts nothing about another (the
/// challenge ACK limits of RFC 5961).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seeds {
    /// TCP's challenge ACK limits.
    pub(crate) challenges: u64,
    /// TCP's trees of sent ranges.
    pub(crate) ranges: u64,
    /// Jitter of neighbour discovery.
    pub(crate) neighbours: u64,
    /// Ephemeral ports.
    pub(crate) ports: u64,
}

impl Seeds {
    pub(crate) fn new(secret: u64) -> Self {
        Self {
            challenges: stream_seed(secret, 1),
            ranges: stream_seed(secret, 2),
            neighbours: stream_seed(secret, 3),
            ports: stream_seed(secret, 4),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use lockgate_wire::Xorshift64;

    use super::*;

    /// The first numbers of all streams of some secrets: no two are the same.
    #[test]
    fn streams_have_nothing_in_common() {
        let mut seen = HashSet::new();
        for secret in 0..16 {
            let Seeds {
                challenges,
                ranges,
                neighbours,
                ports,
            } = Seeds::new(secret);
            for seed in [challenges, ranges, neighbours, ports] {
                let mut random = Xorshift64::new(seed);
                for _ in 0..1000 {
                    assert!(seen.insert(random.next()));
                }
            }
        }
    }
}
