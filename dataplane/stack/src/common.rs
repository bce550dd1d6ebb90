//! What all sockets of a worker work with, and the lists that say which of them have work.

use core::net::IpAddr;
use std::collections::VecDeque;

use lockgate_ip::{Dispatch, FrameMeta, IpLayer, Lookup, NeighbourEvent, NextHop};
use lockgate_ktls::Version;
use lockgate_tcp::{IsnSource, Shared};
use lockgate_wire::tcp::TcpHeader;
use lockgate_wire::{FourTuple, IfaceId, Instant, MacAddr};
use pktbuf::{
    Buffer, Checksum, Headers, Info, LARGE_CAPACITY, Output, Packet, PageBuf, PagePool, PoolUsage,
    Slice, TxMeta,
};

use crate::Env;
use crate::arrivals::Arrivals;
use crate::config::Limits;
use crate::counters::Counters;
use crate::egress::{Path, segment_headers};
use crate::notice::{CloseReason, Notice};
use crate::siblings::SiblingFrame;
use crate::socket::{RECORD_BYTES_MAX, Socket};
use crate::tls::Failure;

/// Everything of a stack that isn't a table of connections.
pub(crate) struct Core {
    pub(crate) tcp: Shared,
    pub(crate) ip: IpLayer,
    pub(crate) isn: IsnSource,
    pub(crate) limits: Limits,
    pub(crate) ktls_enabled: bool,
    pub(crate) record_len_max: u16,
    pub(crate) counters: Counters,
    pub(crate) notices: VecDeque<Notice>,
    /// What the other workers should hear of.
    pub(crate) heard: VecDeque<SiblingFrame>,
    /// Sockets that have something to do, in order of their turns.
    pub(crate) ready: VecDeque<u32>,
    /// Handshakes that can take a step, in order of their turns.
    pub(crate) stepping: VecDeque<u32>,
    /// Handshakes that wait for another to end.
    pub(crate) queueing: Arrivals,
    /// Handshakes that have state in the TLS library.
    pub(crate) handshakes: u32,
    pub(crate) starved: Starved,
    /// Memory that received and unread bytes of all sockets pin.
    pub(crate) pinned: u64,
    /// Sockets that wait for a neighbour's address.
    pub(crate) unresolved: VecDeque<u32>,
    /// A page buffer kept back for opening a received record. Two hosts whose pools are full of
    /// what they have to send each other, and that can't read for want of a buffer, would wait
    /// for each other forever.
    reserve: Option<PageBuf>,
    /// Memory for one record of a handshake, or one small frame.
    pub(crate) scratch: Box<[u8]>,
}

/// Sockets that wait for memory.
#[derive(Debug, Default)]
pub(crate) struct Starved {
    pub(crate) list: VecDeque<u32>,
    /// What was in use when the last one was added: they are tried again when that gets less, and
    /// now and then.
    usage: PoolUsage,
    ranges: u32,
    retry_at: Option<Instant>,
}

impl Core {
    pub(crate) fn new(
        tcp: Shared,
        ip: IpLayer,
        isn: IsnSource,
        limits: Limits,
        ktls_enabled: bool,
        record_len_max: u16,
    ) -> Self {
        Self {
            tcp,
            ip,
            isn,
            limits,
            ktls_enabled,
            record_len_max,
            counters: Counters::default(),
            notices: VecDeque::new(),
            heard: VecDeque::new(),
            ready: VecDeque::new(),
            stepping: VecDeque::new(),
            queueing: Arrivals::default(),
            handshakes: 0,
            starved: Starved::default(),
            pinned: 0,
            unresolved: VecDeque::new(),
            reserve: None,
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
        }
    }

    /// Whether more may be taken out of the pool for sending: not before the reserve is there.
    pub(crate) fn has_reserve(&mut self, pages: &mut PagePool) -> bool {
        if self.reserve.is_none() {
            self.reserve = pages.alloc(LARGE_CAPACITY);
        }
        self.reserve.is_some()
    }

    /// Gives the reserve back to the pool, for a reader or because nobody is left; whether there
    /// was one.
    pub(crate) fn release_reserve(&mut self) -> bool {
        self.reserve.take().is_some()
    }

    /// Lists a socket for its turn.
    pub(crate) fn make_ready(&mut self, socket: &mut Socket) {
        if !core::mem::replace(&mut socket.flags.ready, true) {
            self.ready.push_back(socket.id.index);
        }
    }

    /// Whether one more handshake may get state in the TLS library.
    pub(crate) fn may_begin(&self) -> bool {
        self.handshakes < self.limits.handshakes_max
    }

    /// Whether a handshake can be taken a step further.
    pub(crate) fn has_steps(&self) -> bool {
        !self.stepping.is_empty() || (self.may_begin() && !self.queueing.is_empty())
    }

    /// Lists a socket whose handshake can take a step.
    pub(crate) fn make_stepping(&mut self, socket: &mut Socket) {
        if !core::mem::replace(&mut socket.flags.stepping, true) {
            self.stepping.push_back(socket.id.index);
        }
    }

    /// Lists a socket that needs memory to go on.
    pub(crate) fn make_starved(&mut self, socket: &mut Socket) {
        if !core::mem::replace(&mut socket.flags.starved, true) {
            self.counters.starved += 1;
            self.starved.list.push_back(socket.id.index);
        }
    }

    /// Lists a socket that waits for its neighbour.
    pub(crate) fn make_unresolved(&mut self, socket: &mut Socket) {
        if !core::mem::replace(&mut socket.flags.unresolved, true) {
            self.counters.waited_for_neighbour += 1;
            self.unresolved.push_back(socket.id.index);
        }
    }

    /// How many sockets at the front of their list may go on because there may be memory again.
    pub(crate) fn fed(&mut self, now: Instant, pages: &PagePool) -> usize {
        if self.starved.list.is_empty() {
            return 0;
        }
        let (usage, ranges) = (pages.usage(), self.tcp.ranges_used());
        let before = core::mem::replace(&mut self.starved.usage, usage);
        let freed = usage.blocks_used < before.blocks_used
            || usage.small_spans_used < before.small_spans_used
            || usage.large_spans_used < before.large_spans_used
            || core::mem::replace(&mut self.starved.ranges, ranges) > ranges;
        let due = self.starved.retry_at.is_none_or(|at| now >= at);
        if !freed && !due {
            return 0;
        }
        self.starved.retry_at = Some(now + STARVED_RETRY);
        self.starved.list.len()
    }

    /// When starved sockets are tried again even if nothing was freed here.
    pub(crate) fn starved_deadline(&self) -> Option<Instant> {
        let waiting = !self.starved.list.is_empty();
        waiting.then(|| self.starved.retry_at.unwrap_or(Instant::ZERO))
    }

    /// How many sockets at the front of their list wait for a neighbour that may have been found,
    /// or lost. They look again as well whenever the neighbour table had something to do: it may
    /// have had more events than it could keep.
    pub(crate) fn resolved(&mut self, now: Instant) -> usize {
        let mut any = self.ip.deadline().is_some_and(|at| at <= now);
        while let Some(NeighbourEvent::Resolved(..) | NeighbourEvent::Unreachable(_)) =
            self.ip.poll_event()
        {
            any = true;
        }
        if any { self.unresolved.len() } else { 0 }
    }

    /// The way to `remote`; none while its next hop is being asked.
    pub(crate) fn path<N: Output>(
        &mut self,
        now: Instant,
        remote: IpAddr,
        confirmed: bool,
        net: &N,
    ) -> Option<Path> {
        let Some(hop) = self.ip.route(remote, None) else {
            return Some(Path::NOWHERE);
        };
        if confirmed {
            self.ip.confirm(now, hop);
        }
        let Info {
            entries_max,
            tso_bytes_max,
            link_up,
            ..
        } = net.info(hop.iface);
        let mac = match self.ip.lookup(now, hop) {
            Lookup::Resolved(mac) => mac,
            Lookup::Pending => return None,
            Lookup::Unreachable => return Some(Path::NOWHERE),
        };
        Some(Path {
            iface: hop.iface,
            link: self.ip.link_to(hop.iface, mac),
            entries_max: entries_max.max(2),
            tso_bytes_max,
            reachable: link_up,
        })
    }

    /// Sends a segment without payload at once. If it can't go, it's lost: the peer will ask again.
    pub(crate) fn answer<N: Output>(
        &mut self,
        now: Instant,
        tuple: &FourTuple,
        header: &TcpHeader,
        env: &mut Env<'_, N>,
    ) {
        let Some(hop) = self.ip.route(tuple.remote.addr, None) else {
            self.counters.answers_lost += 1;
            return;
        };
        let path = Path {
            iface: hop.iface,
            link: self.ip.link_to(hop.iface, MacAddr::ZERO),
            ..Path::BARE
        };
        let Some((mut head, _)) = segment_headers(&path, tuple, header, 0) else {
            self.counters.answers_lost += 1;
            return;
        };
        if pktbuf::gso::finish_checksum(&mut head, &[]).is_err() {
            self.counters.answers_lost += 1;
            return;
        }
        self.dispatch(now, hop, &mut head, env);
    }

    fn dispatch<N: Output>(
        &mut self,
        now: Instant,
        hop: NextHop,
        head: &mut Headers,
        env: &mut Env<'_, N>,
    ) {
        match self.ip.dispatch(now, hop, head.bytes_mut()) {
            Dispatch::Send => {
                let meta = TxMeta {
                    iface: hop.iface,
                    ..TxMeta::default()
                };
                self.send_small(
                    &Packet {
                        head,
                        payload: &[],
                        meta,
                    },
                    env.net,
                );
            }
            Dispatch::Queued => {}
            Dispatch::Dropped => self.counters.answers_lost += 1,
        }
    }

    /// Sends what the IP layer has written into the scratch memory.
    pub(crate) fn send_scratch<N: Output>(
        &mut self,
        iface: IfaceId,
        len: usize,
        env: &mut Env<'_, N>,
    ) {
        let frame = self.scratch.get(..len).unwrap_or_default();
        let (first, rest) = frame.split_at(len.min(usize::from(FIRST_BYTES)));
        let mut head = Headers::new(u8::try_from(first.len()).unwrap_or(FIRST_BYTES), 0, 0);
        head.bytes_mut().copy_from_slice(first);
        let meta = TxMeta {
            iface,
            ..TxMeta::default()
        };
        if rest.is_empty() {
            return self.send_small(
                &Packet {
                    head: &head,
                    payload: &[],
                    meta,
                },
                env.net,
            );
        }
        let size = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let Some(mut page) = env.pages.alloc(size) else {
            self.counters.answers_lost += 1;
            return;
        };
        page.append(rest);
        let payload = [Slice {
            buf: &page,
            at: 0,
            len: page.len(),
        }];
        self.send_small(
            &Packet {
                head: &head,
                payload: &payload,
                meta,
            },
            env.net,
        );
    }

    /// Questions to neighbours, and frames that waited for them.
    pub(crate) fn send_ip_frames<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) {
        while let Some(sent) = self.ip.poll_transmit(now, &mut self.scratch) {
            self.send_scratch(sent.iface, sent.len, env);
        }
    }

    /// Doesn't ask for room: where connections take all there is, there would never be any.
    fn send_small<N: Output>(&mut self, packet: &Packet<'_>, net: &mut N) {
        if net.tx(*packet).is_ok() {
            self.counters.packets_out += 1;
        } else {
            self.counters.answers_lost += 1;
        }
    }

    pub(crate) fn count_end(&mut self, reason: CloseReason) {
        let counters = &mut self.counters;
        *match reason {
            CloseReason::Clean => &mut counters.end_clean,
            CloseReason::Truncated => &mut counters.end_truncated,
            CloseReason::Reset => &mut counters.end_reset,
            CloseReason::Refused => &mut counters.end_refused,
            CloseReason::TimedOut => &mut counters.end_timed_out,
            CloseReason::Aborted => &mut counters.end_aborted,
            CloseReason::Drained => &mut counters.end_drained,
            CloseReason::Handshake(_) => &mut counters.end_handshake,
            CloseReason::Tls(_) => &mut counters.end_tls,
            CloseReason::Crypto => &mut counters.end_crypto,
        } += 1;
    }

    pub(crate) fn count_handshake(&mut self, version: Version, resumed: bool) {
        match version {
            Version::Tls12 => self.counters.handshakes_tls12 += 1,
            Version::Tls13 => self.counters.handshakes_tls13 += 1,
        }
        self.counters.handshakes_resumed += u64::from(resumed);
    }

    pub(crate) fn count_failed_handshake(&mut self, failure: Failure) {
        let counters = &mut self.counters;
        counters.handshakes_failed += 1;
        *match failure {
            Failure::PeerAlert(_) => &mut counters.handshakes_failed_peer_alert,
            Failure::PeerClosed => &mut counters.handshakes_failed_peer_closed,
            Failure::Incompatible => &mut counters.handshakes_failed_incompatible,
            Failure::BadCertificate => &mut counters.handshakes_failed_certificate,
            Failure::Misbehaved | Failure::Malformed | Failure::TooLong => {
                &mut counters.handshakes_failed_protocol
            }
            Failure::TimedOut => &mut counters.handshakes_failed_timeout,
            Failure::Internal => &mut counters.handshakes_failed_internal,
        } += 1;
    }
}

/// What the IP layer wants to know about a received frame.
pub(crate) fn frame_meta(packet: &Buffer) -> FrameMeta {
    FrameMeta {
        len: packet.len() as usize,
        ip_checksum_good: packet.ip_checksum() == Checksum::Good,
        vlan: packet.vlan(),
    }
}

const STARVED_RETRY: core::time::Duration = core::time::Duration::from_millis(1);
/// How much of a small frame goes where headers go.
const FIRST_BYTES: u8 = 128;
const SCRATCH_BYTES: usize = RECORD_BYTES_MAX;
const _: () = assert!(FIRST_BYTES as usize <= Headers::CAPACITY);
