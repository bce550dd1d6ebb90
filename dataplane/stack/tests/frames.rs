//! Chained receive buffers, bursts of many frames, and gratuitous ARP and NA.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use lockgate_wire::IfaceId;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use lockgate_stack::{ConnectConfig, ListenConfig, Notice, SocketId};
use support::link::Link;
use support::{Host, HostSpec, World};

fn connected(world: &mut World) -> (SocketId, SocketId) {
    let at = world.b_addr(80);
    world.b.stack.listen(at, ListenConfig::default()).unwrap();
    let a = world
        .a
        .stack
        .connect(world.now, at, ConnectConfig::default())
        .unwrap();
    let b = world.expect(1, "Accepted", |n| match n {
        Notice::Accepted { socket, .. } => Some(*socket),
        _ => None,
    });
    (a, b)
}

/// A port may put headers and payload into different buffers: the sum goes over all of them.
#[test]
fn a_checksum_goes_over_a_chain_wherever_it_is_cut() {
    for (mut a, b, l3, timestamps) in [
        (HostSpec::new(1), HostSpec::new(2), 20, true),
        (HostSpec::new(1), HostSpec::new(2), 20, false),
        (HostSpec::v6(1), HostSpec::v6(2), 40, true),
        (HostSpec::v6(1), HostSpec::v6(2), 40, false),
    ] {
        a.config.tcp.timestamps = timestamps;
        let mut world = World::new(a, b, Link::perfect());
        let (a, b) = connected(&mut world);
        world.run(Duration::from_millis(1));
        let frames = Rc::new(RefCell::new(Vec::new()));
        let list = frames.clone();
        world.link.filter = Some(Box::new(move |from, frame| {
            if from == 0 {
                list.borrow_mut().push(frame.clone());
            }
            from == 0
        }));
        let data: Vec<u8> = (0..201).collect();
        world.a.send(a, &data);
        world.settle();
        let frame = frames.borrow()[0].clone();
        let headers = 14 + l3 + usize::from(frame[14 + l3 + 12] >> 4) * 4;
        assert_eq!(frame.len(), headers + data.len());

        let now = world.now;
        let host = &mut world.b;
        let give = |host: &mut Host, pieces: &[&[u8]]| {
            let chain = host.buffers.alloc_chain(pieces).unwrap();
            host.with(|stack, env| stack.on_packet(now, IfaceId(0), chain, env));
            host.stack.counters().bad_checksum
        };
        let before = host.stack.counters().segments_in;
        for cut in headers..frame.len() {
            let (head, tail) = frame.split_at(cut);
            assert_eq!(give(host, &[head, tail]), 0, "cut at {cut}");
            let (middle, tail) = tail.split_at(tail.len() / 2);
            assert_eq!(give(host, &[head, middle, tail]), 0, "twice from {cut}");
        }
        assert!(host.stack.counters().segments_in > before);
        assert_eq!(host.drain(b).0, data);
        // And a wrong byte is found in every piece.
        let mut wrong = 0;
        for cut in headers..frame.len() {
            let mut frame = frame.clone();
            frame[cut] ^= 1;
            for at in [headers, cut, cut + 1] {
                let (head, tail) = frame.split_at(at);
                wrong += 1;
                assert_eq!(give(host, &[head, tail]), wrong, "{cut} in two at {at}");
            }
        }
    }
}

/// A burst to a peer with tiny segments is no more frames than a port takes: what it refuses would
/// count as sent, and only time-outs would send it again.
#[test]
fn tiny_segments_never_make_a_burst_that_is_refused() {
    for mtu in [128, 140, 167] {
        let mut a = HostSpec::new(1);
        a.mtu = mtu;
        a.buffers = 16 * 1024;
        let mut world = World::new(a, HostSpec::new(2), Link::perfect());
        let (a, b) = connected(&mut world);
        let data = vec![5; 400_000];
        let (mut sent, mut got) = (0, 0);
        let before = world.now;
        while got < data.len() {
            if sent < data.len() {
                sent += world.b.send(b, &data[sent..]) as usize;
            }
            world.run(Duration::from_micros(200));
            got += world.a.drain(a).0.len();
            let took = world.now.saturating_since(before);
            assert!(took < Duration::from_secs(2), "{got} bytes in {took:?}");
        }
        assert_eq!(world.b.stack.counters().tx_failed, 0);
    }
}

/// Gratuitous ARP or NA for every address.
#[test]
fn announcements_leave_at_once() {
    let mut host = HostSpec::new(2).build();
    let now = lockgate_wire::Instant::from_millis(1);
    host.with(|stack, env| stack.announce(now, env));
    let frame = host.net.frames.pop_front().unwrap();
    assert_eq!(frame[..6], [0xff; 6], "broadcast");
    assert_eq!(frame[12..14], [8, 6], "ARP");
    assert_eq!(frame[28..32], [10, 0, 0, 2], "of our address");
    assert_eq!(frame[28..32], frame[38..42], "about itself");

    let mut host = HostSpec::v6(2).build();
    host.with(|stack, env| stack.announce(now, env));
    let advertised = host.net.frames.iter().any(|frame| {
        let own = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        frame[12..14] == [0x86, 0xdd] && frame[54] == 136 && frame[62..78] == own
    });
    assert!(advertised, "an unsolicited neighbour advertisement");
}

/// Frames leave with the port's new address and are accepted for it alone. One worker announces it.
#[test]
fn a_changed_mac_address_is_used_and_announced() {
    let mut host = HostSpec::new(2).build();
    let at = lockgate_wire::Instant::from_millis;
    let on = IfaceId(0);
    let old = host.net.info.mac.unwrap();
    let new = lockgate_wire::MacAddr([2, 0, 0, 0, 0xaa, 0xbb]);
    host.net.info.mac = Some(new);
    host.with(|stack, env| stack.on_mac_change(on, env.net));
    assert_eq!(host.net.frames.len(), 0, "the announcing worker does that");
    host.with(|stack, env| stack.on_link_change(at(1), on, env));
    let frame = host.net.frames.pop_front().unwrap();
    assert_eq!(frame[6..12], new.0);
    assert_eq!(frame[22..28], new.0, "the sender of ARP");
    assert_eq!(frame[28..32], frame[38..42], "about itself");

    // An ARP request to each address: the one for the old address is another station's.
    for (to, answers) in [(old, 0), (new, 1)] {
        let mut request = vec![0; 42];
        request[..6].copy_from_slice(&to.0);
        request[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x77]);
        request[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        request[22..28].copy_from_slice(&[2, 0, 0, 0, 0, 0x77]);
        request[28..32].copy_from_slice(&[10, 0, 0, 1]);
        request[38..42].copy_from_slice(&[10, 0, 0, 2]);
        let packet = host.buffers.alloc_chain(&[&request]).unwrap();
        host.with(|stack, env| stack.on_packet(at(2), on, packet, env));
        assert_eq!(host.net.frames.len(), answers, "to {to}");
    }
    let answer = host.net.frames.pop_front().unwrap();
    assert_eq!(answer[6..12], new.0);
}

/// Announcements aren't given to a port whose link is down. They follow when it comes up.
#[test]
fn announcements_wait_for_the_link() {
    let mut host = HostSpec::new(2).build();
    let at = lockgate_wire::Instant::from_millis;
    let on = IfaceId(0);
    host.net.info.link_up = false;
    host.with(|stack, env| stack.announce(at(1), env));
    host.with(|stack, env| stack.on_timer(at(5000), env));
    assert_eq!(host.net.frames.len(), 0);
    assert_eq!(host.stack.next_timer(), None);

    host.net.info.link_up = true;
    host.with(|stack, env| stack.on_link_change(at(6000), on, env));
    assert_eq!(host.net.frames.len(), 1);
    host.with(|stack, env| stack.on_timer(at(7000), env));
    assert_eq!(host.net.frames.len(), 2);

    host.net.info.link_up = false;
    host.with(|stack, env| stack.on_link_change(at(7500), on, env));
    host.with(|stack, env| stack.on_timer(at(20_000), env));
    assert_eq!(host.net.frames.len(), 2);
}
