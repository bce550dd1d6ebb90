//! Opening connections: three-way handshake, simultaneous open, options.

use core::time::Duration;

use lockgate_tcp::{Event, HalfOpen, HalfOpenTimer, HalfOpenVerdict, IntentKind, SegmentIn, State};
use lockgate_tcp::{TcpConfig, Unreachable};
use lockgate_wire::SeqNum;
use lockgate_wire::tcp::{Flags, TcpOptions, Timestamps};

use crate::rig::{
    ACK, FIN, ListenRig, RST, Rig, SYN, Seg, header, ms, opening, params, plain, seg, span,
};

fn everything() -> TcpOptions {
    TcpOptions {
        mss: Some(1400),
        window_scale: Some(9),
        sack_permitted: true,
        timestamps: Some(Timestamps { val: 77, ecr: 0 }),
        ..TcpOptions::NONE
    }
}

#[test]
fn an_active_open_offers_what_the_configuration_says() {
    let mut rig = Rig::connecting(TcpConfig::default());
    let out = rig.sends();
    let [syn] = &out[..] else {
        panic!("one SYN: {out:?}")
    };
    assert_eq!((syn.kind, syn.tcp.flags), (IntentKind::Syn, SYN));
    assert_eq!(syn.tcp.seq, rig.iss);
    assert_eq!(syn.tcp.window, u16::MAX, "not scaled");
    // 4 MiB need a shift of 7 (65 535 << 6 is a byte too little for 4 194 304).
    let ts = Timestamps {
        val: 100_000 + 7_000,
        ecr: 0,
    };
    assert_eq!(
        syn.tcp.options,
        TcpOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(ts),
            ..TcpOptions::NONE
        }
    );
    let mut rig = Rig::connecting(plain());
    let only_mss = TcpOptions {
        mss: Some(1460),
        ..TcpOptions::NONE
    };
    assert_eq!(rig.sends()[0].tcp.options, only_mss);
}

#[test]
fn what_both_offer_is_used() {
    let mut rig = Rig::connecting(TcpConfig::default());
    rig.sends();
    let verdict = rig.feed_after(
        ms(20),
        Seg {
            options: everything(),
            ..seg(SYN, -1, 0)
        },
    );
    assert_eq!(verdict.event, Event::Connected);
    let info = rig.conn.info(&rig.sh);
    assert!(info.sack && info.timestamps && info.window_scaling);
    assert_eq!(info.mss, 1400 - 12);
    assert_eq!(info.srtt, Some(ms(20)));
    assert_eq!(info.send_window, 10_000, "a SYN's window is not scaled");
    let out = rig.sends();
    assert_eq!((out[0].tcp.flags, out[0].seq, out[0].ack), (ACK, 0, 0));
    assert_eq!(out[0].tcp.options.timestamps.map(|t| t.ecr), Some(77));
    let _ = rig.feed(seg(ACK, 0, 0).ts(78, 0));
    assert_eq!(rig.conn.info(&rig.sh).send_window, 10_000 << 9);
}

#[test]
fn what_the_peer_does_not_offer_is_not_used() {
    for (ipv6, mss) in [(false, 536), (true, 1220)] {
        let opening = lockgate_tcp::OpenParams { ipv6, ..opening() };
        let mut rig = Rig::connecting_as(TcpConfig::default(), opening, SeqNum(9));
        rig.sends();
        let _ = rig.feed(seg(SYN, -1, 0));
        let info = rig.conn.info(&rig.sh);
        assert!(!info.sack && !info.timestamps && !info.window_scaling);
        assert_eq!(info.mss, mss);
        assert_eq!(rig.sends()[0].tcp.options, TcpOptions::NONE);
    }
}

#[test]
fn a_tiny_segment_size_is_not_taken_seriously() {
    let mut rig = Rig::connecting(plain());
    rig.sends();
    let options = TcpOptions {
        mss: Some(1),
        ..TcpOptions::NONE
    };
    let _ = rig.feed(Seg {
        options,
        ..seg(SYN, -1, 0)
    });
    assert_eq!(rig.conn.info(&rig.sh).mss, 88);
}

#[test]
fn a_syn_is_retransmitted_for_three_minutes() {
    let mut rig = Rig::connecting(plain());
    let began = rig.now;
    let mut waits = Vec::new();
    let mut syns = 0;
    loop {
        syns += rig
            .sends()
            .iter()
            .filter(|o| o.tcp.flags == SYN && o.seq == -1)
            .count();
        let (waited, event) = rig.timer();
        waits.push(waited.as_secs());
        if event != Event::None {
            assert_eq!(event, Event::TimedOut);
            break;
        }
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 57]);
    assert_eq!(syns, 8);
    assert_eq!(rig.now.saturating_since(began), Duration::from_secs(180));
    assert_eq!(rig.state(), State::Closed);
}

/// RFC 6298, section 5.7, and RFC 5681, section 3.1.
#[test]
fn a_lost_syn_makes_the_beginning_careful() {
    let mut rig = Rig::connecting(plain());
    rig.sends();
    rig.timer();
    rig.sends();
    let options = TcpOptions {
        mss: Some(1000),
        ..TcpOptions::NONE
    };
    let _ = rig.feed(Seg {
        options,
        ..seg(SYN, -1, 0)
    });
    rig.sends();
    let info = rig.conn.info(&rig.sh);
    assert_eq!(
        (info.cwnd, info.srtt),
        (1000, None),
        "an ambiguous round trip is none"
    );
    assert_eq!(info.rto, Duration::from_secs(3));
}

/// RFC 7323, section 4: the echo tells which SYN was acknowledged. The RTO stays at 3 s until data
/// was acknowledged (RFC 6298, section 5.7).
#[test]
fn a_timestamp_echo_gives_the_round_trip_of_a_lost_syn() {
    // (the echoed timestamp, the sample): the SYNs were sent at 107 000 and 108 000.
    for (ecr, srtt) in [(108_000, Some(ms(20))), (107_000, None)] {
        let mut rig = Rig::connecting(TcpConfig::default());
        rig.sends();
        rig.timer();
        rig.sends();
        let options = TcpOptions {
            timestamps: Some(Timestamps { val: 77, ecr }),
            ..everything()
        };
        let syn_ack = seg(SYN, -1, 0);
        let _ = rig.feed_after(ms(20), Seg { options, ..syn_ack });
        let info = rig.conn.info(&rig.sh);
        assert_eq!((info.srtt, info.cwnd), (srtt, 1388), "echo {ecr}");
        assert_eq!(info.rto, Duration::from_secs(3), "echo {ecr}");
        assert_data_ends_the_long_rto(&mut rig);

        // The same for a SYN-ACK.
        let mut listen = ListenRig::new(TcpConfig::default(), everything());
        listen.now = listen.half.deadline();
        let _ = listen.half.on_timer(listen.now, &mut listen.sh);
        listen.now += ms(20);
        let (mut rig, _) = listen.open(seg(ACK, 0, 0).ts(78, ecr));
        let info = rig.conn.info(&rig.sh);
        assert_eq!((info.srtt, info.cwnd), (srtt, 1388), "echo {ecr}");
        assert_eq!(info.rto, Duration::from_secs(3), "echo {ecr}");
        assert_data_ends_the_long_rto(&mut rig);
    }
}

/// One segment of data is acknowledged after 20 ms.
fn assert_data_ends_the_long_rto(rig: &mut Rig) {
    rig.write(100);
    rig.sends();
    let ecr = 7_000 + u32::try_from(rig.now.as_millis()).unwrap();
    let _ = rig.feed_after(ms(20), seg(ACK, 0, 0).ack(100).ts(79, ecr));
    let info = rig.conn.info(&rig.sh);
    assert_eq!(info.srtt, Some(ms(20)));
    assert!(info.rto < Duration::from_secs(1), "{:?}", info.rto);
}

#[test]
fn an_unacceptable_ack_in_syn_sent_is_reset() {
    for ack in [-1, 1, 5000] {
        let mut rig = Rig::in_state(State::SynSent);
        let verdict = rig.feed(seg(SYN, -1, 0).ack(ack));
        assert_eq!(rig.answer(&verdict), Some((RST, ack, -5_000_001)));
        assert_eq!(rig.state(), State::SynSent);
        let verdict = rig.feed(seg(RST, -1, 0).ack(ack));
        assert_eq!(
            (verdict.answer, rig.state()),
            (None, State::SynSent),
            "a RST is not answered"
        );
    }
}

/// RFC 9293, figure 9: we have restarted and lost the connection, the peer has not.
#[test]
fn a_half_open_connection_is_discovered() {
    let mut rig = Rig::in_state(State::SynSent);
    let verdict = rig.feed(seg(ACK, 300, 0).ack(100));
    assert_eq!(
        rig.answer(&verdict).map(|(f, seq, _)| (f, seq)),
        Some((RST, 100))
    );
    assert_eq!(rig.state(), State::SynSent);
    let (_, event) = rig.timer();
    assert_eq!(event, Event::None);
    assert_eq!(
        rig.sends().len(),
        1,
        "the SYN again, and now the peer knows"
    );
}

#[test]
fn text_and_fin_of_a_syn_ack_are_taken() {
    let mut rig = Rig::in_state(State::SynSent);
    let verdict = rig.feed(seg(SYN | FIN, -1, 100));
    assert_eq!(verdict.event, Event::Connected);
    assert_eq!((verdict.keep, verdict.skip_front), (span(0, 100), 0));
    assert!(verdict.peer_closed);
    assert_eq!(rig.state(), State::CloseWait);
    assert_eq!(rig.sends()[0].ack, 101);
}

/// RFC 9293, figure 7.
#[test]
fn both_open_at_once() {
    let mut rig = Rig::in_state(State::SynSent);
    let verdict = rig.feed(Seg {
        options: everything(),
        ..seg(SYN, -1, 0).bare()
    });
    assert_eq!((verdict.answer, verdict.event), (None, Event::None));
    assert_eq!(rig.state(), State::SynReceived);
    let out = rig.sends();
    assert_eq!(
        (out[0].kind, out[0].tcp.flags),
        (IntentKind::SynAck, SYN | ACK)
    );
    assert_eq!(
        (out[0].seq, out[0].ack),
        (-1, 0),
        "the same number as the SYN"
    );
    assert_eq!(
        out[0].tcp.options,
        TcpOptions {
            mss: Some(1460),
            ..TcpOptions::NONE
        }
    );
    let verdict = rig.feed(seg(SYN, -1, 0));
    assert_eq!(
        (verdict.event, rig.state()),
        (Event::Connected, State::Established)
    );
    // Or the SYN-ACK is lost, and a later segment shows that the handshake is complete.
    let mut rig = Rig::in_state(State::SynReceived);
    assert_eq!(rig.timer().1, Event::None);
    assert_eq!(rig.sends()[0].kind, IntentKind::SynAck);
    let verdict = rig.feed(seg(ACK, 0, 10));
    assert_eq!(
        (verdict.event, verdict.keep),
        (Event::Connected, span(0, 10))
    );
}

#[test]
fn closing_before_it_is_open() {
    let mut rig = Rig::in_state(State::SynSent);
    rig.conn.close();
    assert_eq!((rig.state(), rig.conn.deadline()), (State::Closed, None));
    assert!(rig.sends().is_empty());
    let mut rig = Rig::in_state(State::SynReceived);
    rig.conn.close();
    assert_eq!(rig.state(), State::SynReceived);
    let _ = rig.feed(seg(ACK, 0, 0));
    assert_eq!(rig.state(), State::FinWait1);
    assert!(rig.sends()[0].tcp.flags.contains(FIN));
}

/// RFC 5461: hard errors end an attempt, soft ones don't, and neither harms an open connection.
#[test]
fn unreachable_peers() {
    let mut rig = Rig::in_state(State::SynSent);
    let iss = rig.iss;
    assert_eq!(
        rig.conn
            .on_unreachable(iss + 9, Unreachable::Hard, &mut rig.sh),
        Event::None
    );
    assert_eq!(
        rig.conn.on_unreachable(iss, Unreachable::Soft, &mut rig.sh),
        Event::None
    );
    assert_eq!(
        rig.conn.on_unreachable(iss, Unreachable::Hard, &mut rig.sh),
        Event::Refused
    );
    assert_eq!(rig.state(), State::Closed);
    assert_eq!(
        (rig.sh.counters.icmp_ignored, rig.sh.counters.unreachable),
        (1, 1)
    );
    let mut rig = Rig::open();
    rig.write(100);
    rig.sends();
    let event = rig
        .conn
        .on_unreachable(iss + 1, Unreachable::Hard, &mut rig.sh);
    assert_eq!((event, rig.state()), (Event::None, State::Established));
}

#[test]
fn a_listener_answers_with_what_both_want() {
    let listen = ListenRig::new(TcpConfig::default(), everything());
    let syn_ack = listen.syn_ack;
    assert_eq!((syn_ack.flags, syn_ack.seq), (SYN | ACK, listen.iss));
    assert_eq!(syn_ack.ack, listen.irs + 1);
    let ts = Timestamps {
        val: 107_000,
        ecr: 77,
    };
    assert_eq!(
        syn_ack.options,
        TcpOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(ts),
            ..TcpOptions::NONE
        }
    );
    let listen = ListenRig::new(TcpConfig::default(), TcpOptions::NONE);
    assert_eq!(
        listen.syn_ack.options,
        TcpOptions {
            mss: Some(1460),
            ..TcpOptions::NONE
        }
    );
}

#[test]
fn a_listener_takes_only_syns() {
    let sh = lockgate_tcp::Shared::new(plain(), &params(10, 1));
    let now = lockgate_wire::Instant::ZERO;
    let syn = |flags: Flags| {
        header(
            Seg {
                flags,
                ..seg(SYN, -1, 0)
            },
            SeqNum(5),
            SeqNum(1),
        )
    };
    for flags in [RST, RST | SYN, ACK, SYN | ACK, FIN, SYN | FIN, Flags::NONE] {
        let tcp = syn(flags);
        let segment = SegmentIn::new(&tcp, 0);
        assert!(
            HalfOpen::on_syn(now, &segment, &opening(), &sh).is_none(),
            "{flags:?}"
        );
        let answer = HalfOpen::refuse(&segment);
        let reset = flags.contains(ACK) && !flags.contains(RST);
        assert_eq!(answer.is_some(), reset, "{flags:?}");
    }
}

#[test]
fn the_third_segment_opens_and_its_text_counts() {
    let mut listen = ListenRig::new(TcpConfig::default(), everything());
    listen.now += ms(30);
    let (mut rig, verdict) = listen.open(seg(ACK, 0, 200).ts(80, 107_000));
    assert_eq!(
        (verdict.event, verdict.keep),
        (Event::Connected, span(0, 200))
    );
    let info = rig.conn.info(&rig.sh);
    assert_eq!((info.state, info.srtt), (State::Established, Some(ms(30))));
    assert_eq!(info.send_window, 10_000 << 9);
    assert_eq!(info.cwnd, 10 * 1388);
    assert_eq!(rig.sends()[0].ack, 200);
}

#[test]
fn half_open_rules() {
    let mut listen = ListenRig::new(plain(), TcpOptions::NONE);
    let drop = |v: HalfOpenVerdict| matches!(v, HalfOpenVerdict::Drop);
    let reply = |v: HalfOpenVerdict| match v {
        HalfOpenVerdict::Reply(tcp) => Some(tcp.flags),
        _ => None,
    };
    // The SYN again: the SYN-ACK again.
    assert_eq!(reply(listen.feed(seg(SYN, -1, 0).bare())), Some(SYN | ACK));
    // Another SYN in the window, RSTs not quite right, and what is outside: challenged.
    assert_eq!(reply(listen.feed(seg(SYN, 100, 0).bare())), Some(ACK));
    assert_eq!(reply(listen.feed(seg(RST, 100, 0).bare())), Some(ACK));
    assert_eq!(reply(listen.feed(seg(ACK, 70_000, 0))), Some(ACK));
    assert!(drop(listen.feed(seg(RST, 70_000, 0))));
    assert!(drop(listen.feed(seg(ACK, 0, 100).bare())));
    // An unacceptable ACK is answered with RST; the entry stays.
    assert!(matches!(
        listen.feed(seg(ACK, 0, 0).ack(5)),
        HalfOpenVerdict::Reset(tcp) if tcp.seq == listen.iss + 6 && tcp.flags == RST
    ));
    assert!(matches!(
        listen.feed(seg(RST, 0, 0).bare()),
        HalfOpenVerdict::Closed
    ));
}

#[test]
fn an_older_timestamp_does_not_complete_a_handshake() {
    let mut listen = ListenRig::new(TcpConfig::default(), everything());
    let verdict = listen.feed(seg(ACK, 0, 0).ts(76, 107_000));
    assert!(matches!(verdict, HalfOpenVerdict::Reply(_)));
    let verdict = listen.feed(seg(ACK, 0, 0).ts(77, 107_000));
    assert!(matches!(verdict, HalfOpenVerdict::Established(_)));
}

#[test]
fn a_syn_ack_is_retransmitted_a_few_times() {
    let mut listen = ListenRig::new(plain(), TcpOptions::NONE);
    let mut waits = Vec::new();
    loop {
        let at = listen.half.deadline();
        assert_eq!(
            listen.half.on_timer(at - ms(1), &mut listen.sh),
            HalfOpenTimer::NotYet
        );
        waits.push(at.saturating_since(listen.now).as_secs());
        listen.now = at;
        match listen.half.on_timer(at, &mut listen.sh) {
            HalfOpenTimer::Retransmit(tcp) => assert_eq!(tcp.flags, SYN | ACK),
            HalfOpenTimer::GiveUp => break,
            HalfOpenTimer::NotYet => panic!("it was due"),
        }
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32]);
    assert_eq!(size_of::<HalfOpen>(), 48);
}

/// The SYN-ACK of a repeated SYN echoes that SYN and is a retransmission: it gives no sample of the
/// round trip but by its own echo, and the timer waits for it.
#[test]
fn a_repeated_syn_is_echoed_and_counts_as_a_retransmission() {
    let config = TcpConfig {
        timestamps: true,
        ..plain()
    };
    let options = |val| TcpOptions {
        mss: Some(1012),
        timestamps: Some(Timestamps { val, ecr: 0 }),
        ..TcpOptions::NONE
    };
    for (echo_of_last, srtt) in [(true, Some(ms(20))), (false, None)] {
        let mut listen = ListenRig::new(config.clone(), options(500));
        let first = listen.syn_ack.options.timestamps.unwrap();
        assert_eq!(first.ecr, 500);
        listen.now += ms(700);
        let again = |val| Seg {
            options: options(val),
            ..seg(SYN, -1, 0).bare()
        };
        let HalfOpenVerdict::Reply(syn_ack) = listen.feed(again(1200)) else {
            panic!("a SYN-ACK")
        };
        let second = syn_ack.options.timestamps.unwrap();
        assert_eq!((syn_ack.flags, second.ecr), (SYN | ACK, 1200));
        let wait = listen.half.deadline().saturating_since(listen.now);
        assert_eq!(
            wait,
            ms(1000),
            "the timer starts anew, but doesn't back off"
        );
        // An older SYN that was overtaken changes nothing.
        let HalfOpenVerdict::Reply(overtaken) = listen.feed(again(600)) else {
            panic!("a SYN-ACK")
        };
        assert_eq!(overtaken.options.timestamps.unwrap().ecr, 1200);
        listen.now += ms(20);
        let echo = if echo_of_last { second.val } else { first.val };
        let (rig, _) = listen.open(seg(ACK, 0, 0).ts(1220, echo));
        let info = rig.conn.info(&rig.sh);
        assert_eq!((info.srtt, info.cwnd), (srtt, 1000), "a SYN-ACK was lost");
        let rto = if echo_of_last { 220 } else { 1000 };
        assert_eq!(info.rto, ms(rto), "the timer didn't expire");
    }
}

/// A peer that repeats its SYN is alive: its entry gets every SYN-ACK of the timer.
#[test]
fn repeated_syns_do_not_use_up_the_timer() {
    let mut listen = ListenRig::new(plain(), TcpOptions::NONE);
    for _ in 0..20 {
        listen.now += ms(500);
        let verdict = listen.feed(seg(SYN, -1, 0).bare());
        assert!(matches!(verdict, HalfOpenVerdict::Reply(_)));
    }
    for _ in 0..listen.sh.config.syn_ack_retries {
        listen.now = listen.half.deadline();
        let timer = listen.half.on_timer(listen.now, &mut listen.sh);
        assert!(matches!(timer, HalfOpenTimer::Retransmit(_)));
    }
    listen.now = listen.half.deadline();
    let timer = listen.half.on_timer(listen.now, &mut listen.sh);
    assert_eq!(timer, HalfOpenTimer::GiveUp);
    assert_eq!(listen.sh.counters.timed_out, 0, "no connection timed out");
}

#[test]
fn a_retransmitted_syn_ack_leaves_one_segment() {
    let mut listen = ListenRig::new(
        plain(),
        TcpOptions {
            mss: Some(1000),
            ..TcpOptions::NONE
        },
    );
    listen.now = listen.half.deadline();
    let _ = listen.half.on_timer(listen.now, &mut listen.sh);
    let (rig, _) = listen.open(seg(ACK, 0, 0));
    let info = rig.conn.info(&rig.sh);
    assert_eq!(
        (info.cwnd, info.srtt, info.rto),
        (1000, None, Duration::from_secs(3))
    );
}
