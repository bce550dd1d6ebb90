//! Intrusive links: what a queue of buffers keeps in each buffer.

use std::ops::Deref;
use std::ptr::{self, NonNull};

/// An item of a [`Stream`](crate::Stream): [`PageBuf`](crate::PageBuf) or
/// [`Buffer`](crate::Buffer).
///
/// # Safety
///
/// - A handle is nothing but the pointer to its node, which stays where it is.
/// - The node's links are not used by anything else while it's in a stream.
pub unsafe trait Link: Deref<Target = Self::Node> {
    /// The target of the handle.
    type Node;

    /// Converts the handle into its node.
    fn into_node(self) -> NonNull<Self::Node>;

    /// Converts a node back into its handle.
    ///
    /// # Safety
    ///
    /// The node comes from [`Link::into_node`] and hasn't been converted back since.
    unsafe fn from_node(node: NonNull<Self::Node>) -> Self;

    /// Returns the address of a node's links.
    fn links(node: NonNull<Self::Node>) -> *mut Links<Self::Node>;

    /// Returns the bytes of stream in a node.
    fn len_of(node: &Self::Node) -> u32;

    /// Returns the bytes of memory that a node pins.
    fn true_size_of(node: &Self::Node) -> u32;
}

/// A node's links: the next node, and the node's stream offset.
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
