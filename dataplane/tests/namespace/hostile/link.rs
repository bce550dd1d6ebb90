//! A hostile station on the link: floods of frames and of segments beside fair clients.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use lockgate_testing::cases::Case;
use lockgate_testing::network;
use lockgate_wire::tcp::Flags;
use rustix::net::sockopt;

use super::fair::beside_fair_clients;
use super::frames::{Frames, Source};
use super::packet_socket::{PacketSocket, mac_of};
use super::{finish, usual};
use crate::support::client::{Conn, address4, connect_with, plain, request, secure};
use crate::support::scene::{Scene, Setup};
use crate::support::server::Stats;

pub(crate) const CASES: &[Case] = &[
    Case::new("hostile::frames", || {
        frames(usual());
    }),
    // The gateway of all fair clients is a station beside the hostile one.
    Case::new("hostile::frames_beside_the_gateway", || {
        let stats = frames(usual().routed());
        assert!(stats.total("neighbours.evicted") > 0, "{stats:?}");
    }),
    Case::new("hostile::frames_where_pools_are_small", || {
        frames(Setup::smallest());
    }),
    Case::new("hostile::frames_to_two_workers", || {
        let stats = frames(usual().workers(2));
        assert!(stats.total("stack.sibling_frames_in") > 0, "{stats:?}");
        assert_both_accepted(&stats);
    }),
    Case::new("hostile::segments", || segments(usual())),
    Case::new("hostile::segments_where_pools_are_small", || {
        segments(Setup::smallest());
    }),
    Case::new("hostile::segments_to_one_of_two_workers", one_of_two),
    Case::new("hostile::connections_from_few_ports", few_ports),
];

/// Makes a frame.
type Kind = fn(&mut Frames) -> Vec<u8>;

/// Frames that belong to no connection. Each kind is counted. Returns the counters.
fn frames(setup: Setup) -> Stats {
    let scene = setup.start();
    let stats = flood(
        &scene,
        &[
            Frames::arp_request,
            Frames::arp_reply,
            Frames::arp_announcement,
            Frames::solicitation,
            Frames::solicitation_to_resolve,
            Frames::advertisement,
            Frames::echo_request,
            Frames::echo_request6,
            Frames::icmp_error,
            Frames::fragment,
            Frames::fragment6,
            Frames::extension_headers,
            Frames::multicast,
            Frames::broadcast,
            Frames::udp,
            Frames::unknown_protocol,
            Frames::garbage,
        ],
    );
    for counter in [
        "arp.requests_in",
        "arp.replies_in",
        "arp.announcements_in",
        "icmp.nd_solicits_in",
        "icmp.nd_adverts_in",
        "icmp.echo_limited",
        "icmp.errors_in",
        "icmp.errors_limited",
        "ip.drop.fragment",
        "ip.drop.extensions",
        "ip.drop.group",
        "ip.refused",
        "neighbours.created",
    ] {
        assert!(stats.total(counter) > 0, "{counter}: {stats:?}");
    }
    finish(scene);
    stats
}

/// Segments of no connection, segments with the numbers of others' connections, and SYNs to a
/// listener that the fair clients don't use. An established connection lasts.
fn segments(setup: Setup) {
    let scene = setup.set("tcp.half_open_max", 32).start();
    scene.file("kept.bin", 10_000);
    let mut kept = scene.inside(|| secure(&scene.roots).expect("a connection"));
    let stats = flood(
        &scene,
        &[
            |frames| frames.segment6(80, Flags::SYN),
            |frames| {
                let port = frames.any_port();
                frames.segment(Source::Stranger, port, Flags::SYN)
            },
            |frames| {
                let port = frames.any_port();
                frames.segment(Source::Stranger, port, Flags::ACK)
            },
            |frames| {
                let port = frames.any_port();
                frames.segment6(port, Flags::ACK)
            },
            |frames| frames.segment(Source::FairClient, 80, Flags::RST),
            |frames| frames.segment(Source::FairClient, 443, Flags::RST),
            |frames| frames.segment(Source::FairClient, 443, Flags::ACK),
            |frames| frames.segment(Source::FairClient, 8080, Flags::SYN),
        ],
    );
    for counter in [
        "stack.half_open_evicted",
        "stack.no_connection",
        "stack.resets_limited",
    ] {
        assert!(stats.total(counter) > 0, "{counter}: {stats:?}");
    }
    let reply = scene.inside(|| kept.get("/kept.bin").expect("an answer"));
    assert_eq!((reply.status, reply.body.len()), (200, 10_000));
    drop(kept);
    finish(scene);
}

/// All segments of a flood have the same addresses and ports, so that they come to one worker.
fn one_of_two() {
    let scene = usual().workers(2).start();
    let stats = flood(&scene, &[Frames::segment_of_one_flow]);
    assert!(stats.total("stack.no_connection") > 0, "{stats:?}");
    assert_both_accepted(&stats);
    finish(scene);
}

/// Connections that follow each other from the same ports, with more entries in TIME-WAIT than
/// there may be.
fn few_ports() {
    const PORTS: u16 = 200;
    let scene = Setup::smallest().set("tcp.time_wait", "60s").start();
    let body = scene.file("small.bin", 1000);
    let fetch = |port: u16| {
        let tcp = connect_with(address4(80), |socket| {
            sockopt::set_socket_reuseaddr(socket, true)?;
            let from = SocketAddr::from(SocketAddrV4::new(CLIENT4, port));
            Ok(rustix::net::bind(socket, &from)?)
        });
        let mut conn = Conn::new(tcp.expect("a connection"));
        let get = request("GET", "/small.bin", "Connection: close\r\n");
        conn.send(get.as_bytes()).expect("it is open");
        let reply = conn.reply("GET").expect("an answer");
        assert!(reply.body == body, "port {port}");
        let mut end = Vec::new();
        let read = conn.stream().read_to_end(&mut end);
        assert_eq!(read.expect("the end"), 0, "port {port}");
    };
    let stats = beside_fair_clients(&scene, scene.net.client(), |_| {
        for _ in 0..20 {
            (20_000..20_010).for_each(fetch);
        }
        (20_000..20_000 + PORTS).for_each(fetch);
        (20_000..20_000 + PORTS).for_each(fetch);
        scene.server.stats()
    });
    assert!(stats.total("stack.time_wait") > 200, "{stats:?}");
    assert!(stats.total("stack.time_wait_overflow") > 0, "{stats:?}");
    scene.inside(|| {
        plain()
            .and_then(|mut conn| conn.get("/"))
            .expect("an answer")
    });
    finish(scene);
}

/// Sends frames of these kinds in turn from the namespace next to the appliance, beside fair
/// clients. Returns the counters at its end.
fn flood(scene: &Scene, kinds: &[Kind]) -> Stats {
    let to = network::inside(scene.net.server(), || mac_of("lg0"));
    beside_fair_clients(scene, scene.net.client(), |fair| {
        network::inside(scene.net.next_to_server(), || {
            let socket = PacketSocket::open("lg1");
            let mut frames = Frames::new(to);
            let mut burst = || {
                for kind in kinds.iter().cycle().take(BURST) {
                    socket.send(&kind(&mut frames));
                }
            };
            for _ in 0..BURSTS_MIN {
                burst();
            }
            fair.wait_rounds_while(ROUNDS, burst);
        });
        scene.server.stats()
    })
}

fn assert_both_accepted(stats: &Stats) {
    for worker in ["0", "1"] {
        let accepted = stats.json()["workers"][worker]["stack.accepted"].as_u64();
        assert!(accepted > Some(0), "worker {worker}: {stats:?}");
    }
}

const CLIENT4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// Frames at once.
const BURST: usize = 2000;
/// Twenty thousand frames at least.
const BURSTS_MIN: usize = 10;
/// Rounds of each fair client beside the flood.
const ROUNDS: u64 = 5;
