//! Handling of received ICMP messages (echo, errors, neighbour discovery), and sending of errors.

use lockgate_wire::icmpv4::{Echo, Icmpv4Message};
use lockgate_wire::icmpv6::Icmpv6Message;
use lockgate_wire::ip::IpProtocol;
use lockgate_wire::{IfaceId, Instant, MacAddr, ParseError, ipv4, ipv6};

use crate::frame::{DEFAULT_HOP_LIMIT, FrameHeader, IpPair, LinkHeader};
use crate::icmp::{self, IcmpError};
use crate::ingress::{IpPacket, RejectReason};
use crate::layer::{DispatchOutcome, IpLayer, Transmit};

/// The outcome of an ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpOutcome {
    /// Nothing more to do.
    Done,
    /// A reply was written: send it.
    Reply(Transmit),
    /// An error for a connection, which has to check the sequence number.
    Error(IcmpError),
}

impl IpLayer {
    /// Handles an ICMP message, and writes a reply into `out`.
    ///
    /// `message` is the whole upper-layer part, contiguous. `out` should have room for the
    /// interface's MTU and an Ethernet header; a reply that doesn't fit is dropped and counted.
    pub fn on_icmp(
        &mut self,
        now: Instant,
        packet: &IpPacket,
        message: &[u8],
        out: &mut [u8],
    ) -> IcmpOutcome {
        let outcome = match packet.addrs {
            IpPair::V4 { dst, .. } => match Icmpv4Message::parse(message) {
                Ok(Icmpv4Message::EchoRequest(echo)) => {
                    self.on_echo(now, packet, echo, out).map(IcmpOutcome::Reply)
                }
                Ok(Icmpv4Message::EchoReply(_)) => self.ignore(),
                Ok(error) => self.on_error(icmp::error_v4(dst, &error)),
                Err(e) => self.on_bad_message(e),
            },
            IpPair::V6 { src, dst } => match Icmpv6Message::parse(src, dst, message) {
                Ok(m) if m.is_neighbor_discovery() => self
                    .on_discovery(now, packet, &m, Some(out))
                    .map(IcmpOutcome::Reply),
                // Only neighbour discovery may have the unspecified source.
                Ok(_) if src.is_unspecified() => self.on_bad_message(ParseError::Field),
                Ok(Icmpv6Message::EchoRequest(echo)) => {
                    self.on_echo(now, packet, echo, out).map(IcmpOutcome::Reply)
                }
                Ok(Icmpv6Message::EchoReply(_)) => self.ignore(),
                Ok(error) => self.on_error(icmp::error_v6(dst, &error)),
                Err(e) => self.on_bad_message(e),
            },
        };
        outcome.unwrap_or(IcmpOutcome::Done)
    }

    /// Returns the ICMP error of a message that another layer of the same host has received,
    /// checked and counted.
    pub fn moved_error(&self, packet: &IpPacket, message: &[u8]) -> Option<IcmpError> {
        match packet.addrs {
            IpPair::V4 { dst, .. } => icmp::error_v4(dst, &Icmpv4Message::parse(message).ok()?),
            IpPair::V6 { src, dst } => {
                icmp::error_v6(dst, &Icmpv6Message::parse(src, dst, message).ok()?)
            }
        }
    }

    /// Writes an ICMP error about a packet into `out`, if the RFCs and the rate limit allow it.
    ///
    /// `packet_bytes` begin with the packet's IP header: as many as are contiguous.
    pub fn reject(
        &mut self,
        now: Instant,
        packet: &IpPacket,
        refusal: RejectReason,
        packet_bytes: &[u8],
        out: &mut [u8],
    ) -> Option<Transmit> {
        let len = (packet.l4_at - packet.l3_at).saturating_add(packet.l4_len);
        let packet_bytes = &packet_bytes[..packet_bytes.len().min(len)];
        let message = packet_bytes
            .get(packet.l4_at - packet.l3_at..)
            .unwrap_or_default();
        if !icmp::may_send_error(packet, refusal, message) {
            self.counters.icmp.errors_forbidden += 1;
            return None;
        }
        if !self.error_limit.take(now) {
            self.counters.icmp.errors_limited += 1;
            return None;
        }
        let addrs = self.answer_addrs(packet)?;
        let sent = match addrs {
            IpPair::V4 { .. } => {
                let m = icmp::error_about_v4(refusal, packet_bytes);
                self.send_message(now, packet.iface, addrs, m.emitted_len(), out, |at| {
                    m.emit(at)
                })
            }
            IpPair::V6 { src, dst } => {
                let m = icmp::error_about_v6(refusal, packet_bytes);
                let len = m.emitted_len();
                self.send_message(now, packet.iface, addrs, len, out, |at| {
                    m.emit(src, dst, at)
                })
            }
        };
        self.counters.icmp.errors_out += u64::from(sent.is_some());
        sent
    }

    /// Answers an echo request.
    fn on_echo(
        &mut self,
        now: Instant,
        packet: &IpPacket,
        echo: Echo<'_>,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let header_len = if packet.addrs.is_ipv6() {
            ipv6::HEADER_LEN
        } else {
            ipv4::HEADER_LEN
        };
        let mtu = self
            .interfaces
            .interface(packet.iface)
            .map_or(0, |i| usize::from(i.mtu));
        if header_len + packet.l4_len > mtu {
            self.counters.icmp.echo_too_big += 1;
            return None;
        }
        if !self.echo_limit.take(now) {
            self.counters.icmp.echo_limited += 1;
            return None;
        }
        let addrs = self.answer_addrs(packet)?;
        let sent = match addrs {
            IpPair::V4 { .. } => {
                let m = Icmpv4Message::EchoReply(echo);
                self.send_message(now, packet.iface, addrs, m.emitted_len(), out, |at| {
                    m.emit(at)
                })
            }
            IpPair::V6 { src, dst } => {
                let m = Icmpv6Message::EchoReply(echo);
                let len = m.emitted_len();
                self.send_message(now, packet.iface, addrs, len, out, |at| {
                    m.emit(src, dst, at)
                })
            }
        };
        self.counters.icmp.echo_replies_out += u64::from(sent.is_some());
        sent
    }

    fn on_error(&mut self, error: Option<IcmpError>) -> Option<IcmpOutcome> {
        match error {
            Some(_) => self.counters.icmp.errors_in += 1,
            None => self.counters.icmp.errors_ignored += 1,
        }
        error.map(IcmpOutcome::Error)
    }

    fn on_bad_message(&mut self, error: ParseError) -> Option<IcmpOutcome> {
        let counters = &mut self.counters.icmp;
        match error {
            ParseError::Checksum => counters.bad_checksum += 1,
            ParseError::Unsupported => counters.ignored += 1,
            ParseError::Truncated
            | ParseError::Version
            | ParseError::Length
            | ParseError::Field => counters.bad_message += 1,
        }
        None
    }

    fn ignore(&mut self) -> Option<IcmpOutcome> {
        self.counters.icmp.ignored += 1;
        None
    }

    /// Returns source and destination of a reply to `packet`. The source is the address it was sent
    /// to, or, if that was a group, one of the interface's.
    fn answer_addrs(&mut self, packet: &IpPacket) -> Option<IpPair> {
        let addrs = packet.addrs.reversed();
        if !packet.is_group {
            return Some(addrs);
        }
        let src = self.interfaces.source_for(packet.iface, addrs.dst());
        let addrs = src.and_then(|src| IpPair::new(src, addrs.dst()));
        self.counters.icmp.unsendable += u64::from(addrs.is_none());
        addrs
    }

    /// Writes a frame with an ICMP message into `out` and dispatches it. Returns `None` if it waits
    /// for its neighbour or can't be sent.
    fn send_message(
        &mut self,
        now: Instant,
        on: IfaceId,
        addrs: IpPair,
        message_len: usize,
        out: &mut [u8],
        emit: impl FnOnce(&mut [u8]) -> usize,
    ) -> Option<Transmit> {
        let sent = self.route(addrs.dst(), Some(on)).and_then(|hop| {
            let link = self.link_to(hop.iface, MacAddr::ZERO);
            let len = write_message(link, addrs, DEFAULT_HOP_LIMIT, message_len, out, emit)?;
            Some((hop, len))
        });
        let Some((hop, len)) = sent else {
            self.counters.icmp.unsendable += 1;
            return None;
        };
        match self.dispatch(now, hop, &mut out[..len]) {
            DispatchOutcome::Send => Some(Transmit {
                iface: hop.iface,
                len,
                solicits: None,
            }),
            DispatchOutcome::Queued | DispatchOutcome::Dropped => None,
        }
    }
}

/// Writes a frame with an ICMP message. Returns its length; `None` if it doesn't fit in `out`.
pub(crate) fn write_message(
    link: Option<LinkHeader>,
    addrs: IpPair,
    hop_limit: u8,
    message_len: usize,
    out: &mut [u8],
    emit: impl FnOnce(&mut [u8]) -> usize,
) -> Option<usize> {
    let protocol = if addrs.is_ipv6() {
        IpProtocol::ICMPV6
    } else {
        IpProtocol::ICMP
    };
    let payload_len = u16::try_from(message_len).ok()?;
    let header = FrameHeader {
        hop_limit,
        ..FrameHeader::new(link, addrs, protocol, payload_len)
    };
    let len = header.emitted_len() + message_len;
    let out = out.get_mut(..len)?;
    let at = header.emit(out);
    emit(&mut out[at..]);
    Some(len)
}
