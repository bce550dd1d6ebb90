//! Listeners, and connections on their way to being one.

use std::sync::Arc;

use hashbrown::HashMap;
use lockgate_tcp::{
    HalfOpen, HalfOpenTimer, HalfOpenVerdict, Opening, SegmentIn, TimeWaitVerdict, reset_for,
};
use lockgate_wire::{Endpoint, FourTuple, Instant, SeqNum, ipv4, ipv6, tcp};
use pktbuf::{Buffer, Output, Stream};

use crate::Env;
use crate::arrivals::Arrivals;
use crate::demux::Place;
use crate::notice::{ListenerId, Notice, SocketId};
use crate::slab::Entry;
use crate::socket::{Rx, Shaking, Socket};
use crate::stack::{Half, Stack};
use crate::tls::TlsServer;

/// All listeners, and what is answered where there is none.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) list: Vec<Listener>,
    /// Those that accept.
    pub(crate) by_address: HashMap<Endpoint, u32>,
    /// Half-open connections in the order in which they came.
    order: Arrivals,
    resets_max: u32,
    resets_left: u32,
    resets_refill: Instant,
}

/// A listener. Its number is never given to another one.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) at: Endpoint,
    pub(crate) tls: Option<Arc<TlsServer>>,
    pub(crate) backlog: u32,
    pub(crate) nagle: bool,
    half_open: u32,
}

impl Listeners {
    pub(crate) fn new(resets_max: u32) -> Self {
        Self {
            list: Vec::new(),
            by_address: HashMap::new(),
            order: Arrivals::default(),
            resets_max,
            resets_left: resets_max,
            resets_refill: Instant::ZERO,
        }
    }

    pub(crate) fn add(&mut self, at: Endpoint, config: crate::ListenConfig) -> ListenerId {
        let index = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        let backlog = if config.backlog == 0 {
            u32::MAX
        } else {
            config.backlog
        };
        let (tls, nagle) = (config.tls, config.nagle);
        self.list.push(Listener {
            at,
            tls,
            backlog,
            nagle,
            half_open: 0,
        });
        self.by_address.insert(at, index);
        ListenerId(index)
    }

    pub(crate) fn remove(&mut self, ListenerId(index): ListenerId) {
        if self.accepts(index)
            && let Some(listener) = self.list.get(index as usize)
        {
            self.by_address.remove(&listener.at);
        }
    }

    /// Whether a listener hasn't been stopped.
    fn accepts(&self, index: u32) -> bool {
        let listener = self.list.get(index as usize);
        listener.is_some_and(|listener| self.by_address.get(&listener.at) == Some(&index))
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut Listener> {
        self.list.get_mut(index as usize)
    }

    /// Whether a reset may be sent: so many a second, in bursts of as many.
    fn may_reset(&mut self, now: Instant) -> bool {
        if now >= self.resets_refill {
            self.resets_refill = now + core::time::Duration::from_secs(1);
            self.resets_left = self.resets_max;
        }
        let may = self.resets_left > 0;
        self.resets_left = self.resets_left.saturating_sub(1);
        may
    }
}

impl Stack {
    /// A segment for no connection that is known.
    pub(crate) fn on_unknown<N: Output>(
        &mut self,
        now: Instant,
        tuple: &FourTuple,
        segment: &SegmentIn<'_>,
        isn_after: Option<SeqNum>,
        env: &mut Env<'_, N>,
    ) {
        let Some(&listener) = self.listeners.by_address.get(&tuple.local) else {
            self.core.counters.no_connection += 1;
            if let Some(reset) = reset_for(segment) {
                if self.listeners.may_reset(now) {
                    self.core.counters.resets_out += 1;
                    self.core.answer(now, tuple, &reset, env);
                } else {
                    self.core.counters.resets_limited += 1;
                }
            }
            return;
        };
        let opening = self.opening(now, tuple, isn_after);
        match HalfOpen::on_syn(now, segment, &opening, &self.core.tcp) {
            Some((state, syn_ack)) => {
                if self.add_half_open(tuple, listener, state) {
                    self.core.answer(now, tuple, &syn_ack, env);
                }
            }
            None => {
                if let Some(reset) = HalfOpen::refuse(segment)
                    && self.listeners.may_reset(now)
                {
                    self.core.counters.resets_out += 1;
                    self.core.answer(now, tuple, &reset, env);
                }
            }
        }
    }

    /// A segment for a half-open connection.
    pub(crate) fn on_half_open<N: Output>(
        &mut self,
        now: Instant,
        index: u32,
        segment: &SegmentIn<'_>,
        payload: Buffer,
        env: &mut Env<'_, N>,
    ) {
        let Some(half) = self.half_open.get_mut(index) else {
            return;
        };
        let tuple = half.tuple;
        match half.state.on_segment(now, segment, &mut self.core.tcp) {
            HalfOpenVerdict::Drop => {}
            HalfOpenVerdict::Reply(header) | HalfOpenVerdict::Reset(header) => {
                self.core.answer(now, &tuple, &header, env);
            }
            HalfOpenVerdict::Closed => self.forget_half_open(index),
            HalfOpenVerdict::Established(mut tcp) => {
                if !self.listeners.accepts(half.listener) {
                    // Nobody listens any more.
                    let reset = tcp.abort(&mut self.core.tcp);
                    self.forget_half_open(index);
                    if let Some(reset) = reset {
                        self.core.counters.resets_out += 1;
                        self.core.answer(now, &tuple, &reset, env);
                    }
                    return;
                }
                if self.sockets.is_full() {
                    // The peer sends again, and by then there may be a place.
                    self.core.counters.syn_dropped += 1;
                    return;
                }
                let (listener, hash) = (half.listener, half.hash);
                self.forget_half_open(index);
                if let Some(socket) = self.accept(now, &tuple, hash, listener, tcp) {
                    self.on_socket(now, socket.index, segment, payload, env);
                }
            }
        }
    }

    /// A segment for a connection in TIME-WAIT.
    pub(crate) fn on_time_wait<N: Output>(
        &mut self,
        now: Instant,
        index: u32,
        segment: &SegmentIn<'_>,
        env: &mut Env<'_, N>,
    ) {
        let Some(waiting) = self.time_wait.get_mut(index) else {
            return;
        };
        let tuple = waiting.tuple;
        match waiting.state.on_segment(now, segment, &mut self.core.tcp) {
            TimeWaitVerdict::Drop => {}
            TimeWaitVerdict::Reply(header) => {
                let deadline = waiting.state.deadline();
                self.wheel
                    .set(self.key_of(Place::TimeWait(index)), Some(deadline));
                self.core.answer(now, &tuple, &header, env);
            }
            TimeWaitVerdict::Reuse { isn_after } => {
                self.forget_time_wait(index);
                self.on_unknown(now, &tuple, segment, Some(isn_after), env);
            }
        }
    }

    pub(crate) fn half_open_timer<N: Output>(
        &mut self,
        now: Instant,
        index: u32,
        env: &mut Env<'_, N>,
    ) {
        let Some(half) = self.half_open.get_mut(index) else {
            return;
        };
        let tuple = half.tuple;
        let verdict = half.state.on_timer(now, &mut self.core.tcp);
        let deadline = half.state.deadline();
        match verdict {
            HalfOpenTimer::NotYet => {}
            HalfOpenTimer::Retransmit(syn_ack) => self.core.answer(now, &tuple, &syn_ack, env),
            HalfOpenTimer::GiveUp => {
                self.core.counters.half_open_timed_out += 1;
                self.forget_half_open(index);
                return;
            }
        }
        self.wheel
            .set(self.key_of(Place::HalfOpen(index)), Some(deadline));
    }

    /// What a new connection begins with.
    pub(crate) fn opening(
        &self,
        now: Instant,
        tuple: &FourTuple,
        isn_after: Option<SeqNum>,
    ) -> Opening {
        let ipv6 = tuple.local.addr.is_ipv6();
        let mtu = self
            .core
            .ip
            .route(tuple.remote.addr, None)
            .and_then(|hop| self.core.ip.interfaces().interface(hop.iface))
            .map_or(MTU_MIN, |interface| usize::from(interface.mtu));
        let ip = if ipv6 {
            ipv6::HEADER_LEN
        } else {
            ipv4::HEADER_LEN
        };
        let mss = mtu.saturating_sub(ip + tcp::HEADER_LEN);
        let isn = self.core.isn.isn(now, tuple);
        Opening {
            local_port: tuple.local.port,
            remote_port: tuple.remote.port,
            ipv6,
            mss: u16::try_from(mss).unwrap_or(u16::MAX),
            isn: match isn_after {
                Some(after) if !isn.after(after) => after + 1,
                Some(_) | None => isn,
            },
            ts_offset: self.core.isn.timestamp_offset(tuple),
        }
    }

    /// Puts a socket into the tables. There must be a place.
    pub(crate) fn add_socket(&mut self, socket: Socket) -> Option<SocketId> {
        let hash = socket.hash;
        let index = self.sockets.insert(socket).ok()?;
        let id = SocketId {
            index,
            generation: self.sockets.generation(index),
        };
        if let Some(socket) = self.sockets.get_mut(index) {
            socket.id = id;
            socket.update_room(&mut self.core);
        }
        self.flows.insert(hash, Place::Socket(index));
        Some(id)
    }

    fn accept(
        &mut self,
        now: Instant,
        tuple: &FourTuple,
        hash: u32,
        listener: u32,
        mut tcp: lockgate_tcp::Connection,
    ) -> Option<SocketId> {
        let Listener { tls, nagle, .. } = self.listeners.list.get(listener as usize)?;
        tcp.set_nodelay(!nagle);
        let rx = match tls {
            Some(tls) => {
                let deadline = now + self.config.handshake_timeout;
                Rx::Shaking(Shaking::server(tls.clone(), deadline))
            }
            None => Rx::Plain(Stream::new()),
        };
        let socket = self.add_socket(Socket::new(*tuple, hash, tcp, rx))?;
        self.core.counters.accepted += 1;
        self.core.notices.push_back(Notice::Accepted {
            socket,
            listener: ListenerId(listener),
            remote: tuple.remote.into(),
        });
        Some(socket)
    }

    /// Adds an entry; if the table is full, the oldest goes. A flood then
    /// has to fill the whole table within a round trip to keep an honest peer out.
    fn add_half_open(&mut self, tuple: &FourTuple, listener: u32, state: HalfOpen) -> bool {
        let Some(entry) = self.listeners.get_mut(listener) else {
            return false;
        };
        if self.core.limits.half_open_max == 0 || entry.half_open >= entry.backlog {
            self.core.counters.syn_dropped += 1;
            return false;
        }
        entry.half_open += 1;
        if self.half_open.is_full() {
            self.core.counters.half_open_evicted += 1;
            self.forget_oldest_half_open();
        }
        let hash = self.flows.hash(tuple);
        let deadline = state.deadline();
        let half = Half {
            tuple: *tuple,
            hash,
            listener,
            state,
        };
        let Ok(index) = self.half_open.insert(half) else {
            return false;
        };
        let generation = self.half_open.generation(index);
        self.listeners.order.push(Entry { index, generation });
        self.flows.insert(hash, Place::HalfOpen(index));
        self.wheel
            .set(self.key_of(Place::HalfOpen(index)), Some(deadline));
        true
    }

    fn forget_oldest_half_open(&mut self) {
        while let Some(oldest) = self.listeners.order.pop() {
            if self.half_open.holds(oldest) {
                // Its entry in the order of arrival is gone already.
                return self.remove_half_open(oldest.index);
            }
            self.listeners.order.was_gone();
        }
    }

    fn forget_half_open(&mut self, index: u32) {
        if self.half_open.get(index).is_some() {
            self.remove_half_open(index);
            let table = &self.half_open;
            self.listeners.order.left(|entry| table.holds(entry));
        }
    }

    fn remove_half_open(&mut self, index: u32) {
        if let Some(half) = self.half_open.remove(index) {
            self.wheel.set(self.key_of(Place::HalfOpen(index)), None);
            self.flows.remove(half.hash, Place::HalfOpen(index));
            if let Some(listener) = self.listeners.get_mut(half.listener) {
                listener.half_open -= 1;
            }
        }
    }
}

/// What every IPv4 host takes.
const MTU_MIN: usize = 576;
