//! Counters of ports. Only a queue's worker writes its counters; any thread may read them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Defines the counters of a queue once: as a snapshot, and as the cells that the worker writes.
macro_rules! queue_counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one queue of a port, since it was opened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct QueueCounters {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The cells that the worker writes.
        #[derive(Debug, Default)]
        pub(crate) struct QueueCells {
            $(pub(crate) $name: Cell,)*
        }

        impl QueueCells {
            pub(crate) fn snapshot(&self) -> QueueCounters {
                QueueCounters { $($name: self.$name.read(),)* }
            }
        }

        impl QueueCounters {
            /// Iterates over all counters, each with its name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }

            /// Adds another queue's counters.
            pub fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

queue_counters! {
    /// Packets received.
    rx_packets,
    /// Bytes in them.
    rx_bytes,
    /// Received packets copied, because they were in memory of another owner.
    rx_copied,
    /// Received packets dropped because no packet buffer was free for that copy.
    rx_copy_failed,
    /// Frames, and packets that the port segments, that the port accepted.
    tx_packets,
    /// Bytes in them.
    tx_bytes,
    /// Packets that the port segments.
    tx_tso,
    /// Packets segmented in software.
    tx_gso,
    /// Payload bytes copied: the port sends no chains, or its TX ring holds its share of page
    /// buffers.
    tx_payload_copied,
    /// Times that `rte_eth_tx_burst` accepted fewer packets than offered. The rest is retried.
    tx_ring_full,
    /// Times that frames had to wait because no packet buffer was free.
    tx_no_mbuf,
    /// Sent packets that the driver freed on request.
    tx_cleaned,
    /// Frames copied because the TX ring holds its share of page buffers.
    tx_ring_share,
    /// Packets dropped: the link is down.
    tx_dropped_link,
    /// Packets dropped: no room in the backlog.
    tx_dropped_full,
    /// Packets refused: a record that isn't sealed.
    tx_dropped_plaintext,
    /// Packets refused: longer than the MTU or a limit of the port.
    tx_dropped_too_big,
    /// Packets refused: lengths that contradict each other.
    tx_dropped_malformed,
    /// Packets dropped: refused by `rte_eth_tx_prepare`.
    tx_dropped_driver,
    /// Packets dropped: `rte_eth_tx_burst` had taken none for 400 ms.
    tx_dropped_stuck,
    /// Packets dropped because they were still queued when the queue was closed.
    tx_dropped_closed,
}

/// Counters of the driver (`rte_eth_stats_get`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Received packets dropped: the receive queue was full (`imissed`).
    pub rx_missed: u64,
    /// Received packets with errors (`ierrors`).
    pub rx_errors: u64,
    /// Accepted packets that couldn't be sent (`oerrors`).
    pub tx_errors: u64,
    /// Received packets dropped: no mbuf was free (`rx_nombuf`).
    pub rx_no_mbuf: u64,
}

/// A port's counters.
#[derive(Clone, Debug, Default)]
pub struct PortCounters {
    /// By queue.
    pub queues: Vec<QueueCounters>,
    /// The driver's counters.
    pub device: DeviceCounters,
    /// The driver's extended counters (`rte_eth_xstats_get`), by name.
    pub extended: Vec<(String, u64)>,
}

impl PortCounters {
    /// Returns the sum over all queues.
    pub fn total(&self) -> QueueCounters {
        let mut sum = QueueCounters::default();
        for q in &self.queues {
            sum.add(q);
        }
        sum
    }
}

/// A counter with one writer, so it needs no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    pub(crate) fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
