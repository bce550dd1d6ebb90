//! A link that goes and comes back.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use lockgate_testing::HANG_LIMIT;
use lockgate_testing::cases::Case;
use lockgate_testing::network::{self, SERVER4};

use crate::support::appliance::{Bench, Setup};
use crate::support::capture::{ANNOUNCEMENTS, Capture};
use crate::support::card::Card;
use crate::support::spec::MachineSpec;

pub(crate) const CASES: &[Case] = &[
    Case::new("rows::link_e1000", || link(Card::E1000)),
    Case::new("rows::link_e1000e", || link(Card::E1000e)),
    Case::new("rows::link_igb", || link(Card::Igb)),
    Case::new("rows::link_igb_vf", || link(Card::IgbVf)),
    Case::new("rows::link_vmxnet3", || link(Card::Vmxnet3)),
    Case::new("rows::link_virtio", || link(Card::Virtio)),
];

/// A response under way when the link goes down is completed when it is up again, and the addresses
/// are announced each time.
fn link(card: Card) {
    let mut bench = Setup::new(MachineSpec::new(card)).boot();
    bench.start();
    bench.wait_for_link(0, true);
    let namespace = bench.machine.namespace().to_owned();
    let mut stream = network::inside(&namespace, || {
        TcpStream::connect((SERVER4, 80)).expect("the appliance listens")
    });
    stream
        .set_read_timeout(Some(HANG_LIMIT))
        .expect("a stream has this setting");
    let mut received = request(&mut stream);
    for _ in 0..ROUNDS {
        bench.set_link(0, false);
        let capture = Capture::start(&bench.machine, 0, ANNOUNCEMENTS);
        bench.set_link(0, true);
        capture.wait_for_announcements();
        capture.finish();
        let len = received.len() + PART;
        read_until(&mut stream, &mut received, len);
    }
    check(&bench, &mut stream, received);
    // The same connection serves the next request.
    let received = request(&mut stream);
    check(&bench, &mut stream, received);
    drop(stream);
    bench.finish();
}

/// Sends a request and reads the first part of the response.
fn request(stream: &mut TcpStream) -> Vec<u8> {
    stream
        .write_all(b"GET /body HTTP/1.1\r\nHost: lockgate.test\r\n\r\n")
        .expect("the connection is open");
    let mut received = Vec::new();
    read_until(stream, &mut received, PART);
    received
}

/// Reads the rest of a response, which has to be `/body`.
fn check(bench: &Bench, stream: &mut TcpStream, mut received: Vec<u8>) {
    let head_end = received.windows(4).position(|window| window == b"\r\n\r\n");
    let head = head_end.expect("a head is shorter than the first part") + 4;
    read_until(stream, &mut received, head + bench.body().len());
    // Not by assert_eq!, which would print both.
    assert!(received[head..] == *bench.body(), "another body");
}

/// Reads until so many bytes are received.
fn read_until(stream: &mut TcpStream, received: &mut Vec<u8>, len: usize) {
    let from = received.len();
    received.resize(len, 0);
    stream
        .read_exact(&mut received[from..])
        .expect("the connection survives");
}

const ROUNDS: usize = 2;
const PART: usize = 64 << 10;
