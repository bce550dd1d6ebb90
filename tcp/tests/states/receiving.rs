//! Receiving text: what is kept, what is acknowledged, and when.

use lockgate_tcp::{Event, OpenParams, TcpConfig};
use lockgate_wire::tcp::{Flags, TcpOptions};
use lockgate_wire::{SeqNum, StreamOffset};

use crate::rig::{ACK, FIN, Out, Rig, Seg, at, ms, opening, plain, seg, span};

/// The SACK blocks of a header, in offsets.
fn blocks(rig: &Rig, tcp: &lockgate_wire::tcp::TcpHeader) -> Vec<(i64, i64)> {
    let off = |n: SeqNum| i64::from(n.since(rig.irs + 1).cast_signed());
    tcp.options
        .sack
        .iter()
        .map(|b| (off(b.start), off(b.end)))
        .collect()
}

#[test]
fn text_is_trimmed_to_what_is_new_and_fits() {
    for (seq, len, keep, skip) in [
        (0, 100, span(0, 100), 0),
        (-50, 100, span(0, 50), 50),
        (9_950, 100, span(9_950, 10_000), 0),
        (-50, 20_000, span(0, 10_000), 50),
        (300, 100, span(300, 400), 0),
    ] {
        let mut rig = Rig::open();
        let verdict = rig.feed(seg(ACK, seq, len));
        assert_eq!(
            (verdict.keep, verdict.skip_front),
            (keep, skip),
            "{seq} {len}"
        );
    }
    for (seq, len) in [(-100, 100), (-100, 50), (10_000, 100), (10_001, 1)] {
        let mut rig = Rig::open();
        let verdict = rig.feed(seg(ACK, seq, len));
        assert_eq!(verdict.keep, span(0, 0), "{seq} {len}");
        assert_eq!(rig.answer(&verdict), Some((ACK, 0, 0)));
        assert_eq!(rig.sh.counters.unacceptable, 1);
    }
}

#[test]
fn pieces_out_of_order_become_readable_when_the_gap_is_filled() {
    let mut rig = Rig::open_sack();
    for (seq, len) in [(200, 100), (400, 100), (300, 100), (600, 50)] {
        let verdict = rig.feed(seg(ACK, seq, len));
        assert_eq!(verdict.readable, StreamOffset(0));
    }
    let verdict = rig.feed(seg(ACK, 0, 200));
    assert_eq!(
        (verdict.keep, verdict.readable),
        (span(0, 200), StreamOffset(500))
    );
    let verdict = rig.feed(seg(ACK, 450, 200));
    assert_eq!((verdict.keep, verdict.skip_front), (span(500, 650), 50));
    assert_eq!(verdict.readable, StreamOffset(650));
    assert_eq!(rig.sh.ranges_used(), 0);
}

#[test]
fn sack_blocks_are_reported_the_last_received_first() {
    let mut rig = Rig::open_sack();
    let mut last = Vec::new();
    for start in [1000, 3000, 5000, 7000, 9000] {
        let verdict = rig.feed(seg(ACK, start, 500));
        last = blocks(&rig, &verdict.answer.unwrap());
    }
    assert_eq!(
        last,
        [(9000, 9500), (7000, 7500), (5000, 5500), (3000, 3500)],
        "four fit"
    );
    // Adding to a piece moves it to the front; joining two makes one of them.
    let verdict = rig.feed(seg(ACK, 3500, 100));
    assert_eq!(blocks(&rig, &verdict.answer.unwrap())[0], (3000, 3600));
    let verdict = rig.feed(seg(ACK, 5500, 1500));
    assert_eq!(
        blocks(&rig, &verdict.answer.unwrap())[..2],
        [(5000, 7500), (3000, 3600)]
    );
    // What follows in order reports the rest.
    let _ = rig.feed(seg(ACK, 0, 1000));
    let out = rig.sends();
    assert_eq!(out[0].ack, 1500);
    assert_eq!(
        blocks(&rig, &out[0].tcp),
        [(5000, 7500), (3000, 3600), (9000, 9500)]
    );
}

#[test]
fn with_timestamps_three_blocks_fit() {
    let config = TcpConfig {
        window_max: 60_000,
        window_scaling: false,
        ..TcpConfig::default()
    };
    let options = TcpOptions {
        sack_permitted: true,
        timestamps: Some(lockgate_wire::tcp::Timestamps { val: 1, ecr: 0 }),
        ..TcpOptions::NONE
    };
    let mut rig = Rig::open_with(config, options, 60_000);
    let mut last = Vec::new();
    for start in [1000, 3000, 5000, 7000] {
        let verdict = rig.feed(seg(ACK, start, 500).ts(2, 0));
        last = blocks(&rig, &verdict.answer.unwrap());
    }
    assert_eq!(last, [(7000, 7500), (5000, 5500), (3000, 3500)]);
    // Segments with text carry them too, and are shorter for it.
    rig.write(1000);
    let out = rig.sends();
    assert_eq!(out[0].mss, 536 - 12 - 28);
    assert_eq!(out[0].tcp.options.sack.len(), 3);
}

/// RFC 2883: the first block of the next ACK reports a duplicate, once.
#[test]
fn duplicates_are_reported() {
    let mut rig = Rig::open_sack();
    let _ = rig.feed(seg(ACK, 0, 1000));
    rig.sends();
    // All of it was received in order before.
    let verdict = rig.feed(seg(ACK, 200, 300));
    assert_eq!(blocks(&rig, &verdict.answer.unwrap()), [(200, 500)]);
    // Part of it.
    let verdict = rig.feed(seg(ACK, 800, 400));
    assert_eq!(verdict.keep, span(1000, 1200));
    let out = rig.sends();
    assert_eq!(
        (out[0].ack, blocks(&rig, &out[0].tcp)),
        (1200, vec![(800, 1000)])
    );
    // Out of order twice: the second block is the piece that it is part of.
    let _ = rig.feed(seg(ACK, 2000, 1000));
    let verdict = rig.feed(seg(ACK, 2200, 300));
    assert_eq!(verdict.keep.start, verdict.keep.end, "nothing new");
    assert_eq!(
        blocks(&rig, &verdict.answer.unwrap()),
        [(2200, 2500), (2000, 3000)]
    );
    // And only once.
    let verdict = rig.feed(seg(ACK, 5000, 100));
    assert_eq!(
        blocks(&rig, &verdict.answer.unwrap()),
        [(5000, 5100), (2000, 3000)]
    );
}

#[test]
fn without_sack_each_out_of_order_segment_is_answered_by_itself() {
    let mut rig = Rig::open();
    for i in 1..5 {
        let verdict = rig.feed(seg(ACK, i * 1000, 500));
        assert_eq!(rig.answer(&verdict), Some((ACK, 0, 0)));
        assert!(verdict.answer.unwrap().options.sack.is_empty());
    }
    assert!(rig.sends().is_empty());
}

/// Every byte is counted once, whichever segments carry it.
#[test]
fn bytes_received_are_counted_once() {
    let mut rig = Rig::open();
    let mut total = 0;
    let mut count = |rig: &mut Rig, seq, len, new| {
        let _ = rig.feed(seg(ACK, seq, len));
        total += new;
        assert_eq!(rig.sh.counters.bytes_in, total, "{seq}, {len}");
    };
    count(&mut rig, 1000, 500, 500);
    count(&mut rig, 1000, 500, 0);
    count(&mut rig, 1400, 200, 100);
    count(&mut rig, 3000, 500, 500);
    count(&mut rig, 900, 2200, 1600 - 100);
    count(&mut rig, 0, 950, 900);
    assert_eq!(rig.conn.received().0, 3500);
    count(&mut rig, 3000, 1000, 500);
    count(&mut rig, 5000, 500, 500);
    count(&mut rig, 4000, 1200, 1000);
    assert_eq!((rig.conn.received().0, total), (5500, 5500));
}

#[test]
fn pieces_are_limited() {
    let mut config = plain();
    config.reassembly_pieces_max = 3;
    let mut rig = Rig::open_with(config, TcpOptions::NONE, 10_000);
    for i in 1..=3 {
        assert!(!rig.feed(seg(ACK, i * 1000, 10)).keep.is_empty());
    }
    let verdict = rig.feed(seg(ACK, 4000, 10));
    assert!(verdict.keep.is_empty() && verdict.answer.is_some());
    assert_eq!(rig.sh.counters.reassembly_dropped, 1);
    // What joins a piece needs no new one.
    assert_eq!(rig.feed(seg(ACK, 3010, 10)).keep, span(3010, 3020));
    // And by the connection's share of the slab: a sixteenth of what is free and not in reserve.
    let mut rig = Rig::open();
    let kept = (1..=500)
        .filter(|i| !rig.feed(seg(ACK, i * 10, 2)).keep.is_empty())
        .count();
    assert_eq!((kept, rig.sh.ranges_used()), (10, 10));
    assert_eq!(rig.sh.counters.ranges_exhausted, 490);
    assert_eq!(rig.sh.counters.reassembly_dropped, 0);
}

#[test]
fn numbers_wrap() {
    let irs = SeqNum(0xffff_f000);
    let opening = OpenParams {
        isn: SeqNum(0xffff_fff0),
        ..opening()
    };
    let options = TcpOptions {
        mss: Some(1000),
        ..TcpOptions::NONE
    };
    let mut rig = Rig::open_as(plain(), opening, irs, options, 10_000);
    let mut got = 0;
    for i in 0..100 {
        let verdict = rig.feed(seg(ACK, i * 100, 100).ack(i64::try_from(got).unwrap()));
        assert_eq!(
            verdict.readable,
            StreamOffset(u64::try_from(i + 1).unwrap() * 100)
        );
        assert_eq!(verdict.acked, StreamOffset(got));
        rig.conn.room(10_000);
        got += 100;
        rig.write(got);
        assert!(rig.sends().iter().any(|o| o.len == 100));
    }
    assert_eq!(
        rig.conn.recv_offset(irs + 1 + 5000),
        Some(StreamOffset(5000))
    );
    assert_eq!(rig.conn.recv_seq(StreamOffset(5000)), SeqNum(0x0000_0389));
    assert_eq!(rig.conn.recv_offset(irs), None);
    assert_eq!(rig.conn.send_offset(rig.iss), None);
    assert_eq!(
        rig.conn.send_offset(rig.iss + 1 + 77),
        Some(StreamOffset(77))
    );
    assert_eq!(at(irs, -1), irs);
}

#[test]
fn a_window_scale_of_14() {
    let config = TcpConfig {
        window_scaling: true,
        window_max: 1 << 30,
        timestamps: false,
        ..plain()
    };
    let options = TcpOptions {
        window_scale: Some(14),
        ..TcpOptions::NONE
    };
    let mut rig = Rig::open_with(config, options, 10_000);
    let _ = rig.feed(seg(ACK, 0, 0).window(65_535));
    let info = rig.conn.info(&rig.sh);
    assert_eq!(info.send_window, 65_535 << 14);
    let _ = rig.feed(seg(ACK, 0, 10));
    let out = rig.sends();
    assert_eq!(out[0].tcp.window, 65_535, "all that can be said");
    assert_eq!(rig.conn.info(&rig.sh).receive_window, 65_535 << 14);
    // Half a gigabyte further is still inside, a whole one is not.
    assert!(!rig.feed(seg(ACK, 1 << 29, 10)).keep.is_empty());
    assert!(rig.feed(seg(ACK, 1 << 30, 10)).keep.is_empty());
}

/// RFC 9293, section 3.8.6: the right edge never moves back, and advances only in large steps.
#[test]
fn the_window_does_not_shrink_and_is_not_silly() {
    let mut rig = Rig::open();
    let mut edge = 10_000;
    let mut read = 0;
    for i in 0..200 {
        let verdict = rig.feed(seg(ACK, i * 40, 40));
        assert!(!verdict.keep.is_empty());
        // The application reads a byte less than came.
        read += 39;
        rig.conn
            .room(10_000 - (u32::try_from(i + 1).unwrap() * 40 - read));
        for Out { ack, tcp, .. } in rig.sends() {
            let now = ack + i64::from(tcp.window);
            assert!(now >= edge, "the edge moved back from {edge} to {now}");
            assert!(
                now == edge || now - edge >= 1000,
                "a silly step from {edge} to {now}"
            );
            edge = now;
        }
    }
    assert!(edge > 15_000);
}

#[test]
fn room_that_shrinks_is_not_taken_back_but_not_renewed() {
    let mut rig = Rig::open();
    rig.conn.room(0);
    let verdict = rig.feed(seg(ACK, 0, 9_000));
    assert_eq!(verdict.keep, span(0, 9_000), "it was promised");
    rig.conn.room(0);
    assert_eq!(rig.sends()[0].tcp.window, 1_000);
    let _ = rig.feed(seg(ACK, 9_000, 1_000));
    rig.conn.room(0);
    assert_eq!(rig.sends()[0].tcp.window, 0);
    // A probe is refused and answered.
    let verdict = rig.feed(seg(ACK, 10_000, 1));
    assert!(verdict.keep.is_empty());
    assert_eq!(verdict.answer.unwrap().window, 0);
}

/// Less than a unit of the window scale remains of the window. While a byte in it is missing, it is
/// rounded up: a closed window would leave the missing bytes to window probes. Without a hole it is
/// rounded down, or a peer could send a unit after the other though nothing is read.
#[test]
fn a_hole_in_the_last_unit_of_the_window_keeps_it_open() {
    let config = TcpConfig {
        window_scaling: true,
        window_max: 4 << 20,
        ..plain()
    };
    let options = TcpOptions {
        mss: Some(1000),
        window_scale: Some(0),
        ..TcpOptions::NONE
    };
    let mut rig = Rig::open_with(config, options, 10_000);
    // The shift is 7. All of the advertised window but 21 bytes arrives, and nothing is read.
    let full = i64::from(rig.conn.info(&rig.sh).receive_window);
    let mut at = 0_i64;
    while at < full - 21 {
        let len = u32::try_from((full - 21 - at).min(50_000)).unwrap();
        assert!(!rig.feed(seg(ACK, at, len)).keep.is_empty());
        at += i64::from(len);
        rig.conn.room(0);
        rig.sends();
    }
    // A probe is refused only beyond the edge.
    let verdict = rig.feed(seg(ACK, full + 500, 1));
    assert_eq!(verdict.answer.unwrap().window, 0, "no hole");
    let verdict = rig.feed(seg(ACK, at + 20, 1));
    assert!(!verdict.keep.is_empty());
    assert_eq!(verdict.answer.unwrap().window, 1, "20 bytes are missing");
    let verdict = rig.feed(seg(ACK, at, 20));
    assert_eq!(verdict.readable, StreamOffset(u64::try_from(full).unwrap()));
    rig.conn.room(0);
    let windows: Vec<_> = rig.sends().iter().map(|out| out.tcp.window).collect();
    assert_eq!(windows, [0], "the hole is filled");
}

#[test]
fn a_window_that_opens_is_announced() {
    let mut rig = Rig::open();
    for i in 0..10 {
        let _ = rig.feed(seg(ACK, i * 1000, 1000));
    }
    rig.conn.room(0);
    rig.sends();
    rig.conn.room(500);
    assert!(rig.sends().is_empty(), "too little");
    rig.conn.room(5_000);
    assert_eq!(rig.sends()[0].tcp.window, 5_000);
    rig.conn.room(6_000);
    assert!(rig.sends().is_empty());
    rig.conn.room(10_000);
    assert_eq!(rig.sends()[0].tcp.window, 10_000);
}

/// A buffer that has shrunk for good below what silly window avoidance waits for.
#[test]
fn a_probe_is_told_of_any_room() {
    let mut rig = Rig::open();
    for i in 0..10 {
        let _ = rig.feed(seg(ACK, i * 1000, 1000));
    }
    rig.conn.room(0);
    rig.sends();
    rig.conn.room(300);
    assert!(rig.sends().is_empty());
    let verdict = rig.feed(seg(ACK, 10_000, 1));
    assert_eq!(verdict.answer.unwrap().window, 300);
}

/// RFC 9293, section 3.8.6.3, and RFC 5681, section 4.2.
#[test]
fn acknowledgments_are_delayed_but_not_for_long() {
    let mut config = plain();
    config.quick_acks = 0;
    let options = TcpOptions {
        mss: Some(1000),
        ..TcpOptions::NONE
    };
    let mut rig = Rig::open_with(config, options, 10_000);
    let _ = rig.feed(seg(ACK, 0, 1000));
    assert!(rig.sends().is_empty() && !rig.conn.ack_due());
    let _ = rig.feed(seg(ACK, 1000, 1000));
    assert!(rig.conn.ack_due());
    assert_eq!(rig.sends()[0].ack, 2000, "every second full segment");
    assert_eq!(rig.conn.deadline(), None);
    let _ = rig.feed(seg(ACK, 2000, 10));
    let (waited, event) = rig.timer();
    assert_eq!((waited, event), (ms(40), Event::None));
    assert_eq!(rig.sends()[0].ack, 2010);
    // With data to send it goes along.
    let _ = rig.feed(seg(ACK, 2010, 10));
    rig.write(10);
    assert_eq!(rig.sends()[0].ack, 2020);
    assert_ne!(
        rig.conn.deadline(),
        Some(rig.now + ms(40)),
        "the timer is off"
    );
    // Duplicate and out-of-order payload and a FIN are acknowledged immediately.
    assert!(rig.feed(seg(ACK, 2000, 20)).answer.is_some());
    assert!(rig.feed(seg(ACK, 3000, 10)).answer.is_some());
    let _ = rig.feed(seg(ACK, 2020, 500));
    assert!(rig.conn.ack_due(), "part of a gap");
    rig.sends();
    let _ = rig.feed(seg(ACK, 2520, 480));
    assert!(rig.conn.ack_due(), "the rest of it");
    rig.sends();
    let _ = rig.feed(seg(FIN, 3010, 1));
    assert_eq!(rig.sends()[0].ack, 3012);
}

#[test]
fn the_first_segments_are_acknowledged_at_once() {
    let mut rig = Rig::open();
    for i in 0..16 {
        let _ = rig.feed(seg(ACK, i * 10, 10));
        assert_eq!(rig.conn.ack_due(), i < 15, "segment {i}");
        if i < 15 {
            rig.sends();
        }
    }
}

#[test]
fn merged_segments_count_as_many() {
    let mut config = plain();
    config.quick_acks = 0;
    let mut rig = Rig::open_with(config, TcpOptions::NONE, 10_000);
    let tcp = rig.header(seg(ACK, 0, 3000));
    let merged = lockgate_tcp::SegmentIn {
        segments: 3,
        ..lockgate_tcp::SegmentIn::new(&tcp, 3000)
    };
    let verdict = rig.conn.on_segment(rig.now, merged, &mut rig.sh);
    assert_eq!(verdict.keep, span(0, 3000));
    assert!(rig.conn.ack_due());
    assert_eq!(rig.sh.counters.segments_in, 1 + 3);
}

/// The window of a segment that stands between the first and the last of merged segments is older
/// than theirs (SND.WL1).
#[test]
fn the_last_of_merged_segments_has_the_latest_window() {
    let mut rig = Rig::open_with(plain(), TcpOptions::NONE, 10_000);
    let mut tcp = rig.header(seg(ACK, 0, 3000));
    tcp.window = 5000;
    let merged = lockgate_tcp::SegmentIn {
        segments: 3,
        merged: Some(lockgate_tcp::MergedSegments {
            longest: 1000,
            last_seq: tcp.seq + 2000,
        }),
        ..lockgate_tcp::SegmentIn::new(&tcp, 3000)
    };
    assert!(rig.conn.predicts(&merged));
    let verdict = rig.conn.on_segment(rig.now, merged, &mut rig.sh);
    assert_eq!(verdict.keep, span(0, 3000));
    assert_eq!(rig.conn.info(&rig.sh).send_window, 5000);
    let mut late = rig.header(seg(ACK, 1000, 2500));
    late.window = 100;
    let late = lockgate_tcp::SegmentIn::new(&late, 2500);
    let _ = rig.conn.on_segment(rig.now, late, &mut rig.sh);
    assert_eq!(rig.conn.info(&rig.sh).send_window, 5000);
}

/// RFC 7323, section 5: protection against wrapped sequence numbers.
#[test]
fn old_timestamps_are_refused() {
    let mut rig = Rig::open_ts();
    assert!(!rig.feed(seg(ACK, 0, 10).ts(600, 0)).keep.is_empty());
    rig.sends();
    let verdict = rig.feed(seg(ACK, 10, 10).ts(599, 0));
    assert!(verdict.keep.is_empty());
    assert_eq!(rig.answer(&verdict), Some((ACK, 0, 10)));
    assert_eq!(rig.sh.counters.paws_dropped, 1);
    // Resets are not tested.
    // A pure ACK that was reordered is not answered.
    let verdict = rig.feed(seg(ACK, 10, 0).ts(590, 0));
    assert_eq!(verdict.answer, None);
    // After 24 days of silence TS.Recent is invalid.
    rig.now += core::time::Duration::from_secs(24 * 24 * 3600 + 1);
    assert!(!rig.feed(seg(ACK, 10, 10).ts(1, 0)).keep.is_empty());
    assert_eq!(rig.sends()[0].tcp.options.timestamps.unwrap().ecr, 1);
    assert_eq!(
        rig.feed(seg(Flags::RST, 20, 0)).event,
        Event::Reset,
        "without a timestamp"
    );
}

/// RFC 7323, section 3.2, would have them dropped; clients and middleboxes that omit the option
/// part-way exist, and Linux serves them.
#[test]
fn segments_without_the_agreed_timestamp_are_accepted_and_counted() {
    let mut rig = Rig::open_ts();
    // Data in order.
    let verdict = rig.feed(seg(ACK, 0, 10));
    assert_eq!(verdict.keep, span(0, 10));
    assert_eq!(rig.sh.counters.timestamp_missing, 1);
    // Data out of order, which the fast path does not take.
    let verdict = rig.feed(seg(ACK, 20, 10));
    assert_eq!(verdict.keep, span(20, 30));
    assert_eq!(rig.sh.counters.timestamp_missing, 2);
    let verdict = rig.feed(seg(ACK, 10, 10));
    assert_eq!(verdict.readable, StreamOffset(30));
    // Our segments still carry the option; the echo is of the last timestamp received.
    let echo = rig.sends()[0].tcp.options.timestamps.map(|ts| ts.ecr);
    assert_eq!(echo, Some(500));
    // An acknowledgment advances our stream and measures the round trip.
    rig.write(1000);
    rig.sends();
    rig.now += core::time::Duration::from_millis(30);
    let verdict = rig.feed(seg(ACK, 30, 0).ack(1000));
    assert_eq!(verdict.acked, StreamOffset(1000));
    assert_eq!(rig.sh.counters.timestamp_missing, 4);
    // A segment that does carry the option is still subject to PAWS.
    assert!(!rig.feed(seg(ACK, 30, 10).ts(600, 0)).keep.is_empty());
    assert!(rig.feed(seg(ACK, 40, 10).ts(599, 0)).keep.is_empty());
    assert_eq!(rig.sh.counters.paws_dropped, 1);
}

/// RFC 7323, section 5.5: TS.Recent ages from its own update. A peer that omits the option for 25
/// days of traffic may resume it, though its clock of milliseconds has passed half of its range.
#[test]
fn a_timestamp_that_is_resumed_after_a_month_is_accepted() {
    const DAY: core::time::Duration = core::time::Duration::from_secs(24 * 3600);
    for (in_order, has_option) in [(true, false), (false, false), (true, true), (false, true)] {
        let what = format!("in order: {in_order}, with the option: {has_option}");
        let mut rig = Rig::open_ts();
        let mut next = 0;
        for day in 1..=25_u32 {
            rig.now += DAY;
            let with_ts = |s: Seg| if has_option { s.ts(500 + day, 0) } else { s };
            if in_order {
                assert_eq!(
                    rig.feed(with_ts(seg(ACK, next, 10))).keep.start.0 as i64,
                    next
                );
            } else {
                // The fast path takes neither of them.
                assert!(
                    !rig.feed(with_ts(seg(ACK, next + 5, 5))).keep.is_empty(),
                    "{what}"
                );
                assert!(
                    !rig.feed(with_ts(seg(ACK, next, 5))).keep.is_empty(),
                    "{what}"
                );
            }
            next += 10;
            assert_eq!(rig.conn.received().0 as i64, next, "{what}, day {day}");
            rig.sends();
        }
        // 25 days of milliseconds are more than 2^31: the timestamp looks older than the last one.
        let resumed = 500 + 25 * 86_400_000;
        let verdict = rig.feed(seg(ACK, next, 10).ts(resumed, 0));
        let dropped = u64::from(has_option);
        assert_eq!(rig.sh.counters.paws_dropped, dropped, "{what}");
        assert_eq!(verdict.keep.is_empty(), has_option, "{what}");
        if has_option {
            continue;
        }
        // TS.Recent is that of the peer again, and protects.
        rig.write(10);
        assert_eq!(
            rig.sends()[0].tcp.options.timestamps.unwrap().ecr,
            resumed,
            "{what}"
        );
        let late = rig.feed(seg(ACK, next + 10, 10).ts(resumed - 1, 0));
        assert!(late.keep.is_empty(), "{what}");
        assert_eq!(rig.sh.counters.paws_dropped, 1, "{what}");
        assert!(
            !rig.feed(seg(ACK, next + 10, 10).ts(resumed + 1, 0))
                .keep
                .is_empty(),
            "{what}"
        );
    }
}

/// RFC 7323, section 4.3: which timestamp is echoed.
#[test]
fn the_echo_is_of_the_first_unacknowledged_segment() {
    let mut rig = Rig::open_ts();
    rig.sh.config.quick_acks = 0;
    let echo = |out: &[Out]| out[0].tcp.options.timestamps.unwrap().ecr;
    // Out of order: the echo stays that of the last in order.
    let verdict = rig.feed(seg(ACK, 100, 100).ts(510, 0));
    assert_eq!(verdict.answer.unwrap().options.timestamps.unwrap().ecr, 500);
    // The gap is filled: that segment's.
    let _ = rig.feed(seg(ACK, 0, 100).ts(520, 0));
    assert_eq!(echo(&rig.sends()), 520);
    // Delayed acknowledgment of two: the first one's.
    for _ in 0..20 {
        let next = i64::try_from(rig.conn.received().0).unwrap();
        let _ = rig.feed(seg(ACK, next, 100).ts(521, 0));
        rig.sends();
    }
    let next = i64::try_from(rig.conn.received().0).unwrap();
    let _ = rig.feed(seg(ACK, next, 100).ts(530, 0));
    assert!(rig.sends().is_empty());
    let _ = rig.feed(seg(ACK, next + 100, 100).ts(540, 0));
    assert_eq!(echo(&rig.sends()), 530);
}

/// RFC 6093: the urgent pointer is ignored, data is delivered in line.
#[test]
fn the_urgent_pointer_changes_nothing() {
    let mut rig = Rig::open();
    let mut tcp = rig.header(seg(ACK, 0, 100));
    tcp.flags |= Flags::URG;
    tcp.urgent = 50;
    let segment = lockgate_tcp::SegmentIn::new(&tcp, 100);
    let verdict = rig.conn.on_segment(rig.now, segment, &mut rig.sh);
    assert_eq!((verdict.keep, verdict.skip_front), (span(0, 100), 0));
}

/// RFC 9293, 3.10.7.4: while no text can be taken, acknowledgments are.
#[test]
fn acknowledgments_count_though_their_text_does_not() {
    let mut rig = Rig::open();
    rig.write(3000);
    rig.sends();
    let _ = rig.feed(seg(ACK, 0, 1000));
    rig.sends();
    // Text that came before, with a new acknowledgment.
    let verdict = rig.feed(seg(ACK, 0, 1000).ack(1000));
    assert_eq!(verdict.acked, StreamOffset(1000));
    assert!(verdict.keep.is_empty() && verdict.answer.is_some());
    for i in 1..10 {
        let _ = rig.feed(seg(ACK, i * 1000, 1000).ack(1000));
    }
    rig.conn.room(0);
    rig.sends();
    let verdict = rig.feed(seg(ACK, 10_000, 1).ack(2000));
    assert_eq!(verdict.acked, StreamOffset(2000), "with a closed window");
    assert!(verdict.keep.is_empty());
}

#[test]
fn a_peer_that_has_filled_the_window_may_still_acknowledge() {
    let mut rig = Rig::open();
    rig.write(1000);
    rig.sends();
    // Everything up to the window's end was sent, but the first segment was lost.
    let verdict = rig.feed(seg(ACK, 10_000, 0).ack(1000));
    assert_eq!((verdict.acked, verdict.answer), (StreamOffset(1000), None));
}

#[test]
fn keepalives_and_window_probes_are_answered() {
    let mut rig = Rig::open();
    let _ = rig.feed(seg(ACK, 0, 10));
    rig.sends();
    for (seq, len) in [(9, 0), (9, 1)] {
        let verdict = rig.feed(Seg {
            flags: ACK,
            ..seg(ACK, seq, len)
        });
        assert_eq!(rig.answer(&verdict), Some((ACK, 0, 10)));
    }
    assert_eq!(rig.sh.counters.challenge_acks, 0, "without limit");
    let limited = (0..5000)
        .filter(|_| rig.feed(seg(ACK, -100, 0)).answer.is_none())
        .count();
    assert!(
        limited > 0,
        "other empty segments must not be answered for ever"
    );
}

/// RFC 7323: the timestamp clock goes round, and 0 comes after its end.
#[test]
fn timestamps_wrap() {
    let config = TcpConfig {
        timestamps: true,
        ..plain()
    };
    for in_order in [true, false] {
        let mut rig = Rig::connecting(config.clone());
        rig.sends();
        let mut syn_ack = seg(Flags::SYN, -1, 0).ts(u32::MAX - 5, 0);
        syn_ack.options.mss = Some(1012);
        let _ = rig.feed(syn_ack);
        rig.sends();
        // Out of order, segments are looked at by other code.
        let gap = if in_order { 0 } else { 1000 };
        assert!(!rig.feed(seg(ACK, gap, 10).ts(u32::MAX, 0)).keep.is_empty());
        assert!(!rig.feed(seg(ACK, gap + 10, 10).ts(4, 0)).keep.is_empty());
        let _ = rig.feed(seg(ACK, 0, 10).ts(4, 0));
        let late = rig.feed(seg(ACK, gap + 20, 10).ts(u32::MAX - 1, 0));
        assert!(late.keep.is_empty(), "from before the clock's end");
        assert_eq!(rig.sh.counters.paws_dropped, 1);
    }
}
