//! Loss detection and recovery, acknowledgment by acknowledgment. What it costs as a whole is in
//! the simulator's `efficiency`.

use lockgate_tcp::congestion::Algorithm;
use lockgate_tcp::{IntentKind, TcpConfig};
use lockgate_wire::tcp::TcpOptions;

use crate::rig::{ACK, Out, Rig, ms, plain, seg};

/// Ten segments of 1000 bytes are in flight, each a range of its own.
fn ten() -> Rig {
    let config = TcpConfig {
        sack: true,
        window_max: 60_000,
        congestion: Algorithm::NewReno,
        ..plain()
    };
    let options = TcpOptions {
        mss: Some(1000),
        sack_permitted: true,
        ..TcpOptions::NONE
    };
    let mut rig = Rig::open_with(config, options, 60_000);
    fill(&mut rig);
    rig
}

fn ten_without_sack() -> Rig {
    let config = TcpConfig {
        congestion: Algorithm::NewReno,
        ..plain()
    };
    let options = TcpOptions {
        mss: Some(1000),
        ..TcpOptions::NONE
    };
    let mut rig = Rig::open_with(config, options, 60_000);
    fill(&mut rig);
    rig
}

fn fill(rig: &mut Rig) {
    for i in 1..=10 {
        rig.write(i * 1000);
        assert_eq!(rig.sends().len(), 1);
        rig.now += ms(1);
    }
}

fn places(out: &[Out]) -> Vec<(IntentKind, i64, u32)> {
    out.iter().map(|o| (o.kind, o.seq, o.len)).collect()
}

const AGAIN: IntentKind = IntentKind::Retransmit;

/// RFC 6675: three segments above a hole, by blocks or by bytes.
#[test]
fn three_reported_segments_make_a_hole_a_loss() {
    let mut rig = ten();
    let _ = rig.sacked(0, &[1000..2000]);
    let _ = rig.sacked(0, &[1000..3000]);
    assert!(!rig.conn.info(&rig.sh).in_recovery);
    assert!(
        rig.sends().is_empty(),
        "nothing queued for limited transmit"
    );
    let _ = rig.sacked(0, &[1000..4000]);
    let info = rig.conn.info(&rig.sh);
    assert!(info.in_recovery);
    assert_eq!((info.cwnd, info.ssthresh), (5000, 5000));
    assert_eq!(places(&rig.sends()), [(AGAIN, 0, 1000)]);
    assert_eq!(rig.sh.counters.recoveries, 1);
    // It is repaired; the rest was never lost.
    let _ = rig.sacked(4000, &[]);
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(60_000));
    let info = rig.conn.info(&rig.sh);
    assert!(!info.in_recovery);
    assert_eq!(
        (info.flight, rig.sh.ranges_used(), rig.sh.counters.timeouts),
        (0, 0, 0)
    );
}

#[test]
fn several_holes_are_sent_again_as_the_pipe_allows() {
    let mut rig = ten();
    // Lost: 0, 2, 4, 6.
    let _ = rig.sacked(0, &[1000..2000]);
    let _ = rig.sacked(0, &[3000..4000, 1000..2000]);
    let _ = rig.sacked(0, &[5000..6000, 3000..4000, 1000..2000]);
    let _ = rig.sacked(0, &[7000..10_000, 5000..6000, 3000..4000, 1000..2000]);
    let info = rig.conn.info(&rig.sh);
    assert_eq!((info.cwnd, info.pipe, info.flight), (5000, 0, 10_000));
    let out = rig.sends();
    // The last of them twice: it is the rescue as well.
    let expected = [0, 2000, 4000, 6000, 6000].map(|at| (AGAIN, at, 1000));
    assert_eq!(places(&out), expected);
    assert_eq!(rig.conn.info(&rig.sh).pipe, 4000);
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(60_000));
    assert!(!rig.conn.info(&rig.sh).in_recovery);
    assert_eq!(rig.sh.counters.bytes_retransmitted, 5000);
}

#[test]
fn new_data_goes_when_nothing_lost_is_left() {
    let mut rig = ten();
    rig.write(20_000);
    let _ = rig.sacked(0, &[1000..4000]);
    assert_eq!(
        places(&rig.sends()),
        [(AGAIN, 0, 1000)],
        "the window is full otherwise"
    );
    let _ = rig.sacked(0, &[1000..9000]);
    // 1000 lost and sent again, 1000 not reported: 3000 are free.
    let expected: Vec<_> = [10_000, 11_000, 12_000]
        .map(|at| (IntentKind::Data, at, 1000))
        .to_vec();
    assert_eq!(places(&rig.sends()), expected);
}

/// RFC 6675's third and fourth choice.
#[test]
fn what_is_only_suspected_is_sent_again_last() {
    let mut rig = ten();
    let _ = rig.sacked(0, &[1000..7000]);
    // 0 is lost; then, once, the end of what is outstanding.
    assert_eq!(
        places(&rig.sends()),
        [(AGAIN, 0, 1000), (AGAIN, 9000, 1000)]
    );
    assert_eq!(rig.sh.counters.rescues, 1);
    // 7000 is not known lost, with one segment above it reported.
    let _ = rig.sacked(0, &[8000..9000, 1000..7000]);
    assert_eq!(places(&rig.sends()), [(AGAIN, 7000, 1000)]);
    assert_eq!(rig.sh.counters.rescues, 1);
    assert!(rig.sends().is_empty());
}

#[test]
fn small_segments_are_lost_by_count() {
    let config = TcpConfig {
        sack: true,
        ..plain()
    };
    let options = TcpOptions {
        mss: Some(1000),
        sack_permitted: true,
        ..TcpOptions::NONE
    };
    let mut rig = Rig::open_with(config, options, 60_000);
    for i in 1..=5 {
        rig.write(i * 100);
        rig.sends();
        rig.now += ms(1);
    }
    let _ = rig.sacked(0, &[100..200]);
    let _ = rig.sacked(0, &[100..300]);
    assert!(rig.sends().is_empty());
    let _ = rig.sacked(0, &[100..400]);
    // 300 bytes only, but three segments. The last one is the rescue.
    assert_eq!(places(&rig.sends()), [(AGAIN, 0, 100), (AGAIN, 400, 100)]);
}

/// RFC 6582, with the window kept by counting what has left the network.
#[test]
fn newreno_repairs_hole_by_hole() {
    let mut rig = ten_without_sack();
    let dup = |rig: &mut Rig| {
        let _ = rig.feed(seg(ACK, 0, 0).window(60_000));
    };
    dup(&mut rig);
    dup(&mut rig);
    assert!(!rig.conn.info(&rig.sh).in_recovery);
    dup(&mut rig);
    assert!(rig.conn.info(&rig.sh).in_recovery);
    assert_eq!(places(&rig.sends()), [(AGAIN, 0, 1000)]);
    for _ in 0..5 {
        dup(&mut rig);
    }
    assert!(rig.sends().is_empty());
    // A partial acknowledgment: the next hole.
    let _ = rig.feed(seg(ACK, 0, 0).ack(4000).window(60_000));
    assert_eq!(places(&rig.sends()), [(AGAIN, 4000, 1000)]);
    assert_eq!(rig.conn.info(&rig.sh).cwnd, 5000);
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(60_000));
    assert!(!rig.conn.info(&rig.sh).in_recovery);
    assert_eq!(
        (rig.sh.counters.recoveries, rig.sh.counters.timeouts),
        (1, 0)
    );
}

/// RFC 6582, section 3.2: duplicates of what was sent twice in a recovery begin no other.
#[test]
fn newreno_does_not_recover_twice_from_the_same() {
    let mut rig = ten_without_sack();
    for _ in 0..3 {
        let _ = rig.feed(seg(ACK, 0, 0).window(60_000));
    }
    rig.sends();
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(60_000));
    rig.write(15_000);
    rig.sends();
    for _ in 0..5 {
        let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(60_000));
    }
    assert_eq!(rig.sh.counters.recoveries, 1);
}

/// RFC 5681: what is not a duplicate acknowledgment.
#[test]
fn window_updates_and_data_are_no_duplicates() {
    let mut rig = ten_without_sack();
    for i in 0..5 {
        let _ = rig.feed(seg(ACK, 0, 0).window(50_000 + i));
        let _ = rig.feed(seg(ACK, i64::from(i) * 10, 10).window(50_000 + i));
    }
    assert!(!rig.conn.info(&rig.sh).in_recovery);
}

#[test]
fn after_a_time_out_everything_unreported_is_sent_again_in_slow_start() {
    let mut rig = ten();
    let _ = rig.sacked(0, &[3000..5000]);
    rig.timer();
    assert_eq!(places(&rig.sends()), [(AGAIN, 0, 1000)]);
    let _ = rig.sacked(1000, &[3000..5000]);
    let info = rig.conn.info(&rig.sh);
    assert_eq!((info.cwnd, info.ssthresh), (2000, 5000));
    // What was reported is not sent again.
    assert_eq!(
        places(&rig.sends()),
        [(AGAIN, 1000, 2000)]
            .map(|(k, s, _)| (k, s, 1000))
            .into_iter()
            .chain([(AGAIN, 2000, 1000)])
            .collect::<Vec<_>>()
    );
    let _ = rig.sacked(5000, &[]);
    assert_eq!(places(&rig.sends())[0], (AGAIN, 5000, 1000));
    // No fast recovery before all of that is acknowledged.
    let _ = rig.sacked(5000, &[7000..10_000]);
    assert_eq!(rig.sh.counters.recoveries, 0);
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(60_000));
    assert!(!rig.conn.info(&rig.sh).in_recovery);
}

/// RFC 2018, section 8: the receiver may drop what it reported.
#[test]
fn a_receiver_that_reneges_gets_everything() {
    let mut rig = ten();
    let _ = rig.sacked(0, &[1000..4000]);
    rig.sends();
    // The cumulative ACK stops before the SACKed range: the receiver has reneged.
    let _ = rig.sacked(1000, &[]);
    let mut sent = Vec::new();
    for _ in 0..2 {
        rig.timer();
        sent.extend(rig.sends());
    }
    assert_eq!(rig.sh.counters.reneges, 1);
    assert!(sent.iter().any(|o| o.seq == 1000), "{:?}", places(&sent));
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(60_000));
    assert_eq!(rig.conn.info(&rig.sh).flight, 0);
}

/// RFC 5681: the threshold is held when the same data times out again.
#[test]
fn repeated_time_outs_hold_the_threshold() {
    let mut rig = ten();
    for _ in 0..4 {
        rig.timer();
        rig.sends();
        assert_eq!(rig.conn.info(&rig.sh).ssthresh, 5000);
    }
}

#[test]
fn nonsense_in_sack_blocks_is_ignored() {
    let mut rig = ten();
    let before = rig.conn.info(&rig.sh);
    for blocks in [
        &[20_000..30_000][..],
        &[9_000..11_000],
        &[-5000..-4000],
        &[0..0],
        &[i64::from(i32::MAX)..i64::from(i32::MAX) + 5],
    ] {
        let _ = rig.sacked(0, blocks);
    }
    assert_eq!(rig.conn.info(&rig.sh).pipe, before.pipe);
    assert!(rig.sends().is_empty());
    // Blocks that begin below the acknowledgment count from there.
    let _ = rig.sacked(2000, &[1000..5000]);
    assert_eq!(rig.conn.info(&rig.sh).pipe, 5000);
}

/// SACK blocks of single bytes must not create a range each.
#[test]
fn tiny_blocks_do_not_split_without_end() {
    let mut rig = Rig::open_sack();
    rig.write(10_000);
    rig.sends();
    for i in 0..2_000 {
        let at = i64::from(i) * 4 + 2;
        let _ = rig.sacked(0, &[at..at + 1]);
    }
    assert!(rig.sh.ranges_used() <= 11, "{}", rig.sh.ranges_used());
    assert!(rig.sh.counters.sack_splits_refused > 0);
}

#[test]
fn duplicates_reported_by_the_peer_are_counted() {
    let mut rig = ten();
    let _ = rig.sacked(2000, &[1000..2000]);
    assert_eq!(rig.sh.counters.dsacks, 1);
    let _ = rig.sacked(2000, &[4000..5000, 3000..8000]);
    assert_eq!(rig.sh.counters.dsacks, 2);
    let _ = rig.sacked(2000, &[9000..10_000, 3000..8000]);
    assert_eq!(rig.sh.counters.dsacks, 2);
}

/// What SACK reported is delivered: counted once, and measured when reported.
#[test]
fn delivery_is_counted_once() {
    let mut rig = ten();
    let _ = rig.sacked(0, &[5000..6000]);
    assert_eq!(rig.conn.info(&rig.sh).delivered, 1000);
    let _ = rig.sacked(0, &[5000..6000]);
    assert_eq!(rig.conn.info(&rig.sh).delivered, 1000);
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(60_000));
    assert_eq!(rig.conn.info(&rig.sh).delivered, 10_000);
}

/// RFC 6675: one rescue retransmission for each recovery, whatever room there is.
#[test]
fn a_recovery_has_one_rescue() {
    let mut rig = ten();
    let _ = rig.sacked(0, &[1000..7000]);
    assert_eq!(
        places(&rig.sends()),
        [(AGAIN, 0, 1000), (AGAIN, 9000, 1000)]
    );
    for end in [8000, 9000] {
        let _ = rig.sacked(0, &[1000..end]);
        assert!(rig.sends().is_empty());
    }
    assert_eq!(rig.sh.counters.rescues, 1);
}

/// RFC 3042: the first two duplicates say that something left the network; something new enters.
#[test]
fn the_first_duplicates_let_new_segments_out() {
    let mut rig = ten_without_sack();
    rig.write(20_000);
    assert!(rig.sends().is_empty(), "the congestion window is full");
    for new in [10_000, 11_000] {
        let _ = rig.feed(seg(ACK, 0, 0).window(60_000));
        assert_eq!(places(&rig.sends()), [(IntentKind::Data, new, 1000)]);
    }
    let _ = rig.feed(seg(ACK, 0, 0).window(60_000));
    assert_eq!(places(&rig.sends()), [(AGAIN, 0, 1000)]);
}

/// RFC 6582: a partial acknowledgment has its segment sent again though the window is full.
#[test]
fn a_partial_acknowledgment_does_not_wait_for_room() {
    let mut rig = ten_without_sack();
    for _ in 0..3 {
        let _ = rig.feed(seg(ACK, 0, 0).window(60_000));
    }
    assert_eq!(places(&rig.sends()), [(AGAIN, 0, 1000)]);
    let _ = rig.feed(seg(ACK, 0, 0).ack(4000).window(60_000));
    let info = rig.conn.info(&rig.sh);
    assert!(info.pipe >= info.cwnd, "{} {}", info.pipe, info.cwnd);
    assert_eq!(places(&rig.sends()), [(AGAIN, 4000, 1000)]);
}
