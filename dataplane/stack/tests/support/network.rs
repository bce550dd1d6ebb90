//! Networks between two hosts: every combination of what a link and its ends can be like.

use std::time::Duration;

use super::HostSpec;
use super::link::{Faults, Link};

/// A link and its ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network {
    /// 1 % of frames are lost.
    pub(crate) loses: bool,
    /// Frames overtake each other.
    pub(crate) reorders: bool,
    /// 1 % of frames come twice.
    pub(crate) duplicates: bool,
    pub(crate) mtu: u16,
    /// The interface takes packets of 64 KiB, or one frame at a time.
    pub(crate) tso: bool,
    pub(crate) v6: bool,
    pub(crate) timestamps: bool,
}

impl Network {
    pub(crate) const PERFECT: Self = Self {
        loses: false,
        reorders: false,
        duplicates: false,
        mtu: 1500,
        tso: true,
        v6: false,
        timestamps: true,
    };

    /// How many levels each factor of [`Network::with`] has.
    pub(crate) const LEVELS: [usize; 7] = [2; 7];

    /// The network with these levels.
    pub(crate) fn with(levels: &[usize]) -> Self {
        let [
            loses,
            reorders,
            duplicates,
            jumbo,
            frames,
            v6,
            no_timestamps,
        ] = levels
        else {
            panic!("{levels:?}");
        };
        Self {
            loses: *loses == 1,
            reorders: *reorders == 1,
            duplicates: *duplicates == 1,
            mtu: if *jumbo == 1 { 9000 } else { 1500 },
            tso: *frames == 0,
            v6: *v6 == 1,
            timestamps: *no_timestamps == 0,
        }
    }

    pub(crate) fn link(&self) -> Link {
        let mut link = Link::perfect();
        if self.loses || self.reorders || self.duplicates {
            let faults = Faults {
                delay: Duration::from_micros(50),
                jitter: Duration::from_micros(if self.reorders { 200 } else { 0 }),
                loss_per_mille: if self.loses { 10 } else { 0 },
                duplicate_per_mille: if self.duplicates { 10 } else { 0 },
                ..Faults::default()
            };
            link = Link::new(5, faults);
        }
        link
    }

    /// Host number 1 or 2.
    pub(crate) fn host(&self, number: u8) -> HostSpec {
        let mut host = if self.v6 {
            HostSpec::v6(number)
        } else {
            HostSpec::new(number)
        };
        host.mtu = self.mtu;
        host.tso = self.tso;
        host.config.tcp.timestamps = self.timestamps;
        host
    }

    /// Long enough for everything to arrive.
    pub(crate) fn brief(&self) -> Duration {
        match self.loses {
            true => Duration::from_secs(10),
            false => Duration::from_millis(100),
        }
    }
}

/// Rows of levels, of which every pair of levels of two factors is in one at least.
///
/// Greedy: each row is the best of some candidates, which are made level by level.
pub(crate) fn pairwise(levels: &[usize]) -> Vec<Vec<usize>> {
    let mut left: Vec<[usize; 4]> = Vec::new();
    for (a, a_levels) in levels.iter().enumerate() {
        for (b, b_levels) in levels.iter().enumerate().skip(a + 1) {
            for at in 0..a_levels * b_levels {
                left.push([a, at / b_levels, b, at % b_levels]);
            }
        }
    }
    let covers = |row: &[usize], pair: &[usize; 4]| {
        let [a, a_level, b, b_level] = *pair;
        row[a] == a_level && row[b] == b_level
    };
    let mut rows = Vec::new();
    while let Some(&[a, a_level, b, b_level]) = left.first() {
        let mut row = vec![usize::MAX; levels.len()];
        (row[a], row[b]) = (a_level, b_level);
        for (factor, count) in levels.iter().enumerate() {
            if row[factor] != usize::MAX {
                continue;
            }
            // The level with most pairs that are left, the row's length breaking ties.
            let best = (0..*count).max_by_key(|level| {
                row[factor] = *level;
                let new = left.iter().filter(|pair| covers(&row, pair)).count();
                (new, (level + rows.len()) % count)
            });
            row[factor] = best.unwrap_or(0);
        }
        left.retain(|pair| !covers(&row, pair));
        rows.push(row);
    }
    rows
}

/// Every row of levels.
pub(crate) fn product(levels: &[usize]) -> Vec<Vec<usize>> {
    let mut rows = vec![Vec::new()];
    for count in levels {
        let extend = |row: Vec<usize>| {
            (0..*count).map(move |level| {
                let mut row = row.clone();
                row.push(level);
                row
            })
        };
        rows = rows.into_iter().flat_map(extend).collect();
    }
    rows
}

/// The rows of this run: a sample that has every pair, or with `LOCKGATE_KTLS_SOAK` all of them.
pub(crate) fn rows(levels: &[usize]) -> Vec<Vec<usize>> {
    match std::env::var_os("LOCKGATE_KTLS_SOAK") {
        Some(_) => product(levels),
        None => pairwise(levels),
    }
}

/// Checks that a sample has every pair of levels.
pub(crate) fn check_pairwise(levels: &[usize]) {
    let rows = pairwise(levels);
    for (a, a_levels) in levels.iter().enumerate() {
        for (b, b_levels) in levels.iter().enumerate().skip(a + 1) {
            for at in 0..a_levels * b_levels {
                let (x, y) = (at / b_levels, at % b_levels);
                let has = rows.iter().any(|row| row[a] == x && row[b] == y);
                assert!(has, "factor {a} at {x}, factor {b} at {y}");
            }
        }
    }
    assert!(
        rows.len() < product(levels).len() / 4,
        "{} rows",
        rows.len()
    );
}
