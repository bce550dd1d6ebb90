//! Lists of received pieces, most recent first.

use super::{Link, Ranges, SentRange};

/// A doubly linked list of received pieces in the slab.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PieceList {
    pub(crate) head: Link,
    pub(crate) count: u32,
}

impl PieceList {
    pub(crate) const EMPTY: Self = Self {
        head: Link::NONE,
        count: 0,
    };
}

impl Ranges {
    /// Prepends a received piece to a list. `None` if the connection's allowance, the pieces' half
    /// of the shared entries, or the slab is used up.
    pub(crate) fn push_piece(&mut self, list: &mut PieceList, start: u64, len: u32) -> Option<()> {
        let may_grow = self.shared_free() > 0
            && self.pieces < self.sizes.shared / 2
            && list.count < self.allowance();
        if !may_grow {
            return None;
        }
        let at = self.take(SentRange {
            start,
            len,
            ..SentRange::UNUSED
        })?;
        self.pieces += 1;
        self.link_front(list, at);
        Some(())
    }

    /// Removes a received piece from its list and frees it.
    pub(crate) fn remove_piece(&mut self, list: &mut PieceList, at: Link) {
        self.unlink_piece(list, at);
        self.give_back(at);
        self.pieces -= 1;
    }

    /// Moves a piece to the front of its list.
    pub(crate) fn move_to_front(&mut self, list: &mut PieceList, at: Link) {
        if list.head != at {
            self.unlink_piece(list, at);
            self.link_front(list, at);
        }
    }

    /// Iterates over a list of pieces.
    pub(crate) fn iter_pieces(&self, list: &PieceList) -> impl Iterator<Item = (Link, &SentRange)> {
        let mut at = list.head;
        core::iter::from_fn(move || {
            let here = at.get()?;
            let piece = &self[here];
            at = piece.right;
            Some((here, piece))
        })
    }

    /// The piece after `at` in its list.
    pub(crate) fn next_piece(&self, at: Link) -> Link {
        self[at].right
    }

    fn link_front(&mut self, list: &mut PieceList, at: Link) {
        let next = list.head;
        let piece = &mut self[at];
        piece.left = Link::NONE;
        piece.right = next;
        if let Some(next) = next.get() {
            self[next].left = at;
        }
        list.head = at;
        list.count += 1;
    }

    fn unlink_piece(&mut self, list: &mut PieceList, at: Link) {
        let SentRange { left, right, .. } = self[at];
        match left.get() {
            Some(left) => self[left].right = right,
            None => list.head = right,
        }
        if let Some(right) = right.get() {
            self[right].left = left;
        }
        list.count -= 1;
    }
}
