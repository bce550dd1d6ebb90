//! Reads of files through io_uring into pages of an arena, many at a time. No DPDK.
//!
//! # What it owns
//!
//! - [`Ring`]: an io_uring of one thread, with the reads that are in flight in it.
//! - [`Waker`]: ends the [`Ring::wait`] of that thread from another one.
//! - [`Refused`]: why there is no ring. Containers and old kernels refuse it.
//!
//! # Invariants
//!
//! - A page and the file that is read to it belong to the ring from [`Ring::push`] until their
//!   [`Completion`]. So safe code can't free or touch memory that the kernel may still write to,
//!   nor close the file and have its number reused.
//! - Dropping a ring cancels its reads and waits for all of them, as `pread` would wait. If the
//!   kernel refuses even that, the pages are leaked. A ring that is forgotten leaks them, too.
//! - A ring has a bounded number of reads in flight, and the kernel a bounded number of threads for
//!   file systems that can't read asynchronously.
//!
//! # Example
//!
//! ```
//! use std::fs::File;
//!
//! use lockgate_uring::{Limits, Read, Ring};
//! use pktbuf::{PageArena, Region};
//!
//! let scratch = lockgate_testing::ScratchDir::new();
//! let path = scratch.write("file", b"some bytes");
//! let mut region = Region::heap(1 << 20)?;
//! let arena = PageArena::new(&mut region, 1 << 20)?;
//!
//! let Ok(mut ring) = Ring::new(Limits::default()) else {
//!     return Ok(()); // This kernel refuses it: use pread.
//! };
//! let page = arena.alloc_unfilled(4096).expect("the arena is new");
//! let read = Read { file: File::open(path)?, page, offset: 5, len: 4096 };
//! assert!(ring.push(read).is_ok(), "nothing else is in flight");
//! ring.submit()?;
//! let done = loop {
//!     match ring.next() {
//!         Some(done) => break done,
//!         None => ring.wait()?,
//!     }
//! };
//! assert_eq!(done.result?, 5);
//! assert_eq!(done.read.page.filled(), b"bytes");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod read;
mod refused;
mod ring;
mod waker;

pub use read::{Completion, Read};
pub use refused::Refused;
pub use ring::{Limits, Ring};
pub use waker::Waker;
