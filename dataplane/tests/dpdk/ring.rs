//! Two stacks in one process, TLS between them, over a pair of rings.

use std::net::SocketAddr;

use lockgate_drivers::{Assume, PortConfig};
use lockgate_ktls::{Params, Suite};
use lockgate_stack::tls::TlsOptions;
use pktbuf::{PageArena, Region};

use crate::exhaustion::Scarcity;
use crate::support::eal;
use crate::support::host::{self, Report, Spec, address};
use crate::support::pki::{Pki, name, only};
use crate::support::ring::{Ending, Net};
use crate::support::source::Source;
use crate::support::transfer::{Open, Transfer};
use crate::support::wire::Faults;
use lockgate_testing::cases::Case;

pub(crate) const CASES: &[Case] = &[
    Case::new("ring::a_gibibyte_with_losses", a_gibibyte_with_losses),
    Case::new("ring::uncut_bursts", uncut_bursts),
    Case::new("ring::uncut_bursts_with_losses", uncut_bursts_with_losses),
    Case::new("ring::segments_on_a_good_wire", segments_on_a_good_wire),
    Case::new(
        "ring::jumbo_segments_with_losses",
        jumbo_segments_with_losses,
    ),
    Case::new("ring::without_tls_with_losses", without_tls_with_losses),
    Case::new("ring::every_suite_both_ways", every_suite_both_ways),
];

/// A transfer's circumstances.
pub(crate) struct Way {
    pub(crate) ipv6: bool,
    pub(crate) faults: Faults,
    pub(crate) tls: Option<TlsOptions>,
    /// Bytes to the client, by reference, and back, by copy.
    pub(crate) down: u64,
    pub(crate) up: u64,
    pub(crate) scarcity: Option<Scarcity>,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            ipv6: false,
            faults: Faults::default(),
            tls: Some(TlsOptions::default()),
            down: 256 * MIB,
            up: 4 * MIB,
            scarcity: None,
        }
    }
}

type Ended = (Report<Transfer>, Report<Transfer>, Ending);

/// Runs a transfer to its end and judges what has to be right in any case.
pub(crate) fn transfer(net: Net, seed: u64, way: Way) -> Ended {
    let arena_bytes = 2 * Source::ARENA_BYTES;
    let mut region = Region::heap(arena_bytes + 8192).expect("memory");
    let arena = PageArena::new(&mut region, arena_bytes).expect("an arena");
    let pki = Pki::new();
    let server_tls = way.tls.as_ref().map(|options| pki.server(options));
    let client_tls = way
        .tls
        .as_ref()
        .map(|options| (pki.client(options), name()));
    let at = SocketAddr::new(address(SERVER, way.ipv6), 443);
    let (a, b) = (seed ^ 0xa, seed ^ 0xb);
    let server = Transfer::new(
        Open::Listen(at, server_tls),
        (Source::in_cache(a, &arena), way.down),
        (Source::new(b), way.up),
    );
    let client = Transfer::new(
        Open::Connect(at, client_tls),
        (Source::new(b), way.up),
        (Source::new(a), way.down),
    );
    let plain = |number: u8| Spec {
        faults: if number == SERVER {
            way.faults
        } else {
            // A lost acknowledgement is one for a whole burst, and costs a time-out.
            Faults {
                lost: way.faults.lost / 10,
                ..way.faults
            }
        },
        check_retransmissions: true,
        seed: seed ^ u64::from(number),
        ..Spec::new(number)
    };
    let spec = |number| match &way.scarcity {
        Some(scarcity) => scarcity.limit(plain(number)),
        None => plain(number),
    };
    let ended = host::run(net, (spec(SERVER), server), (spec(CLIENT), client));
    let (server, client, ending) = &ended;
    tracing::info!(
        took = ?client.took,
        lost = server.wire.lost + client.wire.lost,
        late = client.wire.late,
        timeouts = server.tcp.timeouts + client.tcp.timeouts,
        checked = server.retransmitted_bytes,
        retransmitted = server.tcp.bytes_retransmitted,
        "{} MiB/s",
        (way.down + way.up) * 1000 / u64::try_from(client.took.as_millis()).unwrap() / MIB
    );
    server.app.assert_complete();
    client.app.assert_complete();
    for (report, port) in [server, client].into_iter().zip(&ending.ports) {
        assert_eq!(port.tx_payload_copied, 0, "{port:?}");
        assert_eq!(port.tx_dropped_plaintext, 0, "{port:?}");
        assert_eq!(report.stack.bad_checksum, 0);
        assert_eq!(report.stack.malformed, 0);
        assert_eq!(
            report.retransmitted_bytes, report.tcp.bytes_retransmitted,
            "as TCP counts it"
        );
        // The peer's own memory: whatever was decrypted there is gone for a retransmission.
        assert_eq!(report.count("rx_inplace"), 0);
    }
    // What the application gave by reference was never copied, and that's all of it.
    assert_eq!(server.stack.bytes_by_reference, way.down);
    assert_eq!(server.stack.bytes_by_copy, 0);
    assert_eq!(client.stack.bytes_by_copy, way.up);
    if way.tls.is_some() {
        assert!(server.count("separate_output") >= way.down / 16_384);
        assert_eq!(server.count("active"), 0, "sessions are over");
    }
    server.app.source.assert_unreferenced();
    ended
}

/// Losses happened and were repaired from what the peer acknowledged. How soon, and that time-outs
/// are rare, is what the simulators check, where time is simulated.
fn with_losses(ended: &Ended) {
    let (server, client, _) = ended;
    assert!(server.wire.lost > 0 && client.wire.late > 0);
    assert!(server.tcp.bytes_retransmitted > 0);
    assert!(server.tcp.recoveries > 0);
}

fn a_gibibyte_with_losses() {
    let net = Net::open(eal(), "t", |_| ());
    let way = Way {
        down: 1024 * MIB,
        faults: LOSSES,
        ..Way::default()
    };
    let ended = transfer(net, 1, way);
    with_losses(&ended);
}

fn uncut_bursts() {
    let net = Net::open(eal(), "t", assume_all);
    let (server, _, Ending { ports, .. }) = transfer(net, 2, Way::default());
    assert!(ports[0].tx_tso > 0 && ports[0].tx_gso == 0, "{ports:?}");
    nothing_is_taken_for_lost(&server);
}

/// On a wire without faults only a host that got no processor for the length of a time-out makes
/// its peer send anything again.
fn nothing_is_taken_for_lost<A>(report: &Report<A>) {
    let tcp = &report.tcp;
    assert_eq!(tcp.recoveries, 0, "{tcp:?}");
    assert!(
        tcp.bytes_retransmitted == 0 || tcp.timeouts + tcp.rescues > 0,
        "{tcp:?}"
    );
}

fn uncut_bursts_with_losses() {
    let net = Net::open(eal(), "t", assume_all);
    // A frame is a whole burst here.
    let faults = Faults {
        lost: 100,
        doubled: 100,
        late: 50,
    };
    let way = Way {
        faults,
        ipv6: true,
        ..Way::default()
    };
    let ended = transfer(net, 3, way);
    with_losses(&ended);
}

fn segments_on_a_good_wire() {
    let net = Net::open(eal(), "t", |_| ());
    let (server, client, Ending { ports, .. }) = transfer(
        net,
        4,
        Way {
            ipv6: true,
            ..Way::default()
        },
    );
    assert_eq!(ports[0].tx_tso, 0);
    nothing_is_taken_for_lost(&server);
    nothing_is_taken_for_lost(&client);
}

fn jumbo_segments_with_losses() {
    let net = Net::open(eal(), "t", |port| port.mtu = 9000);
    let ended = transfer(
        net,
        5,
        Way {
            faults: LOSSES,
            ..Way::default()
        },
    );
    with_losses(&ended);
}

fn without_tls_with_losses() {
    let net = Net::open(eal(), "t", |_| ());
    let ended = transfer(
        net,
        6,
        Way {
            tls: None,
            faults: LOSSES,
            ..Way::default()
        },
    );
    with_losses(&ended);
}

fn every_suite_both_ways() {
    let eal = eal();
    let negotiated = |params: &Params| {
        let suite = params.suite;
        suite.is_gcm() || suite == Suite::Chacha20Poly1305
    };
    let negotiated = Params::ALL.into_iter().filter(negotiated);
    for (number, params) in negotiated.enumerate() {
        let net = Net::open(eal, &format!("t{number}"), |_| ());
        let way = Way {
            tls: Some(only(params)),
            down: 16 * MIB + 1,
            up: 16 * MIB + 7,
            faults: LOSSES,
            ipv6: number % 2 == 1,
            ..Way::default()
        };
        let (server, client, _) = transfer(net, 10 + number as u64, way);
        for app in [&server.app, &client.app] {
            let info = app.info.as_ref().expect("a handshake");
            assert_eq!(info.params, params);
        }
    }
}

fn assume_all(port: &mut PortConfig) {
    port.assume = Assume::ALL;
}

impl<A> Report<A> {
    /// The record layer's counters whose names end like this, added up.
    fn count(&self, ending: &str) -> u64 {
        let of = self.ktls.iter().filter(|(name, _)| name.ends_with(ending));
        let values: Vec<_> = of.map(|(_, value)| *value).collect();
        assert!(!values.is_empty(), "no counter ends with {ending}");
        values.iter().sum()
    }
}

const SERVER: u8 = 1;
const CLIENT: u8 = 2;
const MIB: u64 = 1 << 20;
/// A lost frame in 500, and as many that come twice or late.
const LOSSES: Faults = Faults {
    lost: 20,
    doubled: 20,
    late: 20,
};
