//! Sending: how much, in which segments, with which flags.

use lockgate_tcp::{Event, IntentKind, TcpConfig};
use lockgate_wire::StreamOffset;
use lockgate_wire::tcp::{Flags, TcpOptions};

use crate::rig::{ACK, Out, Rig, ms, plain, seg};

fn lens(out: &[Out]) -> Vec<u32> {
    out.iter().map(|o| o.len).collect()
}

fn with_nagle() -> Rig {
    let config = TcpConfig {
        nodelay: false,
        ..plain()
    };
    Rig::open_with(
        config,
        TcpOptions {
            mss: Some(1000),
            ..TcpOptions::NONE
        },
        10_000,
    )
}

/// RFC 9293, section 3.7.4.
#[test]
fn nagle_holds_small_segments_back_while_anything_is_in_flight() {
    let mut rig = with_nagle();
    rig.write(10);
    assert_eq!(lens(&rig.sends()), [10], "nothing was in flight");
    rig.write(20);
    assert!(rig.sends().is_empty());
    rig.write(1500);
    assert_eq!(lens(&rig.sends()), [1000], "a full segment goes");
    let _ = rig.feed(seg(ACK, 0, 0).ack(10));
    assert!(rig.sends().is_empty());
    let _ = rig.feed(seg(ACK, 0, 0).ack(1010));
    assert_eq!(lens(&rig.sends()), [490]);
}

#[test]
fn nagle_can_be_turned_off_and_does_not_delay_a_close() {
    let mut rig = with_nagle();
    rig.conn.set_nodelay(true);
    for end in [10, 20, 30] {
        rig.write(end);
        assert_eq!(lens(&rig.sends()), [10]);
    }
    rig.conn.set_nodelay(false);
    rig.write(40);
    assert!(rig.sends().is_empty());
    rig.conn.close();
    let out = rig.sends();
    assert_eq!(
        (lens(&out), out[0].tcp.flags.contains(Flags::FIN)),
        (vec![10], true)
    );
}

#[test]
fn push_marks_the_end_of_what_is_queued() {
    let mut rig = Rig::open();
    rig.conn.queued(StreamOffset(2_500));
    rig.conn.ready(StreamOffset(1_500));
    let push = |out: &[Out]| -> Vec<bool> {
        out.iter()
            .map(|o| o.tcp.flags.contains(Flags::PSH))
            .collect()
    };
    let out = rig.sends();
    assert_eq!(
        (lens(&out), push(&out)),
        (vec![1000, 500], vec![false, false])
    );
    rig.conn.ready(StreamOffset(2_500));
    assert_eq!(push(&rig.sends()), [true]);
}

#[test]
fn an_intent_that_is_not_committed_changes_nothing() {
    let mut rig = Rig::open();
    rig.write(5_000);
    let before = rig.conn.info(&rig.sh);
    for _ in 0..3 {
        let intent = rig.conn.poll_transmit(rig.now, &rig.sh).unwrap();
        assert_eq!(intent.range, StreamOffset(0)..StreamOffset(5_000));
        assert_eq!((intent.mss, intent.burst_max), (1000, 5_000));
    }
    assert_eq!(rig.conn.info(&rig.sh), before);
    assert_eq!(
        (rig.sh.ranges_used(), rig.conn.sent()),
        (0, StreamOffset(0))
    );
}

#[test]
fn the_caller_may_send_less() {
    let mut rig = Rig::open();
    rig.write(5_000);
    let out = rig.send_at_most(1_234).unwrap();
    assert_eq!((out.len, rig.conn.sent()), (1_234, StreamOffset(1_234)));
    // Nothing at all, but an acknowledgment that is owed.
    let _ = rig.feed(seg(ACK, 0, 100));
    assert!(rig.conn.ack_due());
    let out = rig.send_at_most(0).unwrap();
    assert_eq!((out.kind, out.len, out.ack), (IntentKind::Data, 0, 100));
    assert_eq!(
        (out.sent.kind, rig.conn.sent()),
        (IntentKind::Ack, StreamOffset(1_234))
    );
    assert!(!rig.conn.ack_due());
    assert_eq!(rig.sends()[0].seq, 1_234);
}

#[test]
fn a_burst_fits_an_ip_packet_in_whole_segments() {
    let config = TcpConfig {
        window_scaling: true,
        initial_window: 200,
        ..plain()
    };
    let options = TcpOptions {
        mss: Some(1460),
        window_scale: Some(7),
        ..TcpOptions::NONE
    };
    let mut rig = Rig::open_with(config, options, 60_000);
    let _ = rig.feed(seg(ACK, 0, 0).window(60_000));
    rig.write(1_000_000);
    let intent = rig.conn.poll_transmit(rig.now, &rig.sh).unwrap();
    assert_eq!(intent.burst_max, 44 * 1460);
    assert!(intent.range.end.0 > u64::from(intent.burst_max));
}

/// RFC 6928, and RFC 5681's slow start.
#[test]
fn the_initial_window_and_its_growth() {
    let config = TcpConfig {
        window_scaling: true,
        ..plain()
    };
    let options = TcpOptions {
        mss: Some(1000),
        window_scale: Some(7),
        ..TcpOptions::NONE
    };
    let mut rig = Rig::open_with(config, options, 60_000);
    let _ = rig.feed(seg(ACK, 0, 0).window(60_000));
    rig.write(1_000_000);
    assert_eq!(rig.sends().len(), 10);
    let _ = rig.feed(seg(ACK, 0, 0).ack(2_000).window(60_000));
    assert_eq!(rig.sends().len(), 4, "two left, two more");
    assert_eq!(rig.conn.info(&rig.sh).cwnd, 12_000);
    // An application that doesn't use its window doesn't make it grow.
    let _ = rig.feed(seg(ACK, 0, 0).ack(14_000).window(60_000));
    assert_eq!(rig.conn.info(&rig.sh).cwnd, 24_000);
    rig.conn.queued(StreamOffset(15_000));
    rig.conn.ready(StreamOffset(15_000));
    rig.sends();
    let _ = rig.feed(seg(ACK, 0, 0).ack(15_000).window(60_000));
    assert_eq!(rig.conn.info(&rig.sh).cwnd, 24_000);
}

#[test]
fn the_peers_window_is_respected_and_its_updates_are_ordered() {
    let options = TcpOptions {
        mss: Some(1000),
        ..TcpOptions::NONE
    };
    let mut rig = Rig::open_with(
        TcpConfig {
            initial_window: 14,
            ..plain()
        },
        options,
        10_000,
    );
    rig.write(100_000);
    assert_eq!(lens(&rig.sends()).iter().sum::<u32>(), 10_000);
    let _ = rig.feed(seg(ACK, 0, 0).ack(1_000).window(9_000));
    assert!(rig.sends().is_empty(), "the edge hasn't moved");
    // An old segment (by its sequence number) doesn't move the edge.
    let _ = rig.feed(seg(ACK, 0, 100).ack(1_000).window(12_000));
    assert_eq!(rig.sends().iter().map(|o| o.len).sum::<u32>(), 3_000);
    let _ = rig.feed(seg(ACK, 0, 0).ack(1_000).window(50_000));
    assert_eq!(
        rig.conn.info(&rig.sh).send_window,
        12_000,
        "SND.WL1 is later"
    );
    // The same number with an older acknowledgment doesn't either (SND.WL2).
    let _ = rig.feed(seg(ACK, 100, 0).ack(2_000).window(11_000));
    let _ = rig.feed(seg(ACK, 100, 0).ack(1_500).window(50_000));
    assert_eq!(rig.conn.info(&rig.sh).send_window, 11_000);
}

/// A window that shrinks takes back what wasn't sent; what was, is still acknowledged.
#[test]
fn a_window_that_shrinks() {
    let mut rig = Rig::open();
    rig.write(20_000);
    rig.sends();
    let _ = rig.feed(seg(ACK, 0, 0).ack(1_000).window(2_000));
    assert!(rig.sends().is_empty());
    let verdict = rig.feed(seg(ACK, 0, 0).ack(10_000).window(3_000));
    assert_eq!(verdict.acked, StreamOffset(10_000));
    assert_eq!(rig.sends().iter().map(|o| o.len).sum::<u32>(), 3_000);
}

/// RFC 9293, section 3.8.6.2.1.
#[test]
fn silly_windows_are_not_filled() {
    let mut rig = Rig::open();
    rig.write(20_000);
    rig.sends();
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(400));
    assert!(
        rig.sends().is_empty(),
        "less than a segment and than half of the largest window"
    );
    let (waited, event) = rig.timer();
    assert_eq!(event, Event::None);
    assert!(waited >= ms(200), "{waited:?}");
    let out = rig.sends();
    assert_eq!(
        (out[0].kind, lens(&out)),
        (IntentKind::Data, vec![400]),
        "the override timer"
    );
    // Half of the largest window is enough, however small.
    let mut rig = Rig::open_with(
        plain(),
        TcpOptions {
            mss: Some(1000),
            ..TcpOptions::NONE
        },
        700,
    );
    rig.write(5_000);
    assert_eq!(lens(&rig.sends()), [700]);
    let _ = rig.feed(seg(ACK, 0, 0).ack(700).window(350));
    assert_eq!(lens(&rig.sends()), [350]);
}

/// A write that silly window avoidance blocks, with no other timer armed.
#[test]
fn commands_can_set_timers() {
    let mut rig = Rig::open();
    rig.write(10_000);
    rig.sends();
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(0));
    assert_eq!(rig.conn.deadline(), None);
    rig.write(10_001);
    assert!(rig.sends().is_empty());
    let (waited, _) = rig.timer();
    assert!(waited.is_zero(), "at once: the timer is only set now");
    let (waited, _) = rig.timer();
    assert!(waited >= ms(200));
    assert_eq!(rig.sends()[0].kind, IntentKind::WindowProbe);
}

/// At the limit of ranges, what is new joins the last one, and is not measured. The last range
/// takes no more than 64 KiB, or its retransmission as a whole would be long.
#[test]
fn new_data_joins_the_last_range_at_the_limit() {
    let config = TcpConfig {
        sent_ranges_max: 3,
        ..plain()
    };
    let options = TcpOptions {
        mss: Some(1000),
        ..TcpOptions::NONE
    };
    let mut rig = Rig::open_with(config, options, 10_000);
    for end in 1..=5 {
        rig.now += ms(1);
        rig.write(end * 10);
        assert_eq!(lens(&rig.sends()), [10]);
    }
    assert_eq!(rig.conn.info(&rig.sh).ranges, 3);
    let srtt = rig.conn.info(&rig.sh).srtt;
    rig.now += ms(500);
    let _ = rig.feed(seg(ACK, 0, 0).ack(50));
    assert_eq!(
        (rig.conn.info(&rig.sh).srtt, rig.sh.ranges_used()),
        (srtt, 0)
    );
    // What is sent in one turn is one range.
    let mut rig = Rig::open();
    rig.write(10_000);
    assert_eq!(rig.sends().len(), 10);
    assert_eq!(rig.sh.ranges_used(), 1);
    assert!(rig.sh.memory_bytes() >= 200 * 40);
    assert_eq!(rig.sh.ranges_total(), 201);
}

#[test]
fn what_did_not_leave_the_host_is_sent_again_without_a_word() {
    let mut rig = Rig::open_sack();
    rig.write(5_000);
    let out = rig.sends();
    let before = rig.conn.info(&rig.sh);
    rig.conn.on_local_loss(rig.now, out[1].sent, &mut rig.sh);
    rig.conn.on_local_loss(rig.now, out[4].sent, &mut rig.sh);
    let again = rig.sends();
    let places: Vec<_> = again.iter().map(|o| (o.kind, o.seq, o.len)).collect();
    assert_eq!(
        places,
        [
            (IntentKind::Retransmit, 1000, 1000),
            (IntentKind::Retransmit, 4000, 1000)
        ]
    );
    let info = rig.conn.info(&rig.sh);
    assert_eq!((info.cwnd, info.in_recovery), (before.cwnd, false));
    assert_eq!(rig.sh.counters.local_losses, 2);
    // An acknowledgment is owed again.
    let _ = rig.feed(seg(ACK, 0, 100));
    let out = rig.sends();
    rig.conn.on_local_loss(rig.now, out[0].sent, &mut rig.sh);
    assert_eq!(rig.sends()[0].kind, IntentKind::Ack);
    // What was acknowledged meanwhile, or never was, is not.
    let _ = rig.feed(seg(ACK, 100, 0).ack(5_000).window(60_000));
    rig.conn.on_local_loss(rig.now, again[0].sent, &mut rig.sh);
    assert!(rig.sends().is_empty());
}

#[test]
fn an_acknowledgment_rides_on_data() {
    let mut rig = Rig::open();
    let _ = rig.feed(seg(ACK, 0, 500));
    rig.write(100);
    let out = rig.sends();
    assert_eq!(
        (out.len(), out[0].kind, out[0].ack),
        (1, IntentKind::Data, 500)
    );
}

#[test]
fn sequence_numbers_of_long_streams() {
    // Five gigabytes further on, by acknowledging as we go.
    let mut acked = 0u64;
    let config = TcpConfig {
        window_scaling: true,
        window_max: 1 << 28,
        ..plain()
    };
    let options = TcpOptions {
        mss: Some(1460),
        window_scale: Some(14),
        ..TcpOptions::NONE
    };
    let mut rig = Rig::open_with(
        TcpConfig {
            initial_window: 10,
            ..config
        },
        options,
        65_535,
    );
    let _ = rig.feed(seg(ACK, 0, 0).window(65_535));
    while acked < 5_000_000_000 {
        rig.write(acked + 400_000_000);
        let mut last = None;
        while let Some(out) = rig.send_at_most(u32::MAX) {
            last = Some(out);
        }
        let out = last.unwrap();
        acked = rig.conn.sent().0;
        let end = out.tcp.seq + out.len;
        let mut tcp = rig.header(seg(ACK, 0, 0).window(65_535));
        tcp.ack = end;
        rig.now += ms(1);
        let segment = lockgate_tcp::SegmentIn::new(&tcp, 0);
        let verdict = rig.conn.on_segment(rig.now, segment, &mut rig.sh);
        assert_eq!(verdict.acked, StreamOffset(acked));
    }
    assert_eq!(rig.conn.send_seq(StreamOffset(1 << 32)), rig.iss + 1);
}

/// RFC 9293: the window of a segment that was overtaken is old (SND.WL1), though its text is new.
#[test]
fn the_window_of_an_overtaken_segment_does_not_count() {
    let mut rig = Rig::open();
    let _ = rig.feed(seg(ACK, 100, 100).window(5_000));
    let _ = rig.feed(seg(ACK, 0, 100).window(10_000));
    assert_eq!(rig.conn.received(), StreamOffset(200));
    assert_eq!(rig.conn.info(&rig.sh).send_window, 5_000);
}

/// RFC 5681, section 4.1: after a pause longer than a time-out, the initial window again.
#[test]
fn after_a_pause_the_window_starts_anew() {
    let config = TcpConfig {
        window_scaling: true,
        ..plain()
    };
    let options = TcpOptions {
        mss: Some(1000),
        window_scale: Some(7),
        ..TcpOptions::NONE
    };
    let mut rig = Rig::open_with(config, options, 60_000);
    let _ = rig.feed(seg(ACK, 0, 0).window(60_000));
    for (pause, end, segments) in [(0, 10_000, 10), (100, 40_000, 20), (9_000, 70_000, 10)] {
        rig.now += ms(pause);
        rig.write(end);
        assert_eq!(rig.sends().len(), segments, "after {pause} ms");
        let sent = i64::try_from(rig.conn.sent().0).unwrap();
        let _ = rig.feed(seg(ACK, 0, 0).ack(sent).window(60_000));
        rig.conn.queued(rig.conn.sent());
    }
}
