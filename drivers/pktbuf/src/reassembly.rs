//! Reassembly of received segments that arrived out of order.

use std::fmt;
use std::ops::Range;
use std::ptr::{self, NonNull};

use crate::buffer::Buffer;
use crate::frag::Frag;
use crate::links::{Link, Links};
use crate::pool::PagePool;
use crate::stream::Stream;
use crate::stream::received::push_compact;

/// Received buffers ahead of the stream's end: sorted and disjoint. The first copy of each byte
/// wins.
///
/// 1. [`Reassembly::admit`] takes each segment with payload before TCP processes it. A segment that
///    it refuses is dropped as if it had been lost.
/// 2. TCP's verdict says which bytes to keep; the caller trims the buffer.
/// 3. [`Reassembly::insert`] takes the trimmed buffer, and can't fail.
///
/// A buffer that spans queued ones isn't split around them: their bytes overwrite its own, and they
/// are freed. A read-only one is copied before that, by `admit`.
pub struct Reassembly {
    head: *mut Frag,
    tail: *mut Frag,
    true_size: u32,
    items: u16,
}

const _: () = assert!(size_of::<Reassembly>() == 24);

// SAFETY: it owns its buffers, which are Send.
unsafe impl Send for Reassembly {}

/// Limits on what is queued out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReassemblyLimits {
    /// Bytes of memory that the buffers may pin.
    pub true_size: u32,
    /// Number of buffers.
    pub items: u16,
}

/// Why a buffer wasn't admitted. It was freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue is at one of its [`ReassemblyLimits`].
    Limit,
    /// It is read-only, it spans queued buffers, and the pool has no buffer for a copy.
    Exhausted,
}

impl Reassembly {
    /// Makes an empty queue.
    pub const fn new() -> Self {
        Self {
            head: ptr::null_mut(),
            tail: ptr::null_mut(),
            true_size: 0,
            items: 0,
        }
    }

    /// Checks that a buffer can be queued, whatever part of it TCP keeps. Returns the buffer or a
    /// writable copy.
    ///
    /// `at` is the stream offset of its first byte, `next` the stream's end. The limits don't apply
    /// to a segment with the next byte in order, nor to one without new bytes.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn admit(
        &self,
        next: u64,
        at: u64,
        buffer: Buffer,
        limits: &ReassemblyLimits,
        pool: &mut PagePool,
    ) -> Result<Buffer, Refused> {
        let fits = |buffer: &Buffer| {
            at <= next
                || self.items < limits.items
                    && self.true_size.saturating_add(buffer.true_size()) <= limits.true_size
        };
        // Nearly always: no walk through the queue.
        if buffer.is_writable() && fits(&buffer) {
            return Ok(buffer);
        }
        let end = at.saturating_add(u64::from(buffer.len()));
        if self.has_range(next, at, end) {
            return Ok(buffer);
        }
        let buffer = if buffer.is_writable() || !self.is_spanned_by(at.max(next), end) {
            buffer
        } else {
            buffer.copied(pool).ok_or(Refused::Exhausted)?
        };
        if fits(&buffer) {
            Ok(buffer)
        } else {
            Err(Refused::Limit)
        }
    }

    /// Queues an admitted buffer whose first byte has stream offset `at`, without bytes that are
    /// queued already or lie before the stream's end. Moves what is in order now to the stream.
    pub fn insert(&mut self, at: u64, mut buffer: Buffer, stream: &mut Stream<Buffer>) {
        let Some(mut at) = trim_to(at, &mut buffer, stream.end()) else {
            return;
        };
        let mut before = self.last_at_or_before(at);
        while let Some(node) = before {
            let Some(rest) = trim_to(at, &mut buffer, end_of(node)) else {
                return;
            };
            at = rest;
            // The remainder may begin at or behind the next one.
            let Some(next) = next_of(node).filter(|next| offset_of(*next) <= at) else {
                break;
            };
            before = Some(next);
        }
        self.absorb(before, at, &mut buffer);
        if at == stream.end() {
            stream.push_compact(buffer);
            while let Some(head) = NonNull::new(self.head)
                && offset_of(head) == stream.end()
            {
                stream.push_compact(self.remove_after(None, head));
            }
        } else {
            self.add_after(before, at, buffer);
        }
    }

    /// Returns whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Returns the number of queued buffers.
    pub fn items(&self) -> u16 {
        self.items
    }

    /// Returns the bytes of memory that the queued buffers pin.
    pub fn true_size(&self) -> u32 {
        self.true_size
    }

    /// Iterates over the queued ranges of offsets, in order; adjacent ones are merged.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> {
        let mut nodes = self.nodes().peekable();
        std::iter::from_fn(move || {
            let first = nodes.next()?;
            let mut end = end_of(first);
            while let Some(node) = nodes.next_if(|node| offset_of(*node) == end) {
                end = end_of(node);
            }
            Some(offset_of(first)..end)
        })
    }

    /// Frees all buffers.
    pub fn clear(&mut self) {
        while let Some(head) = NonNull::new(self.head) {
            drop(self.remove_after(None, head));
        }
    }

    /// Checks every invariant, for tests.
    ///
    /// # Errors
    /// The invariant that is broken.
    pub fn check(&self) -> Result<(), &'static str> {
        let ensure = |holds: bool, broken| if holds { Ok(()) } else { Err(broken) };
        let (mut items, mut true_size, mut end, mut last) = (0, 0u32, 0, ptr::null_mut());
        for node in self.nodes() {
            // SAFETY: a node of the list.
            let frag = unsafe { node.as_ref() };
            ensure(!frag.is_empty(), "an empty buffer")?;
            ensure(
                items == 0 || offset_of(node) >= end,
                "not sorted, or not disjoint",
            )?;
            end = end_of(node);
            items += 1;
            true_size = true_size.wrapping_add(frag.true_size());
            last = node.as_ptr();
        }
        ensure(ptr::eq(last, self.tail), "the tail isn't the last")?;
        ensure(items == self.items, "number of buffers")?;
        ensure(true_size == self.true_size, "size of memory")
    }

    /// Returns whether every byte of the range is in the stream or queued.
    fn has_range(&self, next: u64, at: u64, end: u64) -> bool {
        let mut have = next.max(at);
        for node in self.nodes() {
            if offset_of(node) > have {
                break;
            }
            have = have.max(end_of(node));
        }
        have >= end
    }

    /// Returns whether the range reaches over both ends of a queued buffer.
    fn is_spanned_by(&self, at: u64, end: u64) -> bool {
        self.nodes()
            .any(|node| offset_of(node) > at && end_of(node) < end)
    }

    /// Resolves the overlap of a buffer at `at` with the nodes after `before`. A node inside the
    /// buffer is copied into it and freed; the buffer is truncated where it reaches into a longer
    /// one.
    fn absorb(&mut self, before: Option<NonNull<Frag>>, at: u64, buffer: &mut Buffer) {
        while let Some(node) = self.after(before) {
            let end = at + u64::from(buffer.len());
            let (node_at, node_end) = (offset_of(node), end_of(node));
            if node_at >= end {
                return;
            }
            // Within the buffer, whose length has 32 bits.
            let within = u32::try_from(node_at - at).unwrap_or(u32::MAX);
            if node_end >= end {
                buffer.truncate(within);
                return;
            }
            // SAFETY: a node of the list.
            let covers = buffer.overwrite(within, unsafe { node.as_ref() });
            debug_assert!(covers, "inserted without having been admitted");
            if !covers {
                buffer.truncate(within);
                return;
            }
            drop(self.remove_after(before, node));
        }
    }

    fn add_after(&mut self, before: Option<NonNull<Frag>>, at: u64, buffer: Buffer) {
        if let Some(before) = before
            && end_of(before) == at
            && push_compact(before, &buffer)
        {
            return;
        }
        self.true_size = self.true_size.wrapping_add(buffer.true_size());
        self.items += 1;
        let node = buffer.into_node();
        let next = self.after(before).map_or(ptr::null_mut(), NonNull::as_ptr);
        // SAFETY: the node is the list's now.
        unsafe { Buffer::links(node).write(Links { next, offset: at }) };
        self.set_after(before, node.as_ptr());
        if next.is_null() {
            self.tail = node.as_ptr();
        }
    }

    /// Removes `node`, the one after `before`, from the list.
    fn remove_after(&mut self, before: Option<NonNull<Frag>>, node: NonNull<Frag>) -> Buffer {
        let next = next_of(node).map_or(ptr::null_mut(), NonNull::as_ptr);
        self.set_after(before, next);
        if next.is_null() {
            self.tail = before.map_or(ptr::null_mut(), NonNull::as_ptr);
        }
        // SAFETY: unlinked just now; it was made of a handle when it was added.
        let buffer = unsafe { Buffer::from_node(node) };
        self.items -= 1;
        self.true_size = self.true_size.wrapping_sub(buffer.true_size());
        buffer
    }

    fn last_at_or_before(&self, at: u64) -> Option<NonNull<Frag>> {
        // Usually the new one is the last.
        if let Some(tail) = NonNull::new(self.tail)
            && offset_of(tail) <= at
        {
            return Some(tail);
        }
        self.nodes()
            .take_while(|node| offset_of(*node) <= at)
            .last()
    }

    fn after(&self, before: Option<NonNull<Frag>>) -> Option<NonNull<Frag>> {
        match before {
            Some(before) => next_of(before),
            None => NonNull::new(self.head),
        }
    }

    fn set_after(&mut self, before: Option<NonNull<Frag>>, next: *mut Frag) {
        match before {
            // SAFETY: a node of the list.
            Some(before) => unsafe { (*Buffer::links(before)).next = next },
            None => self.head = next,
        }
    }

    fn nodes(&self) -> impl Iterator<Item = NonNull<Frag>> {
        let mut next = NonNull::new(self.head);
        std::iter::from_fn(move || {
            let node = next?;
            next = next_of(node);
            Some(node)
        })
    }
}

impl Default for Reassembly {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Reassembly {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for Reassembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges()).finish()
    }
}

/// Removes the bytes of a buffer at `at` that lie before `from`. Returns its new offset, or `None`
/// if nothing is left.
fn trim_to(at: u64, buffer: &mut Buffer, from: u64) -> Option<u64> {
    let gone = from.saturating_sub(at);
    let gone = u32::try_from(gone)
        .ok()
        .filter(|gone| *gone < buffer.len())?;
    buffer.trim_front(gone);
    Some(at + u64::from(gone))
}

fn next_of(node: NonNull<Frag>) -> Option<NonNull<Frag>> {
    // SAFETY: called with nodes of the list only.
    NonNull::new(unsafe { (*Buffer::links(node)).next })
}

fn offset_of(node: NonNull<Frag>) -> u64 {
    // SAFETY: called with nodes of the list only.
    unsafe { (*Buffer::links(node)).offset }
}

fn end_of(node: NonNull<Frag>) -> u64 {
    // SAFETY: called with nodes of the list only.
    offset_of(node) + u64::from(unsafe { node.as_ref() }.len())
}

#[cfg(test)]
mod tests;
