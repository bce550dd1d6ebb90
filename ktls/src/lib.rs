//! The TLS record layer that lives inside the stack: framing, sealing, opening, key changes.
//!
//! This crate is what ktls(4) and Linux's `tls.rst` describe for kernels. It takes over when the
//! handshake is done, protects what an application writes, and turns received bytes back into
//! records, for TLS 1.2 (RFC 5246) and TLS 1.3 (RFC 8446) with AES-GCM, AES-CCM and
//! ChaCha20-Poly1305, and for TLS 1.0 to 1.2 with AES-CBC and an HMAC. It knows neither sockets nor
//! TCP, takes no time and no randomness, and starts no thread. `docs/ktls.md` describes formats,
//! limits, errors and counters.
//!
//! # Types
//!
//! - [`Session`]: the keys of one direction, immutable. A key change makes the
//!   [next](Session::next) one.
//! - [`RecordQueue`]: the send queue of every socket. It frames a record when it's written and
//!   seals it when TCP sends the first of its bytes.
//! - [`Deframer`]: the receive side. It takes encrypted bytes and returns [`Received`] events, and
//!   handles alerts, KeyUpdate, session tickets and renegotiation itself.
//! - [`SealJob`], [`OpenJob`]: one record to be sealed or opened, with its key and its memory. The
//!   worker runs jobs at once; any other thread can.
//! - [`Ciphers`]: a worker's cipher backends ([`RecordCipher`]), with a bounded table of expanded
//!   keys each, and the record layer's [`Counters`].
//! - [`RecordShape`]: the form of a suite's records. Every length follows from it.
//! - [`choose_mode`]: the mode in which a session is protected, [`Mode`].
//!
//! Queue and deframer own their session and the number of their next record. Both borrow the
//! worker's `Ciphers` and `PagePool` for a call.
//!
//! # Invariants
//!
//! - **No nonce is used twice** for different bytes. A record's number is fixed when it's framed. A
//!   retransmission repeats the record's bytes, and so does sealing it again. Only a record that
//!   was never submitted to be sealed gives its number back.
//! - **A record that is away blocks what follows it**, and can't be cut, until its job is back.
//! - **Framing fixes every stream offset.** Sealing changes no length, so TCP can count bytes that
//!   are not sealed yet.
//! - **Records are sealed and released whole**, in order.
//! - **A received record uses up its number**, whether it opens or not.
//! - **Nothing unbounded.** At most two sending keys live at a time; a handshake message has a
//!   greatest length; records that bring no data are counted and limited.
//! - **No panic** can be reached from a received byte, and keys are wiped when they are dropped.
//!
//! # Example
//!
//! One record, sealed and opened:
//!
//! ```
//! use lockgate_ktls::{
//!     BackendChoice, Ciphers, ContentType, Deframer, Limits, Params, Received, RecordQueue, Role,
//!     Session, Suite, Version,
//! };
//! use pktbuf::{HeapBuffers, PagePool, PoolConfig, Region, Slices, Stream};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pages = PoolConfig { blocks: 16, small_spans: 4, large_spans: 4 };
//! let mut region = Region::heap(PagePool::bytes_needed(pages) + 65_536)?;
//! let mut pool = PagePool::new(&mut region, pages)?;
//! let mut ciphers = Ciphers::new(BackendChoice::Auto, 4);
//!
//! // The same key on both ends: as many bytes as the suite's key has, and an IV of 12.
//! let params = Params::new(Suite::Aes128Gcm, Version::Tls13);
//! let session = || Session::from_key(params, &[1; 16], &[2; 12]).ok_or("a key of 16 bytes");
//!
//! let mut queue = RecordQueue::new();
//! queue.enable(session()?, 0, &mut ciphers)?;
//! queue.push_bytes(&[b"hello"], false, &mut pool)?;
//!
//! // What TCP does to send: ask how much, have it sealed, take the bytes.
//! let limits = Limits { bytes: 65_536, entries: 32, mss: 1460 };
//! let range = queue.clamp(&(0..queue.end()), &limits);
//! queue.prepare(&range, &mut ciphers, &mut pool)?;
//! let mut slices = Slices::new(32);
//! queue.slices(&range, &mut slices);
//! let pieces = slices.as_slice().iter().filter_map(|slice| slice.bytes());
//! let wire: Vec<u8> = pieces.flatten().copied().collect();
//! assert_eq!(wire.len(), params.shape().record_len(5) as usize);
//!
//! // The other end.
//! let mut deframer = Deframer::new(session()?, 0, Role::Client, Stream::new(), &mut ciphers);
//! let mut packets = HeapBuffers::new(1);
//! deframer.push(packets.alloc(&wire).ok_or("a buffer")?);
//! match deframer.next(&mut ciphers, &mut pool)? {
//!     Received::Record(record) => {
//!         assert_eq!(record.meta().kind, ContentType::APPLICATION_DATA);
//!         assert_eq!(record.as_slice(), b"hello");
//!     }
//!     event => panic!("{event:?}"),
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]

mod alert;
mod away;
mod cipher;
mod codec;
mod counters;
mod deframer;
mod enable;
mod error;
mod job;
mod limits;
mod mode;
mod pages;
mod queue;
mod role;
pub mod schedule;
mod session;
mod shape;
mod suite;
#[cfg(test)]
mod testing;

pub use crate::pages::sealing_reserve;
pub use alert::{Alert, AlertDescription, AlertLevel};
pub use away::{Away, Jobs, Work};
pub use cipher::{BackendChoice, Ciphers, RecordCipher, RecordOpener, UnknownBackend};
pub use codec::{Aad, Head, RecordHeader, inner_type, nonce};
pub use counters::{Counter, Counters};
pub use deframer::{Deframer, Detached, Received, RecordMeta, RxRecord};
pub use enable::{
    AuthAlgorithm, CipherAlgorithm, CurrentKeys, Direction, EnableError, EnableSettings,
    InvalidKeys, KeyInfo, TlsEnable,
};
pub use error::{CryptoError, Errno, RxError, TxError};
pub use job::{OpenJob, OpenParts, SealJob};
pub use limits::KeyLimits;
pub use mode::{Mode, Refusal, choose_mode};
pub use queue::{KeyUse, Limits, RecordQueue, Segments, Taken};
pub use role::Role;
pub use session::{Keys, Session, SessionId};
pub use shape::{RecordShape, SealOrder};
pub use suite::{
    CipherKind, ContentType, EXPLICIT_NONCE_LEN, HEADER_LEN, LEGACY_VERSION, NONCE_LEN,
    PLAINTEXT_MAX, Params, Suite, Version,
};
