//! Control of a running instance: its counters over a Unix socket, and signals.

mod client;
mod limited;
mod protocol;
mod server;
mod stop;
mod table;

#[cfg(test)]
mod tests;

pub use client::{StatsError, stats, stats_within};
pub use protocol::{GroupKind, Metric, MetricGroup, MetricKind, Snapshot, Stats};
pub use server::{ControlError, ControlServer};
pub use stop::{Stop, StopLevel, hold_hangups};
