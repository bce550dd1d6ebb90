//! One worker's stack: its tables, and whose turn it is.

use lockgate_ip::IpLayer;
use lockgate_tcp::{HalfOpen, IsnSource, Shared, State, TimeWait};
use lockgate_wire::{FourTuple, Instant};
use pktbuf::Output;

use crate::Env;
use crate::common::Core;
use crate::config::{ConfigError, ENTRIES_MAX, RECORD_LEN_MIN, StackConfig};
use crate::demux::{FlowTable, Place};
use crate::listen::Listeners;
use crate::notice::{Notice, SocketId};
use crate::slab::Slab;
use crate::socket::{Socket, Turn};
use crate::wheel::{TimerKey, Wheel};

/// One worker's connections, listeners and timers.
///
/// # How it is used
///
/// Each turn of the worker's loop: every packet received goes to [`on_packet`](Self::on_packet),
/// due timers run in [`on_timer`](Self::on_timer), one step of a TLS handshake in
/// [`step_handshake`](Self::step_handshake); the application works off
/// [`poll_notice`](Self::poll_notice), and [`poll`](Self::poll) sends. A burst of packets is given
/// whole before that, so that one acknowledgement answers all of it. Time is an argument.
///
/// What the application calls changes queues and marks sockets; packets leave in `poll`.
pub struct Stack {
    pub(crate) sockets: Slab<Socket>,
    pub(crate) half_open: Slab<Half>,
    pub(crate) time_wait: Slab<Waiting>,
    pub(crate) flows: FlowTable,
    pub(crate) wheel: Wheel,
    pub(crate) listeners: Listeners,
    pub(crate) core: Core,
    pub(crate) config: StackConfig,
    /// Draws ephemeral ports.
    pub(crate) random: u64,
}

/// A half-open connection.
pub(crate) struct Half {
    pub(crate) tuple: FourTuple,
    pub(crate) hash: u32,
    pub(crate) listener: u32,
    pub(crate) state: HalfOpen,
}

/// A connection in TIME-WAIT.
pub(crate) struct Waiting {
    pub(crate) tuple: FourTuple,
    pub(crate) hash: u32,
    pub(crate) state: TimeWait,
}

const _: () = assert!(size_of::<Socket>() <= 664);
const _: () = assert!(size_of::<Half>() <= 104);
const _: () = assert!(size_of::<Waiting>() <= 112);

impl Stack {
    /// A stack with the secrets of its hash table, sequence numbers and random times.
    pub fn new(now: Instant, config: StackConfig, secret: [u64; 4]) -> Result<Self, ConfigError> {
        let limits = config.limits;
        let tables = [
            limits.connections_max,
            limits.half_open_max,
            limits.time_wait_max,
        ];
        if tables.iter().any(|entries| *entries > ENTRIES_MAX) {
            return Err(ConfigError::TooMany);
        }
        let entries: u32 = tables.iter().sum();
        let [hash_secret, isn_high, isn_low, seed] = secret;
        let core = Core::new(
            Shared::new(config.tcp.clone(), limits.ranges_max, seed),
            ip_layer(&config, seed)?,
            IsnSource::new([isn_high, isn_low]),
            limits,
            config.ktls,
            config.record_len_max.max(RECORD_LEN_MIN),
        );
        Ok(Self {
            sockets: Slab::new(limits.connections_max),
            half_open: Slab::new(limits.half_open_max),
            time_wait: Slab::new(limits.time_wait_max),
            flows: FlowTable::new(entries as usize, hash_secret),
            wheel: Wheel::new(now, entries),
            listeners: Listeners::new(limits.resets_per_second_max),
            core,
            config,
            // A generator of this kind must not begin with zero.
            random: seed | 1,
        })
    }

    /// Sends what can be sent, at most `budget` packets; connections take turns. True if there is
    /// more to do now.
    pub fn poll<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>, budget: u32) -> bool {
        env.pages.reclaim();
        if self.sockets.len() > 0 {
            self.core.has_reserve(env.pages);
        }
        self.wake_waiting(now, env);
        let mut left = budget;
        let mut blocked = 0;
        for _ in 0..self.core.ready.len() {
            if left == 0 || blocked == BLOCKED_MAX {
                break;
            }
            let Some(index) = self.core.ready.pop_front() else {
                break;
            };
            if self.serve(now, index, env, &mut left) == Turn::NoRoom {
                blocked += 1;
            }
        }
        self.core.send_ip_frames(now, env);
        // A socket that went away may have made place for another's handshake.
        !self.core.ready.is_empty() || self.core.has_steps()
    }

    /// Runs the timers that are due.
    pub fn on_timer<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) {
        let mut budget = self.core.limits.timers_per_turn_max;
        while let Some(TimerKey(key)) = self.wheel.expire(now, &mut budget) {
            match self.place_of(key) {
                Place::Socket(index) => {
                    if let Some(socket) = self.sockets.get_mut(index) {
                        socket.on_timer(now, &mut self.core);
                    }
                }
                Place::HalfOpen(index) => self.half_open_timer(now, index, env),
                Place::TimeWait(index) => self.forget_time_wait(index),
            }
        }
        self.wake_waiting(now, env);
        self.core.send_ip_frames(now, env);
    }

    /// When [`Stack::on_timer`] wants to be called. What [`Stack::poll`] left to do is not
    /// considered.
    pub fn next_timer(&self) -> Option<Instant> {
        let deadlines = [
            self.wheel.next_timer(),
            self.core.ip.deadline(),
            self.core.starved_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Takes one TLS handshake one step further; true if more are waiting. A step with a signature
    /// takes a hundred microseconds and more, so do one between two looks at the ports.
    pub fn step_handshake<N: Output>(&mut self, env: &mut Env<'_, N>) -> bool {
        let first = self.next_to_begin();
        if let Some(index) = first.or_else(|| self.next_to_step())
            && let Some(socket) = self.sockets.get_mut(index)
        {
            socket.step_handshake(first.is_some(), &mut self.core, env.ciphers, env.pages);
            self.rearm(index);
        }
        self.core.has_steps()
    }

    /// Of the handshakes that wait to begin the first that still wants to, if one may.
    fn next_to_begin(&mut self) -> Option<u32> {
        while self.core.may_begin() {
            let entry = self.core.queueing.pop()?;
            if !self.sockets.holds(entry) {
                self.core.queueing.was_gone();
                continue;
            }
            let socket = self.sockets.get_mut(entry.index)?;
            socket.flags.queueing = false;
            // It may have been closed, or have waited for too long.
            if socket.can_step() {
                return Some(entry.index);
            }
        }
        None
    }

    fn next_to_step(&mut self) -> Option<u32> {
        while let Some(index) = self.core.stepping.pop_front() {
            // An index may be listed for a socket that's gone.
            let socket = self.sockets.get_mut(index);
            if socket.is_some_and(|s| core::mem::take(&mut s.flags.stepping)) {
                return Some(index);
            }
        }
        None
    }

    /// The next notice.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.core.notices.pop_front()
    }

    /// One socket's turn.
    fn serve<N: Output>(
        &mut self,
        now: Instant,
        index: u32,
        env: &mut Env<'_, N>,
        budget: &mut u32,
    ) -> Turn {
        let core = &mut self.core;
        let Some(socket) = self.sockets.get_mut(index) else {
            return Turn::Done;
        };
        // An index may be listed for a socket that's gone.
        if !core::mem::take(&mut socket.flags.ready) {
            return Turn::Done;
        }
        socket.continue_handshake(core, env.ciphers, env.pages);
        if let Some(reset) = socket.drive_close(now, core, env.ciphers, env.pages) {
            core.answer(now, &socket.tuple, &reset, env);
        }
        socket.drive_keys(core, env.ciphers, env.pages);
        let turn = socket.transmit(now, core, env, budget);
        match turn {
            Turn::Done => {}
            Turn::Again | Turn::NoRoom => core.make_ready(socket),
            Turn::Starved => core.make_starved(socket),
            Turn::Unresolved => core.make_unresolved(socket),
        }
        socket.tell_writable(core);
        self.settle(index, env);
        turn
    }

    /// After anything that happened to a socket in its turn: is it over, and when does its timer
    /// go off?
    fn settle<N: Output>(&mut self, index: u32, env: &mut Env<'_, N>) {
        let Some(socket) = self.sockets.get(index) else {
            return;
        };
        if socket.is_finished() {
            self.remove(index, env);
        } else if socket.flags.detached && socket.tcp.state() == State::TimeWait {
            self.enter_time_wait(index, env);
        } else {
            self.rearm(index);
        }
    }

    pub(crate) fn rearm(&mut self, index: u32) {
        if let Some(socket) = self.sockets.get(index) {
            self.wheel
                .set(self.key_of(Place::Socket(index)), socket.deadline());
        }
    }

    /// Takes a socket out of all tables and tells the application how it ended.
    fn remove<N: Output>(&mut self, index: u32, env: &mut Env<'_, N>) {
        let Some(socket) = self.sockets.remove(index) else {
            return;
        };
        self.wheel.set(self.key_of(Place::Socket(index)), None);
        self.flows.remove(socket.hash, Place::Socket(index));
        if socket.flags.queueing {
            let sockets = &self.sockets;
            self.core.queueing.left(|entry| sockets.holds(entry));
        }
        let reason = socket.reason();
        self.core.count_end(reason);
        self.core
            .notices
            .push_back(Notice::Closed(socket.id, reason));
        socket.retire(&mut self.core, env.ciphers);
        if self.sockets.len() == 0 {
            self.core.release_reserve();
        }
    }

    /// What is left of a connection is small from here on.
    fn enter_time_wait<N: Output>(&mut self, index: u32, env: &mut Env<'_, N>) {
        let Some(socket) = self.sockets.get(index) else {
            return;
        };
        let (tuple, hash, state) = (socket.tuple, socket.hash, socket.tcp.time_wait());
        self.remove(index, env);
        let Some(state) = state else {
            return;
        };
        let deadline = state.deadline();
        match self.time_wait.insert(Waiting { tuple, hash, state }) {
            Ok(place) => {
                self.core.counters.time_wait += 1;
                self.flows.insert(hash, Place::TimeWait(place));
                self.wheel
                    .set(self.key_of(Place::TimeWait(place)), Some(deadline));
            }
            Err(_) => self.core.counters.time_wait_overflow += 1,
        }
    }

    pub(crate) fn forget_time_wait(&mut self, index: u32) {
        if let Some(waiting) = self.time_wait.remove(index) {
            self.wheel.set(self.key_of(Place::TimeWait(index)), None);
            self.flows.remove(waiting.hash, Place::TimeWait(index));
        }
    }

    /// Sockets that waited for memory or for a neighbour and may go on.
    pub(crate) fn wake_waiting<N: Output>(&mut self, now: Instant, env: &Env<'_, N>) {
        for _ in 0..self.core.fed(now, env.pages) {
            let index = self.core.starved.list.pop_front();
            let socket = index.and_then(|index| self.sockets.get_mut(index));
            if let Some(socket) = socket.filter(|socket| socket.flags.starved) {
                socket.on_fed(&mut self.core);
            }
        }
        for _ in 0..self.core.resolved(now) {
            let index = self.core.unresolved.pop_front();
            let socket = index.and_then(|index| self.sockets.get_mut(index));
            if let Some(socket) = socket.filter(|socket| socket.flags.unresolved) {
                socket.flags.unresolved = false;
                self.core.make_ready(socket);
            }
        }
    }

    pub(crate) fn socket_mut(&mut self, id: SocketId) -> Option<(&mut Socket, &mut Core)> {
        let socket = self
            .sockets
            .get_mut(id.index)
            .filter(|socket| socket.id == id)?;
        Some((socket, &mut self.core))
    }

    pub(crate) fn socket(&self, id: SocketId) -> Option<&Socket> {
        self.sockets.get(id.index).filter(|socket| socket.id == id)
    }

    /// Each kind of entry has timers of its own, one kind behind the other.
    pub(crate) fn key_of(&self, place: Place) -> TimerKey {
        let limits = &self.core.limits;
        TimerKey(match place {
            Place::Socket(index) => index,
            Place::HalfOpen(index) => limits.connections_max + index,
            Place::TimeWait(index) => limits.connections_max + limits.half_open_max + index,
        })
    }

    fn place_of(&self, key: u32) -> Place {
        let limits = &self.core.limits;
        match key.checked_sub(limits.connections_max) {
            None => Place::Socket(key),
            Some(key) => match key.checked_sub(limits.half_open_max) {
                None => Place::HalfOpen(key),
                Some(key) => Place::TimeWait(key),
            },
        }
    }
}

impl core::fmt::Debug for Stack {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Stack")
            .field("sockets", &self.sockets.len())
            .field("half_open", &self.half_open.len())
            .field("time_wait", &self.time_wait.len())
            .finish_non_exhaustive()
    }
}

fn ip_layer(config: &StackConfig, seed: u64) -> Result<IpLayer, ConfigError> {
    let mut ip = IpLayer::new(&config.ip, seed);
    for (interface, addresses) in &config.interfaces {
        ip.add_interface(*interface)
            .map_err(|e| ConfigError::Interface(*interface, e))?;
        for address in addresses {
            ip.add_address(interface.id, *address)
                .map_err(|e| ConfigError::Address(*address, e))?;
        }
    }
    for route in &config.routes {
        ip.add_route(*route)
            .map_err(|e| ConfigError::Route(*route, e))?;
    }
    Ok(ip)
}

/// How many sockets find their interface full before the turn ends: with several interfaces one
/// that takes nothing must not stop the others.
const BLOCKED_MAX: u32 = 64;
