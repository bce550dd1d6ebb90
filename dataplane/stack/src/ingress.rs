//! Packets in: what they are, and for whom.

use lockgate_ip::{IcmpError, IcmpErrorKind, IcmpOutcome, Ingress, IpPacket};
use lockgate_tcp::{SegmentIn, Unreachable};
use lockgate_wire::ip::{Ecn, IpProtocol};
use lockgate_wire::tcp::{Flags, TcpView};
use lockgate_wire::{Endpoint, FourTuple, IfaceId, Instant};
use pktbuf::{Buffer, Checksum, Output};

use crate::Env;
use crate::common::frame_meta;
use crate::demux::Place;
use crate::stack::Stack;

impl Stack {
    /// A packet was received. Answers that can't wait go out at once, everything else in
    /// [`Stack::poll`]: give all packets of a burst first.
    pub fn on_packet<N: Output>(
        &mut self,
        now: Instant,
        on: IfaceId,
        packet: Buffer,
        env: &mut Env<'_, N>,
    ) {
        self.core.counters.packets_in += 1;
        let meta = frame_meta(&packet);
        let ingress = self.core.ip.receive(on, packet.front(), &meta);
        if let Ingress::Tcp(found) = ingress {
            let siblings = self.config.siblings;
            return self.on_tcp(now, &found, packet, siblings, env);
        }
        self.share(on, &packet, &ingress);
        let core = &mut self.core;
        let reply = match ingress {
            Ingress::Tcp(_) => None,
            Ingress::Drop(_) => return,
            Ingress::Arp(arp) => core.ip.on_arp(now, &arp, &mut core.scratch),
            Ingress::Icmp(found) => {
                let message = packet.front().get(found.l4_at..found.l4_at + found.l4_len);
                let Some(message) = message else {
                    core.counters.malformed += 1;
                    return;
                };
                match core.ip.on_icmp(now, &found, message, &mut core.scratch) {
                    IcmpOutcome::Done => None,
                    IcmpOutcome::Reply(reply) => Some(reply),
                    IcmpOutcome::Error(error) => return self.on_icmp_error(now, &error),
                }
            }
            Ingress::Refuse(found, refusal) => {
                let bytes = packet.front().get(found.l3_at..).unwrap_or_default();
                core.ip
                    .refuse(now, &found, refusal, bytes, &mut core.scratch)
            }
        };
        if let Some(reply) = reply {
            core.send_scratch(reply.iface, reply.len, env);
        }
        core.send_ip_frames(now, env);
        self.wake_waiting(now, env);
    }

    /// A segment, which so many siblings haven't seen.
    pub(crate) fn on_tcp<N: Output>(
        &mut self,
        now: Instant,
        found: &IpPacket,
        packet: Buffer,
        siblings: u16,
        env: &mut Env<'_, N>,
    ) {
        let bytes = packet.front().get(found.l4_at..).unwrap_or_default();
        let Ok((header, header_len)) = TcpView::parse(bytes) else {
            self.core.counters.malformed += 1;
            return;
        };
        let Some(payload_len) = found.l4_len.checked_sub(header_len) else {
            self.core.counters.malformed += 1;
            return;
        };
        if header.src_port == 0 || header.dst_port == 0 {
            self.core.counters.malformed += 1;
            return;
        }
        if !is_intact(found, &packet) {
            self.core.counters.bad_checksum += 1;
            return;
        }
        self.core.counters.segments_in += 1;

        let local = Endpoint::new(found.dst(), header.dst_port);
        let remote = Endpoint::new(found.src(), header.src_port);
        let tuple = FourTuple::new(local, remote);
        let ecn = found.class.ecn();
        let segment = SegmentIn {
            tcp: &header,
            ecn: ecn as u8,
            segments: packet.segments().max(1),
            ce: u16::from(ecn == Ecn::Ce),
            len: u32::try_from(payload_len).unwrap_or(u32::MAX),
        };
        let place = self.find(&tuple);
        if place.is_none() && siblings > 0 && !header.flags.contains(Flags::SYN) {
            return self.pass_on(found.iface, &packet, siblings - 1);
        }
        let mut payload = packet;
        payload.trim_front(u32::try_from(found.l4_at + header_len).unwrap_or(u32::MAX));
        payload.truncate(segment.len);
        match place {
            Some(Place::Socket(index)) => self.on_socket(now, index, &segment, payload, env),
            Some(Place::HalfOpen(index)) => {
                self.on_half_open(now, index, &segment, payload, env);
            }
            Some(Place::TimeWait(index)) => self.on_time_wait(now, index, &segment, env),
            None => self.on_unknown(now, &tuple, &segment, None, env),
        }
    }

    /// A segment for a connection.
    pub(crate) fn on_socket<N: Output>(
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
        let answer = socket.on_segment(now, *segment, payload, &mut self.core, env.pages);
        if let Some(header) = answer {
            self.core.answer(now, &tuple, &header, env);
        }
    }

    /// An ICMP error about a segment of ours.
    pub(crate) fn on_icmp_error(&mut self, now: Instant, error: &IcmpError) {
        let Some(Place::Socket(index)) = self.find(&error.flow) else {
            return;
        };
        let core = &mut self.core;
        let Some(socket) = self
            .sockets
            .get_mut(index)
            .filter(|socket| !socket.flags.over)
        else {
            return;
        };
        let kind = match error.kind {
            IcmpErrorKind::TooBig(mtu) => {
                socket.tcp.on_too_big(now, error.seq, mtu, &mut core.tcp);
                core.make_ready(socket);
                return;
            }
            IcmpErrorKind::Unreachable { hard: true, .. } => Unreachable::Hard,
            IcmpErrorKind::Unreachable { hard: false, .. }
            | IcmpErrorKind::TimeExceeded
            | IcmpErrorKind::ParameterProblem => Unreachable::Soft,
        };
        let event = socket.tcp.on_unreachable(error.seq, kind, &mut core.tcp);
        socket.on_event(event, core);
        core.make_ready(socket);
    }

    pub(crate) fn find(&self, tuple: &FourTuple) -> Option<Place> {
        self.flows.find(self.flows.hash(tuple), |place| {
            let found = match place {
                Place::Socket(index) => self.sockets.get(index).map(|s| &s.tuple),
                Place::HalfOpen(index) => self.half_open.get(index).map(|h| &h.tuple),
                Place::TimeWait(index) => self.time_wait.get(index).map(|w| &w.tuple),
            };
            found == Some(tuple)
        })
    }
}

/// Whether the segment's checksum is right, by what the port says or by our own sum.
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
