//! Listeners, and connections from their SYN to their socket.

use core::net::SocketAddr;

use lockgate_tcp::{
    Connection, HalfOpen, HalfOpenTimer, HalfOpenVerdict, OpenParams, SegmentIn, reset_for,
};
use lockgate_wire::{Endpoint, FourTuple, Instant, SeqNum, ipv4, ipv6, tcp};
use pktbuf::{Buffer, Output, Stream};

use super::Stack;
use crate::config::{ListenConfig, ListenError};
use crate::demux::FlowTarget;
use crate::env::Env;
use crate::half_open::HalfOpenEntry;
use crate::notice::{ListenerId, Notice, SocketId};
use crate::socket::{HandshakeState, OpenedBy, Rx, Socket};

impl Stack {
    /// Accepts connections to an address of one of the interfaces.
    ///
    /// # Errors
    /// If no interface has the address, the port is 0, or there is a listener already.
    pub fn listen(
        &mut self,
        at: SocketAddr,
        config: ListenConfig,
    ) -> Result<ListenerId, ListenError> {
        if at.port() == 0 || !self.egress.ip.interfaces().is_local(at.ip()) {
            return Err(ListenError::NotLocal);
        }
        if self.listeners.find(&Endpoint::from(at)).is_some() {
            return Err(ListenError::InUse);
        }
        Ok(self.listeners.add(at.into(), config))
    }

    /// Stops accepting at one listener. Its connections stay.
    pub fn unlisten(&mut self, listener: ListenerId) {
        self.listeners.stop(listener);
    }

    /// Handles a segment that belongs to no known connection: opens one, or answers by a reset.
    pub(super) fn on_unmatched_segment<N: Output>(
        &mut self,
        now: Instant,
        tuple: &FourTuple,
        segment: &SegmentIn<'_>,
        isn_after: Option<SeqNum>,
        env: &mut Env<'_, N>,
    ) {
        let Some(listener) = self.listeners.find(&tuple.local) else {
            self.cx.counters.no_connection += 1;
            if let Some(reset) = reset_for(segment) {
                self.send_reset(now, tuple, &reset, env);
            }
            return;
        };
        let opening = self.opening(now, tuple, isn_after);
        match HalfOpen::on_syn(now, segment, &opening, &self.cx.tcp) {
            Some((state, syn_ack)) => {
                if self.add_half_open(tuple, listener, state) {
                    self.reply(now, tuple, &syn_ack, env);
                }
            }
            None => {
                if let Some(reset) = HalfOpen::refuse(segment) {
                    self.send_reset(now, tuple, &reset, env);
                }
            }
        }
    }

    /// Handles a segment for a half-open connection.
    pub(super) fn on_half_open<N: Output>(
        &mut self,
        now: Instant,
        index: u32,
        segment: &SegmentIn<'_>,
        payload: Buffer,
        env: &mut Env<'_, N>,
    ) {
        let Some(entry) = self.half_open.get_mut(index) else {
            return;
        };
        let tuple = entry.tuple;
        match entry.state.on_segment(now, segment, &mut self.cx.tcp) {
            HalfOpenVerdict::Drop => {}
            HalfOpenVerdict::Reply(header) => {
                self.reply(now, &tuple, &header, env);
            }
            HalfOpenVerdict::Reset(reset) => self.send_reset(now, &tuple, &reset, env),
            HalfOpenVerdict::Closed => self.remove_half_open(index),
            HalfOpenVerdict::Established(mut tcp) => {
                let (listener, hash) = (entry.listener, entry.hash);
                if !self.listeners.is_accepting(listener) {
                    let reset = tcp.abort(&mut self.cx.tcp);
                    self.remove_half_open(index);
                    if let Some(reset) = reset {
                        self.send_reset(now, &tuple, &reset, env);
                    }
                    return;
                }
                if self.sockets.is_full() && !self.reclaim_connection(now, env) {
                    // The peer retransmits, and there may be room by then.
                    self.cx.counters.accept_dropped += 1;
                    return;
                }
                self.remove_half_open(index);
                if let Some(socket) = self.accept(now, &tuple, hash, listener, tcp) {
                    self.on_socket_segment(now, socket.index, segment, payload, env);
                }
            }
        }
    }

    /// Retransmits a half-open connection's SYN-ACK, or gives the connection up.
    pub(super) fn on_half_open_timer<N: Output>(
        &mut self,
        now: Instant,
        index: u32,
        env: &mut Env<'_, N>,
    ) {
        let Some(entry) = self.half_open.get_mut(index) else {
            return;
        };
        let tuple = entry.tuple;
        let verdict = entry.state.on_timer(now, &mut self.cx.tcp);
        let deadline = entry.state.deadline();
        match verdict {
            HalfOpenTimer::NotYet => {}
            HalfOpenTimer::Retransmit(syn_ack) => {
                self.reply(now, &tuple, &syn_ack, env);
            }
            HalfOpenTimer::GiveUp => {
                self.cx.counters.half_open_timed_out += 1;
                self.remove_half_open(index);
                return;
            }
        }
        let timer = self.timer_of(FlowTarget::HalfOpen(index));
        self.wheel.set(timer, Some(deadline));
    }

    /// The parameters that a new connection begins with. With `isn_after`, a TIME-WAIT entry's last
    /// sequence number, the initial sequence number is above that.
    pub(super) fn opening(
        &self,
        now: Instant,
        tuple: &FourTuple,
        isn_after: Option<SeqNum>,
    ) -> OpenParams {
        let ipv6 = tuple.local.addr.is_ipv6();
        let ip = &self.egress.ip;
        let mtu = ip
            .route(tuple.remote.addr, None)
            .and_then(|hop| ip.interfaces().interface(hop.iface))
            .map_or(MTU_MIN, |interface| usize::from(interface.mtu));
        let ip_header_len = if ipv6 {
            ipv6::HEADER_LEN
        } else {
            ipv4::HEADER_LEN
        };
        let mss = mtu.saturating_sub(ip_header_len + tcp::HEADER_LEN);
        let isn = self.isn.isn(now, tuple);
        OpenParams {
            local_port: tuple.local.port,
            remote_port: tuple.remote.port,
            ipv6,
            mss: u16::try_from(mss).unwrap_or(u16::MAX),
            isn: match isn_after {
                Some(after) if !isn.after(after) => after + 1,
                Some(_) | None => isn,
            },
            ts_offset: self.isn.timestamp_offset(tuple),
        }
    }

    /// Makes a socket of a half-open connection.
    fn accept(
        &mut self,
        now: Instant,
        tuple: &FourTuple,
        hash: u32,
        listener: u32,
        mut tcp: Connection,
    ) -> Option<SocketId> {
        let config = self.listeners.get(listener)?;
        tcp.set_nodelay(!config.nagle);
        let rx = match &config.tls {
            Some(tls) => {
                let deadline = now + self.config.handshake_timeout;
                let group = self.peer_group(tuple.remote.addr);
                Rx::Handshake(HandshakeState::server(now, tls.clone(), deadline, group))
            }
            None => Rx::Plain(Stream::new()),
        };
        let socket = self.add_socket(Socket::new(*tuple, hash, tcp, rx, OpenedBy::Peer))?;
        self.cx.counters.accepted += 1;
        self.cx.notices.push(Notice::Accepted {
            socket,
            listener: ListenerId(listener),
            remote: tuple.remote.into(),
        });
        Some(socket)
    }

    /// Adds a half-open connection, or returns false if none may be kept. A full backlog evicts the
    /// listener's oldest entry, a full table the oldest entry of the listener that has the most.
    fn add_half_open(&mut self, tuple: &FourTuple, listener: u32, state: HalfOpen) -> bool {
        let backlog = self.listeners.get(listener).map_or(0, |l| l.backlog);
        let own = self.half_open.len_of(listener);
        if own > 0 && own >= backlog {
            self.cx.counters.half_open_evicted_backlog += 1;
            self.evict_half_open_of(listener);
        } else if self.half_open.is_full() {
            let largest = self.half_open.largest_listener();
            let is_own = largest.is_none_or(|largest| self.half_open.len_of(largest) == own);
            self.evict_half_open_of(largest.filter(|_| !is_own).unwrap_or(listener));
        }
        let hash = self.flows.hash(tuple);
        let deadline = state.deadline();
        let Some(index) = self.half_open.insert(HalfOpenEntry {
            tuple: *tuple,
            hash,
            listener,
            state,
        }) else {
            self.cx.counters.syn_dropped += 1;
            return false;
        };
        let target = FlowTarget::HalfOpen(index);
        self.flows.insert(hash, target);
        self.wheel.set(self.timer_of(target), Some(deadline));
        true
    }

    /// Evicts the oldest entry of a listener.
    fn evict_half_open_of(&mut self, listener: u32) {
        if let Some((index, entry)) = self.half_open.evict_oldest_of(listener) {
            self.cx.counters.half_open_evicted += 1;
            self.on_half_open_removed(index, &entry);
        }
    }

    fn remove_half_open(&mut self, index: u32) {
        if let Some(entry) = self.half_open.remove(index) {
            self.on_half_open_removed(index, &entry);
        }
    }

    /// Takes an entry that was removed from the table out of everything else.
    fn on_half_open_removed(&mut self, index: u32, entry: &HalfOpenEntry) {
        let target = FlowTarget::HalfOpen(index);
        self.wheel.set(self.timer_of(target), None);
        self.flows.remove(entry.hash, target);
    }

    /// Sends a reset for a segment that no connection takes, unless too many were sent.
    pub(super) fn send_reset<N: Output>(
        &mut self,
        now: Instant,
        tuple: &FourTuple,
        reset: &tcp::TcpHeader,
        env: &mut Env<'_, N>,
    ) {
        if self.resets.take(now) {
            let sent = self.reply(now, tuple, reset, env);
            self.cx.counters.resets_out += u64::from(sent);
        } else {
            self.cx.counters.resets_limited += 1;
        }
    }

    /// Sends a segment without payload at once. Returns whether it was handed over.
    fn reply<N: Output>(
        &mut self,
        now: Instant,
        tuple: &FourTuple,
        header: &tcp::TcpHeader,
        env: &mut Env<'_, N>,
    ) -> bool {
        self.egress
            .reply(now, tuple, header, &mut self.cx.counters, env)
    }
}

/// What every IPv4 host takes.
const MTU_MIN: usize = 576;
