//! What a queue of buffers needs to know of a buffer, and has inside it.

use std::ops::Deref;
use std::ptr::{self, NonNull};

/// What a [`Stream`](crate::Stream) can hold: [`PageBuf`](crate::PageBuf) and
/// [`Buffer`](crate::Buffer).
///
/// # Safety
///
/// - A handle is nothing but the pointer to its node, which stays where it is.
/// - The node's links are not used by anything else while it's in a stream.
pub unsafe trait Link: Deref<Target = Self::Node> {
    /// What the handle points to.
    type Node;

    /// Gives up the handle.
    fn into_node(self) -> NonNull<Self::Node>;

    /// Takes the handle back.
    ///
    /// # Safety
    ///
    /// The node was made of a handle by [`Link::into_node`], and of it no other handle was made.
    unsafe fn from_node(node: NonNull<Self::Node>) -> Self;

    /// The links in a node.
    fn links(node: NonNull<Self::Node>) -> *mut Links<Self::Node>;

    /// Bytes of stream.
    fn len_of(node: &Self::Node) -> u32;

    /// Bytes of memory pinned.
    fn true_size_of(node: &Self::Node) -> u32;
}

/// A node's place in a stream.
#[repr(C)]
#[derive(Debug)]
pub struct Links<Node> {
    pub(crate) next: *mut Node,
    pub(crate) offset: u64,
}

impl<Node> Links<Node> {
    pub(crate) const fn new() -> Self {
        Self {
            next: ptr::null_mut(),
            offset: 0,
        }
    }
}
