//! Packet buffers, page buffers and byte streams over them. No DPDK, no threads, no clock.
//!
//! # What is sent
//!
//! A [`PageBuf`] is an 8-byte handle to a [`Block`] in region memory. The block refers to one
//! contiguous body: a span of the worker's own [`PagePool`], or a piece of a [`SharedSpan`] of the
//! page cache. It may be a record: plaintext that was *framed* (every length fixed, not readable
//! any more) and is later *sealed* ([`PageBuf::seal_with`]) into one contiguous piece, record
//! header and trailer included. A port that sends it by reference takes an [`Attachment`]: one more
//! count on the block's [`SharedInfo`], which has the layout of DPDK's
//! `rte_mbuf_ext_shared_info`.
//!
//! # What is received
//!
//! A [`Buffer`] is an 8-byte handle to a chain of [`Frag`]s, which a driver wrote beside the
//! packet memory.
//!
//! # Queues
//!
//! [`Stream`] is a queue of either by stream offset, linked through the items: an empty one owns
//! no memory. [`Reassembly`] keeps what arrived out of order.
//!
//! # Output
//!
//! A [`Packet`] is headers and slices of page buffers; an [`Output`] takes it. [`gso`] cuts one
//! into frames and completes checksums where a port can't.

mod arena;
mod block;
mod buddy;
mod buffer;
mod frag;
pub mod gso;
mod heap;
#[cfg(feature = "fault-injection")]
mod injection;
mod links;
mod packet;
mod page;
mod pool;
mod reassembly;
mod received;
mod region;
mod spans;
mod stream;
mod thread;

pub use arena::{ArenaUsage, PageArena, PageMut, SharedSpan};
pub use block::{AttachError, Attachment, Block, RecordFields, SharedInfo, State};
pub use buffer::Buffer;
pub use frag::{Checksum, Frag, FragInit, FragLayout, FragOps, Fragments, flags};
pub use heap::HeapBuffers;
pub use links::{Link, Links};
pub use packet::{
    Headers, Info, L4, MAX_SLICES, NotSent, Output, Packet, Room, Slice, Slices, TxError, TxMeta,
    copy_frame,
};
pub use page::{FrameError, PageBuf, RecordHead, SealError, SealParts};
pub use pool::{Exhausted, PagePool, PoolConfig, PoolUsage};
pub use reassembly::{Reassembly, ReassemblyLimits, Refused};
pub use region::{Region, RegionFull};
pub use spans::{LARGE_CAPACITY, LARGE_SPAN, SMALL_CAPACITY, SMALL_SPAN};
pub use stream::Stream;
