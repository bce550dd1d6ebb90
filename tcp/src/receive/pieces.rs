//! Out-of-order payload: which pieces of the stream beyond RCV.NXT were received.
//!
//! Pieces neither touch nor overlap. The list is ordered by the last update, most recent first: the
//! order in which SACK reports them (RFC 2018, 4).

use crate::ranges::{Link, PieceList};
use crate::transmit::low;
use crate::{Connection, Shared};

impl Connection {
    /// Records an out-of-order piece. Returns how many bytes of it are new, if it has to be kept.
    pub(super) fn insert_piece(&mut self, start: u64, end: u64, sh: &mut Shared) -> Option<u32> {
        let (mut from, mut to) = (start, end);
        let mut new = low(end - start);
        let mut merged: Option<Link> = None;
        let mut here = self.rcv.pieces.head;
        while let Some(link) = here.get() {
            let piece = sh.ranges[link];
            here = sh.ranges.next_piece(link);
            if piece.end() < start || piece.start > end {
                continue;
            }
            if piece.start < end && start < piece.end() {
                let (first, last) = (piece.start.max(start), piece.end().min(end));
                self.note_overlap(first, last);
                new = new.saturating_sub(low(last - first));
            }
            if piece.start <= start && end <= piece.end() {
                sh.ranges.move_to_front(&mut self.rcv.pieces, link);
                return None;
            }
            (from, to) = (from.min(piece.start), to.max(piece.end()));
            if merged.is_some() {
                sh.ranges.remove_piece(&mut self.rcv.pieces, link);
            } else {
                merged = Some(link);
            }
        }
        let len = u32::try_from(to - from).unwrap_or(u32::MAX);
        if let Some(link) = merged {
            sh.ranges[link].start = from;
            sh.ranges[link].len = len;
            sh.ranges.move_to_front(&mut self.rcv.pieces, link);
            return Some(new);
        }
        if self.rcv.pieces.count >= sh.config.reassembly_pieces_max {
            sh.counters.reassembly_dropped += 1;
            return None;
        }
        let kept = sh
            .ranges
            .push_piece(&mut self.rcv.pieces, start, len)
            .is_some();
        sh.counters.ranges_exhausted += u64::from(!kept);
        kept.then_some(new)
    }

    /// Removes the pieces that a segment ending at `segment_end` brought into order, and advances
    /// RCV.NXT over them. Returns how many bytes of the segment they had already.
    pub(super) fn merge_in_order_pieces(&mut self, segment_end: u64, sh: &mut Shared) -> u32 {
        let mut known = 0;
        loop {
            let nxt = self.rcv.nxt;
            let mut pieces = sh.ranges.iter_pieces(&self.rcv.pieces);
            let Some((link, piece)) = pieces.find(|(_, p)| p.start <= nxt) else {
                return known;
            };
            let (start, end) = (piece.start, piece.end());
            drop(pieces);
            if start < segment_end {
                self.note_overlap(start, end.min(segment_end));
                known += low(end.min(segment_end) - start);
            }
            self.rcv.nxt = nxt.max(end);
            sh.ranges.remove_piece(&mut self.rcv.pieces, link);
        }
    }

    /// End of the highest piece, or RCV.NXT if there is none.
    pub(super) fn received_end(&self, sh: &Shared) -> u64 {
        let ends = sh
            .ranges
            .iter_pieces(&self.rcv.pieces)
            .map(|(_, piece)| piece.end());
        ends.fold(self.rcv.nxt, u64::max)
    }

    /// Frees all pieces.
    pub(crate) fn free_pieces(&mut self, sh: &mut Shared) {
        while let Some(head) = self.rcv.pieces.head.get() {
            sh.ranges.remove_piece(&mut self.rcv.pieces, head);
        }
        self.rcv.pieces = PieceList::EMPTY;
    }

    fn note_overlap(&mut self, start: u64, end: u64) {
        if self.rcv.dsack().is_none() {
            self.record_duplicate(start.cast_signed(), end.cast_signed());
        }
    }
}
