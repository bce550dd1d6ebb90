//! Peers whose TLS handshakes never end, beside clients that open connections and get their data.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lockgate_stack::tls::{CipherSuite, TlsOptions, TlsVersions};
use lockgate_stack::{CloseReason, ConnectConfig, Failure, Limits, Notice, SocketId};
use lockgate_wire::Instant;
use rustls::ClientConfig;
use support::link::{Faults, Link, payload};
use support::peer::{self, Peer};
use support::{HostSpec, World, pki};

/// Hostile peers are plain sockets of host A; fair clients are TLS sockets of it. Host B serves.
struct Scene {
    world: World,
    fair: Vec<FairClient>,
    /// B's sockets with a handshake that is done, and the bytes of their requests.
    servers: Vec<(SocketId, usize)>,
    hello: Vec<u8>,
}

struct FairClient {
    socket: SocketId,
    opened: Instant,
    is_of_other_network: bool,
    received: usize,
    /// When it had its response.
    served: Option<Instant>,
    closed: Option<CloseReason>,
}

impl Scene {
    fn new(spec: HostSpec, delay: Duration) -> Self {
        let mut a = HostSpec::new(1);
        // Two networks on one link.
        a.other_addr = Some(IpAddr::from([10, 0, 1, 1]));
        a.config.limits.connections_max = 8192;
        a.config.limits.ranges_max = 65_536;
        a.buffers = 8192;
        a.pool.blocks = 65_536;
        a.pool.small_spans = 16_384;
        a.pool.large_spans = 4096;
        let faults = Faults {
            delay,
            ..Faults::default()
        };
        let mut world = World::new(a, spec, Link::new(1, faults));
        world.listen(443, Some(pki::server(&TlsOptions::default())));
        let mut scene = Self {
            world,
            fair: Vec::new(),
            servers: Vec::new(),
            hello: Vec::new(),
        };
        // A whole ClientHello, whose client aborts.
        let mut peer = Peer::connect(&mut scene.world, &peer_config());
        scene.hello = peer.outgoing();
        scene.world.a.stack.abort(peer.socket);
        scene.world.run(Duration::from_secs(1));
        scene
    }

    fn connect_hostile(&mut self) -> SocketId {
        self.world.connect(None)
    }

    fn connect_fair(&mut self) {
        self.connect_fair_from(None);
    }

    fn connect_fair_from(&mut self, local: Option<IpAddr>) {
        let at = self.world.b_addr(443);
        let options = TlsOptions::default();
        let config = ConnectConfig {
            tls: Some((pki::client(&options), pki::name())),
            local: local.map(|local| SocketAddr::new(local, 0)),
            ..ConnectConfig::default()
        };
        let stack = &mut self.world.a.stack;
        let socket = stack.connect(self.world.now, at, config).unwrap();
        self.fair.push(FairClient {
            socket,
            opened: self.world.now,
            is_of_other_network: local.is_some(),
            received: 0,
            served: None,
            closed: None,
        });
    }

    /// Runs for `time`. Each millisecond `hostile` acts.
    fn run(&mut self, time: Duration, mut hostile: impl FnMut(&mut Self)) {
        let until = self.world.now + time;
        while self.world.now < until {
            hostile(self);
            let tick = self.world.now + Duration::from_millis(1);
            self.drive();
            while self.world.step(tick) {
                self.drive();
            }
            self.world.now = tick;
            self.drive();
        }
    }

    /// Runs the applications: a request, a response, and close.
    fn drive(&mut self) {
        let world = &mut self.world;
        world.settle();
        for notice in std::mem::take(&mut world.notices_a) {
            match notice {
                Notice::HandshakeDone(socket, _)
                    if self.fair.iter().any(|client| client.socket == socket) =>
                {
                    assert_eq!(world.a.send(socket, &[1; REQUEST]) as usize, REQUEST);
                }
                Notice::Closed(socket, reason) => {
                    let client = self.fair.iter_mut().find(|c| c.socket == socket);
                    if let Some(client) = client {
                        client.closed = Some(reason);
                    }
                }
                _ => {}
            }
        }
        for notice in std::mem::take(&mut world.notices_b) {
            match notice {
                Notice::HandshakeDone(socket, _) => self.servers.push((socket, 0)),
                Notice::Closed(socket, _) => self.servers.retain(|(open, _)| *open != socket),
                _ => {}
            }
        }
        for (socket, received) in &mut self.servers {
            let before = *received;
            let (bytes, end) = world.b.drain(*socket);
            *received += bytes.len();
            if before < REQUEST && *received == REQUEST {
                assert_eq!(world.b.send(*socket, &[2; RESPONSE]) as usize, RESPONSE);
            }
            if end.is_some() {
                world.b.stack.close(*socket);
            }
        }
        for client in &mut self.fair {
            if client.closed.is_none() && client.received < RESPONSE {
                client.received += world.a.drain(client.socket).0.len();
                if client.received == RESPONSE {
                    client.served = Some(world.now);
                    world.a.stack.close(client.socket);
                }
            }
        }
        world.settle();
    }

    /// Asserts that every fair client got its data.
    fn assert_served(&self, count: usize) {
        assert_eq!(self.fair.len(), count);
        for client in &self.fair {
            assert_eq!(
                client.received,
                RESPONSE,
                "a client of {:?} ended {:?}\n{}",
                client.opened,
                client.closed,
                self.world.b.stack.counters()
            );
        }
    }

    /// Lets everything end, and asserts that all memory came back.
    fn end(mut self) {
        self.run(Duration::from_secs(1), |_| {});
        self.world.link.filter = None;
        self.world.a.stack.abort_all();
        self.world.run(Duration::from_secs(200));
        self.drive();
        let stack = &self.world.b.stack;
        assert_eq!((stack.connections(), stack.half_open()), (0, 0));
        assert_eq!((stack.handshakes(), stack.handshake_bytes()), (0, 0));
        assert_eq!(stack.handshake_flight_bytes(), 0);
        self.world.b.assert_full();
        self.world.a.assert_full();
    }
}

fn peer_config() -> Arc<ClientConfig> {
    peer::config(CipherSuite::TLS13_AES_128_GCM_SHA256, TlsVersions::Tls13)
}

/// A record of 16 384 bytes with a ClientHello, all but the last 905 of them.
fn most_of_a_long_hello() -> Vec<u8> {
    let mut beginning = vec![22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc];
    beginning.resize(5 + 16_384 - 905, 7);
    beginning
}

/// Host B with room for so many bytes of unfinished handshakes.
fn server(handshake_bytes_max: u64) -> HostSpec {
    let mut spec = HostSpec::new(2);
    spec.other_addr = Some(IpAddr::from([10, 0, 1, 2]));
    spec.config.limits.connections_max = 4096;
    spec.config.limits.handshake_bytes_max = handshake_bytes_max;
    spec
}

/// Beginnings of long ClientHellos pin no packet buffer, and the oldest make room for new ones. All
/// together they are several times what the receive budget and the memory for handshakes hold.
#[test]
fn long_client_hellos_without_their_end_keep_no_client_out() {
    let mut scene = Scene::new(server(1 << 20), Duration::from_millis(5));
    let beginning = most_of_a_long_hello();
    let mut hostile = Vec::new();
    for tick in 0..250 {
        scene.run(Duration::from_millis(4), |_| {});
        hostile.push(scene.connect_hostile());
        if let Some(ready) = hostile.len().checked_sub(5) {
            scene.world.a.send(hostile[ready], &beginning);
        }
        if tick % 10 == 9 {
            scene.connect_fair();
        }
    }
    assert!(scene.world.b.stack.handshake_bytes() <= 1 << 20);
    assert_eq!(scene.world.b.buffers.usage().blocks_used, 0);
    scene.run(Duration::from_millis(200), |_| {});
    scene.assert_served(25);
    let counters = scene.world.b.stack.counters();
    assert!(
        (150..250).contains(&counters.handshakes_evicted),
        "{counters}"
    );
    assert_eq!(counters.handshakes_evicted_active, 0);
    assert_eq!(counters.refused_payload, 0);
    assert_eq!(counters.handshakes_failed, counters.handshakes_evicted);
    scene.end();
}

/// With the default limits, and as many packet buffers as the appliance has by default, a thousand
/// such ClientHellos fit: nothing is evicted or refused.
#[test]
fn a_thousand_long_client_hellos_fit_the_default_limits() {
    let mut spec = server(Limits::default().handshake_bytes_max);
    spec.buffers = 8192;
    let mut scene = Scene::new(spec, Duration::from_millis(5));
    let beginning = most_of_a_long_hello();
    for _ in 0..100 {
        let hostile: Vec<SocketId> = (0..10).map(|_| scene.connect_hostile()).collect();
        scene.run(Duration::from_millis(20), |_| {});
        for socket in hostile {
            let sent = scene.world.a.send(socket, &beginning);
            assert_eq!(sent as usize, beginning.len());
        }
        scene.run(Duration::from_millis(20), |_| {});
    }
    let bytes = scene.world.b.stack.handshake_bytes();
    assert!((15 << 20..17 << 20).contains(&bytes), "{bytes}");
    assert_eq!(scene.world.b.buffers.usage().blocks_used, 0);
    for _ in 0..10 {
        scene.connect_fair();
        scene.run(Duration::from_millis(10), |_| {});
    }
    scene.run(Duration::from_millis(100), |_| {});
    scene.assert_served(10);
    let counters = scene.world.b.stack.counters();
    assert_eq!(
        (counters.handshakes_evicted, counters.refused_payload),
        (0, 0)
    );
    scene.end();
}

/// First bytes of three thousand connections take memory for as many bytes, no packet buffers.
#[test]
fn single_bytes_keep_no_client_out() {
    let mut scene = Scene::new(server(1 << 20), Duration::from_millis(5));
    let mut hostile = Vec::new();
    for _ in 0..300 {
        hostile.extend((0..10).map(|_| scene.connect_hostile()));
        scene.run(Duration::from_millis(1), |_| {});
    }
    scene.run(Duration::from_millis(50), |_| {});
    for socket in &hostile {
        scene.world.a.send(*socket, &[22]);
    }
    scene.run(Duration::from_millis(50), |_| {});
    assert_eq!(scene.world.b.stack.connections(), 3000);
    assert!((3000..30_000).contains(&scene.world.b.stack.handshake_bytes()));
    assert_eq!(scene.world.b.buffers.usage().blocks_used, 0);
    for _ in 0..10 {
        scene.connect_fair();
        scene.run(Duration::from_millis(10), |_| {});
    }
    scene.run(Duration::from_millis(100), |_| {});
    scene.assert_served(10);
    assert_eq!(scene.world.b.stack.counters().handshakes_evicted, 0);
    // They time out as ever.
    scene.run(Duration::from_secs(10), |_| {});
    let counters = scene.world.b.stack.counters();
    assert_eq!(counters.handshakes_failed_timeout, 3000);
    scene.end();
}

/// Peers that never answer our flight keep the state of the TLS library for the hold time only.
#[test]
fn unanswered_flights_keep_no_client_out() {
    let mut spec = server(1 << 20);
    spec.config.limits.handshakes_max = 32;
    let mut scene = Scene::new(spec, Duration::from_millis(5));
    let mut waiting: Vec<SocketId> = Vec::new();
    let mut tick = 0;
    // 100 hostile ClientHellos a second; 32 in 250 ms is what fits.
    scene.run(Duration::from_secs(3), |scene| {
        tick += 1;
        if tick % 10 == 0 {
            waiting.push(scene.connect_hostile());
            if let Some(ready) = waiting.len().checked_sub(3) {
                let hello = scene.hello.clone();
                scene.world.a.send(waiting[ready], &hello);
            }
        }
        if tick % 100 == 50 {
            scene.connect_fair();
        }
    });
    scene.run(Duration::from_millis(600), |_| {});
    scene.assert_served(30);
    let counters = scene.world.b.stack.counters();
    assert!(
        (200..300).contains(&counters.handshakes_evicted_active),
        "{counters}"
    );
    assert_eq!(
        counters.handshakes_evicted,
        counters.handshakes_evicted_active
    );
    scene.end();
}

/// Clients that come at once wait for each other, and none is evicted.
#[test]
fn a_crowd_is_admitted_in_turn() {
    let mut spec = server(1 << 20);
    spec.config.limits.handshakes_max = 4;
    let mut scene = Scene::new(spec, Duration::from_millis(20));
    for _ in 0..60 {
        scene.connect_fair();
    }
    scene.run(Duration::from_secs(2), |_| {});
    scene.assert_served(60);
    assert_eq!(scene.world.b.stack.counters().handshakes_failed, 0);
    scene.end();
}

/// Flights that are never acknowledged pin half of the small spans at most.
#[test]
fn unacknowledged_flights_leave_buffers_to_others() {
    let mut spec = server(1 << 20);
    spec.pool.small_spans = 64;
    spec.pool.large_spans = 16;
    let mut scene = Scene::new(spec, Duration::from_millis(5));
    let hostile: Vec<SocketId> = (0..100).map(|_| scene.connect_hostile()).collect();
    scene.run(Duration::from_millis(50), |_| {});
    let ports: BTreeSet<u16> = hostile
        .iter()
        .map(|socket| scene.world.a.stack.local_addr(*socket).unwrap().port())
        .collect();
    // The hostile peers get no segment with payload.
    scene.world.link.filter = Some(Box::new(move |from, frame| {
        let port = || u16::from_be_bytes([frame[36], frame[37]]);
        from == 1 && !payload(frame).is_empty() && ports.contains(&port())
    }));
    for socket in &hostile {
        let hello = scene.hello.clone();
        scene.world.a.send(*socket, &hello);
    }
    let mut most = 0;
    let mut tick = 0;
    scene.run(Duration::from_secs(2), |scene| {
        tick += 1;
        if tick % 100 == 0 {
            scene.connect_fair();
        }
        most = most.max(scene.world.b.pages.usage().small_spans_used);
    });
    assert!(most < 48, "{most} of 64 small spans");
    scene.run(Duration::from_secs(1), |_| {});
    scene.assert_served(20);
    assert!(scene.world.b.stack.counters().handshakes_evicted_active > 50);
    scene.end();
}

/// Admission and the steps of handshakes that have begun take turns: a client's last flight doesn't
/// wait until all ClientHellos of a flood have their signatures.
#[test]
fn a_flood_of_client_hellos_does_not_stop_a_handshake_that_has_begun() {
    let mut scene = Scene::new(server(1 << 20), Duration::from_millis(5));
    let hostile: Vec<SocketId> = (0..50).map(|_| scene.connect_hostile()).collect();
    let mut peer = Peer::connect(&mut scene.world, &peer_config());
    let hello = peer.outgoing();
    peer.send_raw(&mut scene.world, &hello);
    scene.run(Duration::from_millis(20), |_| {});
    let world = &mut scene.world;
    peer.read(world);
    for socket in &hostile {
        assert!(world.a.send(*socket, &scene.hello) > 0);
    }
    deliver_without_a_turn(world);
    let finished = peer.outgoing();
    assert!(world.a.send(peer.socket, &finished) > 0);
    deliver_without_a_turn(world);
    let mut steps = 0;
    while world.b.stack.counters().handshakes_tls13 == 0 {
        let now = world.now;
        world.b.with(|stack, env| stack.step_handshake(now, env));
        steps += 1;
        assert!(
            steps <= 4,
            "two records of the client's, and two admissions"
        );
    }
    assert!(world.b.stack.handshakes() <= 2);
    scene.run(Duration::from_secs(1), |_| {});
    scene.end();
}

/// A record that isn't complete takes no step, so it doesn't delay the handshakes that can.
#[test]
fn an_incomplete_record_takes_no_step() {
    let mut scene = Scene::new(server(1 << 20), Duration::from_millis(5));
    let hostile: Vec<SocketId> = (0..50).map(|_| scene.connect_hostile()).collect();
    scene.run(Duration::from_millis(20), |_| {});
    let world = &mut scene.world;
    for socket in &hostile {
        assert!(world.a.send(*socket, &scene.hello[..100]) > 0);
    }
    deliver_without_a_turn(world);
    let now = world.now;
    assert!(world.b.stack.handshake_bytes() >= 5000);
    assert!(!world.b.with(|stack, env| stack.step_handshake(now, env)));
    for socket in &hostile[..1] {
        assert!(world.a.send(*socket, &scene.hello[100..]) > 0);
    }
    deliver_without_a_turn(world);
    assert!(!world.b.with(|stack, env| stack.step_handshake(now, env)));
    assert_eq!(world.b.stack.handshakes(), 1, "the complete one has begun");
    scene.end();
}

/// More ClientHellos than B's core signs: one step a millisecond, and two hostile ClientHellos in
/// it from the network of half of the clients. Clients of another network are served at once. Of
/// the others, the handshakes that are begun have time to end. Without the limit of the wait, each
/// would time out after its signature.
#[test]
fn more_client_hellos_than_signatures_keep_no_other_network_out() {
    let mut spec = server(32 << 20);
    spec.config.handshake_timeout = Duration::from_secs(2);
    let mut scene = Scene::new(spec, Duration::from_millis(5));
    let other = IpAddr::from([10, 0, 1, 1]);
    let mut waiting: Vec<SocketId> = Vec::new();
    let mut tick = 0;
    scene.world.b.takes_steps = false;
    scene.run(Duration::from_secs(6), |scene| {
        tick += 1;
        for _ in 0..2 {
            waiting.push(scene.connect_hostile());
            if let Some(ready) = waiting.len().checked_sub(40) {
                let hello = scene.hello.clone();
                scene.world.a.send(waiting[ready], &hello);
            }
            if let Some(old) = waiting.len().checked_sub(5000) {
                scene.world.a.stack.abort(waiting[old]);
            }
        }
        if tick % 50 == 25 {
            scene.connect_fair_from(Some(other));
        }
        if tick % 50 == 0 {
            scene.connect_fair();
        }
        let now = scene.world.now;
        scene
            .world
            .b
            .with(|stack, env| stack.step_handshake(now, env));
    });
    scene.world.b.takes_steps = true;
    scene.run(Duration::from_secs(3), |_| {});
    let counters = scene.world.b.stack.counters();
    let (others, same): (Vec<_>, Vec<_>) = scene.fair.iter().partition(|c| c.is_of_other_network);
    assert_eq!((others.len(), same.len()), (120, 120));
    let waited = |client: &FairClient| Some(client.served?.saturating_since(client.opened));
    // Three round trips and the work of two turns: the flood delays them by a step.
    for client in others {
        let time = waited(client);
        assert!(
            time.is_some_and(|time| time < Duration::from_millis(50)),
            "{time:?}\n{counters}"
        );
    }
    // Clients of the flooding network wait for half of the time of a handshake, and then for their
    // own round trips, also when the queue is as long as it gets.
    let late = same.iter().skip(60);
    let served = late.filter(|client| client.served.is_some()).count();
    assert!(served >= 50, "{served} of 60\n{counters}");
    assert!(counters.handshakes_evicted > 2000, "{counters}");
    scene.end();
}

/// Gives host B what A has to send, and nothing else: B takes no turn.
fn deliver_without_a_turn(world: &mut World) {
    let now = world.now;
    while world.a.turn(now) {}
    for frame in std::mem::take(&mut world.a.net.frames) {
        world.b.receive(now, &frame);
    }
}

/// A table full of connections whose peers send nothing has room for a client.
#[test]
fn silent_connections_make_room_in_a_full_table() {
    let mut spec = server(1 << 20);
    spec.config.limits.connections_max = 40;
    let mut scene = Scene::new(spec, Duration::from_millis(5));
    for _ in 0..60 {
        scene.connect_hostile();
    }
    scene.run(Duration::from_millis(100), |_| {});
    let counters = scene.world.b.stack.counters();
    assert_eq!(
        (scene.world.b.stack.connections(), counters.accept_dropped),
        (40, 20)
    );
    for _ in 0..10 {
        scene.connect_fair();
        scene.run(Duration::from_millis(300), |_| {});
    }
    scene.run(Duration::from_secs(3), |_| {});
    scene.assert_served(10);
    let counters = scene.world.b.stack.counters();
    assert!(counters.handshakes_evicted >= 10, "{counters}");
    scene.end();
}

/// The peer of an evicted handshake gets a reset, the application the reason.
#[test]
fn an_evicted_handshake_is_reset() {
    let mut scene = Scene::new(server(150), Duration::from_millis(1));
    let sockets = [scene.connect_hostile(), scene.connect_hostile()];
    scene.run(Duration::from_millis(5), |_| {});
    for socket in sockets {
        scene.world.a.send(socket, &[22, 3, 1, 1, 0, 1, 0, 0, 0xfc]);
        scene.world.a.send(socket, &[0; 60]);
        scene.world.run(Duration::from_millis(5));
    }
    let closed = |n: &Notice| match n {
        Notice::Closed(socket, reason) => Some((*socket, *reason)),
        _ => None,
    };
    let first = scene.world.expect(0, "Closed", closed);
    assert_eq!(first, (sockets[0], CloseReason::Reset));
    let reason = scene.world.expect(1, "Closed", closed).1;
    assert_eq!(reason, CloseReason::Handshake(Failure::Evicted));
    assert_eq!(scene.world.b.stack.connections(), 1);
    scene.end();
}

/// Bytes out of order pin packet buffers. A handshake may have 64 KiB of them, and no more than any
/// other if the receive budget is scarce.
#[test]
fn bytes_out_of_order_are_bounded_in_a_handshake() {
    let mut scene = Scene::new(server(1 << 20), Duration::from_millis(1));
    let socket = scene.connect_hostile();
    scene.run(Duration::from_millis(5), |_| {});
    // The first segment never arrives.
    let port = scene.world.a.stack.local_addr(socket).unwrap().port();
    scene.world.link.filter = Some(Box::new(move |from, frame| {
        let is_first = payload(frame).starts_with(&[22, 3, 1]);
        from == 0 && is_first && frame[34..36] == port.to_be_bytes()
    }));
    let record = [&[22, 3, 1, 0x40, 0][..], &[9; 60_000]].concat();
    scene.world.a.send(socket, &record);
    scene.run(Duration::from_secs(3), |_| {});
    let pinned = u64::from(scene.world.b.buffers.usage().blocks_used) * 2176;
    assert!((1..=70_000).contains(&pinned), "{pinned} bytes");
    scene.connect_fair();
    scene.run(Duration::from_millis(100), |_| {});
    scene.assert_served(1);
    scene.end();
}

const REQUEST: usize = 100;
const RESPONSE: usize = 8000;
