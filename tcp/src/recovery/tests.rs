use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::ranges::SlabSizes;

const MSS: u32 = 100;

fn at(n: u64) -> Instant {
    Instant::from_millis(n)
}

/// A slab for one connection with so many entries beyond its own.
fn slab(shared: u32) -> Ranges {
    let sizes = SlabSizes {
        shared,
        connections: 1,
        per_connection_max: u32::MAX,
    };
    Ranges::new(sizes, 1)
}

/// Ten segments, each sent in a turn of its own.
fn ten() -> (Scoreboard, Ranges) {
    let (mut board, mut ranges) = (Scoreboard::EMPTY, slab(400));
    for i in 0..10 {
        board.on_sent(i * 100, 100, at(i), &mut ranges);
    }
    board.check(&ranges);
    (board, ranges)
}

fn sack(board: &mut Scoreboard, ranges: &mut Ranges, block: Range<u64>) -> AckOutcome {
    let mut outcome = AckOutcome::default();
    board.on_sack(block, MSS, &mut outcome, ranges);
    board.check(ranges);
    outcome
}

#[test]
fn bursts_of_one_turn_are_one_range_up_to_a_limit() {
    let (mut board, mut ranges) = (Scoreboard::EMPTY, slab(400));
    for i in 0..10 {
        board.on_sent(i * 10_000, 10_000, at(1), &mut ranges);
    }
    assert_eq!(board.tree.count, 2);
    board.on_sent(100_000, 10, at(2), &mut ranges);
    assert_eq!(board.tree.count, 3, "another turn");
    board.check(&ranges);
}

#[test]
fn reported_neighbours_are_joined() {
    let (mut board, mut ranges) = ten();
    for start in [100, 300, 500, 200, 400] {
        assert_eq!(
            sack(&mut board, &mut ranges, start..start + 100).delivered,
            100
        );
    }
    assert_eq!(board.tree.count, 6, "five of them are one");
    assert_eq!(board.pipe(1000), 500);
    assert_eq!(
        sack(&mut board, &mut ranges, 100..600).delivered,
        0,
        "told before"
    );
}

#[test]
fn losses_are_found_by_blocks_and_by_bytes() {
    let (mut board, mut ranges) = ten();
    sack(&mut board, &mut ranges, 900..1000);
    sack(&mut board, &mut ranges, 700..800);
    assert!(
        !board.detect_losses(MSS, &mut ranges),
        "200 bytes in two blocks"
    );
    sack(&mut board, &mut ranges, 500..600);
    assert!(
        board.detect_losses(MSS, &mut ranges),
        "three blocks, 300 bytes"
    );
    board.check(&ranges);
    assert_eq!(board.pending(), 500, "what is below all three");
    assert_eq!(board.next_pending(&ranges), Some(0..500), "as one burst");
    assert!(!board.detect_losses(MSS, &mut ranges), "nothing new");
    sack(&mut board, &mut ranges, 800..900);
    assert!(
        board.detect_losses(MSS, &mut ranges),
        "600 has 300 bytes above it"
    );
    board.check(&ranges);
    assert_eq!(board.pending(), 600);
}

#[test]
fn what_is_sent_again_counts_in_the_pipe() {
    let (mut board, mut ranges) = ten();
    sack(&mut board, &mut ranges, 200..1000);
    assert!(board.detect_losses(MSS, &mut ranges));
    assert_eq!(board.pipe(1000), 0);
    board.on_resent(0, 150, at(20), &mut ranges);
    board.check(&ranges);
    assert_eq!((board.pipe(1000), board.pending()), (150, 50));
    assert_eq!(board.next_pending(&ranges), Some(150..200));
    let mut outcome = AckOutcome::default();
    board.on_ack(150, &mut outcome, &mut ranges);
    board.check(&ranges);
    assert_eq!(
        (outcome.delivered, outcome.sent_at()),
        (150, None),
        "ambiguous"
    );
    assert_eq!(outcome.resent_at, Some(at(20)));
}

#[test]
fn a_time_out_keeps_reports_and_reneging_ends_them() {
    let (mut board, mut ranges) = ten();
    sack(&mut board, &mut ranges, 100..300);
    board.on_timeout(1000, &mut ranges);
    board.check(&ranges);
    assert_eq!((board.pipe(1000), board.pending()), (0, 800));
    assert!(!board.has_reneged(&ranges));
    board.on_ack(100, &mut AckOutcome::default(), &mut ranges);
    assert!(board.has_reneged(&ranges));
    board.clear_sack(&mut ranges);
    board.on_timeout(1000, &mut ranges);
    board.check(&ranges);
    assert_eq!(board.next_pending(&ranges), Some(100..1000));
    assert_eq!(
        board.delivered, 100,
        "what was taken back was not delivered"
    );
}

#[test]
fn an_exhausted_slab_forgets_reports_but_nothing_else() {
    let (mut board, mut ranges) = (Scoreboard::EMPTY, slab(1));
    board.on_sent(0, 1000, at(0), &mut ranges);
    let outcome = sack(&mut board, &mut ranges, 200..300);
    // One cut was possible.
    assert_eq!((outcome.delivered, outcome.splits_refused), (0, 1));
    let outcome = sack(&mut board, &mut ranges, 200..1000);
    assert_eq!(outcome.delivered, 800);
    board.on_timeout(1000, &mut ranges);
    board.on_resent(0, 100, at(5), &mut ranges);
    board.check(&ranges);
    assert_eq!(board.pending(), 0, "the rest waits for the next time-out");
    board.clear(&mut ranges);
    assert_eq!(ranges.used(), 0);
}

#[test]
fn what_never_left_is_lost_whatever_it_was_part_of() {
    let (mut board, mut ranges) = (Scoreboard::EMPTY, slab(400));
    board.on_sent(0, 1000, at(0), &mut ranges);
    board.mark_unsent(300, 500, &mut ranges);
    board.check(&ranges);
    assert_eq!(board.next_pending(&ranges), Some(300..500));
    board.on_resent(300, 500, at(1), &mut ranges);
    board.mark_unsent(300, 400, &mut ranges);
    board.check(&ranges);
    assert_eq!(
        (board.next_pending(&ranges), board.pipe(1000)),
        (Some(300..400), 900)
    );
}

/// A connection that has to give ranges back keeps its marks if joining equal neighbours is enough.
#[test]
fn ranges_are_joined_before_marks_are_cleared() {
    let (mut board, mut ranges) = ten();
    sack(&mut board, &mut ranges, 500..900);
    board.shrink(3, &mut ranges);
    board.check(&ranges);
    assert_eq!((board.tree.count, board.pipe(1000)), (3, 600));
    board.shrink(2, &mut ranges);
    board.check(&ranges);
    assert_eq!((board.tree.count, board.pipe(1000)), (1, 1000));
    assert_eq!(board.delivered, 0);
    // Ranges that were sent at different times are measured by timestamps only.
    let mut outcome = AckOutcome::default();
    board.on_ack(300, &mut outcome, &mut ranges);
    assert_eq!((outcome.sent_at(), outcome.resent_at), (None, Some(at(0))));
}

/// What is retransmitted in one turn is one range, and so is what was lost at a time-out.
#[test]
fn equal_neighbours_are_joined() {
    let (mut board, mut ranges) = ten();
    board.on_timeout(1000, &mut ranges);
    board.check(&ranges);
    assert_eq!(board.tree.count, 1);
    for start in [0, 100, 200] {
        board.on_resent(start, start + 100, at(20), &mut ranges);
        board.check(&ranges);
    }
    assert_eq!(board.tree.count, 2, "what was sent again, and the rest");
    // A block of which only one edge can be recorded leaves no split behind.
    let (mut board, mut ranges) = (Scoreboard::EMPTY, slab(1));
    board.on_sent(0, 1000, at(0), &mut ranges);
    sack(&mut board, &mut ranges, 200..300);
    assert_eq!(board.tree.count, 1);
}

/// What can happen to a scoreboard.
#[derive(Clone, Debug)]
enum Op {
    Send(u32),
    Ack(u64),
    Sack(u64, u64),
    Detect,
    Timeout,
    Resend(u32),
    Rescue,
    Unsent(u64, u64),
    Renege,
    FirstLost,
    Shrink(u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1u32..400).prop_map(Op::Send),
        2 => (0u64..600).prop_map(Op::Ack),
        6 => (0u64..2000, 1u64..300).prop_map(|(a, n)| Op::Sack(a, n)),
        3 => Just(Op::Detect),
        1 => Just(Op::Timeout),
        4 => (1u32..500).prop_map(Op::Resend),
        1 => Just(Op::Rescue),
        1 => (0u64..2000, 1u64..300).prop_map(|(a, n)| Op::Unsent(a, n)),
        1 => Just(Op::Renege),
        1 => Just(Op::FirstLost),
        1 => (1u32..8).prop_map(Op::Shrink),
    ]
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(256))]

    /// Whatever happens, the sums are those of the ranges, and the ranges are those of a naive
    /// model: a set of reported bytes (of which a small slab may forget some).
    #[test]
    fn agrees_with_a_naive_model(
        ops in proptest::collection::vec(op(), 1..120),
        entries in prop_oneof![Just(10_000u32), 0u32..12],
    ) {
        let (mut board, mut ranges) = (Scoreboard::EMPTY, slab(entries));
        let (mut una, mut nxt) = (0u64, 0u64);
        let mut reported = BTreeSet::new();
        let mut told = 0u64;
        for (i, op) in ops.into_iter().enumerate() {
            let now = at(i as u64 / 2);
            match op {
                Op::Send(n) if board.can_record(&ranges) => {
                    board.on_sent(nxt, n, now, &mut ranges);
                    nxt += u64::from(n);
                }
                Op::Send(_) => {}
                Op::Ack(n) => {
                    una = (una + n).min(nxt);
                    let mut outcome = AckOutcome::default();
                    board.on_ack(una, &mut outcome, &mut ranges);
                    told += u64::from(outcome.delivered);
                    reported = reported.split_off(&una);
                }
                Op::Sack(start, n) => {
                    let (start, end) = ((una + start).min(nxt), (una + start + n).min(nxt));
                    if start < end {
                        let mut outcome = AckOutcome::default();
                        board.on_sack(start..end, MSS, &mut outcome, &mut ranges);
                        told += u64::from(outcome.delivered);
                        reported.extend(start..end);
                    }
                }
                Op::Detect => {
                    board.detect_losses(MSS, &mut ranges);
                }
                Op::Timeout => board.on_timeout(nxt, &mut ranges),
                Op::Resend(n) => {
                    if let Some(lost) = board.next_pending(&ranges) {
                        let end = lost.end.min(lost.start + u64::from(n));
                        board.on_resent(lost.start, end, now, &mut ranges);
                    }
                }
                Op::Rescue => {
                    if let Some(last) = board.rescue(MSS, &ranges) {
                        board.on_resent(last.start, last.end, now, &mut ranges);
                    }
                }
                Op::Unsent(start, n) => {
                    let (start, end) = ((una + start).min(nxt), (una + start + n).min(nxt));
                    if start < end {
                        board.mark_unsent(start, end, &mut ranges);
                    }
                }
                Op::Renege => {
                    let before = board.delivered;
                    board.clear_sack(&mut ranges);
                    told -= before - board.delivered;
                    reported.clear();
                }
                Op::FirstLost => board.mark_first_lost(MSS, &mut ranges),
                Op::Shrink(target) => {
                    let before = board.delivered;
                    board.shrink(target, &mut ranges);
                    prop_assert!(board.tree.count <= target);
                    if board.delivered < before {
                        told -= before - board.delivered;
                        reported.clear();
                    }
                }
            }
            board.check(&ranges);
            prop_assert_eq!(u64::from(board.flight(&ranges)), nxt - una);
            prop_assert_eq!(board.delivered, told);
            let known: Vec<u64> = ranges
                .iter_from(board.tree.first)
                .filter(|(_, r)| r.sacked)
                .flat_map(|(_, r)| r.start..r.end())
                .collect();
            prop_assert!(known.iter().all(|b| reported.contains(b)), "only what was reported");
            if entries == 10_000 {
                prop_assert_eq!(known.len(), reported.len(), "and all of it");
            }
            let waiting = board.next_pending(&ranges).is_some();
            prop_assert_eq!(waiting, board.pending() > 0);
        }
        board.clear(&mut ranges);
        prop_assert_eq!(ranges.used(), 0);
    }
}
