//! A host: a stack with everything it works with, on a thread of its own.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lockgate::clock::Clock;
use lockgate_drivers::{Demand, Eal, WorkerPorts};
use lockgate_ip::{Cidr, Interface};
use lockgate_ktls::{BackendChoice, Ciphers};
use lockgate_stack::{Counters, Env, Limits, Notice, Stack, StackConfig};
use lockgate_testing::HANG_LIMIT;
use lockgate_wire::{IfaceId, Instant, MacAddr};
use pktbuf::{Buffer, PagePool, PoolConfig, PoolUsage};

use super::ring::{Ending, Net};
use super::wire::{Faults, RetransmissionCheck, Tally, Wire};

/// What runs on a host.
pub(crate) trait App: Send + 'static {
    /// Before the first turn: listens or connects.
    fn start(&mut self, now: Instant, host: &mut Host);

    /// Something happened to a socket.
    fn notice(&mut self, now: Instant, notice: Notice, host: &mut Host);

    /// Advances the application. Returns whether anything was done.
    fn turn(&mut self, now: Instant, host: &mut Host) -> bool;

    /// Whether it has nothing more to do.
    fn is_done(&self) -> bool;

    /// Returns the state, for a time-out's message.
    fn describe(&self, host: &Host) -> String;
}

pub(crate) struct Host {
    pub(crate) stack: Stack,
    pub(crate) pages: PagePool,
    pub(crate) ciphers: Ciphers,
    pub(crate) wire: Wire,
    inbox: Vec<(IfaceId, Buffer)>,
}

/// Configuration of a host.
pub(crate) struct Spec {
    /// Its number in the test network.
    pub(crate) number: u8,
    pub(crate) pool: PoolConfig,
    /// One in so many allocations of page buffers fails; 0 for none.
    pub(crate) failures_one_in: u32,
    pub(crate) config: StackConfig,
    pub(crate) faults: Faults,
    /// Whether retransmitted bytes are compared with the first copy.
    pub(crate) check_retransmissions: bool,
    pub(crate) seed: u64,
}

/// Result of a host's run.
pub(crate) struct Report<A> {
    pub(crate) app: A,
    pub(crate) stack: Counters,
    pub(crate) tcp: lockgate_tcp::Counters,
    pub(crate) ktls: Vec<(&'static str, u64)>,
    pub(crate) wire: Tally,
    /// Bytes that were seen retransmitted, if they were compared.
    pub(crate) retransmitted_bytes: u64,
    pub(crate) pages: PoolUsage,
    pub(crate) took: Duration,
}

impl Spec {
    pub(crate) fn new(number: u8) -> Self {
        Self {
            number,
            pool: PoolConfig {
                blocks: 4096,
                small_spans: 1024,
                large_spans: 1024,
            },
            failures_one_in: 0,
            config: StackConfig {
                limits: Limits {
                    connections_max: 4096,
                    half_open_max: 1024,
                    time_wait_max: 4096,
                    ..Limits::default()
                },
                ..StackConfig::default()
            },
            faults: Faults::default(),
            check_retransmissions: false,
            seed: u64::from(number),
        }
    }
}

/// The address of a host of the test network.
pub(crate) fn address(number: u8, ipv6: bool) -> IpAddr {
    if ipv6 {
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)])
    } else {
        IpAddr::from([198, 18, 0, number])
    }
}

/// The one interface of host `number`, with both its addresses.
pub(crate) fn interface(number: u8, mac: MacAddr, mtu: u16) -> (Interface, Vec<Cidr>) {
    let interface = Interface {
        id: IfaceId(0),
        mac: Some(mac),
        mtu,
        vlan: None,
    };
    let with = |ipv6, len| Cidr::new(address(number, ipv6), len).expect("a prefix");
    (interface, vec![with(false, 24), with(true, 64)])
}

impl Host {
    fn new(eal: Eal, spec: Spec, port: Attached, now: Instant) -> Self {
        let mut config = spec.config;
        config.interfaces = vec![interface(spec.number, port.mac, port.mtu)];
        let secret = [spec.seed, spec.seed ^ 1, spec.seed ^ 2, spec.seed ^ 3];
        let demand = Demand::new("page buffers", PagePool::bytes_needed(spec.pool) as u64);
        let mut regions = eal.regions(&demand).expect("memory for page buffers");
        let mut pages = PagePool::from_regions(&mut regions, spec.pool).expect("a pool fits");
        pages.inject_failures(spec.seed, spec.failures_one_in);
        let mut wire = Wire::new(port.ports, spec.faults, spec.seed);
        wire.retransmission_check = spec.check_retransmissions.then(RetransmissionCheck::new);
        Self {
            stack: Stack::new(now, config, secret).expect("a stack"),
            pages,
            ciphers: Ciphers::new(BackendChoice::Auto, 256),
            wire,
            inbox: Vec::new(),
        }
    }

    /// Runs a method of the stack with the host's environment.
    fn with<R>(&mut self, f: impl FnOnce(&mut Stack, &mut Env<'_, Wire>) -> R) -> R {
        let mut env = Env {
            pages: &mut self.pages,
            ciphers: &mut self.ciphers,
            net: &mut self.wire,
        };
        f(&mut self.stack, &mut env)
    }

    /// One turn of a worker's loop. Returns whether there was something to do.
    fn turn(&mut self, now: Instant, app: &mut impl App) -> bool {
        self.pages.reclaim();
        let mut inbox = std::mem::take(&mut self.inbox);
        let mut busy = self.wire.receive(&mut inbox) > 0;
        for (on, packet) in inbox.drain(..) {
            self.with(|stack, env| stack.on_packet(now, on, packet, env));
        }
        self.inbox = inbox;
        busy |= self.with(|stack, env| {
            stack.on_timer(now, env);
            stack.step_handshake(now, env)
        });
        while let Some(notice) = self.stack.poll_notice() {
            busy = true;
            app.notice(now, notice, self);
        }
        busy |= app.turn(now, self);
        busy |= self.with(|stack, env| stack.poll(now, env, PACKETS_A_TURN));
        busy | !self.wire.flush()
    }
}

/// Where a host is attached.
pub(crate) struct Attached {
    pub(crate) ports: WorkerPorts,
    pub(crate) mac: MacAddr,
    pub(crate) mtu: u16,
}

/// A thread that runs a host.
pub(crate) struct HostThread<A> {
    report: Receiver<Report<A>>,
    release: Sender<()>,
    pages: Receiver<PoolUsage>,
    thread: JoinHandle<()>,
}

/// Number of hosts that aren't done. Each host runs until it is 0, so that peers get their answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy(Arc<AtomicUsize>);

impl Busy {
    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn end(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

/// Starts a host.
pub(crate) fn start<A: App>(
    eal: Eal,
    spec: Spec,
    port: Attached,
    busy: &Busy,
    mut app: A,
) -> HostThread<A> {
    busy.begin();
    let busy = busy.clone();
    let (to_report, report) = channel();
    let (release, released) = channel::<()>();
    let (to_pages, pages) = channel();
    let work = move || {
        let _registered = eal.register_worker().expect("a place among the workers");
        let clock = Clock::new();
        let started = clock.now();
        let mut host = Host::new(eal, spec, port, started);
        app.start(started, &mut host);
        let mut took = None;
        while !busy.is_over() {
            let now = clock.now();
            if !host.turn(now, &mut app) {
                thread::yield_now();
            }
            assert!(
                took.is_some() || now.saturating_since(started) < LONGEST,
                "no end:\n{}\n{}{:?}\n{:?}",
                app.describe(&host),
                host.stack.counters(),
                host.stack.tcp_counters(),
                host.pages
            );
            if took.is_none() && app.is_done() {
                took = Some(now.saturating_since(started));
                busy.end();
            }
        }
        let Host {
            stack,
            mut pages,
            ciphers,
            wire,
            inbox,
        } = host;
        let report = Report {
            app,
            stack: *stack.counters(),
            tcp: *stack.tcp_counters(),
            ktls: ciphers.counters.iter().collect(),
            wire: wire.tally,
            retransmitted_bytes: wire
                .retransmission_check
                .as_ref()
                .map_or(0, |check| check.retransmitted_bytes),
            pages: pages.usage(),
            took: took.unwrap_or_default(),
        };
        drop((stack, inbox, wire));
        to_report.send(report).ok();
        // What the peer still held of our memory comes back when its port is closed.
        released.recv().ok();
        pages.reclaim();
        to_pages.send(pages.usage()).ok();
    };
    let thread = thread::Builder::new().name(format!("host-{}", app_name::<A>()));
    let thread = thread.spawn(work).expect("a thread");
    HostThread {
        report,
        release,
        pages,
        thread,
    }
}

impl<A> HostThread<A> {
    /// Returns whether the thread runs: it has neither ended nor panicked.
    pub(crate) fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Waits until the host is done. Returns its report.
    pub(crate) fn report(&self) -> Report<A> {
        self.report.recv_timeout(PATIENCE).expect("the host ends")
    }

    /// Ends the thread after all ports are closed. Asserts that every page buffer was returned.
    pub(crate) fn release(self) {
        self.release.send(()).expect("the host waits");
        let usage = self
            .pages
            .recv_timeout(PATIENCE)
            .expect("the host counts its pages");
        let used = (
            usage.blocks_used,
            usage.small_spans_used,
            usage.large_spans_used,
        );
        assert_eq!(used, (0, 0, 0), "page buffers are missing: {usage:?}");
    }
}

/// Runs two hosts on a pair of rings to their end. Asserts that all buffers were returned.
pub(crate) fn run<A: App, B: App>(
    net: Net,
    a: (Spec, A),
    b: (Spec, B),
) -> (Report<A>, Report<B>, Ending) {
    let busy = Busy::default();
    let (mut net, [at_a, at_b]) = net.attach();
    let a = start(net.eal, a.0, at_a, &busy, a.1);
    let b = start(net.eal, b.0, at_b, &busy, b.1);
    let (from_a, from_b) = (a.report(), b.report());
    let ports = net.ending();
    net.close();
    a.release();
    b.release();
    (from_a, from_b, ports)
}

fn app_name<A>() -> &'static str {
    std::any::type_name::<A>()
        .rsplit("::")
        .next()
        .unwrap_or_default()
}

/// Packets sent in a turn before the ports are looked at again.
const PACKETS_A_TURN: u32 = 256;
/// How long a host may take for its work before it counts as hanging.
const LONGEST: Duration = HANG_LIMIT.saturating_mul(2);
/// How long its end is waited for: longer, so that a host says itself why it hangs.
const PATIENCE: Duration = LONGEST.saturating_add(Duration::from_secs(60));
