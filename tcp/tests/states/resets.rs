//! Resets, and what blind attackers may try (RFC 5961).

use lockgate_tcp::{Event, OpenParams, SegmentIn, State, TimeWaitVerdict, reset_for};
use lockgate_wire::tcp::{Flags, TcpOptions, Timestamps};
use lockgate_wire::{Instant, SeqNum};

use crate::rig::{ACK, FIN, RST, Rig, SYN, Seg, header, ms, opening, plain, seg, span};

#[test]
fn what_belongs_to_no_connection_is_reset() {
    let reset = |s: Seg| {
        let tcp = header(s, SeqNum(99), SeqNum(999));
        reset_for(&SegmentIn::new(&tcp, s.len))
    };
    let tcp = reset(seg(ACK, 0, 10).ack(5)).unwrap();
    assert_eq!((tcp.flags, tcp.seq, tcp.src_port), (RST, SeqNum(1005), 443));
    let tcp = reset(seg(SYN | FIN, 0, 10).bare()).unwrap();
    assert_eq!(
        (tcp.flags, tcp.seq, tcp.ack),
        (RST | ACK, SeqNum(0), SeqNum(112))
    );
    assert_eq!(reset(seg(RST, 0, 0)), None);
}

#[test]
fn only_the_exact_number_resets() {
    let mut rig = Rig::open();
    for seq in [1, 500, 9_999, 10_000] {
        let verdict = rig.feed(seg(RST, seq, 0));
        assert_eq!(
            rig.answer(&verdict),
            Some((ACK, 0, 0)),
            "challenged at {seq}"
        );
    }
    for seq in [-1, -500, 10_001, 1_000_000] {
        let verdict = rig.feed(seg(RST, seq, 0));
        assert_eq!(
            (verdict.answer, verdict.event),
            (None, Event::None),
            "dropped at {seq}"
        );
    }
    assert_eq!(rig.feed(seg(RST, 0, 0)).event, Event::Reset);
    assert_eq!((rig.state(), rig.conn.deadline()), (State::Closed, None));
    assert_eq!(rig.sh.counters.resets_in, 1);
}

/// RFC 9293, 3.10.7.4: with a closed window, resets are still taken.
#[test]
fn a_closed_window_does_not_keep_resets_out() {
    let mut rig = Rig::open();
    let _ = rig.feed(seg(ACK, 0, 1000));
    rig.conn.room(0);
    for at in [1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000] {
        let _ = rig.feed(seg(ACK, at, 1000));
        rig.conn.room(0);
    }
    rig.sends();
    assert_eq!(rig.conn.info(&rig.sh).receive_window, 0);
    assert_eq!(rig.feed(seg(RST, 10_000, 0)).event, Event::Reset);
}

#[test]
fn a_syn_is_challenged_wherever_it_stands() {
    for seq in [-1, 0, 500, 50_000, -50_000] {
        let mut rig = Rig::open();
        let verdict = rig.feed(seg(SYN, seq, 0).bare());
        assert_eq!(rig.answer(&verdict), Some((ACK, 0, 0)), "at {seq}");
        assert_eq!(rig.state(), State::Established);
    }
    // A restarted peer may not send timestamps.
    let mut rig = Rig::open_ts();
    let verdict = rig.feed(seg(SYN, 500, 0).bare());
    assert_eq!(rig.answer(&verdict), Some((ACK, 0, 0)));
}

#[test]
fn challenges_are_limited() {
    let mut config = plain();
    config.challenge_acks_per_second = 10;
    let options = TcpOptions {
        mss: Some(1000),
        ..TcpOptions::NONE
    };
    let mut rig = Rig::open_with(config, options, 10_000);
    let answered = (0..1000).filter(|_| rig.feed(seg(SYN, 500, 0).bare()).answer.is_some());
    let answered = answered.count();
    assert!((5..=15).contains(&answered), "{answered}");
    assert_eq!(
        rig.sh.counters.challenge_acks + rig.sh.counters.challenges_limited,
        1000
    );
    rig.now += ms(1000);
    assert!(
        rig.feed(seg(SYN, 500, 0).bare()).answer.is_some(),
        "the next second"
    );
}

#[test]
fn blind_data_needs_a_plausible_acknowledgment() {
    let mut rig = Rig::open();
    rig.write(2000);
    rig.sends();
    // The largest window was 10 000.
    for (ack, good) in [
        (-10_001, false),
        (-10_000, true),
        (0, true),
        (2000, true),
        (2001, false),
    ] {
        let at = rig.conn.received().0;
        let verdict = rig.feed(seg(ACK, i64::try_from(at).unwrap(), 10).ack(ack));
        assert_eq!(verdict.keep.start < verdict.keep.end, good, "ack {ack}");
        assert_eq!(verdict.answer.is_some(), !good, "ack {ack}");
    }
    assert_eq!(rig.sh.counters.bad_acks, 2);
}

/// A segment in the window with a timestamp far ahead must not make PAWS refuse the true peer.
#[test]
fn a_bad_acknowledgment_does_not_move_the_timestamp() {
    let mut rig = Rig::open_ts();
    let _ = rig.feed(seg(ACK, 0, 10).ack(50_000).ts(1_000_000, 0));
    let verdict = rig.feed(seg(ACK, 0, 10).ts(501, 0));
    assert_eq!(verdict.keep, span(0, 10));
}

#[test]
fn abort_sends_a_reset_from_states_that_have_a_peer() {
    for (state, reset) in [
        (State::SynSent, false),
        (State::SynReceived, true),
        (State::Established, true),
        (State::FinWait1, true),
        (State::FinWait2, true),
        (State::CloseWait, true),
        (State::Closing, true),
        (State::LastAck, true),
        (State::TimeWait, false),
    ] {
        let mut rig = Rig::in_state(state);
        let answer = rig.conn.abort(&mut rig.sh);
        assert_eq!(
            answer.is_some_and(|tcp| tcp.flags.contains(RST)),
            reset,
            "{state:?}"
        );
        assert_eq!((rig.state(), rig.sh.ranges_used()), (State::Closed, 0));
        assert_eq!(rig.conn.abort(&mut rig.sh), None, "once is enough");
    }
}

#[test]
fn an_abort_gives_everything_back() {
    let mut rig = Rig::open();
    rig.write(5000);
    rig.sends();
    let _ = rig.feed(seg(ACK, 3000, 100));
    assert!(rig.sh.ranges_used() > 1);
    let reset = rig.conn.abort(&mut rig.sh).unwrap();
    assert_eq!((reset.seq, reset.ack), (rig.iss + 5001, rig.irs + 1));
    assert_eq!(rig.sh.ranges_used(), 0);
    assert!(rig.sends().is_empty());
}

/// RFC 9293, section 3.6.1: data after our close is answered with RST.
#[test]
fn data_after_shutdown_read_is_reset() {
    let mut rig = Rig::in_state(State::FinWait2);
    rig.conn.shutdown_read(rig.now, &rig.sh);
    let verdict = rig.feed(seg(ACK, 0, 0).ack(1));
    assert_eq!(
        (verdict.event, verdict.answer),
        (Event::None, None),
        "no data, no reset"
    );
    let verdict = rig.feed(seg(ACK, 0, 10).ack(1));
    assert_eq!(verdict.event, Event::DataLost);
    assert!(verdict.event.is_over());
    assert_eq!(
        rig.answer(&verdict).map(|(f, seq, _)| (f, seq)),
        Some((RST | ACK, 1))
    );
    assert_eq!(verdict.keep.start, verdict.keep.end);
    assert_eq!(rig.sh.counters.data_after_close, 1);
}

#[test]
fn a_reset_is_taken_while_the_peer_is_probed() {
    // Both probe each other's closed windows: our segments without payload stay acceptable to the
    // peer.
    let mut rig = Rig::open();
    let _ = rig.feed(seg(ACK, 0, 0).window(0));
    rig.write(100);
    rig.timer();
    rig.timer();
    assert_eq!(rig.sends().len(), 1, "the probe");
    let reset = rig.conn.abort(&mut rig.sh).unwrap();
    assert_eq!(reset.seq, rig.iss + 1, "before the probe's byte");
}

fn time_wait(ts: bool) -> (lockgate_tcp::TimeWait, Rig) {
    let mut rig = if ts { Rig::open_ts() } else { Rig::open() };
    rig.conn.close();
    rig.sends();
    let fin = seg(FIN, 0, 0).ack(1);
    let verdict = rig.feed(if ts { fin.ts(600, 0) } else { fin });
    assert_eq!(verdict.event, Event::TimeWait);
    assert_eq!(
        rig.answer(&verdict),
        Some((ACK, 1, 1)),
        "the FIN is acknowledged at once"
    );
    (rig.conn.time_wait().unwrap(), rig)
}

#[test]
fn time_wait_acknowledges_the_fin_again_and_starts_over() {
    let (mut tw, mut rig) = time_wait(false);
    assert_eq!(tw.deadline(), rig.now + rig.sh.config.time_wait);
    rig.now += ms(5_000);
    let tcp = rig.header(seg(FIN, 0, 0).ack(1));
    let TimeWaitVerdict::Reply(ack) = tw.on_segment(rig.now, &SegmentIn::new(&tcp, 0), &mut rig.sh)
    else {
        panic!("a reply")
    };
    assert_eq!(
        (ack.flags, ack.seq, ack.ack),
        (ACK, rig.iss + 2, rig.irs + 2)
    );
    assert_eq!(tw.deadline(), rig.now + rig.sh.config.time_wait);
    assert_eq!(tw.remaining(rig.now), rig.sh.config.time_wait);
    assert!(size_of_val(&tw) <= 56);
}

/// The last ACKs were lost, so the peer retransmits data before its FIN. As long as it does, it is
/// answered; only what acknowledges our FIN counts.
#[test]
fn time_wait_acknowledges_data_before_the_fin_again_and_starts_over() {
    let (mut tw, mut rig) = time_wait(false);
    let began = rig.now;
    let retransmission = |seq, len, ack| (rig.header(seg(ACK, seq, len).ack(ack)), len);
    let old = retransmission(-100, 100, 1);
    let blind = retransmission(-100, 100, 0);
    let beyond = retransmission(0, 100, 1);
    for _ in 0..5 {
        rig.now += ms(50_000);
        let (tcp, len) = old;
        let verdict = tw.on_segment(rig.now, &SegmentIn::new(&tcp, len), &mut rig.sh);
        let TimeWaitVerdict::Reply(ack) = verdict else {
            panic!("a reply")
        };
        assert_eq!((ack.flags, ack.ack), (ACK, rig.irs + 2));
        assert_eq!(tw.deadline(), rig.now + rig.sh.config.time_wait);
    }
    assert_eq!(rig.sh.counters.challenge_acks, 0, "that is no challenge");
    assert!(rig.now.saturating_since(began) > rig.sh.config.time_wait);
    let deadline = tw.deadline();
    rig.now += ms(1_000);
    for (tcp, len) in [blind, beyond] {
        let _ = tw.on_segment(rig.now, &SegmentIn::new(&tcp, len), &mut rig.sh);
        assert_eq!(tw.deadline(), deadline);
    }
}

/// RFC 1337.
#[test]
fn time_wait_is_not_assassinated() {
    let (mut tw, mut rig) = time_wait(false);
    for seq in [0, 1, 2, 500] {
        let tcp = rig.header(seg(RST, seq, 0).ack(1));
        let verdict = tw.on_segment(rig.now, &SegmentIn::new(&tcp, 0), &mut rig.sh);
        assert_eq!(verdict, TimeWaitVerdict::Drop);
    }
    // An old duplicate is answered with an ACK, and the RST in answer to that is ignored too.
    let tcp = rig.header(seg(ACK, -500, 100).ack(1));
    let verdict = tw.on_segment(rig.now, &SegmentIn::new(&tcp, 100), &mut rig.sh);
    assert!(matches!(verdict, TimeWaitVerdict::Reply(_)));
    // What is expected, is not.
    let tcp = rig.header(seg(ACK, 1, 0).ack(1));
    let verdict = tw.on_segment(rig.now, &SegmentIn::new(&tcp, 0), &mut rig.sh);
    assert_eq!(verdict, TimeWaitVerdict::Drop);
}

/// RFC 6191 and RFC 9293, section 3.6.1.
#[test]
fn time_wait_gives_way_to_a_new_connection() {
    let syn = |seq: i64, ts: Option<u32>| {
        let timestamps = ts.map(|val| Timestamps { val, ecr: 0 });
        Seg {
            options: TcpOptions {
                timestamps,
                ..TcpOptions::NONE
            },
            ..seg(SYN, seq, 0).bare()
        }
    };
    for (had_ts, segment, reused) in [
        (false, syn(5000, None), true),
        (false, syn(2, None), true),
        (false, syn(1, None), false),
        (false, syn(-5000, None), false),
        (false, syn(-5000, Some(1)), true),
        (true, syn(-5000, Some(601)), true),
        (true, syn(5000, Some(600)), true),
        (true, syn(-5000, Some(600)), false),
        (true, syn(5000, Some(599)), false),
        (true, syn(5000, None), true),
        (true, syn(-5000, None), false),
    ] {
        let (mut tw, mut rig) = time_wait(had_ts);
        let tcp = rig.header(segment);
        let verdict = tw.on_segment(rig.now, &SegmentIn::new(&tcp, 0), &mut rig.sh);
        let expected = if reused {
            TimeWaitVerdict::Reuse {
                isn_after: rig.iss + 2,
            }
        } else {
            TimeWaitVerdict::Drop
        };
        assert_eq!(verdict, expected, "timestamps {had_ts}, {segment:?}");
    }
}

#[test]
fn a_connection_in_time_wait_ends_by_itself() {
    let (_, mut rig) = time_wait(false);
    let (waited, event) = rig.timer();
    assert_eq!((waited, event), (rig.sh.config.time_wait, Event::Closed));
    assert_eq!(rig.state(), State::Closed);
}

#[test]
fn icmp_must_quote_what_is_in_flight() {
    let mut rig = Rig::open();
    rig.write(3000);
    rig.sends();
    let iss = rig.iss;
    for quoted in [iss, iss + 3001, iss + 50_000, SeqNum(0)] {
        assert!(
            !rig.conn.on_too_big(rig.now, quoted, 600, &mut rig.sh),
            "{quoted:?}"
        );
    }
    assert_eq!(rig.sh.counters.icmp_ignored, 4);
    assert_eq!(rig.conn.info(&rig.sh).mss, 1000);
    assert!(
        !rig.conn.on_too_big(rig.now, iss + 1, 1500, &mut rig.sh),
        "not smaller"
    );
    assert!(rig.conn.on_too_big(rig.now, iss + 3000, 600, &mut rig.sh));
    assert_eq!(rig.conn.info(&rig.sh).mss, 560);
}

#[test]
fn path_mtu_has_a_floor_and_costs_no_window() {
    for (ipv6, mss) in [(false, 552 - 40), (true, 1280 - 60)] {
        let options = TcpOptions {
            mss: Some(1440),
            ..TcpOptions::NONE
        };
        let opening = OpenParams { ipv6, ..opening() };
        let mut rig = Rig::open_as(plain(), opening, SeqNum(1), options, 60_000);
        rig.write(5 * 1440);
        rig.sends();
        let before = rig.conn.info(&rig.sh);
        let iss = rig.iss;
        assert!(rig.conn.on_too_big(rig.now, iss + 1, 68, &mut rig.sh));
        let info = rig.conn.info(&rig.sh);
        assert_eq!((info.mss, info.cwnd, info.pipe), (mss, before.cwnd, 0));
        // Everything is sent again, in smaller segments, from the start.
        let again = rig.sends();
        assert!(
            again
                .iter()
                .all(|o| o.sent.is_retransmit() && o.len <= u32::from(mss))
        );
        let bytes: u32 = again.iter().map(|o| o.len).sum();
        assert_eq!((bytes, again[0].seq), (5 * 1440, 0));
        assert!(rig.sends().is_empty());
    }
}

#[test]
fn nothing_of_this_panics_at_the_edges_of_time_and_numbers() {
    for state in [
        State::SynSent,
        State::SynReceived,
        State::Established,
        State::FinWait2,
    ] {
        for flags in [ACK, SYN, FIN, SYN | FIN, RST] {
            for at in [-1, 0, 5_000, i64::from(i32::MAX), i64::from(i32::MIN)] {
                let mut rig = Rig::in_state(state);
                let _ = rig.feed(seg(flags, at, u32::MAX).ack(at));
                let _ = rig.feed(seg(flags, at, u32::MAX).bare());
            }
        }
    }
    let mut rig = Rig::open();
    rig.now = Instant::MAX;
    let _ = rig.feed(seg(ACK, 0, 100));
    rig.write(1000);
    rig.sends();
    let _ = rig.conn.on_timer(Instant::MAX, &mut rig.sh);
    let mut urgent = rig.header(seg(ACK, 100, u32::MAX));
    urgent.flags |= Flags::URG | Flags::PSH | FIN;
    let _ = rig
        .conn
        .on_segment(rig.now, SegmentIn::new(&urgent, u32::MAX), &mut rig.sh);
}
