//! How the connections of all workers ended.

use core::fmt;
use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::control::Metric;

/// The counters `stack.end_...` of all workers, summed. Zeroes aren't shown.
#[derive(Debug, Default)]
pub(super) struct EndTotals(BTreeMap<Cow<'static, str>, u64>);

impl EndTotals {
    /// Adds a worker's counters.
    pub(super) fn add<'a>(&mut self, counters: impl IntoIterator<Item = &'a Metric>) {
        for counter in counters {
            if counter.name.starts_with("stack.end_") && counter.value > 0 {
                let sum = self.0.entry(counter.name.clone()).or_default();
                *sum = sum.saturating_add(counter.value);
            }
        }
    }
}

impl fmt::Display for EndTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, value)) in self.0.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            write!(f, "{space}{name}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_all_workers_are_summed_and_zeroes_left_out() {
        let worker = [
            Metric::counter("stack.end_drained", 2),
            Metric::counter("stack.end_clean", 3),
            Metric::counter("stack.end_reset", 0),
            Metric::counter("stack.starved", 9),
        ];
        let mut ends = EndTotals::default();
        assert_eq!(ends.to_string(), "");
        ends.add(&worker);
        ends.add(&worker[1..]);
        assert_eq!(ends.to_string(), "stack.end_clean=6 stack.end_drained=2");
    }
}
