//! The neighbours that sibling workers have solicited.
//!
//! The answer to a worker's solicitation comes to any worker. Copies of all frames of ARP and
//! neighbour discovery go to the siblings, but a station on the link may send more of them than the
//! siblings take. So a worker announces what it solicits, and the worker that receives the answer
//! gives it to the siblings by a queue of its own. A flood adds nothing to that queue: each
//! solicitation lets one answer in, and solicitations are limited by the neighbour table.

use std::collections::VecDeque;

use hashbrown::HashMap;
use lockgate_ip::NextHop;

use crate::sibling_frames::SiblingFrame;

/// A step in the resolution of a neighbour that one worker reports to all siblings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SiblingResolution {
    /// The worker has solicited the neighbour.
    Solicited(NextHop),
    /// A neighbour that a sibling has solicited has sent this frame.
    Answered(SiblingFrame),
}

/// Neighbours that siblings have solicited, until the next frame of each. The latest
/// [`HOPS_MAX`] are kept.
#[derive(Debug, Default)]
pub(crate) struct SiblingSolicits {
    /// The number of the latest solicitation of each.
    hops: HashMap<NextHop, u64>,
    /// All solicitations in order. An answered solicitation no longer counts, nor does an older
    /// solicitation of the same neighbour.
    order: VecDeque<(NextHop, u64)>,
    next: u64,
}

impl SiblingSolicits {
    /// Allocates the memory, if there are siblings.
    pub(crate) fn new(has_siblings: bool) -> Self {
        let capacity = if has_siblings { HOPS_MAX } else { 0 };
        Self {
            hops: HashMap::with_capacity(capacity),
            order: VecDeque::with_capacity(capacity),
            next: 0,
        }
    }

    /// Notes that a sibling has solicited a neighbour.
    pub(crate) fn insert(&mut self, hop: NextHop) {
        if self.order.len() >= HOPS_MAX
            && let Some((oldest, number)) = self.order.pop_front()
            && self.hops.get(&oldest) == Some(&number)
        {
            self.hops.remove(&oldest);
        }
        self.order.push_back((hop, self.next));
        self.hops.insert(hop, self.next);
        self.next += 1;
    }

    /// Returns whether a sibling waits for an answer of this neighbour. The next one of the same
    /// neighbour isn't waited for.
    pub(crate) fn take(&mut self, hop: &NextHop) -> bool {
        self.hops.remove(hop).is_some()
    }
}

/// More than the solicitations of a sibling in a second.
const HOPS_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use lockgate_wire::IfaceId;

    use super::*;

    fn hop(n: u32) -> NextHop {
        NextHop {
            iface: IfaceId(0),
            addr: Ipv4Addr::from_bits(n).into(),
        }
    }

    #[test]
    fn a_solicitation_waits_for_one_answer() {
        let mut solicits = SiblingSolicits::new(true);
        assert!(!solicits.take(&hop(1)));
        solicits.insert(hop(1));
        solicits.insert(hop(1));
        assert!(solicits.take(&hop(1)));
        assert!(!solicits.take(&hop(1)));
    }

    #[test]
    fn the_oldest_is_given_up() {
        let mut solicits = SiblingSolicits::new(true);
        solicits.insert(hop(0));
        solicits.insert(hop(1));
        solicits.insert(hop(0));
        for n in 2..513 {
            solicits.insert(hop(n));
        }
        assert_eq!((solicits.hops.len(), solicits.order.len()), (512, 512));
        assert!(!solicits.take(&hop(1)), "512 were solicited since");
        assert!(solicits.take(&hop(0)), "it was solicited again");
        for n in 0..10_000 {
            solicits.insert(hop(n % 600));
            solicits.take(&hop(n % 7));
        }
        assert!(solicits.hops.len() <= 512);
        assert_eq!(solicits.order.len(), 512);
    }
}
