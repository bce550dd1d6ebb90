//! The running instance seen from outside: its counters over a Unix socket, and signals.

mod client;
mod protocol;
mod server;
mod stop;
mod table;

#[cfg(test)]
mod tests;

pub use client::{AskError, stats};
pub use protocol::{Group, GroupKind, Snapshot, Stats, Value, ValueKind};
pub use server::{ServeError, Server};
pub use stop::{Stop, StopLevel};
