//! One worker's stack: its tables, its timers, and the entry points of the worker's loop.

mod api;
mod burst;
mod connect;
mod handshakes;
mod ingress;
mod ktls;
mod listen;
mod reclaim;
mod siblings;
mod time_wait;
mod turn;
mod unread;

use self::burst::SegmentRun;
pub use self::ktls::KeyTarget;
use lockgate_tcp::IsnSource;
use lockgate_wire::{IfaceId, Instant, Xorshift64};
use pktbuf::Output;

use crate::config::{ConfigError, ENTRIES_MAX, StackConfig};
use crate::context::SocketContext;
use crate::demux::{FlowTable, FlowTarget};
use crate::egress::Egress;
use crate::env::Env;
use crate::half_open::HalfOpenTable;
use crate::listeners::{Listeners, ResetLimit};
use crate::notice::{Notice, SocketId};
use crate::seeds::Seeds;
use crate::sibling_frames::SiblingQueues;
use crate::sibling_solicits::{SiblingResolution, SiblingSolicits};
use crate::slab::Slab;
use crate::socket::Socket;
use crate::step_count::StepCount;
use crate::time_wait::TimeWaitEntry;
use crate::wheel::{TimerKey, Wheel};

/// One worker's connections, listeners and timers.
///
/// The order of calls is in the [crate's documentation](crate#a-turn-of-the-workers-loop). Calls of
/// the application change queues and list sockets; packets leave in [`poll`](Self::poll).
pub struct Stack {
    sockets: Slab<Socket>,
    /// The number of the next connection.
    next_serial: u32,
    half_open: HalfOpenTable,
    time_wait: Slab<TimeWaitEntry>,
    flows: FlowTable,
    wheel: Wheel,
    listeners: Listeners,
    resets: ResetLimit,
    cx: SocketContext,
    egress: Egress,
    run: SegmentRun,
    siblings: SiblingQueues,
    sibling_solicits: SiblingSolicits,
    misdirected_steps: StepCount,
    wake_steps: StepCount,
    reclaim_steps: StepCount,
    /// Index of the socket that was checked last.
    #[cfg(debug_assertions)]
    check_at: u32,
    isn: IsnSource,
    config: StackConfig,
    /// For [`Stack::take_partial_checksum`].
    partial_checksum_on: Option<IfaceId>,
    /// Draws ephemeral ports.
    random: Xorshift64,
    /// Index of the socket that [`Stack::reclaim`] looked at last.
    reclaim_at: u32,
    /// When [`Stack::reclaim`] looks for ciphertext to drop again.
    drop_again_at: Instant,
    /// When [`Stack::reclaim_connection`] looks for a connection to close again.
    search_place_at: Instant,
    /// Sockets that [`Stack::reclaim`] has closed because they were idle.
    closing_idle: u32,
}

impl Stack {
    /// Creates a stack. `secret` keys the flow table's hash, the initial sequence numbers (two
    /// words) and the random decisions of TCP and IP. Allocates all tables.
    ///
    /// # Errors
    /// If an interface, address or route is refused, or a table's limit is above 2^28.
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
        let seeds = Seeds::new(seed);
        Ok(Self {
            sockets: Slab::new(limits.connections_max),
            next_serial: 0,
            half_open: HalfOpenTable::new(limits.half_open_max),
            time_wait: Slab::new(limits.time_wait_max),
            flows: FlowTable::new(entries as usize, hash_secret, config.siblings.clone()),
            wheel: Wheel::new(now, entries),
            listeners: Listeners::default(),
            resets: ResetLimit::new(limits.resets_per_second_max),
            cx: SocketContext::new(now, &config, &seeds),
            egress: Egress::new(&config, seeds.neighbours)?,
            run: SegmentRun::new(),
            siblings: SiblingQueues::new(config.siblings.is_some()),
            sibling_solicits: SiblingSolicits::new(config.siblings.is_some()),
            misdirected_steps: StepCount::default(),
            wake_steps: StepCount::default(),
            reclaim_steps: StepCount::default(),
            #[cfg(debug_assertions)]
            check_at: 0,
            isn: IsnSource::new([isn_high, isn_low]),
            config,
            partial_checksum_on: None,
            random: Xorshift64::new(seeds.ports),
            reclaim_at: 0,
            drop_again_at: Instant::ZERO,
            search_place_at: Instant::ZERO,
            closing_idle: 0,
        })
    }

    /// Sends what can be sent, at most `budget` packets. Connections take turns. Returns true if
    /// there is more to do now, or if records are being sealed or opened elsewhere.
    pub fn poll<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>, budget: u32) -> bool {
        self.cx.now = now;
        env.pages.reclaim();
        self.take_back_records(env);
        self.cx.records.begin_turn();
        self.enforce_receive_budget(now, env);
        if self.sockets.len() > 0 {
            self.cx.memory.reserve.fill(env.pages);
        }
        self.reclaim(now, env);
        self.wake_waiting(now, env);
        self.wake_unresolved();
        self.send_in_turn(now, env, budget);
        self.send_ip_frames(now, env);
        // The end of a socket's handshake may admit another.
        let schedule = &self.cx.schedule;
        schedule.has_work()
            || schedule.has_lookups()
            || self.cx.handshakes.has_steps(now)
            || env.ciphers.in_flight() > 0
    }

    /// Runs the timers that are due.
    pub fn on_timer<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) {
        self.cx.now = now;
        let mut budget = self.cx.limits.timers_per_turn_max;
        while let Some(TimerKey(key)) = self.wheel.expire(now, &mut budget) {
            match self.target_of(key) {
                FlowTarget::Socket(index) => {
                    if let Some(socket) = self.sockets.get_mut(index) {
                        socket.on_timer(now, &mut self.cx);
                    }
                }
                FlowTarget::HalfOpen(index) => self.on_half_open_timer(now, index, env),
                FlowTarget::TimeWait(index) => self.remove_time_wait(index),
            }
        }
        self.wake_waiting(now, env);
        self.send_ip_frames(now, env);
    }

    /// When [`Stack::on_timer`] has to be called. What [`Stack::poll`] left to do is not
    /// considered.
    pub fn next_timer(&self) -> Option<Instant> {
        let deadlines = [
            self.wheel.next_timer(),
            self.egress.ip.deadline(),
            self.cx.memory.starved.deadline(),
            self.cx.memory.receive.deadline(),
            self.cx.handshakes.deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Returns the interface of the latest segment whose checksum the sender left to its network
    /// card, if there was one since the last call. Such segments are dropped: nothing works until
    /// the sender's TX checksum offload is off.
    pub fn take_partial_checksum(&mut self) -> Option<IfaceId> {
        self.partial_checksum_on.take()
    }

    /// Returns the next notice.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.cx.notices.pop()
    }

    /// The starved sockets that were looked at to wake some. Counted in debug builds only.
    pub fn wake_steps(&self) -> u64 {
        self.wake_steps.get()
    }

    /// The searches for a connection to close, and the connections that were looked at for their
    /// progress. Counted in debug builds only.
    pub fn reclaim_steps(&self) -> u64 {
        self.reclaim_steps.get()
    }

    /// A socket that has something to send and is in no list from which it would get a turn.
    /// There is none, before and after each call. For tests: it looks at every socket.
    pub fn forgotten_socket(&self, now: Instant) -> Option<SocketId> {
        let indices = self.sockets.indices();
        let mut sockets = indices.filter_map(|index| self.sockets.get(index));
        sockets
            .find(|socket| socket.is_forgotten(now, &self.cx))
            .map(|socket| socket.id)
    }

    fn socket_mut(&mut self, id: SocketId) -> Option<(&mut Socket, &mut SocketContext)> {
        let socket = self
            .sockets
            .get_mut(id.index)
            .filter(|socket| socket.id == id)?;
        Some((socket, &mut self.cx))
    }

    fn socket(&self, id: SocketId) -> Option<&Socket> {
        self.sockets.get(id.index).filter(|socket| socket.id == id)
    }

    fn send_ip_frames<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) {
        let Self {
            egress,
            siblings,
            config,
            cx,
            ..
        } = self;
        egress.send_ip_frames(now, &mut cx.counters, env, |hop| {
            // The answer may come to any worker.
            config.siblings.is_none() || siblings.push_resolution(SiblingResolution::Solicited(hop))
        });
    }

    /// The timer of a connection: keys of sockets, then of half-open entries, then of TIME-WAIT
    /// entries.
    fn timer_of(&self, target: FlowTarget) -> TimerKey {
        let limits = &self.cx.limits;
        TimerKey(match target {
            FlowTarget::Socket(index) => index,
            FlowTarget::HalfOpen(index) => limits.connections_max + index,
            FlowTarget::TimeWait(index) => limits.connections_max + limits.half_open_max + index,
        })
    }

    /// The inverse of [`Stack::timer_of`].
    fn target_of(&self, key: u32) -> FlowTarget {
        let limits = &self.cx.limits;
        match key.checked_sub(limits.connections_max) {
            None => FlowTarget::Socket(key),
            Some(key) => match key.checked_sub(limits.half_open_max) {
                None => FlowTarget::HalfOpen(key),
                Some(key) => FlowTarget::TimeWait(key),
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
