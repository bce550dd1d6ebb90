//! Files in memory: a bounded cache of page-aligned spans that all workers share, filled by loader
//! threads.
//!
//! # Who does what
//!
//! A worker holds a [`FileClient`] and never waits: it asks by bounded channel and finds the answer
//! in another one, once a turn. What it reads in between is published without locks: objects by
//! `Arc`, the spans of a large one by `ArcSwapOption` slots that only loaders write. Each worker
//! has a small table of its own from paths to objects (weak: the cache owns them), so a hit touches
//! nothing that another worker writes but the object's reference count.
//!
//! Loaders share an index behind a mutex that no worker ever takes, and read files outside of it.
//!
//! # Memory
//!
//! Contents live in a [`pktbuf::PageArena`], which can't grow: that is the limit, and spans that
//! are still referenced by somebody's send queue count until they are dropped. A file of at most
//! [`CacheConfig::whole_bytes_max`] is one span; a larger one is cut into spans of [`SPAN_BYTES`]
//! that come and go one by one, so a file larger than the cache streams through it. When a fill
//! finds no memory it evicts what nobody uses and nobody used lately; when there's none of that
//! either it waits, first come, first served, until something is dropped. A body holds one span and
//! has at most [`CacheConfig::read_ahead`] others on their way, which are not loaded while somebody
//! waits: nobody waits for memory while keeping others from it, except as long as the client at the
//! other end takes to read, which HTTP bounds.
//!
//! Beside the contents, there are at most: [`CacheConfig::objects_max`] objects (a path, metadata
//! and, for a large file, eight bytes for each span that the arena could hold or the file has),
//! a table of [`CacheConfig::table_entries`] entries for each client, and
//! [`CacheConfig::outstanding_max`] requests for each client. At most
//! [`CacheConfig::open_max`] files are open, besides the one that each loader looks at.
//!
//! # Versions
//!
//! An object is one version of a file: device, inode, size, times of modification and change. The
//! open file is asked for them again behind each read and before what was read is handed out, so a
//! body's bytes all belong to the version that its head announced, or the body fails. Replacing a
//! file by renaming another one over it doesn't disturb the bodies of the old one. A path is looked
//! at again at most [`CacheConfig::revalidate`] later, off the worker; an object is served for at
//! most twice that without a look.
//!
//! This trusts the file system to set a file's times before it changes a byte, as Linux does for
//! writing and truncating, and not to set back its clock; a file that was changed in the last 20 ms
//! is left alone until it is older. What is changed through a shared memory mapping, or by a single
//! write that takes longer than that, may be noticed late. Programs that replace files by renaming,
//! as deployments should, have none of these doubts.
//!
//! # Escapes
//!
//! Paths are resolved by the kernel with `openat2`: not above the root, whatever symbolic links say
//! (`RESOLVE_BENEATH`), nor through `/proc`'s links (`RESOLVE_NO_MAGICLINKS`).

#![forbid(unsafe_code)]

mod absence;
mod body;
mod cache;
mod client;
mod config;
mod counters;
mod key;
mod queue;
mod request;
mod source;
mod store;
mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use absence::Absence;
pub use body::{FileBody, Piece};
pub use cache::{FileCache, StartError};
pub use client::{FileClient, Lookup};
pub use config::CacheConfig;
pub use counters::FileCounters;
pub use key::RootId;
pub use request::{Completion, Ticket, Token};
pub use source::clock::WallClock;
pub use store::object::{Object, SPAN_BYTES};

#[cfg(test)]
mod tests;
