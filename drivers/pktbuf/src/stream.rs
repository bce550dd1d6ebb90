//! Byte streams: queues of buffers, addressed by stream offset.

mod page;
pub(crate) mod received;

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use crate::links::{Link, Links};

pub use self::page::{EndedSeals, FramedRecord};

/// A queue of buffers that are consecutive in a stream of bytes.
///
/// It is linked through the buffers, so that an empty one owns no memory. It covers the offsets
/// `start()..end()`. The first buffer may begin before `start()`, because only whole buffers are
/// freed.
pub struct Stream<T: Link> {
    head: *mut T::Node,
    tail: *mut T::Node,
    /// End of the search that went furthest: new data is sent from here on.
    cursor: Cell<*mut T::Node>,
    /// End of the last search before `cursor`: retransmissions continue here.
    back: Cell<*mut T::Node>,
    start: u64,
    end: u64,
    true_size: Cell<u32>,
    items: u32,
    _items: PhantomData<T>,
}

// SAFETY: a stream owns its items.
unsafe impl<T: Link + Send> Send for Stream<T> {}

impl<T: Link> Stream<T> {
    /// Makes an empty stream at offset 0.
    pub const fn new() -> Self {
        Self::starting_at(0)
    }

    /// Makes an empty stream at `offset`.
    pub const fn starting_at(offset: u64) -> Self {
        Self {
            head: ptr::null_mut(),
            tail: ptr::null_mut(),
            cursor: Cell::new(ptr::null_mut()),
            back: Cell::new(ptr::null_mut()),
            start: offset,
            end: offset,
            true_size: Cell::new(0),
            items: 0,
            _items: PhantomData,
        }
    }

    /// Returns the offset of the first byte.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Returns the offset behind the last byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Returns whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns the number of buffers.
    pub fn items(&self) -> u32 {
        self.items
    }

    /// Returns the bytes of memory that the buffers pin.
    pub fn true_size(&self) -> u32 {
        self.true_size.get()
    }

    /// Appends a buffer. An empty one is dropped.
    pub fn push(&mut self, item: T) {
        let len = T::len_of(&item);
        if len == 0 {
            return;
        }
        self.true_size
            .set(self.true_size.get().wrapping_add(T::true_size_of(&item)));
        self.items += 1;
        let node = item.into_node();
        // SAFETY: the node is the stream's now.
        unsafe {
            T::links(node).write(Links {
                next: ptr::null_mut(),
                offset: self.end,
            })
        };
        match NonNull::new(self.tail) {
            // SAFETY: the stream's node.
            Some(tail) => unsafe { (*T::links(tail)).next = node.as_ptr() },
            None => self.head = node.as_ptr(),
        }
        self.tail = node.as_ptr();
        self.end += u64::from(len);
    }

    /// Moves the start to `to` (at most to the end), and frees the buffers that end there or
    /// before.
    pub fn release(&mut self, to: u64) {
        let to = to.min(self.end);
        while let Some(head) = NonNull::new(self.head)
            && Self::end_of(head) <= to
        {
            drop(self.unlink_head(head));
        }
        self.start = self.start.max(to);
    }

    /// Frees the buffers that begin at `to` or behind, except for one that was released in part. A
    /// buffer that begins before `to` stays whole. Returns the new end.
    pub fn truncate(&mut self, to: u64) -> u64 {
        let to = to.max(self.start);
        if to >= self.end {
            return self.end;
        }
        // The last node that begins before `to` stays.
        let last = match to.checked_sub(1) {
            Some(byte) if self.head_offset().is_some_and(|first| first <= byte) => {
                self.node_at(byte)
            }
            Some(_) | None => None,
        };
        let rest = match last {
            // SAFETY: the stream's node.
            Some(last) => unsafe {
                std::mem::replace(&mut (*T::links(last)).next, ptr::null_mut())
            },
            None => std::mem::replace(&mut self.head, ptr::null_mut()),
        };
        self.tail = last.map_or(ptr::null_mut(), NonNull::as_ptr);
        self.end = last.map_or(self.start, Self::end_of);
        for cursor in [&self.cursor, &self.back] {
            if NonNull::new(cursor.get()).is_some_and(|node| Self::offset_of(node) >= to) {
                cursor.set(self.tail);
            }
        }
        let mut next = rest;
        while let Some(node) = NonNull::new(next) {
            next = Self::next_of(node);
            // SAFETY: cut off just now.
            drop(unsafe { self.take(node) });
        }
        self.end
    }

    /// Removes the first buffer. Returns it with the number of its bytes that were released before.
    pub fn pop_front(&mut self) -> Option<(T, u32)> {
        let head = NonNull::new(self.head)?;
        let released = self.start - Self::offset_of(head);
        self.start = Self::end_of(head);
        // Less than the item's length, which has 32 bits.
        Some((
            self.unlink_head(head),
            u32::try_from(released).unwrap_or(u32::MAX),
        ))
    }

    /// Returns the buffer that holds the byte at `offset`, and the byte's index in it; `None` if
    /// the offset isn't in the stream.
    ///
    /// It keeps two cursors: the place of the furthest search, and that of the last search before
    /// it. So neither new data nor a retransmission in between walks from the front.
    pub fn find(&self, offset: u64) -> Option<(&T::Node, u32)> {
        if !(self.start..self.end).contains(&offset) {
            return None;
        }
        let node = self.node_at(offset)?;
        let at = u32::try_from(offset - Self::offset_of(node)).ok()?;
        // SAFETY: the stream's node, borrowed with it.
        Some((unsafe { node.as_ref() }, at))
    }

    /// Iterates over all buffers, each with the stream offset of its first byte.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T::Node)> {
        self.iter_from(self.start)
    }

    /// Iterates over the buffers from the one that holds `offset`, or from the first.
    pub fn iter_from(&self, offset: u64) -> impl Iterator<Item = (u64, &T::Node)> {
        let mut next = self.first_from(offset);
        std::iter::from_fn(move || {
            let node = next?;
            next = NonNull::new(Self::next_of(node));
            // SAFETY: the stream's node, borrowed with it.
            Some((Self::offset_of(node), unsafe { node.as_ref() }))
        })
    }

    /// Checks every invariant, for tests.
    ///
    /// # Errors
    /// The invariant that is broken.
    pub fn check(&self) -> Result<(), &'static str> {
        let ensure = |holds: bool, broken| if holds { Ok(()) } else { Err(broken) };
        ensure(self.start <= self.end, "the start is behind the end")?;
        ensure(
            self.head.is_null() == self.tail.is_null(),
            "only one of head and tail",
        )?;
        ensure(
            self.head.is_null() == self.is_empty(),
            "bytes without buffers, or the reverse",
        )?;
        let (mut items, mut true_size, mut at) = (0, 0u32, self.head_offset());
        let (mut cursor, mut back) = (self.cursor.get().is_null(), self.back.get().is_null());
        let mut last = ptr::null_mut();
        let mut next = self.head;
        while let Some(node) = NonNull::new(next) {
            // SAFETY: the stream's node.
            let item = unsafe { node.as_ref() };
            ensure(T::len_of(item) > 0, "an empty buffer")?;
            ensure(at == Some(Self::offset_of(node)), "a gap")?;
            ensure(Self::end_of(node) > self.start, "a released buffer")?;
            at = Some(Self::end_of(node));
            items += 1;
            true_size = true_size.wrapping_add(T::true_size_of(item));
            cursor |= ptr::eq(next, self.cursor.get());
            back |= ptr::eq(next, self.back.get());
            last = next;
            next = Self::next_of(node);
        }
        ensure(ptr::eq(last, self.tail), "the tail isn't the last")?;
        ensure(
            self.head_offset().is_none_or(|at| at <= self.start),
            "a gap at the front",
        )?;
        ensure(
            at.is_none_or(|at| at == self.end),
            "the end isn't the last buffer's",
        )?;
        ensure(items == self.items, "number of buffers")?;
        ensure(true_size == self.true_size.get(), "size of memory")?;
        ensure(cursor && back, "a cursor outside")
    }

    fn head_offset(&self) -> Option<u64> {
        NonNull::new(self.head).map(Self::offset_of)
    }

    fn first_from(&self, offset: u64) -> Option<NonNull<T::Node>> {
        let offset = offset.max(self.start);
        if offset < self.end {
            self.node_at(offset)
        } else {
            None
        }
    }

    /// Returns the node that holds `offset`, which is at least the first one's and below the end.
    fn node_at(&self, offset: u64) -> Option<NonNull<T::Node>> {
        let reaches = |from: &Cell<*mut T::Node>| {
            NonNull::new(from.get()).filter(|node| Self::offset_of(*node) <= offset)
        };
        let (from, remember) = match (reaches(&self.cursor), reaches(&self.back)) {
            (Some(node), _) => (Some(node), &self.cursor),
            (None, back) if !self.cursor.get().is_null() => {
                (back.or_else(|| NonNull::new(self.head)), &self.back)
            }
            (None, _) => (NonNull::new(self.head), &self.cursor),
        };
        let mut node = from?;
        while Self::end_of(node) <= offset {
            node = NonNull::new(Self::next_of(node))?;
        }
        remember.set(node.as_ptr());
        Some(node)
    }

    fn unlink_head(&mut self, head: NonNull<T::Node>) -> T {
        self.head = Self::next_of(head);
        if self.head.is_null() {
            self.tail = ptr::null_mut();
        }
        for cursor in [&self.cursor, &self.back] {
            if ptr::eq(cursor.get(), head.as_ptr()) {
                // The next search isn't for an offset before the new head.
                cursor.set(self.head);
            }
        }
        // SAFETY: unlinked just now.
        unsafe { self.take(head) }
    }

    /// Converts an unlinked node into its handle.
    ///
    /// # Safety
    ///
    /// The node was in this stream and was unlinked.
    unsafe fn take(&mut self, node: NonNull<T::Node>) -> T {
        // SAFETY: the node is the stream's until here.
        let size = T::true_size_of(unsafe { node.as_ref() });
        self.true_size.set(self.true_size.get().wrapping_sub(size));
        self.items -= 1;
        // SAFETY: `push` made it of a handle.
        unsafe { T::from_node(node) }
    }

    fn next_of(node: NonNull<T::Node>) -> *mut T::Node {
        // SAFETY: called with the stream's nodes only.
        unsafe { (*T::links(node)).next }
    }

    fn offset_of(node: NonNull<T::Node>) -> u64 {
        // SAFETY: called with the stream's nodes only.
        unsafe { (*T::links(node)).offset }
    }

    fn end_of(node: NonNull<T::Node>) -> u64 {
        // SAFETY: called with the stream's nodes only.
        let len = T::len_of(unsafe { node.as_ref() });
        Self::offset_of(node) + u64::from(len)
    }
}

impl<T: Link> Default for Stream<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Link> Drop for Stream<T> {
    fn drop(&mut self) {
        self.release(self.end);
    }
}

impl<T: Link> fmt::Debug for Stream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({}..{} in {})", self.start, self.end, self.items)
    }
}

#[cfg(test)]
mod tests;
