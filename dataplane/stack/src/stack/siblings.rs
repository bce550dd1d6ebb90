//! What a stack learns from sibling workers, and what it sends to them.

use core::net::IpAddr;

use lockgate_ip::{FrameMeta, Ingress};
use lockgate_wire::{IfaceId, Instant};
use pktbuf::{Buffer, Output};

use super::Stack;
use crate::egress::frame_meta;
use crate::env::Env;
use crate::sibling_frames::{
    MisdirectedPacket, PacketRoute, SiblingFrame, broadcast_bytes, neighbour_of,
};
use crate::sibling_solicits::SiblingResolution;

impl Stack {
    /// Returns the next frame for all sibling workers' [`Stack::on_sibling_frame`]. There are none
    /// without [`StackConfig::siblings`](crate::StackConfig::siblings).
    pub fn poll_sibling_frame(&mut self) -> Option<SiblingFrame> {
        self.siblings.pop_frame()
    }

    /// Returns the next report for all sibling workers' [`Stack::on_sibling_resolution`].
    pub fn poll_sibling_resolution(&mut self) -> Option<SiblingResolution> {
        self.siblings.pop_resolution()
    }

    /// Returns the next packet for the [`Stack::on_misdirected_packet`] of worker
    /// [`recipient`](MisdirectedPacket::recipient), of the workers for which `has_room` is true.
    /// Packets for others wait, as many as a turn moves. What exceeds that is dropped, of the peer
    /// that has the most.
    pub fn poll_misdirected_packet(
        &mut self,
        has_room: impl Fn(u16) -> bool,
    ) -> Option<MisdirectedPacket> {
        self.siblings.pop_packet(has_room)
    }

    /// Learns from a frame that a sibling worker received and answered.
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
        // It has counted the frame, too.
        match self.egress.ip.classify(frame.iface, bytes, &meta) {
            Ingress::Arp(arp) => self.egress.ip.learn_from_arp(now, &arp),
            Ingress::Icmp(found) => {
                let message = bytes.get(found.l4_at..found.l4_at + found.l4_len);
                let message = message.unwrap_or_default();
                self.egress.ip.learn_from_discovery(now, &found, message);
            }
            Ingress::Tcp(_) | Ingress::Reject(..) | Ingress::Drop(_) => {}
        }
        self.send_ip_frames(now, env);
        self.wake_waiting(now, env);
    }

    /// Handles a report of a sibling worker.
    pub fn on_sibling_resolution<N: Output>(
        &mut self,
        now: Instant,
        resolution: &SiblingResolution,
        env: &mut Env<'_, N>,
    ) {
        match resolution {
            SiblingResolution::Solicited(hop) => self.sibling_solicits.insert(*hop),
            SiblingResolution::Answered(frame) => self.on_sibling_frame(now, frame, env),
        }
    }

    /// Handles a packet that a sibling worker received, whose connection this worker may have.
    pub fn on_misdirected_packet<N: Output>(
        &mut self,
        now: Instant,
        misdirected: MisdirectedPacket,
        env: &mut Env<'_, N>,
    ) {
        self.cx.counters.misdirected_in += 1;
        self.misdirected_steps.add(1);
        let MisdirectedPacket {
            iface,
            packet,
            route,
        } = misdirected;
        let origin = route.origin;
        let meta = FrameMeta {
            ip_checksum_good: true,
            ..frame_meta(&packet)
        };
        // The worker that received it has counted it.
        match self.egress.ip.classify(iface, packet.front(), &meta) {
            Ingress::Tcp(found) => self.on_tcp(now, found, packet, Some(origin), env),
            Ingress::Icmp(found) => {
                let message = packet.front().get(found.l4_at..found.l4_at + found.l4_len);
                let message = message.unwrap_or_default();
                if let Some(error) = self.egress.ip.moved_error(&found, message) {
                    self.on_icmp_error(now, &error, (iface, packet), Some(origin));
                }
            }
            Ingress::Arp(_) | Ingress::Reject(..) | Ingress::Drop(_) => {}
        }
    }

    /// Returns the sibling worker that may have a connection, if one may. `origin` is the worker
    /// that received its packet, if that isn't this worker.
    pub(super) fn next_owner(&mut self, hash: u32, origin: Option<u16>) -> Option<u16> {
        let siblings = self.config.siblings.as_ref()?;
        let (owner, steps) = siblings.next_owner(hash, origin.unwrap_or(siblings.number));
        self.misdirected_steps.add(steps);
        owner
    }

    /// Moves a packet to worker `to`. Its connection has this hash and this peer.
    pub(super) fn redirect(
        &mut self,
        (iface, packet): (IfaceId, Buffer),
        (hash, peer): (u32, IpAddr),
        origin: Option<u16>,
        to: u16,
    ) {
        let Some(own) = self.config.siblings.as_ref().map(|own| own.number) else {
            return;
        };
        // The directory is indexed by the low bits.
        let [flow, ..] = hash.to_be_bytes();
        let route = PacketRoute {
            origin: origin.unwrap_or(own),
            to,
            group: self.peer_group(peer),
            flow,
        };
        self.misdirected_steps.add(1);
        if self.siblings.push_packet(iface, packet, route) {
            self.cx.counters.misdirected_out += 1;
        } else {
            self.cx.counters.misdirected_lost += 1;
        }
    }

    /// Queues a copy of a frame for all siblings, if it concerns them.
    pub(super) fn broadcast_to_siblings(
        &mut self,
        iface: IfaceId,
        packet: &Buffer,
        ingress: &Ingress,
    ) {
        if self.config.siblings.is_none() {
            return;
        }
        let Some(bytes) = broadcast_bytes(packet, ingress) else {
            return;
        };
        let hop = neighbour_of(bytes, ingress);
        let is_queued = if hop.is_some_and(|hop| self.sibling_solicits.take(&hop)) {
            let answer = SiblingFrame::answer(iface, bytes);
            self.siblings.push_resolution(answer)
        } else {
            self.siblings.push_frame(iface, bytes)
        };
        self.cx.counters.sibling_frames_lost += u64::from(!is_queued);
    }

    /// The steps for packets that belong to no connection of this worker: directory look-ups and
    /// exchanges with siblings. Counted in debug builds only.
    pub fn misdirected_steps(&self) -> u64 {
        self.misdirected_steps.get()
    }
}
