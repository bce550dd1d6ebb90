//! What a stack learns from sibling workers, and what it sends to them.

use lockgate_ip::{FrameMeta, IcmpOutcome, Ingress, IpPacket};
use lockgate_wire::{IfaceId, Instant};
use pktbuf::{Buffer, Output};

use super::Stack;
use crate::env::Env;
use crate::sibling_frames::{Recipients, SiblingFrame, broadcast_bytes, is_icmp_error};

impl Stack {
    /// Returns the next frame for the sibling workers' [`Stack::on_sibling_frame`]. There are none
    /// if [`StackConfig::siblings`](crate::StackConfig::siblings) is 0.
    pub fn poll_sibling_frame(&mut self) -> Option<SiblingFrame> {
        self.sibling_frames.pop()
    }

    /// Handles a frame that a sibling worker received: learns from it without answering it, or
    /// takes over a segment that the sibling has no connection for.
    pub fn on_sibling_frame<N: Output>(
        &mut self,
        now: Instant,
        frame: &SiblingFrame,
        env: &mut Env<'_, N>,
    ) {
        self.cx.counters.sibling_frames_in += 1;
        let bytes = &*frame.bytes;
        // The worker that received it has checked the checksums of its headers.
        let meta = FrameMeta {
            len: bytes.len(),
            ip_checksum_good: true,
            vlan: None,
        };
        match self.egress.ip.receive(frame.iface, bytes, &meta) {
            Ingress::Arp(arp) => self.egress.ip.learn_from_arp(now, &arp),
            Ingress::Icmp(found) => self.learn_from_icmp(now, &found, bytes),
            Ingress::Tcp(found) => {
                if let Recipients::Next { forwards_left } = frame.recipients
                    && let Some(packet) = env.pages.alloc_buffer(bytes)
                {
                    self.on_tcp(now, &found, packet, forwards_left, env);
                }
            }
            Ingress::Reject(..) | Ingress::Drop(_) => {}
        }
        self.egress.send_ip_frames(now, &mut self.cx.counters, env);
        self.wake_waiting(now, env);
    }

    fn learn_from_icmp(&mut self, now: Instant, found: &IpPacket, bytes: &[u8]) {
        let message = bytes.get(found.l4_at..found.l4_at + found.l4_len);
        let message = message.unwrap_or_default();
        if !is_icmp_error(found.addrs.is_ipv6(), message) {
            self.egress.ip.learn_from_discovery(now, found, message);
            return;
        }
        // An ICMP error is never answered, so there is no room for an answer.
        if let IcmpOutcome::Error(error) = self.egress.ip.on_icmp(now, found, message, &mut []) {
            self.on_icmp_error(now, &error);
        }
    }

    /// Forwards a segment to the next worker, which may forward it `forwards_left` times.
    pub(super) fn forward_to_next_worker(
        &mut self,
        iface: IfaceId,
        packet: &Buffer,
        forwards_left: u16,
    ) {
        self.cx.counters.segments_forwarded += 1;
        let mut bytes = Vec::with_capacity(packet.len() as usize);
        packet
            .fragments()
            .for_each(|piece| bytes.extend_from_slice(piece));
        self.queue_sibling_frame(SiblingFrame {
            iface,
            bytes: bytes.into(),
            recipients: Recipients::Next { forwards_left },
        });
    }

    /// Queues a copy of a frame for all siblings, if it concerns them.
    pub(super) fn broadcast_to_siblings(
        &mut self,
        iface: IfaceId,
        packet: &Buffer,
        ingress: &Ingress,
    ) {
        if self.config.siblings > 0
            && let Some(bytes) = broadcast_bytes(packet, ingress)
        {
            self.queue_sibling_frame(SiblingFrame {
                iface,
                bytes: bytes.into(),
                recipients: Recipients::All,
            });
        }
    }

    fn queue_sibling_frame(&mut self, frame: SiblingFrame) {
        if !self.sibling_frames.push(frame) {
            self.cx.counters.sibling_frames_lost += 1;
        }
    }
}
