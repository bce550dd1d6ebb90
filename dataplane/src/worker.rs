//! A worker: one thread on one core, with a queue of every port, page buffers and connections of
//! its own.
//!
//! A turn of the loop receives a burst from each port, fires due timers, drives HTTP connections,
//! sends, and runs one command. It reads the clock once and never blocks; see [`IdlePolicy`] for
//! what follows a turn without work.

mod batches;
mod connections;
mod idle;
mod overload;
mod siblings;
mod transport;

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use lockgate_drivers::{RX_BURST, WorkerPorts};
use lockgate_ktls::Ciphers;
use lockgate_stack::tls::TlsServer;
use lockgate_stack::{Env, ListenConfig, ListenerId, Notice, Stack};
use lockgate_wire::{IfaceId, Instant};
use pktbuf::{Buffer, DetachedPool, PagePool, PoolUsage};

use self::batches::{dispatch_notices, receive_bursts};
use self::connections::Connections;
use self::overload::OverloadLog;
use self::transport::StackContext;
use crate::clock::{Clock, Date};
use crate::control::{GroupKind, Metric, MetricGroup};
use crate::server;

pub use self::idle::{IdleBackoff, IdlePolicy};
pub use self::siblings::Siblings;

/// A command to a running worker.
#[derive(Debug)]
pub enum WorkerCommand {
    /// Send the counters to this channel. The requester may have timed out.
    Snapshot(Sender<MetricGroup>),
    /// Close the listeners, finish the responses under way, and end: at this time at the latest.
    Drain(Instant),
    /// Reset all connections and end.
    Stop,
    /// The link state of an interface's port has changed: announce its addresses if it is up. One
    /// worker gets this, because the workers share their addresses.
    LinkChange(IfaceId),
    /// The MAC address of an interface's port has changed. Every worker gets this.
    MacChange(IfaceId),
}

/// The parts of a worker. Make them on the worker's thread: the page pool belongs to the thread
/// that made it.
#[derive(Debug)]
pub struct WorkerParts {
    /// The worker's number, from 0.
    pub number: usize,
    /// Its queues of all ports.
    pub ports: WorkerPorts,
    /// Its page buffers.
    pub pages: PagePool,
    /// Its ciphers.
    pub ciphers: Ciphers,
    /// Its stack.
    pub stack: Stack,
    /// HTTP, with its handle to the file cache.
    pub server: server::Server,
    /// The stack's limit of connections.
    pub connections_max: u32,
    /// Whether Nagle's algorithm is on for its connections.
    pub nagle: bool,
    /// What it does after a turn without work.
    pub idle: IdlePolicy,
    /// The clock.
    pub clock: Clock,
    /// The commands.
    pub commands: Receiver<WorkerCommand>,
    /// The channels to the other workers.
    pub siblings: Siblings,
}

/// A worker.
#[derive(Debug)]
pub struct Worker {
    number: usize,
    ports: WorkerPorts,
    pages: PagePool,
    ciphers: Ciphers,
    stack: Stack,
    connections: Connections,
    /// The listeners, and whether their clients speak TLS.
    listeners: Vec<(ListenerId, bool)>,
    inbox: Vec<(IfaceId, Buffer)>,
    nagle: bool,
    idle: IdleBackoff,
    clock: Clock,
    date: Date,
    commands: Receiver<WorkerCommand>,
    siblings: Siblings,
    siblings_full: u64,
    shutdown: ShutdownState,
    turns: u64,
    idle_turns: u64,
    overload: OverloadLog,
}

/// How far a worker's shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShutdownState {
    Running,
    /// Listeners are closed. Connections have until this time.
    Draining(Instant),
    /// Connections have ended or were reset. Their last packets have until this time.
    Flushing(Instant),
    Finished,
}

impl Worker {
    /// Makes a worker of its parts.
    pub fn new(parts: WorkerParts) -> Self {
        let now = parts.clock.now();
        Self {
            number: parts.number,
            ports: parts.ports,
            pages: parts.pages,
            ciphers: parts.ciphers,
            stack: parts.stack,
            connections: Connections::new(now, parts.server, parts.connections_max),
            listeners: Vec::new(),
            inbox: Vec::with_capacity(RX_PACKETS_EXPECTED),
            nagle: parts.nagle,
            idle: IdleBackoff::new(parts.idle),
            clock: parts.clock,
            date: Date::new(now),
            commands: parts.commands,
            siblings: parts.siblings,
            siblings_full: 0,
            shutdown: ShutdownState::Running,
            turns: 0,
            idle_turns: 0,
            overload: OverloadLog::new(),
        }
    }

    /// Listens at an address, with TLS if there's a TLS server.
    ///
    /// # Errors
    /// The stack's table of listeners is full, or has the address.
    pub fn listen(
        &mut self,
        at: SocketAddr,
        tls: Option<Arc<TlsServer>>,
    ) -> Result<(), lockgate_stack::ListenError> {
        let speaks_tls = tls.is_some();
        let config = ListenConfig {
            tls,
            nagle: self.nagle,
            ..ListenConfig::default()
        };
        let listener = self.stack.listen(at, config)?;
        self.listeners.push((listener, speaks_tls));
        Ok(())
    }

    /// Announces the addresses to the neighbours: gratuitous ARP and unsolicited advertisements.
    pub fn announce(&mut self) {
        let now = self.clock.now();
        let mut env = Env {
            pages: &mut self.pages,
            ciphers: &mut self.ciphers,
            net: &mut self.ports,
        };
        self.stack.announce(now, &mut env);
    }

    /// Runs turns until a command, or the end of the command channel, has shut the worker down.
    pub fn run(&mut self) {
        while self.shutdown != ShutdownState::Finished {
            if self.turn() {
                self.idle.reset();
            } else {
                self.idle_turns += 1;
                if self.idle_turns.is_multiple_of(IDLE_TURNS_PER_CLEANUP) {
                    self.ports.clean_sent(CLEANED_PER_TURN);
                }
                self.idle.wait(self.clock.now(), self.next_timer());
            }
        }
    }

    /// Drops all connections and returns the page pool. Drivers may hold page buffers in their TX
    /// rings until the ports are closed: only after that are missing ones leaked.
    pub fn into_page_pool(self) -> DetachedPool {
        let Self {
            pages,
            stack,
            connections,
            inbox,
            ports,
            ..
        } = self;
        drop((connections, stack, inbox, ports));
        pages.detach()
    }

    /// Returns the counters of the worker and of all its layers.
    pub fn snapshot(&self) -> MetricGroup {
        let counters = |list: &mut dyn Iterator<Item = (&'static str, u64)>| {
            list.map(|(name, value)| Metric::counter(name, value))
                .collect::<Vec<_>>()
        };
        let mut values = vec![
            Metric::counter("worker.turns", self.turns),
            Metric::counter("worker.idle_turns", self.idle_turns),
            Metric::counter("worker.siblings_full", self.siblings_full),
            Metric::gauge("worker.records_away", self.ciphers.in_flight() as u64),
            Metric::gauge("http.open", self.connections.open() as u64),
        ];
        values.extend(self.stack_usage());
        let http = self.connections.server().context();
        values.extend([
            Metric::gauge("http.long_heads_bytes", http.long_heads_bytes()),
            Metric::gauge(
                "http.long_heads_bytes_max",
                http.limits.long_heads_bytes_max,
            ),
            Metric::counter("http.long_heads_refused", http.long_heads_refused),
        ]);
        values.extend(counters(&mut self.connections.server().counters().iter()));
        values.extend(counters(&mut self.stack.counters().iter()));
        values.extend(counters(&mut self.stack.tcp_counters().iter()));
        values.extend(counters(&mut self.stack.ip_counters().iter()));
        let record_layer = self.ciphers.counters.entries();
        values.extend(record_layer.map(|(name, is_gauge, value)| match is_gauge {
            true => Metric::gauge(name, value),
            false => Metric::counter(name, value),
        }));
        let pages = self.pages.usage();
        values.extend([
            Metric::gauge("pages.blocks", u64::from(pages.blocks)),
            Metric::gauge("pages.blocks_used", u64::from(pages.blocks_used)),
            Metric::gauge("pages.small_spans", u64::from(pages.small_spans)),
            Metric::gauge("pages.small_spans_used", u64::from(pages.small_spans_used)),
            Metric::gauge("pages.large_spans", u64::from(pages.large_spans)),
            Metric::gauge("pages.large_spans_used", u64::from(pages.large_spans_used)),
            Metric::counter("pages.failures", pages.failures),
        ]);
        MetricGroup {
            kind: GroupKind::Worker,
            name: self.number.to_string(),
            values,
        }
    }

    /// What connections hold now, each beside its limit.
    fn stack_usage(&self) -> [Metric; 15] {
        let (stack, limits) = (&self.stack, self.stack.limits());
        let (bytes, bytes_max) = (stack.handshake_bytes(), limits.handshake_bytes_max);
        [
            Metric::gauge("worker.connections", u64::from(stack.connections())),
            Metric::gauge("worker.connections_max", limits.connections_max.into()),
            Metric::gauge("worker.half_open", u64::from(stack.half_open())),
            Metric::gauge("worker.half_open_max", limits.half_open_max.into()),
            Metric::gauge("worker.time_wait", u64::from(stack.in_time_wait())),
            Metric::gauge("worker.time_wait_max", limits.time_wait_max.into()),
            Metric::gauge("worker.sent_ranges", u64::from(stack.ranges())),
            Metric::gauge("worker.sent_ranges_max", u64::from(stack.ranges_max())),
            Metric::gauge(
                "worker.received_bytes_pinned",
                stack.received_bytes_pinned(),
            ),
            Metric::gauge("worker.received_bytes_max", limits.recv_total_bytes),
            Metric::gauge("worker.handshakes", u64::from(stack.handshakes())),
            Metric::gauge("worker.handshakes_max", limits.handshakes_max.into()),
            Metric::gauge("worker.handshake_bytes", bytes),
            Metric::gauge("worker.handshake_bytes_max", bytes_max),
            Metric::gauge("worker.flight_bytes", stack.handshake_flight_bytes()),
        ]
    }

    /// Runs one turn. Returns false if it had no work and left none.
    fn turn(&mut self) -> bool {
        self.turns += 1;
        let now = self.clock.now();
        let unix = self.date.unix_seconds(now);
        let clock = server::TurnClock { now, unix };
        self.connections.begin_turn();
        self.pages.reclaim();
        if is_short(self.pages.usage()) {
            self.ports.clean_sent(CLEANED_PER_TURN);
        }
        let received = receive_bursts(RX_BURST, || self.receive_burst(now));
        let mut env = Env {
            pages: &mut self.pages,
            ciphers: &mut self.ciphers,
            net: &mut self.ports,
        };
        if let Some(on) = self.stack.take_partial_checksum() {
            env.net.warn_of_partial_checksums(on);
        }
        let exchanged = self.siblings.exchange(now, &mut self.stack, &mut env);
        self.siblings_full += exchanged.dropped;
        self.stack.on_timer(now, &mut env);
        let handshakes = self.stack.step_handshake(now, &mut env);

        let mut moved = self.dispatch_notices(clock);
        let mut cx = StackContext {
            stack: &mut self.stack,
            pages: &mut self.pages,
            ciphers: &mut self.ciphers,
        };
        moved += self.connections.poll_files(clock, &mut cx);
        moved += self.connections.resume_yielded(clock, &mut cx);
        self.connections.on_timer(clock, &mut cx);

        let mut env = Env {
            pages: &mut self.pages,
            ciphers: &mut self.ciphers,
            net: &mut self.ports,
        };
        let more = self.stack.poll(now, &mut env, TX_PACKETS_PER_TURN);
        let flushed = self.ports.flush();
        self.ports.drop_stuck(now);
        if let Some(report) = self.overload.poll(now, self.stack.counters()) {
            tracing::warn!(
                worker = self.number,
                "overload: exhausted budgets: {report}"
            );
        }
        let commanded = self.run_command(now);
        self.advance_shutdown(now);
        received > 0
            || exchanged.received_any
            || handshakes
            || moved > 0
            || more
            || !flushed
            || commanded
    }

    /// Gives a burst of each port to the stack. Returns how many packets there were.
    fn receive_burst(&mut self, now: Instant) -> usize {
        let inbox = &mut self.inbox;
        let received = self.ports.rx_burst(|on, packet| inbox.push((on, packet)));
        let mut env = Env {
            pages: &mut self.pages,
            ciphers: &mut self.ciphers,
            net: &mut self.ports,
        };
        self.stack.on_burst(now, &mut self.inbox, &mut env);
        received
    }

    /// Gives the stack's notices to HTTP. Returns how many there were.
    fn dispatch_notices(&mut self, clock: server::TurnClock) -> usize {
        let (connections, listeners) = (&mut self.connections, &self.listeners);
        let mut cx = StackContext {
            stack: &mut self.stack,
            pages: &mut self.pages,
            ciphers: &mut self.ciphers,
        };
        dispatch_notices(&mut cx, |notice, cx| match notice {
            Notice::Accepted {
                socket, listener, ..
            } if listeners.contains(&(listener, false)) => {
                connections.on_accepted(clock, socket, cx);
            }
            Notice::HandshakeDone(socket, _) => connections.on_accepted(clock, socket, cx),
            notice => connections.on_notice(clock, &notice, cx),
        })
    }

    /// Runs the next command. Returns whether there was one.
    fn run_command(&mut self, now: Instant) -> bool {
        match self.commands.try_recv() {
            Ok(WorkerCommand::LinkChange(on)) => {
                let mut env = Env {
                    pages: &mut self.pages,
                    ciphers: &mut self.ciphers,
                    net: &mut self.ports,
                };
                self.stack.on_link_change(now, on, &mut env);
            }
            Ok(WorkerCommand::MacChange(on)) => self.stack.on_mac_change(on, &self.ports),
            Ok(WorkerCommand::Snapshot(to)) => {
                // The requester may have timed out and dropped its receiver.
                let _ = to.try_send(self.snapshot());
            }
            Ok(WorkerCommand::Drain(deadline)) if self.shutdown == ShutdownState::Running => {
                self.shutdown = ShutdownState::Draining(deadline);
                for (listener, _) in &self.listeners {
                    self.stack.unlisten(*listener);
                }
                let mut cx = StackContext {
                    stack: &mut self.stack,
                    pages: &mut self.pages,
                    ciphers: &mut self.ciphers,
                };
                self.connections.drain(&mut cx);
            }
            Ok(WorkerCommand::Drain(_)) => {}
            // Without a sender the appliance has ended.
            Ok(WorkerCommand::Stop) | Err(TryRecvError::Disconnected) => match self.shutdown {
                ShutdownState::Running | ShutdownState::Draining(_) => {
                    self.shutdown = ShutdownState::Draining(Instant::ZERO);
                }
                ShutdownState::Flushing(_) | ShutdownState::Finished => return false,
            },
            Err(TryRecvError::Empty) => return false,
        }
        true
    }

    fn advance_shutdown(&mut self, now: Instant) {
        self.shutdown = match self.shutdown {
            ShutdownState::Draining(_) if self.stack.connections() == 0 => {
                ShutdownState::Flushing(now + FLUSH_TIME_MAX)
            }
            ShutdownState::Draining(deadline) if now >= deadline => {
                self.stack.abort_all();
                ShutdownState::Flushing(now + FLUSH_TIME_MAX)
            }
            ShutdownState::Flushing(until) if now >= until => ShutdownState::Finished,
            // A whole turn has sent since the connections ended.
            ShutdownState::Flushing(_)
                if self.stack.connections() == 0 && self.ports.backlog() == 0 =>
            {
                ShutdownState::Finished
            }
            end @ (ShutdownState::Running
            | ShutdownState::Draining(_)
            | ShutdownState::Flushing(_)
            | ShutdownState::Finished) => end,
        };
    }

    fn next_timer(&self) -> Option<Instant> {
        let timers = [self.stack.next_timer(), self.connections.next_timer()];
        timers.into_iter().flatten().min()
    }
}

/// Returns whether less than a quarter of some kind of page buffers is free. Then the shares of
/// connections are small, and what drivers still hold of sent packets is worth a request.
fn is_short(pages: PoolUsage) -> bool {
    let is_short = |all: u32, used: u32| all - used < all / 4;
    is_short(pages.blocks, pages.blocks_used)
        || is_short(pages.small_spans, pages.small_spans_used)
        || is_short(pages.large_spans, pages.large_spans_used)
}

/// Sent packets that a turn asks each port's driver to free.
const CLEANED_PER_TURN: u32 = 256;

/// A driver is asked to free sent packets once in so many turns without work.
const IDLE_TURNS_PER_CLEANUP: u64 = 64;

/// The first capacity of the inbox: about what all ports deliver in a turn.
const RX_PACKETS_EXPECTED: usize = 256;

/// How long resets and last acknowledgments have to leave, at the end of a shutdown.
const FLUSH_TIME_MAX: Duration = Duration::from_millis(100);

/// Packets that a turn sends before the ports are polled again.
const TX_PACKETS_PER_TURN: u32 = 256;
