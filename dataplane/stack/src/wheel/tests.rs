use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use proptest::prelude::*;

use super::*;

const TICK_NS: u64 = 1 << TICK_SHIFT;

#[derive(Debug, Clone)]
enum Step {
    Set(u32, u64),
    Cancel(u32),
    Advance(u64, u32),
}

fn delay() -> impl Strategy<Value = u64> {
    // Every level gets its share: a uniform exponent, then a uniform value below it.
    (0_u32..50).prop_flat_map(|bits| 0..(1_u64 << bits).max(2))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0_u32..24, delay()).prop_map(|(key, after)| Step::Set(key, after)),
        2 => (0_u32..24).prop_map(Step::Cancel),
        3 => (delay(), prop_oneof![Just(u32::MAX), 0_u32..8]).prop_map(|(by, n)| Step::Advance(by, n)),
    ]
}

/// What a wheel should do, with a heap whose stale entries are skipped.
#[derive(Default)]
struct Model {
    armed: HashMap<u32, Instant>,
    heap: BinaryHeap<Reverse<(Instant, u32)>>,
}

impl Model {
    fn earliest(&mut self) -> Option<Instant> {
        while let Some(Reverse((at, key))) = self.heap.peek() {
            if self.armed.get(key) == Some(at) {
                return Some(*at);
            }
            self.heap.pop();
        }
        None
    }
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(2000))]

    #[test]
    fn wheel_is_a_priority_queue_rounded_to_ticks(
        start in delay(),
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut now = Instant::from_nanos(start);
        let mut wheel = Wheel::new(now, 24);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Set(key, after) => {
                    let at = Instant::from_nanos(now.as_nanos() + after);
                    wheel.set(TimerKey(key), Some(at));
                    model.armed.insert(key, at);
                    model.heap.push(Reverse((at, key)));
                }
                Step::Cancel(key) => {
                    wheel.set(TimerKey(key), None);
                    model.armed.remove(&key);
                }
                Step::Advance(by, mut budget) => {
                    now = Instant::from_nanos(now.as_nanos() + by);
                    let given = budget;
                    let mut fired = 0;
                    while let Some(TimerKey(key)) = wheel.expire(now, &mut budget) {
                        let at = model.armed.remove(&key);
                        prop_assert!(at.is_some_and(|at| at <= now), "{key} fired early");
                        fired += 1;
                    }
                    prop_assert!(fired <= given);
                    if budget > 0 {
                        // Nothing due by a whole tick may be left behind.
                        if let Some(at) = model.earliest() {
                            prop_assert!(at.as_nanos() > now.as_nanos() / TICK_NS * TICK_NS);
                        }
                    }
                }
            }
            prop_assert_eq!(wheel.armed() as usize, model.armed.len());
            match (wheel.next_timer(), model.earliest()) {
                (None, None) => {}
                (Some(wake), Some(at)) => {
                    let tick = at.as_nanos().div_ceil(TICK_NS) * TICK_NS;
                    prop_assert!(wake.as_nanos() <= tick.max(now.as_nanos()));
                }
                (wake, at) => prop_assert!(false, "wake {wake:?}, earliest {at:?}"),
            }
        }
    }

    #[test]
    fn sleeping_until_next_timer_reaches_every_deadline(
        afters in proptest::collection::vec(delay(), 1..40),
    ) {
        let mut now = Instant::from_nanos(77);
        let mut wheel = Wheel::new(now, 40);
        let mut left: Vec<Instant> = Vec::new();
        for (key, after) in afters.iter().enumerate() {
            let at = Instant::from_nanos(now.as_nanos() + after);
            wheel.set(TimerKey(u32::try_from(key).unwrap()), Some(at));
            left.push(at);
        }
        let mut wakes = 0;
        while let Some(wake) = wheel.next_timer() {
            now = now.max(wake);
            wakes += 1;
            let mut budget = u32::MAX;
            while let Some(TimerKey(key)) = wheel.expire(now, &mut budget) {
                let at = left[key as usize];
                prop_assert!(now >= at && now.as_nanos() < at.as_nanos() + TICK_NS);
            }
        }
        // One wake-up a level and timer, at most.
        prop_assert!(wakes <= afters.len() * LEVELS);
    }
}

#[test]
fn a_later_deadline_stays_filed_and_fires_late() {
    let mut wheel = Wheel::new(Instant::ZERO, 1);
    wheel.set(TimerKey(0), Some(Instant::from_micros(100)));
    wheel.set(TimerKey(0), Some(Instant::from_micros(900)));
    let mut budget = u32::MAX;
    assert_eq!(wheel.expire(Instant::from_micros(899), &mut budget), None);
    assert_eq!(wheel.deadline(TimerKey(0)), Some(Instant::from_micros(900)));
    assert_eq!(
        wheel.expire(Instant::from_micros(905), &mut budget),
        Some(TimerKey(0))
    );
    assert_eq!(wheel.deadline(TimerKey(0)), None);
}

#[test]
fn the_last_instant_can_be_armed() {
    let mut wheel = Wheel::new(Instant::ZERO, 2);
    wheel.set(TimerKey(1), Some(Instant::from_nanos(u64::MAX)));
    assert!(wheel.next_timer().is_some());
    let mut budget = u32::MAX;
    assert_eq!(
        wheel.expire(Instant::from_nanos(u64::MAX >> 1), &mut budget),
        None
    );
    wheel.set(TimerKey(1), None);
    assert_eq!(wheel.armed(), 0);
    assert_eq!(wheel.next_timer(), None);
}
