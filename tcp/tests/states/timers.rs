//! Retransmission, probes of closed windows, keepalive, giving up.

use core::time::Duration;

use lockgate_tcp::{Event, IntentKind, Keepalive, State, TcpConfig};
use lockgate_wire::tcp::TcpOptions;

use crate::rig::{ACK, Rig, ms, plain, seg};

const SMALL: TcpOptions = TcpOptions {
    mss: Some(1000),
    ..TcpOptions::NONE
};

/// RFC 6298, section 5.
#[test]
fn a_time_out_retransmits_and_backs_off() {
    let mut rig = Rig::open();
    rig.write(3_000);
    rig.sends();
    let rto = rig.conn.info(&rig.sh).rto;
    // The round trip took 10 ms, its deviation is half of that.
    assert_eq!(rto, ms(210));
    let mut expected = rto;
    for _ in 0..6 {
        let (waited, event) = rig.timer();
        assert_eq!((waited, event), (expected, Event::None));
        let out = rig.sends();
        assert_eq!(
            (out.len(), out[0].kind, out[0].seq),
            (1, IntentKind::Retransmit, 0)
        );
        assert_eq!(rig.conn.info(&rig.sh).cwnd, 1000, "the loss window");
        expected *= 2;
    }
    assert_eq!(rig.sh.counters.timeouts, 6);
}

#[test]
fn an_acknowledgment_starts_the_timer_anew() {
    let mut rig = Rig::open();
    rig.write(3_000);
    rig.sends();
    let _ = rig.feed_after(ms(150), seg(ACK, 0, 0).ack(1_000));
    let left = rig.conn.deadline().unwrap().saturating_since(rig.now);
    assert_eq!(left, rig.conn.info(&rig.sh).rto);
    let _ = rig.feed_after(ms(10), seg(ACK, 0, 0).ack(3_000));
    assert_eq!(rig.conn.deadline(), None, "everything is acknowledged");
}

/// Karn's algorithm: what was sent twice gives no round trip, and the backoff stays until something
/// that was sent once is acknowledged.
#[test]
fn retransmitted_segments_are_not_measured() {
    let mut rig = Rig::open();
    rig.write(1_000);
    rig.sends();
    rig.timer();
    rig.sends();
    let srtt = rig.conn.info(&rig.sh).srtt;
    let _ = rig.feed_after(ms(5), seg(ACK, 0, 0).ack(1_000));
    let info = rig.conn.info(&rig.sh);
    assert_eq!((info.srtt, info.backoff), (srtt, 1));
    rig.write(2_000);
    rig.sends();
    let _ = rig.feed_after(ms(18), seg(ACK, 0, 0).ack(2_000));
    let info = rig.conn.info(&rig.sh);
    assert_eq!((info.srtt, info.backoff), (Some(ms(11)), 0));
}

/// What arrived behind a hole long ago is acknowledged when the hole is repaired.
#[test]
fn what_waited_behind_a_hole_is_not_measured() {
    let mut rig = Rig::open();
    rig.write(2_000);
    rig.sends();
    rig.timer();
    rig.sends();
    let _ = rig.feed_after(ms(5), seg(ACK, 0, 0).ack(2_000));
    assert_eq!(rig.conn.info(&rig.sh).srtt, Some(ms(10)));
}

/// RFC 7323, section 4: the echo tells which copy was acknowledged.
#[test]
fn timestamps_measure_retransmissions_that_arrived() {
    let mut rig = Rig::open_ts();
    rig.write(1_000);
    rig.sends();
    rig.timer();
    let out = rig.sends();
    let sent = out[0].tcp.options.timestamps.unwrap().val;
    let _ = rig.feed_after(ms(26), seg(ACK, 0, 0).ack(1_000).ts(501, sent));
    let info = rig.conn.info(&rig.sh);
    assert_eq!((info.srtt, info.backoff), (Some(ms(12)), 0));
    // The echo of the first transmission: its ACK may have been lost, so it gives no sample.
    let mut rig = Rig::open_ts();
    rig.write(1_000);
    let out = rig.sends();
    let sent = out[0].tcp.options.timestamps.unwrap().val;
    rig.timer();
    rig.sends();
    let _ = rig.feed_after(ms(5), seg(ACK, 0, 0).ack(1_000).ts(501, sent));
    let info = rig.conn.info(&rig.sh);
    assert_eq!((info.srtt, info.backoff), (Some(ms(10)), 1));
}

/// RFC 9293, section 3.8.3: R2.
#[test]
fn unacknowledged_data_is_given_up() {
    let config = TcpConfig {
        user_timeout: Duration::from_secs(10),
        ..plain()
    };
    let mut rig = Rig::open_with(config, SMALL, 10_000);
    rig.write(1_000);
    rig.sends();
    let began = rig.now;
    let event = loop {
        let (_, event) = rig.timer();
        rig.sends();
        if event != Event::None {
            break event;
        }
    };
    assert_eq!(event, Event::TimedOut);
    assert_eq!(
        rig.now.saturating_since(began),
        Duration::from_secs(10),
        "to the point"
    );
    assert_eq!(
        (rig.state(), rig.sh.ranges_used(), rig.sh.counters.timed_out),
        (State::Closed, 0, 1)
    );
    // A connection's own limit (RFC 5482's local use).
    let mut rig = Rig::open();
    rig.conn.set_user_timeout(Duration::from_secs(3));
    rig.write(1_000);
    rig.sends();
    let began = rig.now;
    while rig.timer().1 == Event::None {
        rig.sends();
    }
    assert_eq!(rig.now.saturating_since(began), Duration::from_secs(3));
}

#[test]
fn progress_postpones_the_end() {
    let mut rig = Rig::open();
    rig.conn.set_user_timeout(Duration::from_secs(3));
    for i in 1..20 {
        rig.write(i * 100);
        rig.sends();
        let ack = i64::try_from(i).unwrap() * 100;
        let _ = rig.feed_after(ms(1), seg(ACK, 0, 0).ack(ack - 50));
        for _ in 0..3 {
            assert_eq!(rig.timer().1, Event::None);
            rig.sends();
        }
        let _ = rig.feed(seg(ACK, 0, 0).ack(ack));
        rig.now += ms(2_000);
    }
}

/// RFC 9293, section 3.8.6.1.
#[test]
fn a_closed_window_is_probed_with_backoff_for_as_long_as_the_peer_answers() {
    let mut rig = Rig::open();
    rig.write(20_000);
    rig.sends();
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(0));
    assert!(rig.sends().is_empty());
    let mut expected = rig.conn.info(&rig.sh).rto;
    let began = rig.now;
    for probe in 0..40 {
        let (waited, event) = rig.timer();
        assert_eq!((waited, event), (expected, Event::None), "probe {probe}");
        let out = rig.sends();
        let [out] = &out[..] else {
            panic!("one probe: {out:?}")
        };
        assert_eq!(
            (out.kind, out.seq, out.len),
            (IntentKind::WindowProbe, 10_000, 1)
        );
        let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(0));
        assert!(rig.sends().is_empty());
        expected = (expected * 2).min(Duration::from_secs(60));
    }
    assert!(
        rig.now.saturating_since(began) > rig.sh.config.user_timeout,
        "it lives on"
    );
    assert_eq!(rig.conn.info(&rig.sh).cwnd, 20_000, "no congestion");
    assert_eq!(
        (rig.sh.counters.timeouts, rig.sh.counters.recoveries),
        (0, 0)
    );
    // The window opens: the byte that was refused, and then the rest.
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(10_000));
    let out = rig.sends();
    assert_eq!(
        (out[0].kind, out[0].seq, out[0].len),
        (IntentKind::Retransmit, 10_000, 1)
    );
    assert_eq!((out[1].kind, out[1].seq), (IntentKind::Data, 10_001));
    assert_eq!(out.iter().map(|o| o.len).sum::<u32>(), 10_000);
}

/// The window opens with a segment that carries text, as that of a peer which sends while it reads.
#[test]
fn a_refused_probe_is_sent_again_when_text_opens_the_window() {
    let mut rig = Rig::open();
    rig.write(20_000);
    rig.sends();
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(0));
    rig.timer();
    assert_eq!(rig.sends().len(), 1);
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(0));
    let verdict = rig.feed(seg(ACK, 0, 500).ack(10_000).window(10_000));
    assert_eq!(verdict.readable.0, 500);
    let out = rig.sends();
    assert_eq!(
        (out[0].kind, out[0].seq, out[0].len),
        (IntentKind::Retransmit, 10_000, 1)
    );
    assert_eq!(out.iter().map(|o| o.len).sum::<u32>(), 10_000);
}

#[test]
fn a_silent_peer_with_a_closed_window_is_given_up() {
    let mut rig = Rig::open();
    rig.conn.set_user_timeout(Duration::from_secs(20));
    rig.write(20_000);
    rig.sends();
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(0));
    let began = rig.now;
    let event = loop {
        let (_, event) = rig.timer();
        rig.sends();
        if event != Event::None {
            break event;
        }
    };
    assert_eq!(event, Event::TimedOut);
    assert_eq!(rig.now.saturating_since(began), Duration::from_secs(20));
}

#[test]
fn a_probe_that_was_taken_is_not_sent_again() {
    let mut rig = Rig::open();
    rig.write(20_000);
    rig.sends();
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(0));
    rig.timer();
    rig.sends();
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_001).window(0));
    rig.timer();
    assert_eq!(rig.sends()[0].seq, 10_001, "the next byte");
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_002).window(5_000));
    let out = rig.sends();
    assert_eq!((out[0].kind, out[0].seq), (IntentKind::Data, 10_002));
}

/// What was in flight when the window closed is not retransmitted against it.
#[test]
fn a_window_that_closes_over_data_in_flight() {
    let mut rig = Rig::open();
    rig.write(10_000);
    rig.sends();
    let _ = rig.feed(seg(ACK, 0, 0).ack(4_000).window(0));
    let (_, event) = rig.timer();
    assert_eq!(event, Event::None);
    let out = rig.sends();
    assert_eq!(
        (out[0].kind, out[0].seq, out[0].len),
        (IntentKind::WindowProbe, 4_000, 1)
    );
    assert_eq!(
        rig.conn.info(&rig.sh).cwnd,
        14_000,
        "not taken for congestion"
    );
    let _ = rig.feed(seg(ACK, 0, 0).ack(4_000).window(10_000));
    rig.sends();
    let _ = rig.timer();
    assert!(rig.sends().iter().any(|o| o.kind == IntentKind::Retransmit));
}

fn kept_alive() -> Rig {
    let times = Keepalive {
        idle: Duration::from_secs(100),
        interval: Duration::from_secs(10),
        count: 3,
    };
    Rig::open_with(
        TcpConfig {
            keepalive: Some(times),
            ..plain()
        },
        SMALL,
        10_000,
    )
}

/// RFC 9293, section 3.8.4.
#[test]
fn keepalive_asks_and_gives_up() {
    let mut rig = kept_alive();
    let (waited, event) = rig.timer();
    assert_eq!((waited, event), (Duration::from_secs(100), Event::None));
    let out = rig.sends();
    assert_eq!(
        (out[0].kind, out[0].seq, out[0].len),
        (IntentKind::Keepalive, -1, 0)
    );
    for _ in 0..2 {
        assert_eq!(rig.timer(), (Duration::from_secs(10), Event::None));
        assert_eq!(rig.sends().len(), 1);
    }
    assert_eq!(rig.timer(), (Duration::from_secs(10), Event::TimedOut));
    assert_eq!(rig.sh.counters.keepalives, 3);
}

#[test]
fn an_answer_keeps_alive() {
    let mut rig = kept_alive();
    rig.timer();
    rig.sends();
    let _ = rig.feed_after(ms(20), seg(ACK, 0, 0));
    let answered = rig.now;
    rig.timer();
    assert!(rig.sends().is_empty(), "silent for 10 s only");
    let (_, event) = rig.timer();
    assert_eq!(event, Event::None);
    assert_eq!(rig.now.saturating_since(answered), Duration::from_secs(100));
    assert_eq!(rig.sends().len(), 1);
}

#[test]
fn keepalive_leaves_data_to_its_own_timer() {
    let mut rig = kept_alive();
    rig.now += Duration::from_secs(99);
    rig.write(10);
    rig.sends();
    for _ in 0..10 {
        rig.timer();
        assert!(rig.sends().iter().all(|o| o.kind == IntentKind::Retransmit));
    }
}

#[test]
fn keepalive_is_off_unless_asked_for() {
    let mut rig = Rig::open();
    assert_eq!(rig.conn.deadline(), None);
    rig.conn.set_keepalive(true, rig.now, &rig.sh);
    let left = rig.conn.deadline().unwrap().saturating_since(rig.now);
    assert_eq!(left, Duration::from_secs(7200), "no less than two hours");
    rig.conn.set_keepalive(false, rig.now, &rig.sh);
    assert_eq!(rig.conn.deadline(), None);
}

#[test]
fn a_timer_that_comes_early_does_nothing() {
    let mut rig = kept_alive();
    rig.write(1_000);
    rig.sends();
    let before = rig.conn.info(&rig.sh);
    for _ in 0..5 {
        assert_eq!(rig.conn.on_timer(rig.now, &mut rig.sh), Event::None);
    }
    assert_eq!(rig.conn.info(&rig.sh), before);
    assert!(rig.sends().is_empty());
}
