//! Representations in memory: a bounded store of spans that all workers share, and the sources that
//! fill it.
//!
//! # What it owns
//!
//! - The memory of file contents: a [`pktbuf::PageArena`], which can't grow.
//! - The decision what is in it: lookups, revalidation, read-ahead, eviction, and waiting for
//!   memory.
//! - The source of representations: files, opened below a root and read by loader threads. The
//!   source makes their validators. An origin server can become another source.
//!
//! # How the types work together
//!
//! - [`FileCache`] owns everything and the threads. It gives each worker a [`FileClient`].
//! - [`FileClient::lookup`] returns an [`Object`], or a [`Ticket`] for a [`Completion`] that
//!   [`FileClient::poll`] returns later. A worker calls `poll` once a turn and never blocks.
//! - [`FileBody`] is a range of an object. [`FileBody::pull`] returns it span by span.
//!
//! Inside, a client sends requests to a queue of its own. A *loader* thread without other work has
//! the store *admit* each of them: the store answers it at once, or *registers a waiter*. If all
//! loaders are busy, a *dispatcher* thread does that. A loader *loads* the object or span, and the
//! store answers all waiters. A task that finds no memory is *deferred*. `source` and `store` have
//! the details of the seam between them.
//!
//! A loader reads through an io_uring of its own ([`lockgate_uring`]), with many reads in flight,
//! or by `pread` ([`FileIo`]). Pages aren't zeroed before: what wasn't read can't be seen.
//!
//! # Example
//!
//! ```
//! use std::time::{SystemTime, UNIX_EPOCH};
//!
//! use lockgate_cache::{CacheConfig, FileBody, FileCache, Lookup, Piece, RootId, Token, WallClock};
//! use lockgate_testing::{ScratchDir, wait_for};
//! use lockgate_wire::Instant;
//! use pktbuf::{PageArena, Region};
//!
//! let scratch = ScratchDir::new();
//! let content = b"twelve bytes".repeat(10_000);
//! scratch.write("www/hello.txt", &content);
//!
//! let mut region = Region::heap(1 << 20).expect("a megabyte");
//! let arena = PageArena::new(&mut region, 1 << 20).expect("it is in the region");
//! let clock = WallClock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
//! let roots = [scratch.join("www")];
//! let (cache, mut clients) =
//!     FileCache::start(arena, &roots, &CacheConfig::default(), 1, clock).expect("it starts");
//! let client = &mut clients[0];
//!
//! // A worker would serve other connections until the answer comes.
//! let (now, token) = (Instant::from_secs(1), Token(7));
//! let object = match client.lookup(now, RootId::new(0), b"hello.txt", token) {
//!     Lookup::Found(object) => object,
//!     Lookup::Absent(absence) => panic!("{absence:?}"),
//!     Lookup::Pending(ticket) => {
//!         let completion = wait_for("answer", || client.poll(now));
//!         assert_eq!((completion.token, completion.ticket), (token, ticket));
//!         completion.into_lookup().expect("a lookup's answer").expect("the file exists")
//!     }
//! };
//! assert_eq!(object.entity().len(), content.len() as u64);
//!
//! let mut body = FileBody::new(object, 0..u64::MAX);
//! let mut bytes = Vec::new();
//! loop {
//!     match body.pull(client, token) {
//!         Piece::Span(span, at, len) => {
//!             bytes.extend_from_slice(&span[at as usize..(at + len) as usize]);
//!             body.advance(len);
//!         }
//!         Piece::Copy(piece) => {
//!             bytes.extend_from_slice(piece);
//!             let len = piece.len() as u32;
//!             body.advance(len);
//!         }
//!         Piece::Pending => {
//!             let completion = wait_for("span", || client.poll(now));
//!             body.on_completion(completion);
//!         }
//!         Piece::End => break,
//!         Piece::Failed(absence) => panic!("{absence:?}"),
//!     }
//! }
//! assert_eq!(bytes, content);
//! assert_eq!(cache.counters().bytes_read, content.len() as u64);
//! ```
//!
//! # Invariants
//!
//! *Workers don't block.* They take no lock of the store. They read objects by `Arc` and spans of
//! large objects from `ArcSwapOption` slots, which only loaders write. A hit writes nothing that
//! another worker writes, except reference counts: one atomic operation for each span.
//!
//! *Memory is bounded.* Spans in send queues count until they are dropped. Besides the arena there
//! are at most:
//!
//! | what | how many |
//! |---|---|
//! | objects | [`CacheConfig::objects_max`] |
//! | 8 bytes for each span of a large object | as many as the arena has room for |
//! | 16 bytes for each span of a large object | 1 024 |
//! | cached paths for each client | [`CacheConfig::table_entries`] |
//! | requests of each client | [`CacheConfig::outstanding_max`], and one for each root |
//! | read-ahead and checks that are queued, for each root | 256 |
//! | reads in flight, with their spans | half of the arena, and one for each thread |
//! | spans in the order of eviction | twice as many as were in memory at a time, and 64 |
//! | hashes of evicted spans, 40 bytes each | as many as there are spans in memory |
//! | threads | [`CacheConfig::loaders`] for each root, and the dispatcher |
//! | open files | [`CacheConfig::open_max`], and one for each loader and each root |
//! | files that wait to be closed | [`CacheConfig::open_max`], and one for each root |
//!
//! *Roots don't share a fate.* A system call on a file may never return. Only loaders make them,
//! and a root has a limited number of loaders, of each client's requests, of open files and of
//! reads in flight. A loader has reads of one root in flight at a time, so that threads of the
//! kernel that hang in them are that root's, too. The dispatcher makes none, so what is in memory
//! is always served. Limits that shrink as their resource runs out (Choudhury and Hahne 1998) leave
//! a part of it however many roots hang.
//!
//! *Clients don't share a fate.* Each has its own queue and its own budget of requests. The queues
//! of a root, and deferred tasks, are served client by client. What a client's connections pin are
//! the spans in their send queues. All clients together may pin half of the memory, each an equal
//! part of that; beyond it their workers have to copy ([`Piece::Copy`]). So there is always memory
//! for what other connections request. Beside these spans, a body holds memory only from the
//! arrival of what it requested until its caller has taken what it has room for.
//!
//! *Requests evict nothing that is in demand.* Absent names have a table of their own in the
//! client, and no place in the store. Spans are evicted by S3-FIFO (Yang et al., SOSP 2023): what
//! is new stays if it is used twice while it is on probation, or again soon after its eviction. So
//! a scan evicts the scan, and each root's scan its own. A body that takes a span in pieces uses it
//! once.
//!
//! *What no body waits for isn't read.* A queued read of a span is dropped if all bodies of its
//! file are gone. Reads in flight end, and are bounded.
//!
//! *A file larger than the memory streams through it.* A file of at most
//! [`CacheConfig::whole_bytes_max`] is one span. A larger one has spans of [`SPAN_BYTES`], which
//! are loaded and evicted one by one.
//!
//! *Nothing starves for memory.* A load that finds none evicts a span that is unused and
//! unreferenced. If there is none, the load waits until a span is dropped: in order of arrival
//! among the loads of its client, clients in turn. [`CacheConfig::read_ahead`] spans are loaded
//! ahead of a body, but none while a load waits. So memory is held up for as long as what was sent
//! isn't acknowledged, which HTTP bounds.
//!
//! *An object is one version.* Its bytes have the validators of its entity:
//!
//! - A version of a file is its device, inode, length, modification time and change time. A file
//!   that was changed in the last 20 ms is opened a little later, so that the next change has
//!   another time.
//! - The status of the file is compared after each read. If it changed, bodies fail; see
//!   [`Piece::Failed`]. Spans in memory were read before, and are still served to running bodies.
//! - A file in one span isn't open. If it is evicted while a body of it waits for its caller, the
//!   body finds the file again by its name, and fails if it finds another version or nothing.
//! - Names may be removed, as by renaming another file over it: bodies continue if what was read
//!   before is still the same.
//! - If the file only grew, bodies under a weak tag continue to the announced length if what was
//!   read before is still the same. Bodies under a strong tag fail.
//! - An object is looked at again when it is [`CacheConfig::revalidate`] old, in the background,
//!   and served for at most [`CacheConfig::stale_max`] longer. Each change of the version makes a
//!   new object.
//! - The tag is strong if the file system is trusted with change times, the change time is more
//!   than two seconds old, and a large file wasn't modified in the last five minutes. Else it is
//!   weak. A weak tag of a young file is replaced when a later lookup reads the file again.
//!
//! A change through a shared memory mapping may be noticed late or not at all: the tag stays
//! strong. A single write that takes longer than two seconds may be noticed late. Replacing files
//! by renaming has none of these doubts.
//!
//! *Nothing outside of a root is served.* The kernel resolves paths with `openat2`: not above the
//! root, whatever symbolic links say (`RESOLVE_BENEATH`), nor through `/proc`'s links
//! (`RESOLVE_NO_MAGICLINKS`).
#![forbid(unsafe_code)]

mod absence;
mod body;
mod budget;
mod cache;
mod client;
mod config;
mod counters;
mod freshness;
mod key;
mod patience;
mod pinned;
mod queue;
mod request;
mod share;
mod source;
mod store;
mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use absence::Absence;
pub use body::{FileBody, Piece};
pub use cache::{FileCache, ReadsBy, StartError};
pub use client::{FileClient, Lookup};
pub use config::CacheConfig;
pub use counters::FileCounters;
pub use key::RootId;
pub use patience::results_within;
pub use request::{Completion, Ticket, Token};
pub use source::clock::WallClock;
pub use source::reader::FileIo;
pub use store::object::{Object, SPAN_BYTES};

#[cfg(test)]
mod tests;
