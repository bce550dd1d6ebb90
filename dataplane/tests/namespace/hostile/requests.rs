//! Hostile peers that send slow, long and unusual requests, beside fair clients.

use std::iter;

use super::fair::beside_fair_clients;
use super::senders::{Sender, Senders};
use super::{finish, usual};
use crate::support::client::{address4, connect, request};
use crate::support::scene::Setup;
use lockgate_testing::cases::Case;

pub(crate) const CASES: &[Case] = &[
    Case::new("hostile::a_byte_of_a_head_at_a_time", || {
        requests(usual(), 500, &[long_head(1)]);
    }),
    Case::new("hostile::requests", || {
        requests(usual(), 100, &kinds());
    }),
    Case::new("hostile::requests_where_pools_are_small", || {
        requests(Setup::smallest(), 40, &kinds());
    }),
];

/// What a peer sends: a beginning, then a piece again and again.
struct Kind {
    name: &'static str,
    begin: String,
    piece: String,
    /// How much of both a peer sends at once.
    step: usize,
    /// Whether the appliance ends the connection.
    is_refused: bool,
}

/// Sends each kind from so many peers, one kind after the other.
fn requests(setup: Setup, peers: usize, kinds: &[Kind]) {
    let scene = setup.start();
    scene.file("small.bin", 1000);
    for kind in kinds {
        beside_fair_clients(&scene, scene.net.client(), |fair| {
            let mut senders = Senders::open(peers, |_| {
                let tcp = connect(address4(80))?;
                Sender::new(tcp, kind.steps())
            });
            fair.wait_rounds_while(ROUNDS, || senders.run());
            if kind.is_refused {
                senders.run_until_ended(kind.name);
            }
        });
    }
    finish(scene);
}

impl Kind {
    fn steps(&self) -> impl FnMut() -> Vec<u8> {
        let pieces = iter::repeat(self.piece.as_bytes()).flatten();
        let mut bytes = self.begin.as_bytes().iter().chain(pieces);
        move || bytes.by_ref().take(self.step).copied().collect()
    }
}

fn kinds() -> Vec<Kind> {
    let get = |headers: &str| request("GET", "/small.bin", headers);
    let kind = |name, begin: String, piece: &str| Kind {
        name,
        begin,
        piece: piece.to_owned(),
        step: 4000,
        is_refused: true,
    };
    let chunked = get("Transfer-Encoding: chunked\r\n");
    let after_head = |begin: &str| [&chunked[..], begin].concat();
    let with_body = [&get("Content-Length: 10\r\n"), "0123456789"].concat();
    vec![
        long_head(1000),
        Kind {
            is_refused: false,
            ..kind("requests with bodies", String::new(), &with_body)
        },
        Kind {
            step: 1,
            is_refused: false,
            ..kind("chunks by the byte", chunked.clone(), "1\r\nz\r\n")
        },
        kind("many chunks", chunked.clone(), "1\r\nz\r\n"),
        kind("a chunk extension", after_head("1;e="), "eeeeeeee"),
        kind("trailers", after_head("0\r\n"), "a: bbbbbbbbbb\r\n"),
        kind(
            "a body without an end",
            get("Content-Length: 99999999999\r\n"),
            "bbbbbbbb",
        ),
        kind("empty lines", String::new(), "\r\n"),
    ]
}

/// A head that grows to the limit.
fn long_head(step: usize) -> Kind {
    let head = request("GET", "/small.bin", "");
    let begin = head.strip_suffix("\r\n").expect("it ends so");
    Kind {
        name: "a head without an end",
        begin: begin.to_owned(),
        piece: "a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n".to_owned(),
        step,
        // One peer after the other reaches the limit.
        is_refused: step > 1,
    }
}

/// Rounds of each fair client beside each kind.
const ROUNDS: u64 = 3;
