//! What one worker hears and the others have to know.
//!
//! A port spreads connections over its queues, and with them over workers. What belongs to no
//! connection (ARP, neighbour discovery, ICMP) comes to whichever worker it happens to. That one
//! answers; the others only learn: about neighbours that they asked for themselves, and about
//! errors of connections that are theirs.
//!
//! A port may also bring a segment of a connection to another queue than the ones before it
//! (`net_af_packet` does when a queue is full). Whoever doesn't know the connection passes the
//! segment on, from worker to worker; the last one answers it if it doesn't know it either.

use std::sync::Arc;

use lockgate_ip::{FrameMeta, IcmpOutcome, Ingress};
use lockgate_wire::{IfaceId, Instant};
use pktbuf::{Buffer, Output};

use crate::Env;
use crate::stack::Stack;

/// A frame that a worker heard, for its siblings. Copies share its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiblingFrame {
    on: IfaceId,
    frame: Arc<[u8]>,
    audience: Audience,
}

/// Whom a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Audience {
    All,
    /// The next worker, and behind it so many others.
    Next(u16),
}

impl SiblingFrame {
    /// Whether it goes to the next worker only, in an order that leads round all of them.
    pub fn is_for_next(&self) -> bool {
        self.audience != Audience::All
    }
}

impl Stack {
    /// The next frame that the other workers of this host should hear of
    /// ([`Stack::on_sibling_frame`]), if the configuration says that there are any.
    pub fn poll_sibling_frame(&mut self) -> Option<SiblingFrame> {
        self.core.heard.pop_front()
    }

    /// Another worker heard this.
    pub fn on_sibling_frame<N: Output>(
        &mut self,
        now: Instant,
        heard: &SiblingFrame,
        env: &mut Env<'_, N>,
    ) {
        self.core.counters.sibling_frames_in += 1;
        let bytes = &*heard.frame;
        // The sums over headers were checked by the one who heard it first.
        let meta = FrameMeta {
            len: bytes.len(),
            ip_checksum_good: true,
            vlan: None,
        };
        let core = &mut self.core;
        match core.ip.receive(heard.on, bytes, &meta) {
            Ingress::Arp(arp) => core.ip.learn_from_arp(now, &arp),
            Ingress::Icmp(found) => {
                let message = bytes.get(found.l4_at..found.l4_at + found.l4_len);
                let message = message.unwrap_or_default();
                if is_error(found.addrs.is_ipv6(), message) {
                    // An error is never answered, so there is nothing to write.
                    if let IcmpOutcome::Error(error) =
                        core.ip.on_icmp(now, &found, message, &mut [])
                    {
                        self.on_icmp_error(now, &error);
                    }
                } else {
                    core.ip.learn_from_discovery(now, &found, message);
                }
            }
            Ingress::Tcp(found) => {
                if let Audience::Next(behind) = heard.audience
                    && let Some(packet) = env.pages.alloc_buffer(bytes)
                {
                    self.on_tcp(now, &found, packet, behind, env);
                }
            }
            Ingress::Refuse(..) | Ingress::Drop(_) => {}
        }
        self.core.send_ip_frames(now, env);
        self.wake_waiting(now, env);
    }

    /// Passes a segment on to the next worker, behind which there are so many others.
    pub(crate) fn pass_on(&mut self, on: IfaceId, packet: &Buffer, behind: u16) {
        self.core.counters.segments_forwarded += 1;
        let mut frame = Vec::with_capacity(packet.len() as usize);
        packet
            .fragments()
            .for_each(|piece| frame.extend_from_slice(piece));
        self.keep(SiblingFrame {
            on,
            frame: frame.into(),
            audience: Audience::Next(behind),
        });
    }

    /// Keeps a frame for the siblings, if it concerns them.
    pub(crate) fn share(&mut self, on: IfaceId, packet: &Buffer, ingress: &Ingress) {
        if self.config.siblings == 0 {
            return;
        }
        let bytes = packet.front();
        let concerns_all = match ingress {
            Ingress::Arp(_) => true,
            Ingress::Icmp(found) => {
                let message = bytes.get(found.l4_at..).unwrap_or_default();
                is_error(found.addrs.is_ipv6(), message)
                    || is_discovery(found.addrs.is_ipv6(), message)
            }
            Ingress::Tcp(_) | Ingress::Refuse(..) | Ingress::Drop(_) => false,
        };
        // Whoever has a vlan tag beside its bytes would need it there; interfaces have none.
        if !concerns_all || packet.len() as usize != bytes.len() || packet.vlan().is_some() {
            return;
        }
        self.keep(SiblingFrame {
            on,
            frame: bytes.into(),
            audience: Audience::All,
        });
    }

    fn keep(&mut self, heard: SiblingFrame) {
        if self.core.heard.len() < HEARD_MAX {
            self.core.heard.push_back(heard);
        } else {
            self.core.counters.sibling_frames_lost += 1;
        }
    }
}

/// Destination unreachable, packet too big, time exceeded, parameter problem.
fn is_error(ipv6: bool, message: &[u8]) -> bool {
    match message.first() {
        Some(kind) if ipv6 => (1..=4).contains(kind),
        Some(kind) => matches!(kind, 3 | 11 | 12),
        None => false,
    }
}

/// Neighbour solicitation and advertisement.
fn is_discovery(ipv6: bool, message: &[u8]) -> bool {
    ipv6 && matches!(message.first(), Some(135 | 136))
}

/// Frames kept until they're fetched: those of one burst.
const HEARD_MAX: usize = 256;
