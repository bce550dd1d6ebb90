//! Packet buffers, page buffers and byte streams over them. No DPDK, no threads, no clock.
//!
//! # What it owns
//!
//! - **Memory**: a [`Region`] is carved into [`PagePool`]s (one for each worker) and [`PageArena`]s
//!   (the page cache, shared by all threads).
//! - **Sending**: a [`PageBuf`] is an 8-byte handle to a [`Block`] in region memory. The block
//!   refers to one contiguous body: a span of the worker's own pool, or a piece of a [`SharedSpan`]
//!   of the page cache. It may be a TLS record, which is *framed* first (every length is fixed, the
//!   plaintext can't be read) and *sealed* later. What seals it has a [`SealMemory`], which may go
//!   to another thread. A port that sends it without a copy takes an [`Attachment`]: a reference
//!   counted in the block's [`SharedInfo`], which has the layout of DPDK's
//!   `rte_mbuf_ext_shared_info`.
//! - **Receiving**: a [`Buffer`] is an 8-byte handle to a chain of [`Frag`]s, which stand beside
//!   the packet memory.
//! - **Queues**: a [`Stream`] is a queue of either, addressed by stream offset and linked through
//!   the items. A [`Reassembly`] queues what arrived out of order.
//! - **Output**: a [`Packet`] is headers and slices of page buffers; an [`Output`] sends it.
//!   [`gso`] segments packets and completes checksums for ports that can't.
//!
//! # Invariants
//!
//! - The plaintext of a framed record can't be read, copied or attached: [`Block::bytes`] is `None`
//!   and [`Block::attach`] fails until it is sealed.
//! - While a [`SealMemory`] exists, only it has access to the record's bytes, and the block stays.
//! - Bytes that were attached to a packet never change.
//! - Only the thread that owns a pool allocates from it and attaches its buffers. Any thread may
//!   drop a buffer or release an attachment.
//! - A pool, stream or reassembly queue allocates nothing from the heap after it was made.
//!
//! # Layers
//!
//! Each layer uses those before it: links, fragments and received buffers; regions, spans and the
//! arena; blocks and the state of their pool; pools; page buffers; sealing; streams and reassembly.
//! Packets and segmentation use blocks only.
//!
//! # Example
//!
//! ```
//! use pktbuf::{PagePool, PoolConfig, RecordFields, Region, State};
//!
//! let config = PoolConfig { blocks: 8, small_spans: 8, large_spans: 2 };
//! let mut region = Region::heap(PagePool::bytes_needed(config))?;
//! let mut pool = PagePool::new(&mut region, config)?;
//!
//! let mut page = pool.alloc(100).expect("the pool is new");
//! page.append(b"plaintext");
//! page.frame(RecordFields::default(), b"head", 4).expect("it is plain and short");
//! assert_eq!((page.state(), page.bytes()), (State::Framed, None));
//!
//! let sealed = page.seal_with(&mut pool, |parts| {
//!     parts.body.iter_mut().for_each(|byte| *byte ^= 0x55);
//!     parts.tail.fill(0);
//!     Ok::<(), ()>(())
//! });
//! assert_eq!(sealed, Ok(()));
//! assert_eq!(page.bytes().map(<[u8]>::len), Some(4 + 9 + 4));
//!
//! let attachment = page.attach(0, page.len()).expect("it is sealed");
//! drop(page);
//! assert_eq!(pool.usage().blocks_used, 1);
//! drop(attachment);
//! assert!(pool.is_full());
//! # Ok::<(), pktbuf::RegionFull>(())
//! ```

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
mod seal;
mod spans;
mod stream;
mod thread;

pub use arena::{ArenaUsage, PageArena, PageFill, PageMut, SharedSpan};
pub use block::{AttachError, Attachment, Block, RecordFields, SharedInfo, State};
pub use buffer::Buffer;
pub use frag::{Checksum, Frag, FragInit, FragLayout, FragOps, Fragments, flags};
pub use heap::HeapBuffers;
pub use links::{Link, Links};
pub use packet::{
    Headers, Info, L4, MAX_SLICES, NotSent, Output, Packet, Room, Slice, Slices, TxError, TxMeta,
    copy_frame,
};
pub use page::{FrameError, PageBuf};
pub use pool::{DetachedPool, Exhausted, PagePool, PoolConfig, PoolUsage};
pub use reassembly::{Reassembly, ReassemblyLimits, Refused};
pub use region::{Region, RegionFull};
pub use seal::{Placement, RecordHead, SealError, SealMemory, SealOutcome, SealParts, Unsealable};
pub use spans::{LARGE_CAPACITY, LARGE_SPAN, SMALL_CAPACITY, SMALL_SPAN};
pub use stream::{EndedSeals, FramedRecord, Stream};

/// Bytes of a record's header at most.
pub const RECORD_HEAD_MAX: usize = block::HEAD_MAX;
/// Bytes of a record's trailer at most.
pub const RECORD_TAIL_MAX: usize = spans::TAIL_ROOM as usize;
