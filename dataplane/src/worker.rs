//! A worker: one core that owns its queues of every port, its memory and its connections.
//!
//! A turn takes what the ports received, runs what is due, moves the connections that have
//! something to do, sends, and looks at the mailbox. The clock is read once a turn. Nothing in it
//! waits for anybody.

mod connections;
mod idle;
mod transport;

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use lockgate_drivers::WorkerPorts;
use lockgate_ktls::Ciphers;
use lockgate_stack::tls::TlsServer;
use lockgate_stack::{Env, Heard, ListenConfig, ListenerId, Notice, Stack};
use lockgate_wire::{IfaceId, Instant};
use pktbuf::{Buffer, PagePool};

use self::connections::Connections;
use self::transport::Lent;
use crate::clock::{Clock, Date};
use crate::control::{Group, GroupKind, Value};
use crate::http;

pub use self::idle::{Idle, Policy};

/// What a worker is told while it runs.
#[derive(Debug)]
pub enum Command {
    /// Answer with the counters. Nobody minds if the answer isn't taken.
    Snapshot(Sender<Group>),
    /// Accept nothing new, finish what is under way, and end then, or at this time at the latest.
    Drain(Instant),
    /// End now.
    Stop,
}

/// What a worker is made of. It has to be put together on the worker's own thread: page buffers
/// know the thread that owns them.
#[derive(Debug)]
pub struct Parts {
    /// Which worker it is.
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
    pub driver: http::Driver,
    /// The most connections that the stack has.
    pub connections_max: u32,
    /// Whether small segments of its connections wait for acknowledgements.
    pub nagle: bool,
    /// What it does when there's nothing to do.
    pub idle: Policy,
    /// The clock.
    pub clock: Clock,
    /// Where commands come from.
    pub mailbox: Receiver<Command>,
    /// The other workers.
    pub siblings: Siblings,
}

/// What workers tell each other.
#[derive(Debug)]
pub struct Siblings {
    /// To each of the others, in an order that leads round all workers.
    pub tell: Vec<Sender<Heard>>,
    /// From all of them.
    pub hear: Receiver<Heard>,
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
    /// Listeners, and whether clients speak TLS there.
    listeners: Vec<(ListenerId, bool)>,
    inbox: Vec<(IfaceId, Buffer)>,
    nagle: bool,
    idle: Idle,
    clock: Clock,
    date: Date,
    mailbox: Receiver<Command>,
    siblings: Siblings,
    siblings_full: u64,
    end: End,
    turns: u64,
    idle_turns: u64,
}

/// Whether a worker is on its way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    /// Connections may go on until then.
    Draining(Instant),
    /// There are no connections any more, or they were cut off. What is on its way out has until
    /// then.
    Cut(Instant),
    Done,
}

impl Worker {
    /// Puts a worker together.
    pub fn new(parts: Parts) -> Self {
        let now = parts.clock.now();
        Self {
            number: parts.number,
            ports: parts.ports,
            pages: parts.pages,
            ciphers: parts.ciphers,
            stack: parts.stack,
            connections: Connections::new(now, parts.driver, parts.connections_max),
            listeners: Vec::new(),
            inbox: Vec::with_capacity(INBOX),
            nagle: parts.nagle,
            idle: Idle::new(parts.idle),
            clock: parts.clock,
            date: Date::new(now),
            mailbox: parts.mailbox,
            siblings: parts.siblings,
            siblings_full: 0,
            end: End::Open,
            turns: 0,
            idle_turns: 0,
        }
    }

    /// Accepts connections there.
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

    /// Tells the neighbours that the addresses are here.
    pub fn announce(&mut self) {
        let now = self.clock.now();
        let mut env = Env {
            pages: &mut self.pages,
            ciphers: &mut self.ciphers,
            net: &mut self.ports,
        };
        self.stack.announce(now, &mut env);
    }

    /// Serves until it's told to end.
    pub fn run(&mut self) {
        while self.end != End::Done {
            if self.turn() {
                self.idle.busy();
            } else {
                self.idle_turns += 1;
                self.idle.rest(self.clock.now(), self.next_timer());
            }
        }
    }

    /// Ends everything: drops all connections and gives back the pool, for a look whether every
    /// page buffer came back, with the worker's number.
    pub fn dismantle(self) -> (usize, PagePool) {
        let Self {
            number,
            mut pages,
            stack,
            connections,
            inbox,
            ports,
            ..
        } = self;
        drop((connections, stack, inbox, ports));
        pages.reclaim();
        (number, pages)
    }

    /// The counters.
    pub fn snapshot(&self) -> Group {
        let counters = |list: &mut dyn Iterator<Item = (&'static str, u64)>| {
            list.map(|(name, value)| Value::counter(name, value))
                .collect::<Vec<_>>()
        };
        let mut values = vec![
            Value::counter("worker.turns", self.turns),
            Value::counter("worker.idle_turns", self.idle_turns),
            Value::counter("worker.siblings_full", self.siblings_full),
            Value::gauge("worker.connections", u64::from(self.stack.connections())),
            Value::gauge("http.open", self.connections.open() as u64),
        ];
        values.extend(counters(&mut self.connections.driver().counters().iter()));
        values.extend(counters(&mut self.stack.counters().iter()));
        values.extend(counters(&mut self.stack.tcp_counters().iter()));
        values.extend(counters(&mut self.stack.ip_counters().iter()));
        values.extend(counters(&mut self.ciphers.counters.iter()));
        let pages = self.pages.usage();
        values.extend([
            Value::gauge("pages.blocks", u64::from(pages.blocks)),
            Value::gauge("pages.blocks_used", u64::from(pages.blocks_used)),
            Value::gauge("pages.small_spans", u64::from(pages.small_spans)),
            Value::gauge("pages.small_spans_used", u64::from(pages.small_spans_used)),
            Value::gauge("pages.large_spans", u64::from(pages.large_spans)),
            Value::gauge("pages.large_spans_used", u64::from(pages.large_spans_used)),
            Value::counter("pages.failures", pages.failures),
        ]);
        Group {
            kind: GroupKind::Worker,
            name: self.number.to_string(),
            values,
        }
    }

    /// One turn; whether there was, or still is, something to do.
    fn turn(&mut self) -> bool {
        self.turns += 1;
        let now = self.clock.now();
        let unix = self.date.unix_seconds(now);
        let clock = http::Clock { now, unix };
        self.pages.reclaim();
        let inbox = &mut self.inbox;
        let received = self.ports.rx_burst(|on, packet| inbox.push((on, packet)));
        let mut env = Env {
            pages: &mut self.pages,
            ciphers: &mut self.ciphers,
            net: &mut self.ports,
        };
        for (on, packet) in self.inbox.drain(..) {
            self.stack.on_packet(now, on, packet, &mut env);
        }
        let heard = self.siblings.exchange(now, &mut self.stack, &mut env);
        self.siblings_full += heard.lost;
        self.stack.on_timer(now, &mut env);
        let handshakes = self.stack.step_handshake(&mut env);

        let mut moved = self.notices(clock);
        let mut lent = Lent {
            stack: &mut self.stack,
            pages: &mut self.pages,
            ciphers: &mut self.ciphers,
        };
        moved += self.connections.poll_files(clock, &mut lent);
        moved += self.connections.go_on(clock, &mut lent);
        self.connections.on_timer(clock, &mut lent);

        let mut env = Env {
            pages: &mut self.pages,
            ciphers: &mut self.ciphers,
            net: &mut self.ports,
        };
        let more = self.stack.poll(now, &mut env, PACKETS_A_TURN);
        let flushed = self.ports.flush();
        let commanded = self.commands();
        self.proceed_to_end(now);
        received > 0 || heard.any || handshakes || moved > 0 || more || !flushed || commanded
    }

    /// Tells HTTP what happened to its sockets; how much that was.
    fn notices(&mut self, clock: http::Clock) -> usize {
        let mut count = 0;
        while let Some(notice) = self.stack.poll_notice() {
            count += 1;
            let mut lent = Lent {
                stack: &mut self.stack,
                pages: &mut self.pages,
                ciphers: &mut self.ciphers,
            };
            match notice {
                Notice::Accepted {
                    socket, listener, ..
                } if self.listeners.contains(&(listener, false)) => {
                    self.connections.accept(clock, socket, &mut lent);
                }
                Notice::HandshakeDone(socket, _) => {
                    self.connections.accept(clock, socket, &mut lent);
                }
                notice => self.connections.notice(clock, &notice, &mut lent),
            }
        }
        count
    }

    /// Looks at the mailbox; whether there was something in it.
    fn commands(&mut self) -> bool {
        match self.mailbox.try_recv() {
            Ok(Command::Snapshot(to)) => {
                // Whoever asked may have stopped waiting.
                let _ = to.try_send(self.snapshot());
            }
            Ok(Command::Drain(deadline)) if self.end == End::Open => {
                self.end = End::Draining(deadline);
                for (listener, _) in &self.listeners {
                    self.stack.unlisten(*listener);
                }
                let mut lent = Lent {
                    stack: &mut self.stack,
                    pages: &mut self.pages,
                    ciphers: &mut self.ciphers,
                };
                self.connections.drain(&mut lent);
            }
            Ok(Command::Drain(_)) => {}
            // Whoever had the other end is gone: there's nobody left to work for.
            Ok(Command::Stop) | Err(TryRecvError::Disconnected) => match self.end {
                End::Open | End::Draining(_) => self.end = End::Draining(Instant::ZERO),
                End::Cut(_) | End::Done => return false,
            },
            Err(TryRecvError::Empty) => return false,
        }
        true
    }

    fn proceed_to_end(&mut self, now: Instant) {
        self.end = match self.end {
            End::Draining(_) if self.stack.connections() == 0 => End::Cut(now + LAST_WORDS),
            End::Draining(deadline) if now >= deadline => {
                self.stack.abort_all();
                End::Cut(now + LAST_WORDS)
            }
            End::Cut(until) if now >= until => End::Done,
            // At least one turn has sent since.
            End::Cut(_) if self.stack.connections() == 0 && self.ports.backlog() == 0 => End::Done,
            end @ (End::Open | End::Draining(_) | End::Cut(_) | End::Done) => end,
        };
    }

    fn next_timer(&self) -> Option<Instant> {
        let timers = [self.stack.next_timer(), self.connections.next_timer()];
        timers.into_iter().flatten().min()
    }
}

impl Siblings {
    /// A worker that is the only one.
    pub fn none() -> Self {
        Self {
            tell: Vec::new(),
            hear: crossbeam_channel::never(),
        }
    }

    /// Workers that hear each other.
    pub fn family(count: usize) -> Vec<Self> {
        if count < 2 {
            return (0..count).map(|_| Self::none()).collect();
        }
        let (tell, hear): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| crossbeam_channel::bounded(HEARD_WAITING))
            .unzip();
        // The one behind this worker first, then round.
        let others = |me: usize| {
            let round = (1..count).map(move |step| (me + step) % count);
            round.map(|other| Sender::clone(&tell[other])).collect()
        };
        let each = hear.into_iter().enumerate();
        each.map(|(me, hear)| Self {
            tell: others(me),
            hear,
        })
        .collect()
    }

    /// Tells the others what this worker's stack heard, and it what they heard.
    fn exchange(
        &self,
        now: Instant,
        stack: &mut Stack,
        env: &mut Env<'_, WorkerPorts>,
    ) -> Exchanged {
        let mut done = Exchanged {
            any: false,
            lost: 0,
        };
        while let Some(heard) = stack.poll_heard() {
            let audience = if heard.is_for_next() {
                1
            } else {
                self.tell.len()
            };
            for sibling in self.tell.iter().take(audience) {
                // One that doesn't keep up loses it; whoever sent it will say it again.
                done.lost += u64::from(sibling.try_send(heard.clone()).is_err());
            }
        }
        for heard in self.hear.try_iter().take(HEARD_A_TURN) {
            done.any = true;
            stack.on_heard(now, &heard, env);
        }
        done
    }
}

/// What [`Siblings::exchange`] did.
struct Exchanged {
    any: bool,
    lost: u64,
}

/// What siblings heard, listened to in a turn.
const HEARD_A_TURN: usize = 256;

/// What siblings heard, waiting for a worker.
const HEARD_WAITING: usize = 1024;

/// Packets that a worker takes from all its ports in a turn, about; only a first size.
const INBOX: usize = 256;

/// How long resets and last acknowledgements have to get out, at the end.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Packets sent in a turn before the ports are looked at again.
const PACKETS_A_TURN: u32 = 256;
