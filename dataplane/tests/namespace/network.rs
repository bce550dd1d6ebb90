//! What is below TCP: ICMP, closed ports, a path with a smaller MTU.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use lockgate_wire::ipv4::Ipv4View;
use lockgate_wire::tcp::TcpView;
use rustix::net::{AddressFamily, Protocol, RawProtocol, RecvFlags, SocketType, recv, sockopt};

use crate::support::client::{address4, address6, connect, plain};
use crate::support::scene::{Scene, Setup};
use crate::support::server::Stats;
use lockgate_testing::cases::Case;
use lockgate_testing::network::{SERVER4, SERVER6, ip};
use lockgate_testing::process::{Ran, run};
use lockgate_testing::{HANG_LIMIT, wait_until};

pub(crate) const CASES: &[Case] = &[
    Case::new("network::pings_of_every_size_at_mtu_1500", || pings(1500)).with(&["ping"]),
    Case::new("network::pings_of_every_size_at_mtu_9000", || pings(9000)).with(&["ping"]),
    Case::new("network::closed_ports_refuse", closed_ports),
    Case::new("network::a_smaller_mtu_on_the_path", smaller_mtu).with(&["curl"]),
    Case::new("network::partial_checksums_are_named", partial_checksums).with(&["curl"]),
    Case::new("network::nagle_if_it_is_asked_for", nagle),
];

/// Echo requests up to the largest that fits are answered; a larger one comes in pieces, which
/// aren't put together.
fn pings(mtu: u16) {
    let scene = Setup::new().mtu(mtu).start();
    for (address, headers) in [(SERVER4, 28), (SERVER6, 48)] {
        for size in [0, 1, 56, 1000, mtu - headers - 1, mtu - headers] {
            // Sends requests until two are answered, which exit code 0 reports; late answers may
            // come together. The time limit catches a hang.
            let answered = ping(&scene, address, size, &["-c", "2", "-w", "120"]);
            assert_eq!(answered.code, Some(0), "{address} {size}: {answered:?}");
        }
        // The af_packet driver has the kernel put IPv4 together: then it's the answer that is too
        // large.
        let dropped =
            |stats: &Stats| stats.total("ip.drop.fragment") + stats.total("icmp.echo_too_big");
        let before = dropped(&scene.server.stats());
        let oversized = ping(&scene, address, mtu - headers + 1, &["-c", "2", "-W", "1"]);
        assert_eq!(oversized.code, Some(1), "{address}: {oversized:?}");
        wait_until("two dropped requests", || {
            dropped(&scene.server.stats()) >= before + 2
        });
    }
    // Requests that were sent while an answer was late are answered, too.
    let stats = scene.server.stats();
    assert!(stats.total("icmp.echo_replies_out") >= 24, "{stats:?}");
    scene.finish();
}

fn ping(scene: &Scene, address: &str, size: u16, end: &[&str]) -> Ran {
    let mut command = scene.command("ping");
    let size = size.to_string();
    run(command
        .args(["-n", "-i", "0.2", "-s", &size])
        .args(end)
        .arg(address))
}

/// A closed port answers TCP by a reset and UDP by port unreachable: the client's error is
/// "refused", not "timed out".
fn closed_ports() {
    let scene = Setup::new().start();
    scene.inside(|| {
        for to in [address4(81), address6(81), address4(65535), address6(1)] {
            let error = connect(to).expect_err("no port listens");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
        }
        for (to, from) in [(SERVER4, "0.0.0.0"), (SERVER6, "::")] {
            let to: IpAddr = to.parse().expect("an address");
            let from: IpAddr = from.parse().expect("an address");
            let socket = UdpSocket::bind((from, 0)).expect("a port is free");
            socket
                .connect(SocketAddr::new(to, 443))
                .expect("there's a route");
            socket
                .set_read_timeout(Some(HANG_LIMIT))
                .expect("it isn't zero");
            socket.send(b"QUIC?").expect("it can be sent");
            let error = socket.recv(&mut [0; 10]).expect_err("no listener");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
        }
    });
    let stats = scene.server.stats();
    // The kernel may have sent a SYN twice before it saw the answer.
    let refused = stats.total("stack.no_connection");
    assert!(refused >= 4, "{stats:?}");
    assert_eq!(stats.total("stack.resets_out"), refused, "{stats:?}");
    assert_eq!(stats.total("icmp.errors_out"), 2, "{stats:?}");
    scene.finish();
}

/// While the peer of a veth pair leaves checksums to its card, every packet is dropped. The log
/// warns once, with the command that helps; after that command requests are served.
fn partial_checksums() {
    let scene = Setup::new().start();
    let file = scene.file("some.bin", 10_000);
    let offload = |state: &str| {
        let mut command = scene.command("ethtool");
        run(command.args(["-K", "lg1", "tx", state])).ok();
    };
    let warnings = || {
        let log = scene.server.log();
        let about = log
            .lines()
            .filter(|line| line.contains("partial checksums"));
        about.map(str::to_owned).collect::<Vec<_>>()
    };
    let fetch =
        |arguments: &[&str]| scene.curl(&[arguments, &["http://198.18.0.1/some.bin"]].concat());
    assert!(fetch(&["-f"]).ok().out == file);
    assert_eq!(scene.server.stats().total("stack.partial_checksum"), 0);
    assert!(warnings().is_empty(), "{:?}", warnings());

    offload("on");
    // A connection can't be opened, however long that is tried.
    for _ in 0..2 {
        assert_eq!(fetch(&["--connect-timeout", "1"]).code, Some(28));
    }
    let stats = scene.server.stats();
    let dropped = stats.total("stack.partial_checksum");
    assert!(dropped >= 2, "{stats:?}");
    assert_eq!(stats.total("stack.bad_checksum"), dropped, "{stats:?}");
    assert_eq!(stats.total("stack.accepted"), 1, "{stats:?}");
    let warned = warnings();
    assert_eq!(warned.len(), 1, "once per port: {warned:?}");
    for part in ["WARN", "lg0", "ethtool -K PEER_INTERFACE tx off"] {
        assert!(warned[0].contains(part), "{part}: {warned:?}");
    }

    offload("off");
    assert!(fetch(&["-f"]).ok().out == file);
    assert_eq!(
        scene.server.stats().total("stack.partial_checksum"),
        dropped
    );
    assert_eq!(warnings().len(), 1);
    scene.finish();
}

/// A router reports a smaller MTU by ICMP. Data in flight is retransmitted in smaller segments.
fn smaller_mtu() {
    let scene = Setup::new().routed().start();
    ip(&format!("-n {} link set far0 mtu 1400", scene.net.router()));
    let bytes = scene.file("large.bin", 4_000_000);
    let ways = ["http://198.18.0.1", "https://198.18.0.1"];
    for base in ways
        .into_iter()
        .chain(["http://[fd00:18::1]", "https://[fd00:18::1]"])
    {
        let before = scene.server.stats().total("tcp.too_big");
        let ran = scene.curl(&["-f", &format!("{base}/large.bin")]).ok();
        assert!(ran.out == bytes, "{base}: {} bytes", ran.out.len());
        assert!(scene.server.stats().total("tcp.too_big") > before, "{base}");
    }
    scene.finish();
}

/// An answer of one and a half segments: with Nagle's algorithm the half isn't sent before the
/// whole one is acknowledged, without it is.
fn nagle() {
    for nagle in [true, false] {
        let scene = Setup::new().set("tcp.nagle", nagle).start();
        scene.file("short.bin", 2_000);
        let (waited, hasty) = scene.inside(|| {
            let tap = tap();
            let mut conn = plain().expect("it listens");
            for _ in 0..ANSWERS {
                assert_eq!(conn.get("/short.bin").expect("an answer").status, 200);
            }
            short_segments(&tap)
        });
        assert_eq!(waited + hasty, ANSWERS, "nagle = {nagle}: {hasty} hasty");
        assert_eq!(hasty == 0, nagle, "{hasty} of {ANSWERS} didn't wait");
        scene.finish();
    }
}

/// A socket that gets a copy of every frame that comes to or leaves this namespace.
pub(crate) fn tap() -> OwnedFd {
    let all = RawProtocol::new(u32::from(0x0003_u16.to_be())).expect("not zero");
    let protocol = Some(Protocol::from_raw(all));
    let tap = rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, protocol)
        .expect("root may listen");
    sockopt::set_socket_recv_buffer_size_force(&tap, 4 << 20).expect("root may");
    tap
}

/// How many of the server's segments that aren't full came when all before them had been
/// acknowledged, and how many when not.
fn short_segments(tap: &OwnedFd) -> (usize, usize) {
    let server: Ipv4Addr = SERVER4.parse().expect("an address");
    let (mut acknowledged, mut waited, mut hasty) = (None, 0, 0);
    let mut seen = HashSet::new();
    let mut frame = [0; 2048];
    while let Ok((_, len)) = recv(tap, &mut frame[..], RecvFlags::DONTWAIT) {
        let packet = &frame[ETHERNET..len.min(2048)];
        let Ok((ip, ip_len)) = Ipv4View::parse(packet) else {
            continue;
        };
        let Ok((tcp, tcp_len)) = TcpView::parse(&packet[ip_len..]) else {
            continue;
        };
        let payload = u32::from(ip.payload_len) - u32::try_from(tcp_len).expect("60 at most");
        if ip.src != server {
            acknowledged = Some(tcp.ack);
        } else if !payload.is_multiple_of(MSS) {
            // The kernel may have put two segments together.
            let short = tcp.seq + payload / MSS * MSS;
            if !seen.insert(short) {
                // Sent again by a time-out: the client was slow to acknowledge.
            } else if acknowledged == Some(short) {
                waited += 1;
            } else {
                hasty += 1;
            }
        }
    }
    (waited, hasty)
}

const ANSWERS: usize = 30;
const ETHERNET: usize = 14;
/// Of a segment with time stamps, at MTU 1500.
const MSS: u32 = 1448;
