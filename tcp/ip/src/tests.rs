//! The layer as a whole: what comes back for what comes in.

use core::time::Duration;

use lockgate_wire::arp::{ArpPacket, ArpView, Operation};
use lockgate_wire::ethernet::{EtherType, EthernetView};
use lockgate_wire::icmpv4::{Echo, Icmpv4Message};
use lockgate_wire::icmpv6::Icmpv6Message;
use lockgate_wire::ip::IpProtocol;
use lockgate_wire::ipv4::Ipv4View;
use lockgate_wire::ipv6::Ipv6View;
use lockgate_wire::{IfaceId, MacAddr, SeqNum};
use proptest::prelude::*;

use super::testing::*;
use super::*;

const ZERO: MacAddr = MacAddr::ZERO;

fn hop(addr: &str) -> NextHop {
    NextHop {
        iface: ETH,
        addr: addr.parse().unwrap(),
    }
}

fn read_arp(frame: &[u8]) -> (MacAddr, ArpPacket) {
    let (eth, at) = EthernetView::parse(frame).unwrap();
    assert_eq!((eth.ethertype, eth.src), (EtherType::ARP, US));
    assert_eq!(frame.len(), at + 28);
    (eth.dst, ArpView::parse(&frame[at..]).unwrap().0)
}

/// The link-layer destination, addresses, hop limit and ICMPv4 bytes of a frame.
fn read_v4(frame: &[u8]) -> (MacAddr, IpPair, Vec<u8>) {
    let (eth, at) = EthernetView::parse(frame).unwrap();
    let view = Ipv4View::new(&frame[at..]).unwrap();
    assert!(view.checksum_is_valid());
    let h = view.header();
    assert_eq!(usize::from(h.payload_len), frame.len() - at - 20);
    (
        eth.dst,
        IpPair::V4 {
            src: h.src,
            dst: h.dst,
        },
        frame[at + 20..].to_vec(),
    )
}

fn read_v6(frame: &[u8]) -> (MacAddr, IpPair, u8, Vec<u8>) {
    let (eth, at) = EthernetView::parse(frame).unwrap();
    let (h, len) = Ipv6View::parse(&frame[at..]).unwrap();
    assert_eq!(usize::from(h.payload_len), frame.len() - at - len);
    (
        eth.dst,
        IpPair::V6 {
            src: h.src,
            dst: h.dst,
        },
        h.hop_limit,
        frame[at + len..].to_vec(),
    )
}

fn parse_v6(addrs: IpPair, bytes: &[u8]) -> Icmpv6Message<'_> {
    let IpPair::V6 { src, dst } = addrs else {
        panic!("{addrs:?}")
    };
    Icmpv6Message::parse(src, dst, bytes).unwrap()
}

fn v6(s: &str) -> core::net::Ipv6Addr {
    s.parse().unwrap()
}

mod arp_tests {
    use super::*;

    fn request(sender: (MacAddr, &str), target: &str) -> Vec<u8> {
        arp_frame(
            MacAddr::BROADCAST,
            &arp(Operation::Request, sender, (ZERO, target)),
        )
    }

    #[test]
    fn requests_for_us_are_answered_and_learned_from() {
        let mut h = host();
        let Answer::Frame(iface, reply) =
            run(&mut h, at(0), ETH, &request((PEER, "10.0.0.2"), "10.0.0.1"))
        else {
            panic!("no answer");
        };
        assert_eq!(iface, ETH);
        let expected = arp(Operation::Reply, (US, "10.0.0.1"), (PEER, "10.0.0.2"));
        assert_eq!(read_arp(&reply), (PEER, expected));
        assert_eq!(h.lookup(at(0), hop("10.0.0.2")), Lookup::Resolved(PEER));
        assert_eq!(
            h.poll_event(),
            Some(NeighbourEvent::Resolved(hop("10.0.0.2"), PEER))
        );
        assert_eq!(
            (h.counters().arp.requests_in, h.counters().arp.replies_out),
            (1, 1)
        );
    }

    #[test]
    fn vlan_requests_are_answered_with_a_tag() {
        let mut h = host();
        let p = arp(Operation::Request, (PEER, "10.42.0.2"), (ZERO, "10.42.0.1"));
        let arp = ArpIngress {
            iface: VLAN,
            packet: p,
        };
        let mut out = [0; 64];
        let sent = h.on_arp(at(0), &arp, &mut out).unwrap();
        assert_eq!((sent.iface, sent.len), (VLAN, 46));
        assert_eq!(EthernetView::parse(&out).unwrap().0.vlan, Some(tag(42)));
        assert_eq!(h.on_arp(at(0), &arp, &mut out[..45]), None, "no room");
    }

    #[test]
    fn packets_that_are_not_answered() {
        let mut h = host();
        for frame in [
            request((PEER, "10.0.0.2"), "10.0.0.3"),  // for another
            request((PEER, "10.0.0.2"), "10.42.0.1"), // ours, on another interface
            request((PEER, "224.0.0.1"), "10.0.0.1"),
            request((PEER, "127.0.0.1"), "10.0.0.1"),
            arp_frame(
                US,
                &arp(Operation::Reply, (PEER, "10.0.0.2"), (US, "10.0.0.1")),
            ),
        ] {
            assert_eq!(run(&mut h, at(0), ETH, &frame), Answer::None);
        }
        assert!(h.neighbours().is_empty());
        assert_eq!(h.counters().arp.others_in, 2);
        assert_eq!(h.counters().arp.bad_in, 2);
    }

    #[test]
    fn probes_are_answered_but_nothing_is_learned() {
        let mut h = host();
        let frame = request((PEER, "0.0.0.0"), "10.0.0.1");
        let Answer::Frame(_, reply) = run(&mut h, at(0), ETH, &frame) else {
            panic!()
        };
        let expected = arp(Operation::Reply, (US, "10.0.0.1"), (PEER, "0.0.0.0"));
        assert_eq!(read_arp(&reply), (PEER, expected));
        assert!(h.neighbours().is_empty());
    }

    #[test]
    fn off_link_senders_are_answered_but_not_learned() {
        let mut h = host();
        let frame = request((PEER, "172.16.0.9"), "10.0.0.1");
        assert!(matches!(run(&mut h, at(0), ETH, &frame), Answer::Frame(..)));
        assert!(h.neighbours().is_empty());
    }

    #[test]
    fn a_request_and_its_reply_resolve_a_neighbour() {
        let mut h = host();
        assert_eq!(h.lookup(at(0), hop("10.0.0.254")), Lookup::Pending);
        let sent = flush(&mut h, at(0));
        let expected = arp(Operation::Request, (US, "10.0.0.1"), (ZERO, "10.0.0.254"));
        assert_eq!(read_arp(&sent[0].1), (MacAddr::BROADCAST, expected));
        assert_eq!(sent.len(), 1);
        let reply = arp(Operation::Reply, (PEER, "10.0.0.254"), (US, "10.0.0.1"));
        assert_eq!(
            run(&mut h, at(1), ETH, &arp_frame(US, &reply)),
            Answer::None
        );
        assert_eq!(
            h.poll_event(),
            Some(NeighbourEvent::Resolved(hop("10.0.0.254"), PEER))
        );
        let state = h.neighbours().state(at(1), hop("10.0.0.254"));
        assert!(matches!(
            state,
            Some(NeighbourState::Reachable { mac: PEER, .. })
        ));
    }

    #[test]
    fn unsolicited_replies_do_not_poison() {
        let mut h = host();
        let reply = arp(Operation::Reply, (OTHER, "10.0.0.254"), (US, "10.0.0.1"));
        run(&mut h, at(0), ETH, &arp_frame(US, &reply));
        assert!(h.neighbours().is_empty());
        assert_eq!(h.counters().neighbours.unasked, 1);
        // Nor those to others, even about neighbours that we know.
        add_neighbour(&mut h, "10.0.0.254");
        let reply = arp(Operation::Reply, (OTHER, "10.0.0.254"), (PEER, "10.0.0.3"));
        run(&mut h, at(0), ETH, &arp_frame(MacAddr::BROADCAST, &reply));
        assert_eq!(h.lookup(at(0), hop("10.0.0.254")), Lookup::Resolved(PEER));
    }

    #[test]
    fn announcements_change_existing_entries_only() {
        let mut h = host();
        let announce = request((OTHER, "10.0.0.254"), "10.0.0.254");
        run(&mut h, at(0), ETH, &announce);
        assert!(h.neighbours().is_empty());
        add_neighbour(&mut h, "10.0.0.254");
        run(&mut h, at(0), ETH, &announce);
        let state = h.neighbours().state(at(0), hop("10.0.0.254"));
        assert_eq!(state, Some(NeighbourState::Stale { mac: OTHER }));
        assert_eq!(
            h.poll_event(),
            Some(NeighbourEvent::Resolved(hop("10.0.0.254"), OTHER))
        );
        assert_eq!(h.counters().arp.announcements_in, 2);
    }

    #[test]
    fn conflicts_are_defended_at_a_limited_rate() {
        let mut h = host();
        let conflict = request((OTHER, "10.0.0.1"), "10.0.0.77");
        let Answer::Frame(_, frame) = run(&mut h, at(0), ETH, &conflict) else {
            panic!()
        };
        let expected = arp(Operation::Request, (US, "10.0.0.1"), (ZERO, "10.0.0.1"));
        assert_eq!(read_arp(&frame), (MacAddr::BROADCAST, expected));
        for ms in 1..100 {
            assert_eq!(run(&mut h, at(ms), ETH, &conflict), Answer::None);
        }
        assert_eq!(flush(&mut h, at(9_999)).len(), 0);
        assert_eq!(flush(&mut h, at(10_000)).len(), 1);
        assert_eq!(h.counters().arp.conflicts, 100);
        assert!(matches!(
            run(&mut h, at(10_001), ETH, &conflict),
            Answer::Frame(..)
        ));
        assert!(h.neighbours().is_empty());
    }

    #[test]
    fn announcements_are_of_every_address() {
        let mut h = host();
        h.announce(at(0), ETH);
        assert_eq!(h.deadline(), Some(at(0)));
        // IPv4, link-local and global IPv6.
        let first = flush(&mut h, at(0));
        assert_eq!(first.len(), 3);
        let expected = arp(Operation::Request, (US, "10.0.0.1"), (ZERO, "10.0.0.1"));
        assert_eq!(read_arp(&first[0].1), (MacAddr::BROADCAST, expected));
        let (dst, addrs, hop_limit, bytes) = read_v6(&first[2].1);
        assert_eq!((dst, hop_limit), (MacAddr([0x33, 0x33, 0, 0, 0, 1]), 255));
        assert_eq!(addrs, pair("2001:db8::1", "ff02::1"));
        assert_eq!(
            parse_v6(addrs, &bytes),
            Icmpv6Message::NeighborAdvertisement {
                target: v6("2001:db8::1"),
                router: false,
                solicited: false,
                replaces: true,
                mac: Some(US),
            }
        );
        assert_eq!(h.deadline(), Some(at(1000)));
        assert_eq!(flush(&mut h, at(1000)), first);
        assert_eq!(h.deadline(), Some(at(3000)));
        assert_eq!(flush(&mut h, at(3000)), first);
        assert_eq!((flush(&mut h, at(60_000)).len(), h.deadline()), (0, None));
        h.announce(at(0), BARE);
        assert_eq!(h.deadline(), None, "there is no announcement to send");
    }

    #[test]
    fn learning_for_another_worker() {
        let mut h = host();
        h.lookup(at(0), hop("10.0.0.254"));
        let packet = arp(Operation::Reply, (PEER, "10.0.0.254"), (US, "10.0.0.1"));
        h.learn_from_arp(at(0), &ArpIngress { iface: ETH, packet });
        assert_eq!(h.lookup(at(0), hop("10.0.0.254")), Lookup::Resolved(PEER));
    }
}

mod discovery_tests {
    use super::*;

    const SOLICITED: &str = "ff02::1:ff00:1";

    fn solicit(target: &str, source: Option<MacAddr>) -> Icmpv6Message<'static> {
        Icmpv6Message::NeighborSolicitation {
            target: v6(target),
            source,
        }
    }

    fn advert(target: &str, mac: Option<MacAddr>, solicited: bool) -> Icmpv6Message<'static> {
        Icmpv6Message::NeighborAdvertisement {
            target: v6(target),
            router: true,
            solicited,
            replaces: true,
            mac,
        }
    }

    #[test]
    fn solicitations_for_us_are_answered_and_learned_from() {
        for dst in [SOLICITED, "2001:db8::1"] {
            let mut h = host();
            let frame = icmp_v6("fe80::2", dst, &solicit("2001:db8::1", Some(PEER)));
            let Answer::Frame(_, reply) = run(&mut h, at(0), ETH, &frame) else {
                panic!()
            };
            let (to, addrs, hop_limit, bytes) = read_v6(&reply);
            assert_eq!((to, hop_limit), (PEER, 255));
            assert_eq!(addrs, pair("2001:db8::1", "fe80::2"));
            assert_eq!(
                parse_v6(addrs, &bytes),
                Icmpv6Message::NeighborAdvertisement {
                    target: v6("2001:db8::1"),
                    router: false,
                    solicited: true,
                    replaces: true,
                    mac: Some(US),
                }
            );
            assert_eq!(h.lookup(at(0), hop("fe80::2")), Lookup::Resolved(PEER));
        }
    }

    #[test]
    fn duplicate_address_detection_is_answered_to_all() {
        let mut h = host();
        let frame = icmp_v6("::", SOLICITED, &solicit("2001:db8::1", None));
        let Answer::Frame(_, reply) = run(&mut h, at(0), ETH, &frame) else {
            panic!()
        };
        let (to, addrs, _, bytes) = read_v6(&reply);
        assert_eq!(to, MacAddr([0x33, 0x33, 0, 0, 0, 1]));
        assert_eq!(addrs, pair("2001:db8::1", "ff02::1"));
        assert!(matches!(
            parse_v6(addrs, &bytes),
            Icmpv6Message::NeighborAdvertisement {
                solicited: false,
                ..
            }
        ));
        assert!(h.neighbours().is_empty());
    }

    #[test]
    fn solicitors_without_a_link_layer_option_are_solicited() {
        let mut h = host();
        let frame = icmp_v6("2001:db8::2", "2001:db8::1", &solicit("2001:db8::1", None));
        assert_eq!(run(&mut h, at(0), ETH, &frame), Answer::None);
        let asked = flush(&mut h, at(0));
        assert_eq!(asked.len(), 1);
        let (to, addrs, hop_limit, bytes) = read_v6(&asked[0].1);
        assert_eq!((to, hop_limit), (MacAddr([0x33, 0x33, 0xff, 0, 0, 2]), 255));
        assert_eq!(addrs, pair("2001:db8::1", "ff02::1:ff00:2"));
        assert_eq!(parse_v6(addrs, &bytes), solicit("2001:db8::2", Some(US)));
        // The answer lets ours go.
        let frame = icmp_v6(
            "2001:db8::2",
            "2001:db8::1",
            &advert("2001:db8::2", Some(PEER), true),
        );
        run(&mut h, at(1), ETH, &frame);
        let released = flush(&mut h, at(1));
        assert_eq!(released.len(), 1);
        assert_eq!(
            (read_v6(&released[0].1).0, read_v6(&released[0].1).2),
            (PEER, 255)
        );
        assert!(h.neighbours().is_router(hop("2001:db8::2")));
    }

    #[test]
    fn probing_goes_to_the_known_address() {
        let mut h = host();
        add_neighbour(&mut h, "fe80::2");
        assert_eq!(h.lookup(at(0), hop("fe80::2")), Lookup::Resolved(PEER));
        let sent = flush(&mut h, at(5000));
        let (to, addrs, _, bytes) = read_v6(&sent[0].1);
        assert_eq!(to, PEER);
        // From the link-local address, as the neighbour's is one.
        assert_eq!(addrs, pair("fe80::ff:fe00:1", "fe80::2"));
        assert_eq!(parse_v6(addrs, &bytes), solicit("fe80::2", Some(US)));
        let frame = icmp_v6("fe80::2", "fe80::ff:fe00:1", &advert("fe80::2", None, true));
        run(&mut h, at(5001), ETH, &frame);
        let state = h.neighbours().state(at(5001), hop("fe80::2"));
        assert!(matches!(state, Some(NeighbourState::Reachable { .. })));
    }

    #[test]
    fn invalid_messages_are_ignored() {
        let ns = solicit("2001:db8::1", Some(PEER));
        let na = advert("fe80::fe", Some(OTHER), true);
        let to_us = link(PEER, US);
        for (hop_limit, src, dst, m) in [
            // Through a router.
            (254, "fe80::2", "2001:db8::1", ns),
            (64, "fe80::fe", "2001:db8::1", na),
            // From nowhere, but with an address; from nowhere to one host.
            (255, "::", SOLICITED, ns),
            (255, "::", "2001:db8::1", solicit("2001:db8::1", None)),
            // A solicited advertisement to all nodes.
            (255, "fe80::fe", "ff02::1", na),
            // Groups as link-layer addresses.
            (
                255,
                "fe80::2",
                "2001:db8::1",
                solicit("2001:db8::1", Some(MacAddr::BROADCAST)),
            ),
            (
                255,
                "fe80::fe",
                "2001:db8::1",
                advert("fe80::fe", Some(MacAddr::BROADCAST), true),
            ),
        ] {
            let mut h = host();
            h.lookup(at(0), hop("fe80::fe"));
            flush(&mut h, at(0));
            let frame = icmp_v6_to(to_us, hop_limit, pair(src, dst), &m);
            assert_eq!(
                run(&mut h, at(0), ETH, &frame),
                Answer::None,
                "{src} {dst} {m:?}"
            );
            assert_eq!(h.counters().icmp.nd_invalid, 1, "{src} {dst} {m:?}");
            assert_eq!(h.lookup(at(0), hop("fe80::fe")), Lookup::Pending);
            assert_eq!(h.neighbours().len(), 1);
        }
    }

    #[test]
    fn messages_that_are_not_for_us() {
        let mut h = host();
        for (src, dst, m) in [
            ("fe80::2", SOLICITED, solicit("2001:db8:1::1", Some(PEER))),
            (
                "fe80::fe",
                "ff02::1",
                Icmpv6Message::RouterSolicitation { source: None },
            ),
            (
                "fe80::fe",
                "ff02::1",
                Icmpv6Message::RouterAdvertisement(Default::default()),
            ),
            (
                "fe80::fe",
                "2001:db8::1",
                Icmpv6Message::Redirect {
                    target: v6("fe80::3"),
                    destination: v6("::9"),
                    mac: None,
                },
            ),
        ] {
            assert_eq!(
                run(&mut h, at(0), ETH, &icmp_v6(src, dst, &m)),
                Answer::None
            );
        }
        assert_eq!(h.counters().icmp.ignored, 4);
        // Unsolicited advertisements create no entry; those about our address are conflicts.
        run(
            &mut h,
            at(0),
            ETH,
            &icmp_v6("fe80::3", "ff02::1", &advert("fe80::3", Some(OTHER), false)),
        );
        run(
            &mut h,
            at(0),
            ETH,
            &icmp_v6("fe80::3", "ff02::1", &advert("2001:db8::1", None, false)),
        );
        assert_eq!(
            (
                h.counters().neighbours.unasked,
                h.counters().icmp.nd_conflicts
            ),
            (1, 1)
        );
        assert!(h.neighbours().is_empty());
    }

    #[test]
    fn learning_for_another_worker() {
        let mut h = host();
        h.lookup(at(0), hop("fe80::fe"));
        let frame = icmp_v6(
            "fe80::fe",
            "2001:db8::1",
            &advert("fe80::fe", Some(PEER), true),
        );
        let Ingress::Icmp(p) = h.receive(ETH, &frame, &meta(&frame)) else {
            panic!()
        };
        h.learn_from_discovery(at(0), &p, &frame[p.l4_at..]);
        assert_eq!(h.lookup(at(0), hop("fe80::fe")), Lookup::Resolved(PEER));
        let frame = icmp_v6("fe80::2", SOLICITED, &solicit("2001:db8::1", Some(PEER)));
        let Ingress::Icmp(p) = h.receive(ETH, &frame, &meta(&frame)) else {
            panic!()
        };
        h.learn_from_discovery(at(0), &p, &frame[p.l4_at..]);
        assert_eq!(h.lookup(at(0), hop("fe80::2")), Lookup::Resolved(PEER));
        assert_eq!(h.counters().icmp.nd_adverts_out, 0);
    }
}

mod echo_tests {
    use super::*;

    const ECHO: Echo<'static> = Echo {
        ident: 7,
        seq: 9,
        data: b"abcdefgh",
    };

    #[test]
    fn echo_requests_are_answered() {
        let mut h = host();
        add_neighbour(&mut h, "10.0.0.2");
        let ping = icmp_v4("10.0.0.2", "10.0.0.1", &Icmpv4Message::EchoRequest(ECHO));
        let Answer::Frame(ETH, reply) = run(&mut h, at(0), ETH, &ping) else {
            panic!()
        };
        let (to, addrs, bytes) = read_v4(&reply);
        assert_eq!((to, addrs), (PEER, pair("10.0.0.1", "10.0.0.2")));
        assert_eq!(
            Icmpv4Message::parse(&bytes),
            Ok(Icmpv4Message::EchoReply(ECHO))
        );

        add_neighbour(&mut h, "fe80::fe");
        let ping = Icmpv6Message::EchoRequest(ECHO);
        let ping = icmp_v6("2001:db8:77::2", "2001:db8::1", &ping);
        let Answer::Frame(ETH, reply) = run(&mut h, at(0), ETH, &ping) else {
            panic!()
        };
        let (to, addrs, hop_limit, bytes) = read_v6(&reply);
        assert_eq!((to, hop_limit), (PEER, 64), "by way of the gateway");
        assert_eq!(addrs, pair("2001:db8::1", "2001:db8:77::2"));
        assert_eq!(parse_v6(addrs, &bytes), Icmpv6Message::EchoReply(ECHO));
        assert_eq!(h.counters().icmp.echo_replies_out, 2);
    }

    #[test]
    fn echo_requests_to_all_nodes_are_answered_from_our_address() {
        let mut h = host();
        add_neighbour(&mut h, "fe80::2");
        let ping = icmp_v6("fe80::2", "ff02::1", &Icmpv6Message::EchoRequest(ECHO));
        let Answer::Frame(_, reply) = run(&mut h, at(0), ETH, &ping) else {
            panic!()
        };
        assert_eq!(read_v6(&reply).1, pair("fe80::ff:fe00:1", "fe80::2"));
        // The unspecified source can't be answered.
        let ping = icmp_v6("::", "ff02::1", &Icmpv6Message::EchoRequest(ECHO));
        assert_eq!(run(&mut h, at(0), ETH, &ping), Answer::None);
        assert_eq!(h.counters().icmp.bad_message, 1);
    }

    #[test]
    fn a_reply_waits_for_its_neighbour() {
        let mut h = host();
        let ping = icmp_v4("10.0.0.2", "10.0.0.1", &Icmpv4Message::EchoRequest(ECHO));
        assert_eq!(run(&mut h, at(0), ETH, &ping), Answer::None);
        assert_eq!(flush(&mut h, at(0)).len(), 1, "the question");
        let reply = arp(Operation::Reply, (PEER, "10.0.0.2"), (US, "10.0.0.1"));
        run(&mut h, at(1), ETH, &arp_frame(US, &reply));
        let released = flush(&mut h, at(1));
        assert_eq!(released.len(), 1);
        assert_eq!(read_v4(&released[0].1).0, PEER);
    }

    #[test]
    fn echo_requests_above_the_mtu_are_not_answered() {
        let mut h = host();
        add_neighbour(&mut h, "10.0.0.2");
        let ping = |len: usize| {
            let data = vec![1; len];
            icmp_v4(
                "10.0.0.2",
                "10.0.0.1",
                &Icmpv4Message::EchoRequest(Echo {
                    data: &data,
                    ..ECHO
                }),
            )
        };
        assert!(matches!(
            run(&mut h, at(0), ETH, &ping(1472)),
            Answer::Frame(..)
        ));
        assert_eq!(run(&mut h, at(0), ETH, &ping(1473)), Answer::None);
        assert_eq!(h.counters().icmp.echo_too_big, 1);
        h.set_mtu(ETH, 1400);
        assert_eq!(run(&mut h, at(0), ETH, &ping(1472)), Answer::None);
    }

    #[test]
    fn echo_replies_are_rate_limited() {
        let mut h = host();
        add_neighbour(&mut h, "10.0.0.2");
        let ping = icmp_v4("10.0.0.2", "10.0.0.1", &Icmpv4Message::EchoRequest(ECHO));
        let answered = (0..500)
            .filter(|_| run(&mut h, at(0), ETH, &ping) != Answer::None)
            .count();
        assert_eq!((answered, h.counters().icmp.echo_limited), (100, 400));
    }

    #[test]
    fn echo_replies_and_damaged_requests_are_counted() {
        let mut h = host();
        run(
            &mut h,
            at(0),
            ETH,
            &icmp_v4("10.0.0.2", "10.0.0.1", &Icmpv4Message::EchoReply(ECHO)),
        );
        run(
            &mut h,
            at(0),
            ETH,
            &icmp_v6("fe80::2", "2001:db8::1", &Icmpv6Message::EchoReply(ECHO)),
        );
        let mut ping = icmp_v4("10.0.0.2", "10.0.0.1", &Icmpv4Message::EchoRequest(ECHO));
        *ping.last_mut().unwrap() ^= 1;
        run(&mut h, at(0), ETH, &ping);
        run(
            &mut h,
            at(0),
            ETH,
            &from_peer("10.0.0.2", "10.0.0.1", IpProtocol::ICMP, &[8, 0, 0]),
        );
        let c = h.counters().icmp;
        assert_eq!((c.ignored, c.bad_checksum, c.bad_message), (2, 1, 1));
    }

    #[test]
    fn without_a_link_layer() {
        let mut h = host();
        let m = Icmpv4Message::EchoRequest(ECHO);
        let mut bytes = vec![0; m.emitted_len()];
        m.emit(&mut bytes);
        let ping = packet(None, pair("10.9.0.2", "10.9.0.1"), IpProtocol::ICMP, &bytes);
        let Answer::Frame(BARE, reply) = run(&mut h, at(0), BARE, &ping) else {
            panic!()
        };
        assert_eq!(
            Ipv4View::new(&reply).unwrap().header().dst.octets(),
            [10, 9, 0, 2]
        );
        assert_eq!(
            h.lookup(
                at(0),
                NextHop {
                    iface: BARE,
                    addr: [10, 9, 0, 2].into()
                }
            ),
            Lookup::Resolved(ZERO)
        );
    }
}

mod error_tests {
    use super::*;

    #[test]
    fn errors_reach_connections() {
        let mut h = host();
        let quoted = packet(
            None,
            pair("10.0.0.1", "192.0.2.9"),
            IpProtocol::TCP,
            &[0, 80, 1, 2, 0, 0, 0, 5],
        );
        let m = Icmpv4Message::DestinationUnreachable {
            code: 4,
            next_hop_mtu: 1300,
            quoted: &quoted,
        };
        let Answer::Error(e) = run(&mut h, at(0), ETH, &icmp_v4("192.0.2.1", "10.0.0.1", &m))
        else {
            panic!()
        };
        assert_eq!((e.seq, e.kind), (SeqNum(5), IcmpErrorKind::TooBig(1300)));
        assert_eq!((e.flow.local.port, e.flow.remote.port), (80, 0x102));
        // Not if the segment was from another address of ours than the error came to.
        let quoted = packet(
            None,
            pair("10.42.0.1", "192.0.2.9"),
            IpProtocol::TCP,
            &[0; 8],
        );
        let m = Icmpv4Message::TimeExceeded {
            code: 0,
            quoted: &quoted,
        };
        assert_eq!(
            run(&mut h, at(0), ETH, &icmp_v4("192.0.2.1", "10.0.0.1", &m)),
            Answer::None
        );
        let quoted = packet(
            None,
            pair("2001:db8::1", "2001:db8:5::1"),
            IpProtocol::TCP,
            &[0; 8],
        );
        let m = Icmpv6Message::PacketTooBig {
            mtu: 1300,
            quoted: &quoted,
        };
        let frame = icmp_v6("2001:db8:4::1", "2001:db8::1", &m);
        assert!(matches!(run(&mut h, at(0), ETH, &frame), Answer::Error(_)));
        assert_eq!(
            (
                h.counters().icmp.errors_in,
                h.counters().icmp.errors_ignored
            ),
            (2, 1)
        );
    }

    #[test]
    fn ports_protocols_and_parameters_are_rejected() {
        let mut h = host();
        add_neighbour(&mut h, "10.0.0.2");
        add_neighbour(&mut h, "2001:db8::2");
        for (protocol, code) in [(IpProtocol::UDP, 3), (IpProtocol(132), 2)] {
            let frame = from_peer("10.0.0.2", "10.0.0.1", protocol, &[5; 600]);
            let Answer::Frame(_, reply) = run(&mut h, at(0), ETH, &frame) else {
                panic!()
            };
            let (to, addrs, bytes) = read_v4(&reply);
            assert_eq!((to, addrs), (PEER, pair("10.0.0.1", "10.0.0.2")));
            assert_eq!(reply.len(), 14 + 576);
            assert_eq!(
                Icmpv4Message::parse(&bytes),
                Ok(Icmpv4Message::DestinationUnreachable {
                    code,
                    next_hop_mtu: 0,
                    quoted: &frame[14..14 + 548],
                })
            );
        }
        let frame = from_peer("2001:db8::2", "2001:db8::1", IpProtocol::UDP, &[5; 1400]);
        let Answer::Frame(_, reply) = run(&mut h, at(0), ETH, &frame) else {
            panic!()
        };
        let (_, addrs, _, bytes) = read_v6(&reply);
        assert_eq!(reply.len(), 14 + 1280);
        let quoted = &frame[14..14 + 1232];
        assert_eq!(
            parse_v6(addrs, &bytes),
            Icmpv6Message::DestinationUnreachable { code: 4, quoted }
        );
        let frame = from_peer("2001:db8::2", "2001:db8::1", IpProtocol(132), &[5; 10]);
        let Answer::Frame(_, reply) = run(&mut h, at(0), ETH, &frame) else {
            panic!()
        };
        let (_, addrs, _, bytes) = read_v6(&reply);
        let quoted = &frame[14..];
        assert_eq!(
            parse_v6(addrs, &bytes),
            Icmpv6Message::ParameterProblem {
                code: 1,
                pointer: 6,
                quoted
            }
        );
        assert_eq!(h.counters().icmp.errors_out, 4);
    }

    #[test]
    fn padding_is_not_quoted() {
        let mut h = host();
        add_neighbour(&mut h, "10.0.0.2");
        let mut frame = from_peer("10.0.0.2", "10.0.0.1", IpProtocol::UDP, &[5; 8]);
        let len = frame.len();
        frame.resize(60, 0xee);
        let Answer::Frame(_, reply) = run(&mut h, at(0), ETH, &frame) else {
            panic!()
        };
        assert_eq!(reply.len(), 14 + 20 + 8 + len - 14);
    }

    #[test]
    fn forbidden_errors() {
        let refuse = |h: &mut IpLayer, p: IpPacket, why, bytes: &[u8]| {
            let mut out = [0; 2048];
            h.reject(at(0), &p, why, bytes, &mut out)
        };
        let mut h = host();
        add_neighbour(&mut h, "10.0.0.2");
        add_neighbour(&mut h, "fe80::2");
        let parts = |frame: &[u8]| match host().receive(ETH, frame, &meta(frame)) {
            Ingress::Icmp(p) | Ingress::Reject(p, _) => p,
            other @ (Ingress::Tcp(_) | Ingress::Arp(_) | Ingress::Drop(_)) => panic!("{other:?}"),
        };
        // About an ICMP error, or a message indistinguishable from one.
        for (payload, allowed) in [(&[3u8, 0][..], false), (&[], false), (&[8, 0], true)] {
            let frame = from_peer("10.0.0.2", "10.0.0.1", IpProtocol::ICMP, payload);
            let sent = refuse(&mut h, parts(&frame), RejectReason::Protocol, &frame[14..]);
            assert_eq!(sent.is_some(), allowed, "{payload:?}");
        }
        for (payload, allowed) in [
            (&[1u8, 0][..], false),
            (&[137, 0], false),
            (&[], false),
            (&[128, 0], true),
        ] {
            let frame = from_peer("fe80::2", "2001:db8::1", IpProtocol::ICMPV6, payload);
            let sent = refuse(&mut h, parts(&frame), RejectReason::Port, &frame[14..]);
            assert_eq!(sent.is_some(), allowed, "{payload:?}");
        }
        // About packets to groups, but for options that ask for it.
        let frame = from_peer("fe80::2", "ff02::1", IpProtocol::ICMPV6, &[128, 0]);
        let p = parts(&frame);
        assert!(p.is_group);
        assert_eq!(refuse(&mut h, p, RejectReason::Port, &frame[14..]), None);
        let option = [&[58, 0, 0xbe, 4, 0, 0, 0, 0][..], &[128, 0]].concat();
        for (kind, told) in [(0xbe, true), (0xfe, false)] {
            let mut option = option.clone();
            option[2] = kind;
            let frame = from_peer("fe80::2", "ff02::1", IpProtocol::DEST_OPTIONS, &option);
            let answer = run(&mut h, at(0), ETH, &frame);
            assert_eq!(matches!(answer, Answer::Frame(..)), told, "{kind:#x}");
        }
        assert_eq!(h.counters().icmp.errors_forbidden, 7);
    }

    #[test]
    fn errors_are_rate_limited() {
        let rate = Rate {
            per_second: 10,
            burst: 3,
        };
        let mut h = host_with(&IpConfig {
            error_rate: rate,
            ..IpConfig::default()
        });
        add_neighbour(&mut h, "10.0.0.2");
        let frame = from_peer("10.0.0.2", "10.0.0.1", IpProtocol::UDP, &[5; 8]);
        let sent = |h: &mut IpLayer, ms| run(h, at(ms), ETH, &frame) != Answer::None;
        assert_eq!((0..20).filter(|_| sent(&mut h, 0)).count(), 3);
        assert!(sent(&mut h, 100) && !sent(&mut h, 100));
        assert_eq!(h.counters().icmp.errors_limited, 18);
    }
}

mod dispatch_tests {
    use super::*;

    #[test]
    fn dispatched_frames_are_sent_queued_or_dropped() {
        let mut h = host();
        let frame = packet(
            link(US, ZERO),
            pair("10.0.0.1", "10.0.0.2"),
            IpProtocol::TCP,
            &[1; 20],
        );
        let mut copy = frame.clone();
        assert_eq!(
            h.dispatch(at(0), hop("10.0.0.2"), &mut copy),
            DispatchOutcome::Queued
        );
        add_neighbour(&mut h, "10.0.0.2");
        assert_eq!(
            h.dispatch(at(0), hop("10.0.0.2"), &mut copy),
            DispatchOutcome::Send
        );
        assert_eq!((&copy[..6], &copy[6..]), (&PEER.0[..], &frame[6..]));
        assert_eq!(flush(&mut h, at(0)), [(ETH, copy.clone())]);
        h.lookup(at(0), hop("10.0.0.3"));
        for s in 0..=3 {
            flush(&mut h, at(s * 1000));
        }
        assert_eq!(
            h.dispatch(at(3000), hop("10.0.0.3"), &mut copy),
            DispatchOutcome::Dropped
        );
        assert_eq!(h.counters().icmp.unsendable, 1);
        let nowhere = NextHop {
            iface: IfaceId(9),
            ..hop("10.0.0.3")
        };
        assert_eq!(h.lookup(at(0), nowhere), Lookup::Unreachable);
    }

    #[test]
    fn groups_need_no_resolution() {
        let mut h = host();
        for (addr, mac) in [
            ("ff02::1", MacAddr([0x33, 0x33, 0, 0, 0, 1])),
            ("224.0.0.251", MacAddr([1, 0, 0x5e, 0, 0, 251])),
            ("255.255.255.255", MacAddr::BROADCAST),
            ("10.0.0.255", MacAddr::BROADCAST),
        ] {
            assert_eq!(h.lookup(at(0), hop(addr)), Lookup::Resolved(mac), "{addr}");
        }
        assert!(h.neighbours().is_empty());
    }

    #[test]
    fn routing() {
        let h = host();
        let ip = |s: &str| s.parse().unwrap();
        assert_eq!(h.route(ip("10.0.0.9"), None), Some(hop("10.0.0.9")));
        assert_eq!(h.route(ip("8.8.8.8"), None), Some(hop("10.0.0.254")));
        assert_eq!(
            h.route(ip("fe80::9"), None),
            Some(hop("fe80::9")),
            "the only such link"
        );
        assert_eq!(h.route(ip("fe80::ff:fe00:1"), Some(ETH)), None, "our own");
        assert_eq!(h.route(ip("fe80::9"), Some(ETH)), Some(hop("fe80::9")));
        let mut two = host();
        two.add_address(VLAN, "fe80::42/64".parse().unwrap())
            .unwrap();
        assert_eq!(two.route(ip("fe80::9"), None), None, "which link?");
        assert_eq!(h.route(ip("10.42.0.1"), None), None, "our own");
        assert_eq!(
            h.source(hop("10.0.0.254"), ip("8.8.8.8")),
            Some(ip("10.0.0.1"))
        );
        assert_eq!(
            h.source(hop("fe80::fe"), ip("2001:db8:77::1")),
            Some(ip("2001:db8::1"))
        );
    }

    #[test]
    fn progress_confirms_reachability() {
        let mut h = host();
        add_neighbour(&mut h, "10.0.0.2");
        h.lookup(at(0), hop("10.0.0.2"));
        h.confirm(at(1), hop("10.0.0.2"));
        assert_eq!(flush(&mut h, at(0) + Duration::from_secs(10)), []);
    }
}

/// Frames that are ARP, neighbour discovery or ICMP, but for a few bytes.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let addrs = prop::sample::select(vec![
        ("fe80::2", "2001:db8::1"),
        ("::", "ff02::1:ff00:1"),
        ("fe80::2", "ff02::1"),
        ("10.0.0.2", "10.0.0.1"),
        ("192.0.2.7", "10.0.0.1"),
    ]);
    let kinds = prop::sample::select(vec![
        0u8, 1, 2, 3, 4, 5, 8, 11, 12, 128, 129, 133, 134, 135, 136, 137,
    ]);
    let body = prop::collection::vec(any::<u8>(), 4..160);
    let icmp = (addrs, kinds, 0u8..2, body, any::<bool>()).prop_map(
        |((src, dst), kind, code, body, quote)| {
            let addrs = pair(src, dst);
            let mut bytes = [&[kind, code, 0, 0][..], &body].concat();
            if quote && bytes.len() > 60 {
                let quoted = packet(None, addrs.reversed(), IpProtocol::TCP, &[1; 8]);
                let len = quoted.len().min(bytes.len() - 8);
                bytes[8..8 + len].copy_from_slice(&quoted[..len]);
            }
            let protocol = if addrs.is_ipv6() {
                IpProtocol::ICMPV6
            } else {
                IpProtocol::ICMP
            };
            let mut sum = if addrs.is_ipv6() {
                addrs.pseudo_sum(protocol, u32::try_from(bytes.len()).unwrap())
            } else {
                lockgate_wire::checksum::Sum::new()
            };
            sum.add(&bytes);
            bytes[2..4].copy_from_slice(&sum.finish().to_be_bytes());
            let len = u16::try_from(bytes.len()).unwrap();
            let header = FrameHeader {
                hop_limit: 255,
                ..FrameHeader::new(link(PEER, US), addrs, protocol, len)
            };
            frame(&header, &bytes)
        },
    );
    let arp = (
        any::<bool>(),
        any::<[u8; 6]>(),
        0u8..4,
        0u8..4,
        any::<bool>(),
    )
        .prop_map(|(reply, mac, from, to, broadcast)| {
            let operation = if reply {
                Operation::Reply
            } else {
                Operation::Request
            };
            let p = ArpPacket {
                operation,
                sender_mac: MacAddr(mac),
                sender_ip: [10, 0, 0, from].into(),
                target_mac: US,
                target_ip: [10, 0, 0, to].into(),
            };
            let mut f = arp_frame(if broadcast { MacAddr::BROADCAST } else { US }, &p);
            f[6..12].copy_from_slice(&PEER.0);
            f
        });
    let udp = prop::collection::vec(any::<u8>(), 0..100)
        .prop_map(|b| from_peer("10.0.0.2", "10.0.0.1", IpProtocol::UDP, &b));
    let noise = prop::collection::vec(any::<u8>(), 0..120);
    let change = prop::collection::vec((0usize..120, any::<u8>()), 0..3);
    (
        prop_oneof![6 => icmp, 3 => arp, 1 => udp, 1 => noise],
        change,
        any::<bool>(),
    )
        .prop_map(|(mut f, changes, change)| {
            for (at, value) in changes.into_iter().filter(|_| change) {
                if let Some(byte) = f.get_mut(at) {
                    *byte = value;
                }
            }
            f
        })
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(512))]

    /// Whatever comes in, nothing panics, tables keep their bounds, and what goes out is a
    /// frame that a host could take.
    #[test]
    fn survives_hostile_frames(
        frames in prop::collection::vec((hostile(), 0u64..4000, any::<bool>()), 1..40),
        room in 0usize..2048,
    ) {
        let neighbours =
            NeighbourConfig { entries_max: 3, waiting_max: 2, ..NeighbourConfig::default() };
        let mut h = host_with(&IpConfig { neighbours, ..IpConfig::default() });
        let mut now = at(0);
        for (bytes, pause, ask) in frames {
            now += Duration::from_millis(pause);
            if ask {
                h.lookup(now, hop("fe80::2"));
                h.lookup(now, hop("10.0.0.2"));
            }
            if let Answer::Frame(iface, out) = run(&mut h, now, ETH, &bytes) {
                prop_assert_eq!(iface, ETH);
                let (eth, _) = EthernetView::parse(&out).unwrap();
                prop_assert_eq!(eth.src, US);
                prop_assert!(out.len() <= 1514);
            }
            let mut out = vec![0; room];
            while h.poll_transmit(now, &mut out).is_some() {}
            while h.poll_event().is_some() {}
            prop_assert!(h.neighbours().len() <= 3);
            prop_assert!(h.deadline().is_none_or(|d| d > now));
        }
    }
}
