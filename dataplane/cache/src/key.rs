//! Names of representations: a tree and a path in it.

/// Identifies one of the trees that a cache serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RootId(u16);

impl RootId {
    /// The tree that was given as number `index` when the cache was started.
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The name that an object is stored under.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) root: RootId,
    /// Relative to the tree's top, without a slash at either end.
    pub(crate) path: Box<[u8]>,
}
