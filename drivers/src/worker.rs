//! A worker's view of all ports: received bursts, packets to send.

mod backlog;
mod leaf;
mod ring_share;
mod stuck;

use std::fmt;

use lockgate_wire::{IfaceId, Instant};
use pktbuf::{Buffer, Info, Output, Packet, Room, TxError};

use self::leaf::Leaf;
use crate::port::Queue;

pub(crate) use self::backlog::FRAMES;

/// Packets of a full burst of one port ([`WorkerPorts::rx_burst`]).
pub const RX_BURST: usize = dpdk_sys::LG_BURST as usize;

/// A worker's queues of all ports, and the interfaces on them.
///
/// Call order, once a turn:
///
/// 1. [`WorkerPorts::rx_burst`];
/// 2. [`Output::tx`] any number of times. It queues frames, and sends them when there is a burst;
/// 3. [`WorkerPorts::flush`], [`WorkerPorts::drop_stuck`].
///
/// Use it on the thread that owns the page buffers to send. That thread should be registered
/// ([`crate::Eal::register_worker`]), or it has no mempool cache.
pub struct WorkerPorts {
    leaves: Vec<Leaf>,
    /// For each interface, the index of its leaf.
    interfaces: Vec<usize>,
}

impl WorkerPorts {
    /// Makes the view. Interface `i` is on `queues[interfaces[i]]`. Packets received on a port
    /// belong to the first interface on it.
    ///
    /// # Panics
    ///
    /// If an entry of `interfaces` is no index into `queues`.
    pub fn new(queues: Vec<Queue>, interfaces: &[usize]) -> Self {
        assert!(
            interfaces.iter().all(|&on| on < queues.len()),
            "each interface is on one of the queues"
        );
        let leaves = queues
            .into_iter()
            .enumerate()
            .map(|(n, queue)| {
                let first = interfaces.iter().position(|&on| on == n);
                let iface = first.and_then(|i| u16::try_from(i).ok()).map(IfaceId);
                Leaf::new(queue, iface)
            })
            .collect();
        Self {
            leaves,
            interfaces: interfaces.to_vec(),
        }
    }

    /// Receives a burst of up to [`RX_BURST`] packets from every port (`rte_eth_rx_burst`). Returns
    /// the number of packets.
    pub fn rx_burst(&mut self, mut each: impl FnMut(IfaceId, Buffer)) -> usize {
        self.leaves
            .iter_mut()
            .map(|leaf| leaf.rx_burst(&mut each))
            .sum()
    }

    /// Sends the queued frames (`rte_eth_tx_burst`). A send that a port doesn't accept is retried
    /// with the next call. Returns whether nothing is left.
    pub fn flush(&mut self) -> bool {
        let mut done = true;
        for leaf in &mut self.leaves {
            done &= leaf.flush();
        }
        done
    }

    /// Drops packets that keep a queue from sending. Call it once a turn, after
    /// [`WorkerPorts::flush`].
    ///
    /// `rte_eth_tx_burst` reports no errors: a driver that can't send a packet takes none from it
    /// on, at each call. So the oldest packet of a queue is dropped if the driver has taken none
    /// for 400 ms. A pause frame stops a link of 100 Mbit/s for 336 ms (IEEE 802.3, annex 31B). The
    /// drop is counted, and logged once a second at most.
    pub fn drop_stuck(&mut self, now: Instant) {
        for leaf in &mut self.leaves {
            leaf.drop_stuck(now);
        }
    }

    /// Frees packets that were sent and that drivers still hold (`rte_eth_tx_done_cleanup`), up to
    /// `packets_max` on each port. To be called when page buffers are short, and now and then when
    /// there is nothing to do: some drivers free a packet only when its descriptor is reused.
    pub fn clean_sent(&mut self, packets_max: u32) {
        for leaf in &mut self.leaves {
            leaf.clean_sent(packets_max);
        }
    }

    /// Returns the number of queued frames of all ports.
    pub fn backlog(&self) -> usize {
        self.leaves.iter().map(Leaf::backlog).sum()
    }

    /// Logs that TCP segments with partial checksums arrive on the interface's port, and the
    /// `ethtool` command that helps. Once per port, over all workers.
    pub fn warn_of_partial_checksums(&self, on: IfaceId) {
        if let Some(leaf) = self.leaf(on) {
            leaf.warn_of_partial_checksums();
        }
    }

    fn leaf(&self, on: IfaceId) -> Option<&Leaf> {
        self.leaves.get(*self.interfaces.get(usize::from(on.0))?)
    }
}

impl Output for WorkerPorts {
    fn info(&self, on: IfaceId) -> Info {
        self.leaf(on).map(Leaf::info).unwrap_or_default()
    }

    fn room(&self, on: IfaceId) -> Room {
        self.leaf(on).map(Leaf::room).unwrap_or_default()
    }

    fn tx(&mut self, packet: Packet<'_>) -> Result<(), TxError> {
        let on = self.interfaces.get(usize::from(packet.meta.iface.0));
        match on.and_then(|&on| self.leaves.get_mut(on)) {
            Some(leaf) => leaf.tx(&packet),
            None => Err(TxError::NoInterface),
        }
    }
}

impl fmt::Debug for WorkerPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPorts")
            .field("ports", &self.leaves.len())
            .field("interfaces", &self.interfaces.len())
            .finish_non_exhaustive()
    }
}
