use core::time::Duration;

use super::super::NewReno;
use super::*;

const MSS: u32 = 1000;

/// Delivers a window per round trip for so long; the window over time.
fn run(cc: &mut dyn CongestionControl, from: Instant, rtt: Duration, rounds: u32) -> Vec<u32> {
    let mut now = from;
    let mut windows = Vec::new();
    for _ in 0..rounds {
        let segments = cc.window() / MSS;
        for _ in 0..segments {
            now += rtt / segments;
            cc.on_delivered(
                now,
                Delivered {
                    bytes: MSS,
                    mss: MSS,
                    srtt: rtt,
                    cwnd_limited: true,
                },
            );
        }
        windows.push(cc.window());
    }
    windows
}

#[test]
fn cube_roots() {
    for n in [
        0,
        1,
        7,
        8,
        26,
        27,
        1_000_000,
        999_999,
        2_500_000_000_000,
        u64::MAX,
    ] {
        let root = cube_root(n);
        assert!(u128::from(root).pow(3) <= u128::from(n), "{n}");
        assert!(
            root == (1 << 22) - 1 || u128::from(root + 1).pow(3) > u128::from(n),
            "{n}"
        );
    }
}

#[test]
fn slow_start_doubles_each_round_trip() {
    let mut cubic = Cubic::new(10 * MSS);
    let windows = run(&mut cubic, Instant::ZERO, Duration::from_millis(50), 3);
    assert_eq!(windows, [20 * MSS, 40 * MSS, 80 * MSS]);
}

#[test]
fn returns_to_the_old_window_after_k() {
    let mut cubic = Cubic::new(1000 * MSS);
    cubic.on_loss(Instant::ZERO, 1000 * MSS, MSS);
    assert_eq!(cubic.window(), 700 * MSS);
    assert_eq!(cubic.threshold(), 700 * MSS);
    // K = cbrt(300 / 0.4) = 9.086 s; 5 segments less are reached cbrt(5 / 0.4) = 2.3 s earlier.
    let rtt = Duration::from_millis(100);
    let windows = run(&mut cubic, Instant::ZERO, rtt, 150);
    let reached = windows.iter().position(|w| *w >= 995 * MSS).unwrap();
    assert!((64..=70).contains(&reached), "after {reached} round trips");
    assert!(
        (998 * MSS..=1001 * MSS).contains(&windows[91]),
        "{}",
        windows[91]
    );
    // Concave, then flat, then convex.
    let gain = |at: usize| windows[at + 5] - windows[at];
    assert!(gain(5) > 3 * gain(80) && gain(140) > 3 * gain(90));
}

#[test]
fn fast_convergence_gives_way() {
    let mut cubic = Cubic::new(1000 * MSS);
    cubic.on_loss(Instant::ZERO, 1000 * MSS, MSS);
    cubic.on_loss(Instant::ZERO, 700 * MSS, MSS);
    assert_eq!(cubic.w_max, 595 * MSS);
    assert_eq!(cubic.window(), 490 * MSS);
}

#[test]
fn is_no_slower_than_reno_on_short_paths() {
    let rtt = Duration::from_millis(2);
    let (mut cubic, mut reno) = (Cubic::new(40 * MSS), NewReno::new(40 * MSS));
    cubic.on_loss(Instant::ZERO, 40 * MSS, MSS);
    reno.on_loss(Instant::ZERO, 40 * MSS, MSS);
    let fast = *run(&mut cubic, Instant::ZERO, rtt, 200).last().unwrap();
    let slow = *run(&mut reno, Instant::ZERO, rtt, 200).last().unwrap();
    assert!(fast * 10 >= slow * 9, "{fast} {slow}");
}

#[test]
fn a_window_that_is_not_used_does_not_grow() {
    let mut cubic = Cubic::new(100 * MSS);
    cubic.on_loss(Instant::ZERO, 100 * MSS, MSS);
    let idle = Delivered {
        bytes: MSS,
        mss: MSS,
        srtt: Duration::from_millis(1),
        cwnd_limited: false,
    };
    cubic.on_delivered(
        Instant::ZERO,
        Delivered {
            cwnd_limited: true,
            ..idle
        },
    );
    let before = cubic.window();
    for second in 0..1000 {
        cubic.on_delivered(Instant::from_secs(second), idle);
    }
    assert_eq!(cubic.window(), before);
    cubic.on_delivered(
        Instant::from_secs(1000),
        Delivered {
            cwnd_limited: true,
            ..idle
        },
    );
    assert!(cubic.window() < before + MSS, "{}", cubic.window());
}

#[test]
fn a_timeout_leaves_one_segment() {
    for cc in [
        &mut Cubic::new(100 * MSS) as &mut dyn CongestionControl,
        &mut NewReno::new(100 * MSS),
    ] {
        cc.on_timeout(Instant::ZERO, 100 * MSS, MSS, false);
        assert_eq!(cc.window(), MSS);
        let threshold = cc.threshold();
        assert!(threshold == 70 * MSS || threshold == 50 * MSS);
        cc.on_timeout(Instant::ZERO, MSS, MSS, true);
        assert_eq!(cc.threshold(), threshold, "held for the same data");
    }
}

#[test]
fn reno_grows_by_one_segment_a_round_trip() {
    let mut reno = NewReno::new(100 * MSS);
    reno.on_loss(Instant::ZERO, 100 * MSS, MSS);
    assert_eq!(reno.window(), 50 * MSS);
    let windows = run(&mut reno, Instant::ZERO, Duration::from_millis(10), 10);
    assert_eq!(*windows.last().unwrap(), 60 * MSS);
}

#[test]
fn idle_restart() {
    for cc in [
        &mut Cubic::new(100 * MSS) as &mut dyn CongestionControl,
        &mut NewReno::new(100 * MSS),
    ] {
        cc.on_idle(Instant::ZERO, 10 * MSS);
        assert_eq!(cc.window(), 10 * MSS);
        cc.on_idle(Instant::ZERO, 20 * MSS);
        assert_eq!(cc.window(), 10 * MSS);
    }
}

#[test]
fn initial_windows() {
    use super::super::initial_window;
    assert_eq!(initial_window(10, 1460, false), 14_600);
    assert_eq!(initial_window(10, 536, false), 5_360);
    assert_eq!(initial_window(10, 8960, false), 17_920);
    assert_eq!(initial_window(10, 1460, true), 1_460);
}

#[test]
fn extreme_numbers_do_not_overflow() {
    let mut cubic = Cubic::new(WINDOW_MAX);
    cubic.on_loss(Instant::ZERO, u32::MAX, 1);
    let d = Delivered {
        bytes: u32::MAX,
        mss: 1,
        srtt: Duration::from_secs(3600),
        cwnd_limited: true,
    };
    for at in [0, 1, 1_000_000, u64::MAX / 2, u64::MAX - 1] {
        cubic.on_delivered(Instant::from_nanos(at), d);
        assert!(cubic.window() <= WINDOW_MAX);
    }
    cubic.on_timeout(Instant::from_nanos(u64::MAX - 1), u32::MAX, 65_535, false);
    cubic.on_delivered(
        Instant::from_nanos(u64::MAX - 1),
        Delivered { mss: 65_535, ..d },
    );
    assert!(cubic.window() <= WINDOW_MAX);
}
