//! What is below TCP: ICMP, closed ports, a path with a smaller MTU.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::support::case::Case;
use crate::support::client::{address4, address6, connect};
use crate::support::net::{SERVER4, SERVER6, ip};
use crate::support::run::{now, run};
use crate::support::scene::{Scene, Setup};
use crate::support::server::Stats;

pub(crate) const CASES: &[Case] = &[
    Case::new("network::pings_of_every_size_at_mtu_1500", || pings(1500)).with(&["ping"]),
    Case::new("network::pings_of_every_size_at_mtu_9000", || pings(9000)).with(&["ping"]),
    Case::new("network::closed_ports_refuse", closed_ports),
    Case::new("network::a_smaller_mtu_on_the_path", smaller_mtu).with(&["curl"]),
];

/// Pings, up to the largest that fits; a larger one comes in pieces, which aren't put together.
fn pings(mtu: u16) {
    let scene = Setup::new().mtu(mtu).start();
    for (address, headers) in [(SERVER4, 28), (SERVER6, 48)] {
        for size in [0, 1, 56, 1000, mtu - headers - 1, mtu - headers] {
            let ran = ping(&scene, address, size);
            assert_eq!(
                ran.code,
                Some(0),
                "{address} {size}: {}{}",
                ran.text(),
                ran.err
            );
            assert!(ran.text().contains(" 0% packet loss"), "{}", ran.text());
        }
        // The af_packet driver has the kernel put IPv4 together: then it's the answer that is too
        // large.
        let dropped =
            |stats: &Stats| stats.total("ip.drop.fragment") + stats.total("icmp.echo_too_big");
        let before = dropped(&scene.server.stats());
        assert_eq!(ping(&scene, address, mtu - headers + 1).code, Some(1));
        let stats = scene.server.stats();
        assert!(dropped(&stats) >= before + 2, "{address}: {stats:?}");
    }
    let stats = scene.server.stats();
    assert_eq!(stats.total("icmp.echo_replies_out"), 24, "{stats:?}");
    scene.finish();
}

fn ping(scene: &Scene, address: &str, size: u16) -> crate::support::run::Ran {
    let mut command = scene.command("ping");
    let size = size.to_string();
    // Two at most, and waits for the last one only if it's missing.
    run(command.args([
        "-n", "-c", "2", "-i", "0.2", "-W", "1", "-s", &size, address,
    ]))
}

/// A reset for TCP, port unreachable for UDP: nobody has to wait for a time-out.
fn closed_ports() {
    let scene = Setup::new().start();
    scene.inside(|| {
        let began = now();
        for to in [address4(81), address6(81), address4(65535), address6(1)] {
            let error = connect(to).expect_err("nobody listens");
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
                .set_read_timeout(Some(Duration::from_secs(10)))
                .expect("it isn't zero");
            socket.send(b"QUIC?").expect("it can be sent");
            let error = socket.recv(&mut [0; 10]).expect_err("nobody is there");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
        }
        let took = now().saturating_since(began);
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
    let stats = scene.server.stats();
    assert_eq!(stats.total("stack.no_connection"), 4, "{stats:?}");
    assert_eq!(stats.total("stack.resets_out"), 4, "{stats:?}");
    assert_eq!(stats.total("icmp.errors_out"), 2, "{stats:?}");
    scene.finish();
}

/// A router's ICMP says so; what is in flight is sent again in smaller segments.
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
    let stats = scene.server.stats();
    assert_eq!(
        stats.total("tcp.timeouts"),
        0,
        "no segment had to be waited for: {stats:?}"
    );
    scene.finish();
}
