//! Full TLS 1.3 handshakes: the server's time for one, from SYN to the connection's end, against
//! rustls's time in memory.

use core::time::Duration;
use std::sync::Arc;

use lockgate::clock::Clock;
use lockgate_drivers::Assume;
use lockgate_stack::{Limits, ListenConfig, Notice};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use crate::peer::Peer;
use crate::rows::{Row, median};
use crate::side::{SUBJECT_CORE, eal, link, service};
use crate::tls::{Identity, NAME};

/// Both ends run on one core, so that the same clock times only the server's turns.
pub(crate) fn measure() {
    let (near, far) = link(eal(), "hs", Assume::ALL);
    let identity = Identity::new();
    let client = identity.rustls_client();
    let beside = identity.rustls_server(TICKETS);

    let mut server = near.enter(SUBJECT_CORE, Limits::default());
    let mut side = far.enter(SUBJECT_CORE, Limits::default());
    let config = ListenConfig {
        tls: Some(identity.stack_server(TICKETS)),
        ..ListenConfig::default()
    };
    server.stack.listen(service(), config).unwrap();

    let (mut subject, mut baseline) = (Vec::new(), Vec::new());
    for _ in 0..HANDSHAKES {
        let mut spent = Duration::ZERO;
        let mut done = false;
        let mut turn = |server: &mut crate::side::Endpoint| {
            let start = server.clock.now();
            server.receive();
            while let Some(notice) = server.notice() {
                done |= matches!(notice, Notice::HandshakeDone(..));
            }
            server.transmit();
            spent += server.clock.now().saturating_since(start);
        };
        let peer = Peer::connect_beside(&mut side, &client, || turn(&mut server));
        side.stack.abort(peer.socket);
        while server.stack.connections() > 0 {
            side.transmit();
            turn(&mut server);
        }
        assert!(done, "the server has seen the end of the handshake");
        subject.push(spent.as_secs_f64());
        baseline.push(alone(side.clock, &beside, &client).as_secs_f64());
    }
    Row::new(
        "full TLS 1.3 handshakes, P-256, one core, TCP included",
        "1/s",
        1.0 / median(subject),
    )
    .against(1.0 / median(baseline))
    .aim(0.85)
    .emit();
}

/// Measures the server's time of a handshake of rustls with rustls in memory.
fn alone(clock: Clock, server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Duration {
    let name = ServerName::try_from(NAME).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let start = clock.now();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let mut spent = clock.now().saturating_since(start);
    let mut flight = Vec::new();
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() {
        flight.clear();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        let start = clock.now();
        let mut input = flight.as_slice();
        while !input.is_empty() {
            server.read_tls(&mut input).unwrap();
            server.process_new_packets().unwrap();
        }
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer).unwrap();
        }
        spent += clock.now().saturating_since(start);
        let mut input = answer.as_slice();
        while !input.is_empty() {
            client.read_tls(&mut input).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    let start = clock.now();
    drop(server);
    spent + clock.now().saturating_since(start)
}

const HANDSHAKES: usize = 1000;
/// As many as the appliance sends.
const TICKETS: u8 = 2;
