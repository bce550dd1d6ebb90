//! Frames between the workers of a host.
//!
//! A port spreads connections over its queues, and with them over workers. What belongs to no
//! connection (ARP, neighbour discovery, ICMP) comes to any worker. That worker answers it; the
//! others only learn: about neighbours that they look for themselves, and about errors of their
//! own connections.
//!
//! A port may also bring a segment of a connection to another queue than the segments before it
//! (`net_af_packet` does when a queue is full). A worker that doesn't know the connection forwards
//! the segment to the next worker; the last one answers it if it doesn't know it either.

use std::collections::VecDeque;
use std::sync::Arc;

use lockgate_ip::Ingress;
use lockgate_wire::IfaceId;
use pktbuf::Buffer;

/// A frame that one worker received, for its sibling workers. Clones share its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiblingFrame {
    pub(crate) iface: IfaceId,
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) recipients: Recipients,
}

/// Which workers a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recipients {
    /// All siblings.
    All,
    /// The next worker, which may forward it this many times.
    Next { forwards_left: u16 },
}

impl SiblingFrame {
    /// Whether it is for the next worker only, in an order that leads round all of them.
    pub fn is_for_next(&self) -> bool {
        self.recipients != Recipients::All
    }
}

/// Frames to be fetched for the siblings, those of one burst at most.
#[derive(Debug, Default)]
pub(crate) struct SiblingQueue {
    frames: VecDeque<SiblingFrame>,
}

impl SiblingQueue {
    /// Queues a frame. Returns false if the queue is full.
    pub(crate) fn push(&mut self, frame: SiblingFrame) -> bool {
        let has_room = self.frames.len() < FRAMES_MAX;
        if has_room {
            self.frames.push_back(frame);
        }
        has_room
    }

    pub(crate) fn pop(&mut self) -> Option<SiblingFrame> {
        self.frames.pop_front()
    }
}

/// Returns the bytes of a frame that concerns every worker: ARP, neighbour discovery, and ICMP
/// errors. A frame in several buffers, or with a VLAN tag outside its bytes, is no such frame: no
/// interface has tags.
pub(crate) fn broadcast_bytes<'a>(packet: &'a Buffer, ingress: &Ingress) -> Option<&'a [u8]> {
    let bytes = packet.front();
    let is_for_all = match ingress {
        Ingress::Arp(_) => true,
        Ingress::Icmp(found) => {
            let message = bytes.get(found.l4_at..).unwrap_or_default();
            is_icmp_error(found.addrs.is_ipv6(), message)
                || is_discovery(found.addrs.is_ipv6(), message)
        }
        Ingress::Tcp(_) | Ingress::Reject(..) | Ingress::Drop(_) => false,
    };
    let is_whole = packet.len() as usize == bytes.len() && packet.vlan().is_none();
    (is_for_all && is_whole).then_some(bytes)
}

/// Whether a message is destination unreachable, packet too big, time exceeded or parameter
/// problem.
pub(crate) fn is_icmp_error(ipv6: bool, message: &[u8]) -> bool {
    match message.first() {
        Some(kind) if ipv6 => (1..=4).contains(kind),
        Some(kind) => matches!(kind, 3 | 11 | 12),
        None => false,
    }
}

/// Whether a message is a neighbour solicitation or advertisement.
fn is_discovery(ipv6: bool, message: &[u8]) -> bool {
    ipv6 && matches!(message.first(), Some(135 | 136))
}

const FRAMES_MAX: usize = 256;
