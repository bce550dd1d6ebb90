//! Received packets: classification, checksums, and the connection that they belong to.

use lockgate_ip::{IcmpError, IcmpErrorKind, IcmpOutcome, Ingress, IpPacket};
use lockgate_tcp::{SegmentIn, Unreachable, reset_for};
use lockgate_wire::ip::{Ecn, IpProtocol};
use lockgate_wire::tcp::{Flags, TcpHeader, TcpView};
use lockgate_wire::{Endpoint, FourTuple, IfaceId, Instant};
use pktbuf::{Buffer, Checksum, Output};

use super::Stack;
use crate::demux::FlowTarget;
use crate::egress::Egress;
use crate::env::Env;

impl Stack {
    /// Handles a received packet. Answers that can't wait are sent at once, everything else in
    /// [`Stack::poll`], so give all packets of a burst first: best by [`Stack::on_burst`].
    pub fn on_packet<N: Output>(
        &mut self,
        now: Instant,
        iface: IfaceId,
        packet: Buffer,
        env: &mut Env<'_, N>,
    ) {
        self.on_packet_of_burst(now, iface, packet, env);
        self.end_run(now, env);
    }

    /// Handles a received packet that isn't a TCP segment.
    pub(super) fn on_other_packet<N: Output>(
        &mut self,
        now: Instant,
        iface: IfaceId,
        packet: Buffer,
        ingress: Ingress,
        env: &mut Env<'_, N>,
    ) {
        self.broadcast_to_siblings(iface, &packet, &ingress);
        let Egress { ip, frame } = &mut self.egress;
        let reply = match ingress {
            Ingress::Tcp(_) => None,
            Ingress::Drop(_) => return,
            Ingress::Arp(arp) => ip.on_arp(now, &arp, frame),
            Ingress::Icmp(found) => {
                let message = packet.front().get(found.l4_at..found.l4_at + found.l4_len);
                let Some(message) = message else {
                    self.cx.counters.malformed += 1;
                    return;
                };
                match ip.on_icmp(now, &found, message, frame) {
                    IcmpOutcome::Done => None,
                    IcmpOutcome::Reply(reply) => Some(reply),
                    IcmpOutcome::Error(error) => {
                        return self.on_icmp_error(now, &error, (iface, packet), None);
                    }
                }
            }
            Ingress::Reject(found, refusal) => {
                let bytes = packet.front().get(found.l3_at..).unwrap_or_default();
                ip.reject(now, &found, refusal, bytes, frame)
            }
        };
        if let Some(reply) = reply {
            self.egress
                .send_frame(reply.iface, reply.len, &mut self.cx.counters, env);
        }
        self.send_ip_frames(now, env);
        self.wake_waiting(now, env);
    }

    /// Handles a TCP segment. If its connection may be a sibling worker's, it is moved there.
    /// `origin` is the worker that received it, if that isn't this worker.
    pub(super) fn on_tcp<N: Output>(
        &mut self,
        now: Instant,
        found: IpPacket,
        packet: Buffer,
        origin: Option<u16>,
        env: &mut Env<'_, N>,
    ) {
        if let Some(arrival) = self.check_segment(found, &packet, origin) {
            self.on_arrival(now, &arrival, packet, origin, env);
        }
    }

    /// Parses a segment and verifies its checksum. Returns `None`, and counts why, if it is to be
    /// dropped.
    pub(super) fn check_segment(
        &mut self,
        found: IpPacket,
        packet: &Buffer,
        origin: Option<u16>,
    ) -> Option<Arrival> {
        let bytes = packet.front().get(found.l4_at..).unwrap_or_default();
        let Some(arrival) = Arrival::parse(found, bytes) else {
            self.cx.counters.malformed += 1;
            return None;
        };
        // The worker that received it has checked it.
        if origin.is_none() && !is_intact(&found, packet) {
            self.cx.counters.bad_checksum += 1;
            if has_partial_checksum(&found, bytes) {
                self.cx.counters.partial_checksum += 1;
                self.partial_checksum_on = Some(found.iface);
            }
            return None;
        }
        self.cx.counters.segments_in += u64::from(origin.is_none());
        Some(arrival)
    }

    /// Handles a segment that was checked.
    pub(super) fn on_arrival<N: Output>(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        packet: Buffer,
        origin: Option<u16>,
        env: &mut Env<'_, N>,
    ) {
        let Arrival { found, header, .. } = arrival;
        let tuple = arrival.tuple();
        let segment = SegmentIn {
            segments: packet.segments().max(1),
            ..arrival.segment()
        };
        let hash = self.flows.hash(&tuple);
        let target = self.find(&tuple, hash);
        // A SYN opens a connection here, where its next segments come to.
        let opens = header.flags.contains(Flags::SYN) && !header.flags.contains(Flags::ACK);
        if target.is_none()
            && !opens
            && let Some(owner) = self.next_owner(hash, origin)
        {
            let flow = (hash, tuple.remote.addr);
            return self.redirect((found.iface, packet), flow, origin, owner);
        }
        let mut payload = packet;
        payload.trim_front(arrival.payload_at());
        payload.truncate(segment.len);
        // A connection keeps no packet buffer of another worker.
        if origin.is_some() && target.is_some() && !payload.is_empty() {
            let Some(copy) = payload.copied(env.pages) else {
                self.cx.counters.refused_payload += 1;
                return;
            };
            payload = copy;
        }
        match target {
            Some(FlowTarget::Socket(index)) => {
                self.on_socket_segment(now, index, &segment, payload, env)
            }
            Some(FlowTarget::HalfOpen(index)) => {
                self.on_half_open(now, index, &segment, payload, env);
            }
            Some(FlowTarget::TimeWait(index)) => self.on_time_wait(now, index, &segment, env),
            None => self.on_unmatched_segment(now, &tuple, &segment, None, env),
        }
    }

    /// Handles a segment for a socket.
    pub(super) fn on_socket_segment<N: Output>(
        &mut self,
        now: Instant,
        index: u32,
        segment: &SegmentIn<'_>,
        payload: Buffer,
        env: &mut Env<'_, N>,
    ) {
        let Some(socket) = self.sockets.get_mut(index) else {
            return;
        };
        let tuple = socket.tuple;
        if socket.is_tcp_over() {
            if let Some(reset) = reset_for(segment) {
                self.send_reset(now, &tuple, &reset, env);
            }
            return;
        }
        self.cx.memory.receive.advance(now);
        self.cx.handshakes.advance(now);
        let answer = socket.on_segment(now, *segment, payload, &mut self.cx, env.pages);
        if let Some(header) = answer {
            self.egress
                .reply(now, &tuple, &header, &mut self.cx.counters, env);
        }
        self.enforce_handshake_bytes(now, env);
    }

    /// Handles an ICMP error about a segment that was sent from this host. If its connection may be
    /// a sibling worker's, the packet is moved there, as in [`Stack::on_tcp`].
    pub(super) fn on_icmp_error(
        &mut self,
        now: Instant,
        error: &IcmpError,
        (iface, packet): (IfaceId, Buffer),
        origin: Option<u16>,
    ) {
        let hash = self.flows.hash(&error.flow);
        let index = match self.find(&error.flow, hash) {
            Some(FlowTarget::Socket(index)) => index,
            Some(FlowTarget::HalfOpen(_) | FlowTarget::TimeWait(_)) => return,
            None => {
                if let Some(owner) = self.next_owner(hash, origin) {
                    let flow = (hash, error.flow.remote.addr);
                    self.redirect((iface, packet), flow, origin, owner);
                }
                return;
            }
        };
        let cx = &mut self.cx;
        let Some(socket) = self
            .sockets
            .get_mut(index)
            .filter(|socket| !socket.is_tcp_over())
        else {
            return;
        };
        let kind = match error.kind {
            IcmpErrorKind::TooBig(mtu) => {
                socket.tcp.on_too_big(now, error.seq, mtu, &mut cx.tcp);
                socket.make_ready(&mut cx.schedule);
                return;
            }
            IcmpErrorKind::Unreachable { hard: true, .. } => Unreachable::Hard,
            IcmpErrorKind::Unreachable { hard: false, .. }
            | IcmpErrorKind::TimeExceeded
            | IcmpErrorKind::ParameterProblem => Unreachable::Soft,
        };
        let event = socket.tcp.on_unreachable(error.seq, kind, &mut cx.tcp);
        socket.on_event(event, cx);
        socket.make_ready(&mut cx.schedule);
    }

    /// Finds a connection by its four-tuple and that one's hash.
    pub(super) fn find(&self, tuple: &FourTuple, hash: u32) -> Option<FlowTarget> {
        self.flows.find(hash, |target| {
            let found = match target {
                FlowTarget::Socket(index) => self.sockets.get(index).map(|s| &s.tuple),
                FlowTarget::HalfOpen(index) => self.half_open.get(index).map(|h| &h.tuple),
                FlowTarget::TimeWait(index) => self.time_wait.get(index).map(|w| &w.tuple),
            };
            found == Some(tuple)
        })
    }
}

/// A received TCP segment, parsed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) found: IpPacket,
    pub(super) header: TcpHeader,
    /// Bytes of the TCP header.
    pub(super) header_len: usize,
}

impl Arrival {
    /// Parses a TCP header. Returns `None` if it is malformed.
    fn parse(found: IpPacket, bytes: &[u8]) -> Option<Self> {
        let (header, header_len) = TcpView::parse(bytes).ok()?;
        let is_valid = found.l4_len >= header_len && header.src_port != 0 && header.dst_port != 0;
        is_valid.then_some(Self {
            found,
            header,
            header_len,
        })
    }

    /// Returns the offset of the payload in the frame.
    pub(super) fn payload_at(&self) -> u32 {
        u32::try_from(self.found.l4_at + self.header_len).unwrap_or(u32::MAX)
    }

    /// Returns the length of the payload.
    pub(super) fn payload_len(&self) -> u32 {
        u32::try_from(self.found.l4_len - self.header_len).unwrap_or(u32::MAX)
    }

    pub(super) fn tuple(&self) -> FourTuple {
        let local = Endpoint::new(self.found.dst(), self.header.dst_port);
        let remote = Endpoint::new(self.found.src(), self.header.src_port);
        FourTuple::new(local, remote)
    }

    /// Whether a router has marked the packet (ECN codepoint CE).
    pub(super) fn is_marked(&self) -> bool {
        self.found.class.ecn() == Ecn::Ce
    }

    /// Returns the segment for TCP. It isn't merged with others.
    pub(super) fn segment(&self) -> SegmentIn<'_> {
        SegmentIn {
            ecn: self.found.class.ecn() as u8,
            ce: u16::from(self.is_marked()),
            ..SegmentIn::new(&self.header, self.payload_len())
        }
    }
}

/// Whether a segment with a wrong checksum is one that its sender left to a network card: the field
/// holds the sum of the pseudo-header only, as Linux writes it (`CHECKSUM_PARTIAL`). On a veth pair
/// there is no card that would complete it.
fn has_partial_checksum(found: &IpPacket, segment: &[u8]) -> bool {
    let len = u32::try_from(found.l4_len).unwrap_or(u32::MAX);
    let sum = found.addrs.pseudo_sum(IpProtocol::TCP, len).fold();
    segment.get(CHECKSUM_AT..CHECKSUM_AT + 2) == Some(&sum.to_be_bytes())
}

/// Whether the segment's checksum is right: by the port's verdict if there is one, else computed.
fn is_intact(found: &IpPacket, packet: &Buffer) -> bool {
    match packet.l4_checksum() {
        Checksum::Good => true,
        Checksum::Bad => false,
        Checksum::Unknown => {
            let len = u32::try_from(found.l4_len).unwrap_or(u32::MAX);
            let mut sum = found.addrs.pseudo_sum(IpProtocol::TCP, len);
            let (mut skip, mut left) = (found.l4_at, found.l4_len);
            for piece in packet.fragments() {
                let skipped = skip.min(piece.len());
                skip -= skipped;
                let piece = piece.get(skipped..).unwrap_or_default();
                let piece = piece.get(..piece.len().min(left)).unwrap_or_default();
                sum.add(piece);
                left -= piece.len();
            }
            sum.is_valid()
        }
    }
}

/// Where a TCP header has its checksum (RFC 9293, 3.1).
const CHECKSUM_AT: usize = 16;
