//! What ports count. A worker alone writes its queue's counters; anyone may read them.

use std::sync::atomic::{AtomicU64, Ordering};

/// A queue's counters, by one macro-free list: name in the snapshot, index in the cells.
macro_rules! queue_counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one queue of a port has counted since it was opened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct QueueCounters {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The counters as their worker writes them.
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
            /// Every counter with its name.
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
    /// Received packets in memory of somebody else, taken over by a copy.
    rx_copied,
    /// Received packets dropped because no packet buffer was free for that copy.
    rx_copy_failed,
    /// Frames (or packets that the port segments) that the port took.
    tx_packets,
    /// Bytes in them.
    tx_bytes,
    /// Packets that the port segments.
    tx_tso,
    /// Packets segmented in software.
    tx_gso,
    /// Payload bytes copied to send them: the port takes no chains.
    tx_payload_copied,
    /// Times that the port took less than it was offered. What it didn't take is offered again.
    tx_ring_full,
    /// Times that frames had to wait because no packet buffer was free.
    tx_no_mbuf,
    /// Packets dropped: the link is down.
    tx_dropped_link,
    /// Packets dropped: no room, and the sender didn't ask.
    tx_dropped_full,
    /// Packets refused: a record that isn't sealed.
    tx_dropped_plaintext,
    /// Packets refused: longer than the MTU, or than a driver's limits.
    tx_dropped_too_big,
    /// Packets refused: lengths that contradict each other.
    tx_dropped_malformed,
    /// Packets dropped: the driver says it can't send them.
    tx_dropped_driver,
    /// Packets dropped that still waited when the queue was closed.
    tx_dropped_closed,
}

/// What a driver has counted for a port.
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
    /// Received packets dropped: nobody fetched them.
    pub rx_missed: u64,
    /// Received packets with errors.
    pub rx_errors: u64,
    /// Packets that were taken and couldn't be sent.
    pub tx_errors: u64,
    /// Received packets dropped: no packet buffer was free.
    pub rx_no_mbuf: u64,
}

/// A port's counters.
#[derive(Clone, Debug, Default)]
pub struct PortCounters {
    /// By queue.
    pub queues: Vec<QueueCounters>,
    /// The driver's own.
    pub device: DeviceCounters,
    /// The driver's own, the ones that only it knows.
    pub extended: Vec<(String, u64)>,
}

impl PortCounters {
    /// The sum over all queues.
    pub fn total(&self) -> QueueCounters {
        let mut sum = QueueCounters::default();
        for q in &self.queues {
            sum.add(q);
        }
        sum
    }
}

/// A number with one writer, so it needs no locked instruction.
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
