//! Bound on the page buffers that a TX ring holds, for drivers that free what was sent only when
//! the descriptor is reused.

use std::collections::VecDeque;
use std::ptr;

use pktbuf::{Block, Slice};

use crate::port::HELD_PIECES_MAX;

/// Page buffers that a queue's packets refer to, from the backlog to the TX ring.
///
/// Such a driver (e1000, virtio) offers no way to get sent buffers back: without new packets they
/// stay in its ring for ever. So the ring's part of a worker's page buffers is bounded: when it is
/// used up, packets are copied into packet buffers, which refer to no page buffer. As copies are
/// sent, older packets leave the ring, and references are possible again.
///
/// What the ring holds isn't known, but a packet takes one descriptor at least: the ring holds the
/// last packets whose descriptors fit into it, or fewer.
#[derive(Debug)]
pub(super) struct RingShare {
    /// Packets that the ring may hold, oldest first, then those that wait to be sent.
    packets: VecDeque<Held>,
    /// Packets that wait.
    waiting: usize,
    /// Least descriptors of the packets in the ring.
    descriptors: u32,
    descriptors_max: u32,
    /// Each segment of a packet takes a descriptor.
    has_descriptor_per_segment: bool,
    /// Page buffers of all packets.
    pages: u32,
    pages_max: u32,
    /// The last page buffer of the last packet with references, while that packet is here. A
    /// record is sent as several frames in a row, and counted once.
    last: *const Block,
}

/// What a packet holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Page buffers that are counted for this packet.
    pages: u16,
    descriptors: u16,
    references: References,
}

/// What a packet refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum References {
    /// No page buffer.
    Nothing,
    /// Page buffers that are all counted for this packet.
    Own,
    /// As `Own`, but the first page buffer is counted for an earlier packet: it is the last page
    /// buffer of the previous packet with references.
    Continued,
}

impl RingShare {
    /// No packets yet, in a ring of so many descriptors. `waiting_max` packets may wait.
    pub(super) fn new(
        descriptors_max: u16,
        has_descriptor_per_segment: bool,
        waiting_max: usize,
        pages_max: u32,
    ) -> Self {
        Self {
            packets: VecDeque::with_capacity(usize::from(descriptors_max) + waiting_max),
            waiting: 0,
            descriptors: 0,
            descriptors_max: descriptors_max.into(),
            has_descriptor_per_segment,
            pages: 0,
            pages_max,
            last: ptr::null(),
        }
    }

    /// Returns whether a packet with this payload may be sent by reference.
    pub(super) fn admits(&self, payload: &[Slice<'_>]) -> bool {
        self.pages + u32::from(self.added(payload)) <= self.pages_max
    }

    /// Returns how many packets may certainly be sent by reference.
    pub(super) fn packets_left(&self) -> usize {
        (self.pages_max - self.pages) as usize / usize::from(HELD_PIECES_MAX)
    }

    /// Counts a packet that waits to be sent by reference.
    pub(super) fn on_referenced(&mut self, payload: &[Slice<'_>]) {
        // The headers are a segment, too.
        let segments = u16::try_from(payload.len() + 1).unwrap_or(u16::MAX);
        let references = match payload.first() {
            Some(first) if ptr::eq(self.last, first.buf) => References::Continued,
            Some(_) => References::Own,
            None => References::Nothing,
        };
        self.on_packet(self.added(payload), segments, references);
        if let Some(slice) = payload.last() {
            self.last = slice.buf;
        }
    }

    /// Counts a packet that waits to be sent without a reference: one that is copied, or has no
    /// payload.
    pub(super) fn on_copied(&mut self) {
        self.on_packet(0, 1, References::Nothing);
    }

    /// Handles that the driver took the first `count` packets that waited.
    pub(super) fn on_taken(&mut self, count: usize) {
        for _ in 0..count.min(self.waiting) {
            let first = self.packets.len() - self.waiting;
            self.descriptors += u32::from(self.packets[first].descriptors);
            self.waiting -= 1;
        }
        while let Some(oldest) = self.packets.front()
            && self.packets.len() > self.waiting
            && self.descriptors - u32::from(oldest.descriptors) >= self.descriptors_max
        {
            self.descriptors -= u32::from(oldest.descriptors);
            self.remove(0);
        }
    }

    /// Handles that the driver refused packets that waited, so that they never were in the ring.
    /// Bit n of `places` is the n-th of those.
    pub(super) fn on_refused(&mut self, mut places: u64) {
        let first = self.packets.len() - self.waiting;
        while let Some(place) = places.checked_ilog2() {
            places &= !(1 << place);
            if self.remove(first + place as usize) {
                self.waiting -= 1;
            }
        }
    }

    /// Handles that the last `count` packets that waited were dropped.
    pub(super) fn on_dropped(&mut self, count: usize) {
        for _ in 0..count.min(self.waiting) {
            self.waiting -= 1;
            if let Some(dropped) = self.packets.pop_back() {
                self.pages -= u32::from(dropped.pages);
            }
        }
        self.last = ptr::null();
    }

    /// Removes a packet. If the packet after it continues with a page buffer that was counted for
    /// this one, that page buffer counts for the other from then on. Returns whether it existed.
    ///
    /// Packets without references are passed over. At the front, each is so once at most: the next
    /// packet with references is behind all of them when they come to the front.
    fn remove(&mut self, place: usize) -> bool {
        let Some(removed) = self.packets.remove(place) else {
            return false;
        };
        self.pages -= u32::from(removed.pages);
        // Otherwise its last page buffer is counted for an earlier packet, or there is none.
        if removed.pages > 0 {
            let mut later = self.packets.range_mut(place..);
            match later.find(|packet| packet.references != References::Nothing) {
                Some(next) if next.references == References::Continued => {
                    next.references = References::Own;
                    next.pages += 1;
                    self.pages += 1;
                }
                Some(_) => {}
                None => self.last = ptr::null(),
            }
        }
        true
    }

    fn on_packet(&mut self, pages: u16, segments: u16, references: References) {
        let descriptors = if self.has_descriptor_per_segment {
            segments
        } else {
            1
        };
        self.packets.push_back(Held {
            pages,
            descriptors,
            references,
        });
        self.waiting += 1;
        self.pages += u32::from(pages);
    }

    /// Page buffers of this payload that differ from the one before.
    fn added(&self, payload: &[Slice<'_>]) -> u16 {
        let mut last = self.last;
        let mut added = 0;
        for slice in payload {
            added += u16::from(!ptr::eq(last, slice.buf));
            last = slice.buf;
        }
        added
    }
}

// SAFETY: the pointer is only compared.
unsafe impl Send for RingShare {}

#[cfg(test)]
mod tests {
    use lockgate_testing::proptest_config;
    use pktbuf::{PageBuf, PagePool, PoolConfig, Region};
    use proptest::prelude::*;

    use super::*;

    const PAGES: usize = 12;

    fn pages() -> (PagePool, Vec<PageBuf>) {
        let config = PoolConfig {
            blocks: 16,
            small_spans: 16,
            large_spans: 1,
        };
        let mut region = Region::heap(PagePool::bytes_needed(config)).unwrap();
        let mut pool = PagePool::new(&mut region, config).unwrap();
        let pages = (0..PAGES).map(|_| pool.alloc(1).unwrap()).collect();
        (pool, pages)
    }

    fn payload<'a>(pages: &'a [PageBuf], which: &[usize]) -> Vec<Slice<'a>> {
        let slice = |&n: &usize| Slice {
            buf: &pages[n],
            at: 0,
            len: 1,
        };
        which.iter().map(slice).collect()
    }

    #[test]
    fn a_record_in_several_frames_counts_once_and_leaves_with_its_packet() {
        let (_pool, pages) = pages();
        let mut share = RingShare::new(4, false, 8, 2);
        for which in [&[0][..], &[0], &[0, 1]] {
            let payload = payload(&pages, which);
            assert!(share.admits(&payload));
            share.on_referenced(&payload);
        }
        let next = payload(&pages, &[2]);
        assert!(!share.admits(&next), "it would be the third");
        assert!(share.admits(&payload(&pages, &[1, 1])), "it is held anyway");
        // While copies wait, they push nothing out of the ring.
        for _ in 0..4 {
            share.on_copied();
        }
        share.on_taken(3);
        assert!(!share.admits(&next));
        share.on_taken(4);
        assert!(share.admits(&next));
        assert_eq!(share.packets_left(), 0);
    }

    #[test]
    fn what_is_dropped_before_the_ring_counts_no_more() {
        let (_pool, pages) = pages();
        let mut share = RingShare::new(4, true, 8, 2);
        share.on_referenced(&payload(&pages, &[0]));
        share.on_taken(1);
        share.on_referenced(&payload(&pages, &[1]));
        assert!(!share.admits(&payload(&pages, &[2])));
        share.on_dropped(1);
        assert!(share.admits(&payload(&pages, &[2])));
        // The reference is gone, so the same page buffer counts again.
        share.on_referenced(&payload(&pages, &[1]));
        assert!(!share.admits(&payload(&pages, &[2])));
    }

    /// Drivers refuse a packet at each retransmission. It pushes nothing out of the ring.
    #[test]
    fn what_the_driver_refuses_counts_no_more() {
        let (_pool, pages) = pages();
        let mut share = RingShare::new(2, false, 8, 3);
        for n in 0..3 {
            share.on_referenced(&payload(&pages, &[n]));
        }
        let next = payload(&pages, &[3]);
        assert!(!share.admits(&next));
        share.on_refused(0b101);
        share.on_taken(1);
        assert_eq!((share.pages, share.waiting), (1, 0));
        for _ in 0..100 {
            share.on_copied();
            share.on_refused(1);
            share.on_taken(0);
        }
        assert_eq!((share.pages, share.packets.len()), (1, 1));
        // The reference is gone, so the same page buffer counts again.
        share.on_referenced(&payload(&pages, &[2]));
        assert_eq!(share.pages, 2);
    }

    /// After a packet was removed, its page buffers count for the next packet that refers to them.
    #[test]
    fn what_the_next_packet_holds_too_counts_on() {
        let (_pool, pages) = pages();
        let mut share = RingShare::new(4, false, 8, 2);
        for n in 0..2 {
            share.on_referenced(&payload(&pages, &[n]));
            share.on_copied();
            share.on_referenced(&payload(&pages, &[n]));
            share.on_refused(1);
            share.on_refused(1);
            share.on_taken(1);
            assert_eq!(share.pages, u32::try_from(n).unwrap() + 1);
        }
        assert!(!share.admits(&payload(&pages, &[2])), "two are in the ring");
        assert!(share.admits(&payload(&pages, &[1])), "it is held anyway");

        // The middle one of three, then the first, then the last.
        let mut share = RingShare::new(4, false, 8, 2);
        for _ in 0..3 {
            share.on_referenced(&payload(&pages, &[0]));
        }
        for (place, left) in [(0b10, 1), (0b01, 1), (0b01, 0)] {
            share.on_refused(place);
            assert_eq!(share.pages, left);
        }
        share.on_referenced(&payload(&pages, &[0]));
        assert_eq!(share.pages, 1);

        // Only the last page buffer can be shared with the next packet.
        let mut share = RingShare::new(4, false, 8, 4);
        share.on_referenced(&payload(&pages, &[0, 1]));
        share.on_referenced(&payload(&pages, &[1, 2]));
        assert_eq!(share.pages, 3);
        share.on_refused(1);
        assert_eq!(share.pages, 2);
        share.on_refused(1);
        assert_eq!(share.pages, 0);
    }

    /// A page buffer whose packet has left the ring counts again.
    #[test]
    fn what_has_left_the_ring_counts_anew() {
        let (_pool, pages) = pages();
        let mut share = RingShare::new(2, false, 8, 1);
        share.on_referenced(&payload(&pages, &[0]));
        for _ in 0..3 {
            share.on_copied();
        }
        share.on_taken(4);
        assert_eq!(share.pages, 0);
        share.on_referenced(&payload(&pages, &[0]));
        assert_eq!(share.pages, 1);
    }

    proptest! {
        #![proptest_config(proptest_config(256))]

        /// However packets come, a ring that reuses descriptors never holds more.
        #[test]
        fn a_ring_never_holds_more_than_its_share(
            packets in (1..=PAGES).prop_flat_map(|pages| prop::collection::vec(
                (
                    prop::collection::vec(0..pages, 0..4),
                    0_usize..4,
                    0_u64..8,
                    prop_oneof![6 => Just(0), 1 => 1_usize..3],
                ),
                1..200,
            )),
            descriptors in 4_u16..24,
            per_segment in any::<bool>(),
            pages_max in 1_u32..8,
        ) {
            let (_pool, pages) = pages();
            let mut share = RingShare::new(descriptors, per_segment, 400, pages_max);
            // Packets that wait, and those in the ring: each with its descriptors.
            let mut waiting = VecDeque::new();
            let mut ring: VecDeque<(Vec<usize>, usize)> = VecDeque::new();
            let mut used = 0;
            for (packet, taken, refused, dropped) in packets {
                let payload = payload(&pages, &packet);
                if share.admits(&payload) {
                    share.on_referenced(&payload);
                    let segments = if per_segment { packet.len() + 1 } else { 1 };
                    waiting.push_back((packet, segments));
                } else {
                    share.on_copied();
                    waiting.push_back((Vec::new(), 1));
                }
                share.on_refused(refused & ((1 << waiting.len().min(3)) - 1));
                for place in (0..waiting.len().min(3)).rev() {
                    if refused & (1 << place) != 0 {
                        waiting.remove(place);
                    }
                }
                share.on_dropped(dropped);
                waiting.truncate(waiting.len().saturating_sub(dropped));
                let taken = taken.min(waiting.len());
                for packet in waiting.drain(..taken) {
                    used += packet.1;
                    ring.push_back(packet);
                    while used > usize::from(descriptors) {
                        used -= ring.pop_front().map_or(0, |gone| gone.1);
                    }
                }
                share.on_taken(taken);
                let all = ring.iter().chain(&waiting);
                let mut held: Vec<_> = all.flat_map(|(pages, _)| pages).collect();
                held.sort_unstable();
                held.dedup();
                prop_assert!(held.len() <= share.pages as usize, "{held:?} of {share:?}");
                prop_assert!(share.pages <= pages_max, "{share:?}");
            }
        }
    }
}
