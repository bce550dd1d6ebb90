//! How connections end: each end has a stated result and a counter.
#![forbid(unsafe_code)]

mod support;

use std::time::Duration;

use lockgate_stack::tls::TlsOptions;
use lockgate_stack::{CloseReason, ConnectConfig, ListenConfig, Notice, SocketId};
use support::{World, pki};

/// A connected pair: A's socket, B's socket.
fn connected(world: &mut World, tls: Option<&TlsOptions>) -> (SocketId, SocketId) {
    let listen = ListenConfig { tls: tls.map(pki::server), ..ListenConfig::default() };
    let at = world.b_addr(443);
    world.b.stack.listen(at, listen).unwrap();
    connect(world, tls)
}

fn connect(world: &mut World, tls: Option<&TlsOptions>) -> (SocketId, SocketId) {
    let at = world.b_addr(443);
    let config = ConnectConfig {
        tls: tls.map(|tls| (pki::client(tls), pki::name())),
        ..ConnectConfig::default()
    };
    let a = world.a.stack.connect(world.now, at, config).unwrap();
    let b = world.expect(1, "Accepted", |n| match n {
        Notice::Accepted { socket, .. } => Some(*socket),
        _ => None,
    });
    let done = |n: &Notice| matches!(n, Notice::HandshakeDone(..)).then_some(());
    if tls.is_some() {
        world.expect(0, "HandshakeDone", done);
        world.expect(1, "HandshakeDone", done);
    } else {
        world.expect(0, "Connected", |n| matches!(n, Notice::Connected(_)).then_some(()));
    }
    (a, b)
}

fn closed(world: &mut World, of: usize) -> CloseReason {
    world.expect(of, "Closed", |n| match n {
        Notice::Closed(_, reason) => Some(*reason),
        _ => None,
    })
}

fn modes() -> [Option<TlsOptions>; 2] {
    [None, Some(TlsOptions::default())]
}

#[test]
fn request_and_response_and_a_clean_end() {
    for tls in modes() {
        let mut world = World::simple();
        let (a, b) = connected(&mut world, tls.as_ref());
        world.a.send(a, b"request");
        world.run(Duration::from_millis(10));
        assert_eq!(world.b.drain(b), (b"request".to_vec(), None));
        world.b.send(b, b"response");
        world.b.stack.close(b);
        world.run(Duration::from_millis(10));
        assert_eq!(world.a.drain(a), (b"response".to_vec(), Some(true)));
        world.a.stack.close(a);
        assert_eq!(closed(&mut world, 0), CloseReason::Clean);
        assert_eq!(closed(&mut world, 1), CloseReason::Clean);
        assert_eq!(world.a.stack.counters().end_clean, 1);
        assert_eq!(world.b.stack.counters().end_clean, 1);
        assert_eq!(world.b.stack.in_time_wait(), 1);
        world.run(Duration::from_secs(70));
        assert_eq!(world.b.stack.in_time_wait(), 0);
        world.a.assert_full();
        world.b.assert_full();
    }
}
