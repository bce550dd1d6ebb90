//! Links that come up late, and that go down and up again.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::process::Command;

use lockgate_testing::cases::Case;
use lockgate_testing::network::{SERVER4, SERVER6, ip};
use lockgate_testing::process::run;
use lockgate_testing::wait_until;
use lockgate_wire::arp::ArpView;
use lockgate_wire::ethernet::{EtherType, EthernetView};
use rustix::net::{RecvFlags, recv};

use crate::network::tap;
use crate::support::client::plain;
use crate::support::scene::{Scene, Setup};

pub(crate) const CASES: &[Case] = &[
    Case::new("links::a_late_link_is_announced", late),
    Case::new("links::a_flap_is_announced_and_survived", flap),
    Case::new("links::a_changed_mac_address_is_announced", mac),
];

/// The start doesn't wait for ever; what it couldn't announce is announced with the link.
fn late() {
    let scene = Setup::new()
        .link_down()
        .set("port.link_wait", "100ms")
        .start();
    let stats = scene.server.stats();
    assert_eq!(stats.port("port.link_up"), 0);
    assert_eq!(stats.port("port.tx_dropped_link"), 0, "nothing is lost");
    assert_eq!(stats.total("arp.announcements_out"), 0);
    let log = scene.server.log();
    assert!(
        log.contains("link: down; serving starts without it"),
        "{log}"
    );

    scene.inside(|| {
        let tap = tap();
        set_link(&scene, "up");
        announced(&tap);
        assert_eq!(
            plain()
                .and_then(|mut c| c.get("/"))
                .expect("it serves")
                .status,
            200
        );
    });
    let stats = scene.server.stats();
    assert_eq!(stats.port("port.link_changes"), 1);
    assert_eq!(stats.port("port.tx_dropped_link"), 0);
    scene.finish();
}

fn flap() {
    let scene = Setup::new().start();
    scene.inside(|| {
        let tap = tap();
        let mut conn = plain().expect("it listens");
        for round in 0..2 {
            assert_eq!(conn.get("/").expect("an answer").status, 200);
            set_link(&scene, "down");
            wait_link(&scene, 0);
            drain(&tap);
            set_link(&scene, "up");
            announced(&tap);
            let changes = scene.server.stats().port("port.link_changes");
            assert_eq!(changes, 1 + 2 * (round + 1));
        }
        assert_eq!(conn.get("/").expect("the same connection").status, 200);
    });
    scene.finish();
}

/// Every worker sends from the new address and accepts frames for it; clients learn it by the
/// announcements.
fn mac() {
    let scene = Setup::new().workers(2).start();
    let client = scene.net.client().to_owned();
    let learned = || {
        let mut show = Command::new("ip");
        run(show.args(["-n", &client, "neigh", "show"])).ok().text()
    };
    scene.inside(|| {
        let mut conn = plain().expect("it listens");
        assert_eq!(conn.get("/").expect("an answer").status, 200);
        let tap = tap();
        ip(&format!(
            "-n {} link set lg0 address {OTHER_MAC}",
            scene.net.server()
        ));
        announced(&tap);
        let known = learned();
        assert!(known.contains(OTHER_MAC), "{known}");
        assert_eq!(conn.get("/").expect("the same connection").status, 200);
        // Connections of both workers.
        for _ in 0..16 {
            let reply = plain().and_then(|mut conn| conn.get("/"));
            assert_eq!(reply.expect("an answer").status, 200);
        }
    });
    let stats = scene.server.stats();
    assert_eq!(stats.port("port.mac_changes"), 1);
    assert_eq!(stats.port("port.link_changes"), 1);
    // Three for the change, after one to three of the start.
    let announced = stats.total("arp.announcements_out");
    assert!((4..=6).contains(&announced), "{announced}");
    let log = scene.server.log();
    let changed = format!("MAC address changed port=\"p0\" mac={OTHER_MAC}");
    assert!(log.contains(&changed), "{log}");
    scene.finish();
}

fn set_link(scene: &Scene, state: &str) {
    ip(&format!("-n {} link set lg0 {state}", scene.net.server()));
}

fn wait_link(scene: &Scene, up: u64) {
    wait_until("the link state", || {
        scene.server.stats().port("port.link_up") == up
    });
}

fn drain(tap: &OwnedFd) {
    let mut frame = [0; 2048];
    while recv(tap, &mut frame[..], RecvFlags::DONTWAIT).is_ok() {}
}

/// Waits for three gratuitous ARP requests and as many unsolicited advertisements.
fn announced(tap: &OwnedFd) {
    let (mut arps, mut advertisements) = (0, 0);
    let mut frame = [0; 2048];
    wait_until("announcements", || {
        while let Ok((_, len)) = recv(tap, &mut frame[..], RecvFlags::DONTWAIT) {
            let frame = &frame[..len.min(2048)];
            arps += usize::from(is_gratuitous_arp(frame));
            advertisements += usize::from(is_advertisement(frame));
        }
        arps >= 3 && advertisements >= 3
    });
    assert_eq!((arps, advertisements), (3, 3));
}

fn is_gratuitous_arp(frame: &[u8]) -> bool {
    let server: Ipv4Addr = SERVER4.parse().expect("an address");
    let Ok((header, at)) = EthernetView::parse(frame) else {
        return false;
    };
    if header.ethertype != EtherType::ARP {
        return false;
    }
    ArpView::parse(&frame[at..])
        .is_ok_and(|(arp, _)| arp.sender_ip == server && arp.target_ip == server)
}

/// Whether it is an unsolicited neighbour advertisement of the server's configured address.
fn is_advertisement(frame: &[u8]) -> bool {
    let server: std::net::Ipv6Addr = SERVER6.parse().expect("an address");
    let message = frame.get(54..78).filter(|_| frame[12..14] == [0x86, 0xdd]);
    message.is_some_and(|m| m[0] == 136 && m[4] & 0x40 == 0 && m[8..24] == server.octets())
}

const OTHER_MAC: &str = "02:00:00:00:aa:bb";
