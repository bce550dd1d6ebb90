//! Bursts of received packets: consecutive segments of a connection are handled as one.

use lockgate_ip::{Ingress, IpPacket};
use lockgate_tcp::{MergedSegments, SegmentIn};
use lockgate_wire::tcp::{Flags, TcpHeader};
use lockgate_wire::{IfaceId, Instant};
use pktbuf::{Buffer, Output};

use super::Stack;
use super::ingress::Arrival;
use crate::demux::FlowTarget;
use crate::egress::frame_meta;
use crate::env::Env;

/// Consecutive segments of a connection, as they were received: LRO in software.
///
/// A segment joins the run if it follows the last one without a gap and its headers differ in
/// nothing but the sequence number and PSH. So a run has one acknowledgment, one window and one
/// timestamp, no control bits but ACK, no SACK blocks, no IP options, and one ECN codepoint. No
/// segment is longer than the first, because TCP's acknowledgment policy counts full-sized
/// segments. A shorter segment, and a segment with PSH, is the last.
///
/// Any other packet ends the run before it's handled, so the order of packets stays.
///
/// Whether a run is handled as one depends on its connection ([`Stack::on_run`]). If it isn't, its
/// segments are handled one by one.
#[derive(Debug, Default)]
pub(super) struct SegmentRun {
    /// The first segment's headers, if there is one.
    first: Option<Arrival>,
    /// Sequence number behind the last segment.
    end: u32,
    /// Longest payload in bytes: the first one's.
    longest: u32,
    /// Whether no more segments fit: the last one was short, or had PSH.
    is_closed: bool,
    /// The packets, without padding behind the payload. Empty between two bursts.
    packets: Vec<Buffer>,
}

impl SegmentRun {
    /// Makes room for a run, so that nothing is allocated later.
    pub(super) fn new() -> Self {
        Self {
            packets: Vec::with_capacity(SEGMENTS_MAX),
            ..Self::default()
        }
    }

    /// Whether a run can begin with a segment.
    fn can_begin(arrival: &Arrival, packet: &Buffer) -> bool {
        let (found, header) = (&arrival.found, &arrival.header);
        let options = &header.options;
        // A request in one segment has PSH, and doesn't wait.
        header.flags == Flags::ACK
            && arrival.payload_len() > 0
            && options.sack.is_empty()
            && options.mss.is_none()
            && options.window_scale.is_none()
            && !options.sack_permitted
            && found.l4_at - found.l3_at == ip_header_len(found)
            // A card that merges segments has done so already.
            && packet.segments() <= 1
    }

    /// Whether a segment continues the run.
    fn is_continued_by(&self, arrival: &Arrival, packet: &Buffer) -> bool {
        let Some(first) = &self.first else {
            return false;
        };
        let (a, b) = (&first.header, &arrival.header);
        !self.is_closed
            && b.seq.0 == self.end
            && (a.src_port, a.dst_port) == (b.src_port, b.dst_port)
            && (a.ack, a.window) == (b.ack, b.window)
            && b.flags.without(Flags::PSH) == Flags::ACK
            && a.options == b.options
            && first.header_len == arrival.header_len
            && is_same_path(&first.found, &arrival.found)
            && (1..=self.longest).contains(&arrival.payload_len())
            && packet.segments() <= 1
            && self.packets.len() < SEGMENTS_MAX
    }

    fn begin(&mut self, arrival: Arrival, packet: Buffer) {
        self.longest = arrival.payload_len();
        self.end = arrival.header.seq.0.wrapping_add(self.longest);
        self.is_closed = false;
        self.push(packet, arrival.found.l4_at + arrival.found.l4_len);
        self.first = Some(arrival);
    }

    fn extend(&mut self, arrival: &Arrival, packet: Buffer) {
        let len = arrival.payload_len();
        self.end = self.end.wrapping_add(len);
        self.is_closed = len < self.longest || arrival.header.flags.contains(Flags::PSH);
        self.push(packet, arrival.found.l4_at + arrival.found.l4_len);
    }

    fn push(&mut self, mut packet: Buffer, len: usize) {
        packet.truncate(u32::try_from(len).unwrap_or(u32::MAX));
        self.packets.push(packet);
    }
}

impl Stack {
    /// Handles a burst of received packets, in order, and takes them. Answers that can't wait are
    /// sent at once, everything else in [`Stack::poll`].
    ///
    /// Consecutive segments of a connection cost one look-up and one step of TCP. Their effect is
    /// that of [`Stack::on_packet`] for each packet.
    pub fn on_burst<N: Output>(
        &mut self,
        now: Instant,
        packets: &mut Vec<(IfaceId, Buffer)>,
        env: &mut Env<'_, N>,
    ) {
        let mut packets = packets.drain(..);
        while let Some((iface, packet)) = packets.next() {
            // A network card has written them to memory that isn't in this core's cache.
            if let Some((_, ahead)) = packets.as_slice().get(PACKETS_AHEAD) {
                ahead.prefetch();
            }
            self.on_packet_of_burst(now, iface, packet, env);
        }
        self.end_run(now, env);
    }

    /// Handles a received packet. A segment may wait for others to join it, until
    /// [`Stack::end_run`].
    pub(super) fn on_packet_of_burst<N: Output>(
        &mut self,
        now: Instant,
        iface: IfaceId,
        packet: Buffer,
        env: &mut Env<'_, N>,
    ) {
        self.cx.now = now;
        self.cx.counters.packets_in += 1;
        let meta = frame_meta(&packet);
        let ingress = self.egress.ip.receive(iface, packet.front(), &meta);
        let Ingress::Tcp(found) = ingress else {
            self.end_run(now, env);
            self.on_other_packet(now, iface, packet, ingress, env);
            return;
        };
        let Some(arrival) = self.check_segment(found, &packet, None) else {
            return;
        };
        if self.run.is_continued_by(&arrival, &packet) {
            self.run.extend(&arrival, packet);
            return;
        }
        self.end_run(now, env);
        if SegmentRun::can_begin(&arrival, &packet) {
            self.run.begin(arrival, packet);
        } else {
            self.on_arrival(now, &arrival, packet, None, env);
        }
    }

    /// Handles the segments that wait for others to join them.
    pub(super) fn end_run<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) {
        let Some(first) = self.run.first.take() else {
            return;
        };
        let mut packets = core::mem::take(&mut self.run.packets);
        if packets.len() < 2 || !self.on_run(now, &first, &mut packets, env) {
            self.on_each_of(now, &first, &mut packets, env);
        }
        self.run.packets = packets;
    }

    /// Handles a run as one segment, and takes its packets. Returns false, with nothing done, if
    /// that could differ from handling its segments one by one: then the connection doesn't expect
    /// this run, or memory is short.
    fn on_run<N: Output>(
        &mut self,
        now: Instant,
        first: &Arrival,
        packets: &mut Vec<Buffer>,
        env: &mut Env<'_, N>,
    ) -> bool {
        let tuple = first.tuple();
        let hash = self.flows.hash(&tuple);
        let Some(FlowTarget::Socket(index)) = self.find(&tuple, hash) else {
            return false;
        };
        let headers = first.payload_at();
        let (mut len, mut last_at, mut true_size) = (0_u32, 0, 0_u32);
        for packet in packets.iter() {
            last_at = len;
            len = len.saturating_add(packet.len().saturating_sub(headers));
            true_size = true_size.saturating_add(packet.true_size());
        }
        let merged = MergedSegments {
            longest: u16::try_from(first.payload_len()).unwrap_or(u16::MAX),
            last_seq: first.header.seq + last_at,
        };
        let count = u16::try_from(packets.len()).unwrap_or(u16::MAX);
        let segment = SegmentIn {
            segments: count,
            ce: if first.is_marked() { count } else { 0 },
            len,
            merged: Some(merged),
            ..first.segment()
        };
        let Some(socket) = self.sockets.get_mut(index) else {
            return false;
        };
        if !socket.takes_run(&segment, true_size, &self.cx) {
            return false;
        }
        self.cx.counters.segments_merged += u64::from(count) - 1;
        self.cx.memory.receive.advance(now);
        self.cx.handshakes.advance(now);
        let payloads = packets.drain(..).map(|mut packet| {
            packet.trim_front(headers);
            packet
        });
        let answer = socket.on_run(now, segment, payloads, &mut self.cx);
        if let Some(header) = answer {
            self.egress
                .reply(now, &tuple, &header, &mut self.cx.counters, env);
        }
        self.enforce_handshake_bytes(now, env);
        true
    }

    /// Handles the segments of a run one by one.
    fn on_each_of<N: Output>(
        &mut self,
        now: Instant,
        first: &Arrival,
        packets: &mut Vec<Buffer>,
        env: &mut Env<'_, N>,
    ) {
        let mut seq = first.header.seq;
        for packet in packets.drain(..) {
            let found = IpPacket {
                l4_len: (packet.len() as usize).saturating_sub(first.found.l4_at),
                ..first.found
            };
            let header = TcpHeader {
                seq,
                ..first.header
            };
            let arrival = Arrival {
                found,
                header,
                header_len: first.header_len,
            };
            seq += arrival.payload_len();
            self.on_arrival(now, &arrival, packet, None, env);
        }
    }
}

/// Whether two packets have the same addresses, marks and header lengths.
fn is_same_path(a: &IpPacket, b: &IpPacket) -> bool {
    a.iface == b.iface
        && a.addrs == b.addrs
        && a.class == b.class
        && a.is_group == b.is_group
        && (a.l3_at, a.l4_at) == (b.l3_at, b.l4_at)
}

/// Bytes of an IP header without options or extensions.
fn ip_header_len(found: &IpPacket) -> usize {
    if found.dst().is_ipv4() { 20 } else { 40 }
}

/// How many packets after the next one the packet is that is fetched into the cache. One packet is
/// too short a time for it.
const PACKETS_AHEAD: usize = 1;
/// Most segments of a run: a burst of a port.
const SEGMENTS_MAX: usize = 64;
