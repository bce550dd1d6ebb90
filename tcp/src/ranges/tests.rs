use proptest::prelude::*;

use super::*;

fn slab(shared: u32, connections: u32) -> Ranges {
    let sizes = SlabSizes {
        shared,
        connections,
        per_connection_max: 1000,
    };
    Ranges::new(sizes, 7)
}

fn range(start: u64) -> SentRange {
    SentRange::new(start, 1, Instant::ZERO, 0)
}

fn starts(ranges: &Ranges, tree: &Tree) -> Vec<u64> {
    ranges.check_tree(tree);
    ranges.iter_from(tree.first).map(|(_, r)| r.start).collect()
}

#[test]
fn trees_share_the_slab() {
    let mut ranges = slab(2, 2);
    let (mut a, mut b) = (Tree::EMPTY, Tree::EMPTY);
    let first = ranges.push_last(&mut a, range(1)).unwrap();
    ranges.push_last(&mut b, range(10)).unwrap();
    ranges.push_last(&mut a, range(3)).unwrap();
    let middle = ranges.insert_after(&mut a, first, range(2)).unwrap();
    assert_eq!(starts(&ranges, &a), [1, 2, 3]);
    assert_eq!((ranges.used(), ranges.total()), (4, 4));
    assert!(ranges.push_last(&mut b, range(11)).is_none());
    ranges.remove(&mut a, middle);
    assert_eq!(starts(&ranges, &a), [1, 3]);
    assert_eq!(starts(&ranges, &b), [10]);
    while let Some(at) = a.first.get() {
        ranges.remove(&mut a, at);
    }
    assert_eq!((a.count, ranges.used()), (0, 1));
    assert_eq!(a.last, Link::NONE);
}

/// The adversaries hold all shared entries; connections without a range can take one.
#[test]
fn each_connection_has_an_entry_of_its_own() {
    let mut ranges = slab(64, 20);
    let mut trees = [Tree::EMPTY; 20];
    let (hostile, fair) = trees.split_at_mut(10);
    loop {
        let before = ranges.used();
        for tree in &mut *hostile {
            if ranges.may_grow(tree.count) {
                ranges.push_last(tree, range(0)).unwrap();
            }
        }
        if ranges.used() == before {
            break;
        }
    }
    // Every one of them had its minimum before any had much more.
    let counts = hostile.iter().map(|tree| tree.count);
    assert!(counts.clone().min() >= Some(ALLOWANCE_MIN), "{counts:?}");
    for tree in &mut *fair {
        assert!(ranges.may_grow(tree.count));
        ranges.push_last(tree, range(0)).unwrap();
    }
    for tree in &mut trees {
        while let Some(at) = tree.first.get() {
            ranges.remove(tree, at);
        }
    }
    assert_eq!(ranges.used(), 0);
}

/// Choudhury and Hahne's threshold: a share of what is free, and a reserve for those that hold
/// little.
#[test]
fn the_allowance_shrinks_with_what_is_free() {
    let mut ranges = slab(16_000, 100);
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut tree = Tree::EMPTY;
        while ranges.may_grow(tree.count) {
            ranges.push_last(&mut tree, range(0)).unwrap();
        }
        held.push(tree.count);
    }
    assert_eq!(held[0], 823, "(16 000 - 2000 - 822) / 16");
    assert!(held.is_sorted_by(|a, b| a >= b), "each gets less: {held:?}");
    assert_eq!(held.last(), Some(&ALLOWANCE_MIN));
    let free = ranges.total() - ranges.used();
    assert!(free > 16_000 / RESERVE_SHARE - 100, "{free} in reserve");
}

#[test]
fn no_connection_exceeds_its_own_limit() {
    let mut ranges = slab(100_000, 1);
    let mut tree = Tree::EMPTY;
    while ranges.may_grow(tree.count) {
        ranges.push_last(&mut tree, range(0)).unwrap();
    }
    assert_eq!(tree.count, 1000);
    assert!(ranges.may_split_for_repair(1499) && !ranges.may_split_for_repair(1500));
}

#[test]
fn pieces_take_half_of_what_is_shared_at_most() {
    let mut ranges = slab(20, 5);
    let mut lists = [PieceList::EMPTY; 5];
    let mut kept = 0;
    for list in &mut lists {
        for start in 0..10 {
            kept += u32::from(ranges.push_piece(list, start * 2, 1).is_some());
        }
    }
    assert_eq!((kept, ranges.used()), (10, 10));
    assert_eq!(lists[0].count, ALLOWANCE_MIN, "and each a share");
    let starts = |ranges: &Ranges, list: &PieceList| -> Vec<u64> {
        ranges.iter_pieces(list).map(|(_, p)| p.start).collect()
    };
    assert_eq!(starts(&ranges, &lists[0]), [6, 4, 2, 0]);
    let newest = lists[0].head;
    let second = ranges.next_piece(newest);
    ranges.move_to_front(&mut lists[0], second);
    assert_eq!(starts(&ranges, &lists[0]), [4, 6, 2, 0]);
    ranges.remove_piece(&mut lists[0], newest);
    assert_eq!(starts(&ranges, &lists[0]), [4, 2, 0]);
    assert!(ranges.push_piece(&mut lists[0], 8, 1).is_some());
}

#[test]
fn an_empty_slab_gives_nothing() {
    let mut ranges = slab(0, 0);
    assert!(!ranges.may_grow(0));
    assert!(
        ranges
            .push_last(&mut Tree::EMPTY.clone(), range(0))
            .is_none()
    );
    assert_eq!(ranges.memory_bytes(), 0);
}

/// Steps of finding, adding and removing grow with the logarithm of the number of ranges.
#[test]
#[cfg(debug_assertions)]
fn steps_are_logarithmic() {
    for (count, bound) in [(100, 60), (10_000, 120)] {
        let mut ranges = Ranges::new(
            SlabSizes {
                shared: 20_000,
                connections: 1,
                per_connection_max: u32::MAX,
            },
            3,
        );
        let mut tree = Tree::EMPTY;
        for i in 0..count {
            ranges.push_last(&mut tree, range(i * 2)).unwrap();
        }
        assert!(ranges.steps() < count * 40, "appending is constant");
        let mut worst = 0;
        for i in 0..count {
            let before = ranges.steps();
            let found = ranges.find(&tree, i * 7919 % count * 2);
            worst = worst.max(ranges.steps() - before);
            assert!(found.get().is_some());
        }
        assert!(worst < bound, "{worst} steps to find one of {count}");
        let before = ranges.steps();
        while let Some(first) = tree.first.get() {
            ranges.remove(&mut tree, first);
        }
        assert!(ranges.steps() - before < count * 60, "so is removing");
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(usize),
    Remove(usize),
    Mark(usize, u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0usize..100).prop_map(Op::Insert),
        3 => (0usize..100).prop_map(Op::Remove),
        4 => (0usize..100, 0u8..5).prop_map(|(at, kind)| Op::Mark(at, kind)),
    ]
}

fn set_kind(range: &mut SentRange, kind: u8) {
    (range.sacked, range.lost, range.resent) = match kind {
        0 => (true, false, false),
        1 => (false, true, false),
        2 => (false, true, true),
        3 => (false, false, true),
        _ => (false, false, false),
    };
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(256))]

    /// A tree agrees with a vector, in order and in each answer.
    #[test]
    fn a_tree_agrees_with_a_vector(ops in proptest::collection::vec(op(), 1..200)) {
        let mut ranges = slab(1000, 1);
        let mut tree = Tree::EMPTY;
        let mut model: Vec<Link> = Vec::new();
        for op in ops {
            match op {
                Op::Insert(at) if model.is_empty() => {
                    model.push(ranges.push_last(&mut tree, range(at as u64)).unwrap());
                }
                Op::Insert(at) => {
                    let at = at % model.len();
                    let link = ranges.insert_after(&mut tree, model[at], range(0)).unwrap();
                    model.insert(at + 1, link);
                }
                Op::Remove(_) | Op::Mark(..) if model.is_empty() => {}
                Op::Remove(at) => {
                    let link = model.remove(at % model.len());
                    ranges.remove(&mut tree, link);
                }
                Op::Mark(at, kind) => {
                    ranges.mark(model[at % model.len()], |range| set_kind(range, kind));
                }
            }
            // Offsets in order, as if one byte followed the other.
            for (i, link) in model.iter().enumerate() {
                ranges[*link].start = i as u64;
            }
            ranges.check_tree(&tree);
            let order: Vec<Link> = ranges.iter_from(tree.first).map(|(link, _)| link).collect();
            prop_assert_eq!(&order, &model);
            for (i, link) in model.iter().enumerate() {
                prop_assert_eq!(ranges.find(&tree, i as u64), *link);
            }
            prop_assert_eq!(ranges.find(&tree, model.len() as u64), Link::NONE);
            for kind in [Kinds::SACKED, Kinds::PENDING, Kinds::PLAIN] {
                let of_kind = |link: &&Link| ranges[**link].kind() == kind;
                let first = model.iter().find(of_kind).copied();
                prop_assert_eq!(ranges.first_of(&tree, kind).get(), first);
                let last = model.iter().rev().find(of_kind).copied();
                prop_assert_eq!(ranges.last_of(&tree, kind).get(), last);
                for (i, link) in model.iter().enumerate() {
                    let before = model[..i].iter().rev().find(of_kind).copied();
                    prop_assert_eq!(ranges.last_before(*link, kind).get(), before);
                }
            }
        }
        while let Some(at) = tree.first.get() {
            ranges.remove(&mut tree, at);
        }
        prop_assert_eq!(ranges.used(), 0);
    }
}
