//! The rules of TCP, one test each: hand-made segments and the expected results.
//!
//! `docs/tcp.md` says which rule is tested where.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::single_range_in_vec_init,
    reason = "SACK blocks are lists of ranges"
)]

mod closing;
mod handshake;
mod hostile;
mod receiving;
mod recovering;
mod resets;
mod rig;
mod sending;
mod table;
mod timers;
