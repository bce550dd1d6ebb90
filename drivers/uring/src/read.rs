//! Reads, and what becomes of them.

use std::io::{self, IoSliceMut};
use std::os::fd::AsFd;
use std::slice;

use pktbuf::PageFill;
use rustix::io::{ReadWriteFlags, preadv2};

/// A read of a file.
#[derive(Debug)]
pub struct Read<T> {
    /// The file, or what has it.
    pub file: T,
    /// Where to: behind what is filled already.
    pub page: PageFill,
    /// Where from.
    pub offset: u64,
    /// How many bytes, at most as many as the page has room for.
    pub len: usize,
}

/// A read that has ended.
#[derive(Debug)]
pub struct Completion<T> {
    /// The read. Its page has what was read.
    pub read: Read<T>,
    /// How many bytes were read; 0 at the end of the file. It may be fewer than were requested.
    pub result: io::Result<usize>,
}

impl<T: AsFd> Read<T> {
    /// Reads what the kernel has in its page cache, as far as it has all of it up to there, without
    /// waiting for a disk. Returns the number of bytes: 0 if there are none, or if the file system
    /// can't tell.
    ///
    /// It costs less than a read through a ring, which is for the rest.
    pub fn try_now(&mut self) -> usize {
        let (address, room) = self.page.spare_parts();
        let len = self.len.min(room);
        // SAFETY: the page has so much room, which belongs to it alone; an arena's memory is
        // initialised.
        let spare = unsafe { slice::from_raw_parts_mut(address.as_ptr(), len) };
        let mut parts = [IoSliceMut::new(spare)];
        let read = preadv2(&self.file, &mut parts, self.offset, ReadWriteFlags::NOWAIT);
        // EAGAIN: it isn't in the page cache. EOPNOTSUPP: it can't tell. A ring finds other errors.
        let count = read.unwrap_or(0);
        // SAFETY: so many bytes were just read to there.
        unsafe { self.page.add_filled(count) };
        self.offset += count as u64;
        self.len -= count;
        count
    }
}
