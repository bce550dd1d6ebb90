//! Trees of sent ranges, in the order of their offsets.
//!
//! A tree is a treap: the levels are ordered by random priorities, so its depth is logarithmic
//! whatever order ranges are split and joined in. Each range knows which kinds of ranges its
//! subtree has, so the next range to retransmit is found by one descent. Adding at the end and
//! removing at the front, the common case, take constant time on average.

use super::{Kinds, Link, Ranges, SentRange};

/// A tree of sent ranges in the slab.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    root: Link,
    pub(crate) first: Link,
    pub(crate) last: Link,
    pub(crate) count: u32,
}

impl Tree {
    pub(crate) const EMPTY: Self = Self {
        root: Link::NONE,
        first: Link::NONE,
        last: Link::NONE,
        count: 0,
    };
}

impl Ranges {
    /// Appends a range. `None` if there is no entry for it.
    pub(crate) fn push_last(&mut self, tree: &mut Tree, range: SentRange) -> Option<Link> {
        self.insert_after(tree, tree.last, range)
    }

    /// Inserts a range after another one; after none only into an empty tree. `None` if there is no
    /// entry for it.
    pub(crate) fn insert_after(
        &mut self,
        tree: &mut Tree,
        after: Link,
        range: SentRange,
    ) -> Option<Link> {
        let at = self.take(range)?;
        if tree.count == 0 {
            self.firsts += 1;
            tree.root = at;
            tree.first = at;
        } else {
            self.attach_after(after, at);
            self.rise(tree, at);
            self.refresh_from(self[at].up);
        }
        if tree.last == after {
            tree.last = at;
        }
        tree.count += 1;
        Some(at)
    }

    /// Removes a range and frees it.
    pub(crate) fn remove(&mut self, tree: &mut Tree, at: Link) {
        if tree.count == 1 {
            *tree = Tree::EMPTY;
            self.firsts -= 1;
            return self.give_back(at);
        }
        if tree.first == at {
            tree.first = self.next(at);
        }
        if tree.last == at {
            tree.last = self.prev(at);
        }
        // The range sinks until it has one child at most, which takes its place.
        let child = loop {
            let SentRange { left, right, .. } = self[at];
            match (left.get(), right.get()) {
                (Some(left), Some(right)) => {
                    let left_is_higher = self[left].priority > self[right].priority;
                    self.rotate_up(tree, if left_is_higher { left } else { right });
                }
                (Some(_), None) => break left,
                (None, _) => break right,
            }
        };
        let up = self[at].up;
        self.replace_child(tree, up, at, child);
        self.refresh_from(up);
        self.give_back(at);
        tree.count -= 1;
    }

    /// Changes the marks of a range.
    pub(crate) fn mark(&mut self, at: Link, change: impl FnOnce(&mut SentRange)) {
        change(&mut self[at]);
        self.refresh_from(at);
    }

    /// The range that contains `offset`, or the first one after it.
    pub(crate) fn find(&self, tree: &Tree, offset: u64) -> Link {
        let mut found = Link::NONE;
        let mut here = tree.root;
        while let Some(link) = here.get() {
            let range = &self[link];
            if range.end() > offset {
                found = link;
                here = range.left;
            } else {
                here = range.right;
            }
        }
        found
    }

    /// The first range of a kind.
    pub(crate) fn first_of(&self, tree: &Tree, kind: Kinds) -> Link {
        let mut here = tree.root;
        while let Some(link) = here.get() {
            let range = &self[link];
            if !range.kinds.has(kind) {
                return Link::NONE;
            }
            if self.subtree_has(range.left, kind) {
                here = range.left;
            } else if range.kind().has(kind) {
                return link;
            } else {
                here = range.right;
            }
        }
        Link::NONE
    }

    /// The last range of a kind.
    pub(crate) fn last_of(&self, tree: &Tree, kind: Kinds) -> Link {
        self.last_in(tree.root, kind)
    }

    /// The last range of a kind before another range.
    pub(crate) fn last_before(&self, at: Link, kind: Kinds) -> Link {
        let mut here = at;
        loop {
            let SentRange { left, .. } = self[here];
            if self.subtree_has(left, kind) {
                return self.last_in(left, kind);
            }
            // To the parent of which this is a right descendant.
            loop {
                let Some(up) = self[here].up.get() else {
                    return Link::NONE;
                };
                let came_from_right = self[up].right == here;
                here = up;
                if came_from_right {
                    break;
                }
            }
            if self[here].kind().has(kind) {
                return here;
            }
        }
    }

    /// The range after another one.
    pub(crate) fn next(&self, at: Link) -> Link {
        let mut here = at;
        if let Some(mut link) = self[here].right.get() {
            while let Some(left) = self[link].left.get() {
                link = left;
            }
            return link;
        }
        while let Some(up) = self[here].up.get() {
            if self[up].left == here {
                return up;
            }
            here = up;
        }
        Link::NONE
    }

    /// The range before another one.
    pub(crate) fn prev(&self, at: Link) -> Link {
        let mut here = at;
        if let Some(mut link) = self[here].left.get() {
            while let Some(right) = self[link].right.get() {
                link = right;
            }
            return link;
        }
        while let Some(up) = self[here].up.get() {
            if self[up].right == here {
                return up;
            }
            here = up;
        }
        Link::NONE
    }

    /// Iterates over a tree, beginning at `from`.
    pub(crate) fn iter_from(&self, from: Link) -> impl Iterator<Item = (Link, &SentRange)> {
        let mut at = from;
        core::iter::from_fn(move || {
            let here = at.get()?;
            at = self.next(here);
            Some((here, &self[here]))
        })
    }

    /// Asserts the invariants of a tree. For tests.
    pub(crate) fn check_tree(&self, tree: &Tree) {
        let mut count = 0;
        let mut last = Link::NONE;
        for (link, range) in self.iter_from(tree.first) {
            let mut kinds = range.kind();
            for child in [range.left, range.right].into_iter().filter_map(Link::get) {
                assert_eq!(self[child].up, link, "children know their parent");
                assert!(self[child].priority <= range.priority, "levels are ordered");
                kinds = kinds.with(self[child].kinds);
            }
            assert_eq!(range.kinds, kinds, "a subtree's kinds are known");
            assert_eq!(self.prev(link), last);
            count += 1;
            last = link;
        }
        assert_eq!((tree.count, tree.last), (count, last));
        assert_eq!(tree.root == Link::NONE, count == 0);
    }

    fn last_in(&self, root: Link, kind: Kinds) -> Link {
        let mut here = root;
        while let Some(link) = here.get() {
            let range = &self[link];
            if !range.kinds.has(kind) {
                return Link::NONE;
            }
            if self.subtree_has(range.right, kind) {
                here = range.right;
            } else if range.kind().has(kind) {
                return link;
            } else {
                here = range.left;
            }
        }
        Link::NONE
    }

    fn subtree_has(&self, root: Link, kind: Kinds) -> bool {
        root.get().is_some_and(|root| self[root].kinds.has(kind))
    }

    /// Attaches a range below, as the next one after another range.
    fn attach_after(&mut self, after: Link, at: Link) {
        let (parent, is_right) = match self[after].right.get() {
            None => (after, true),
            Some(mut link) => {
                while let Some(left) = self[link].left.get() {
                    link = left;
                }
                (link, false)
            }
        };
        self[at].up = parent;
        let parent = &mut self[parent];
        if is_right {
            parent.right = at;
        } else {
            parent.left = at;
        }
    }

    /// Moves a range up to the level of its priority.
    fn rise(&mut self, tree: &mut Tree, at: Link) {
        while let Some(up) = self[at].up.get() {
            if self[up].priority >= self[at].priority {
                return;
            }
            self.rotate_up(tree, at);
        }
    }

    /// Exchanges a range with its parent, which becomes its child.
    fn rotate_up(&mut self, tree: &mut Tree, at: Link) {
        let SentRange {
            left, right, up, ..
        } = self[at];
        let above = self[up].up;
        let moved = if self[up].left == at {
            self[up].left = right;
            self[at].right = up;
            right
        } else {
            self[up].right = left;
            self[at].left = up;
            left
        };
        if let Some(moved) = moved.get() {
            self[moved].up = up;
        }
        self[up].up = at;
        self.replace_child(tree, above, up, at);
        self.refresh(up);
        self.refresh(at);
    }

    /// Puts `new` in the place of `old` below `up`, or at the root.
    fn replace_child(&mut self, tree: &mut Tree, up: Link, old: Link, new: Link) {
        match up.get() {
            None => tree.root = new,
            Some(up) => {
                let up = &mut self[up];
                if up.left == old {
                    up.left = new;
                } else {
                    up.right = new;
                }
            }
        }
        if let Some(new) = new.get() {
            self[new].up = up;
        }
    }

    /// Recomputes the kinds of a subtree from its parts. Returns whether they changed.
    fn refresh(&mut self, at: Link) -> bool {
        let SentRange { left, right, .. } = self[at];
        let mut kinds = self[at].kind();
        for child in [left, right].into_iter().filter_map(Link::get) {
            kinds = kinds.with(self[child].kinds);
        }
        core::mem::replace(&mut self[at].kinds, kinds) != kinds
    }

    /// Recomputes the kinds of a subtree and of those above it, as far as they change.
    fn refresh_from(&mut self, at: Link) {
        let mut here = at;
        while let Some(link) = here.get() {
            if !self.refresh(link) {
                return;
            }
            here = self[link].up;
        }
    }
}
