//! How the connections of all workers ended.

use core::fmt;
use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::control::Value;

/// The counters of the ends, `stack.end_...`, summed. Shown are those that aren't zero.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<Cow<'static, str>, u64>);

impl Ends {
    /// Adds a worker's.
    pub(super) fn add<'a>(&mut self, counters: impl IntoIterator<Item = &'a Value>) {
        for counter in counters {
            if counter.name.starts_with("stack.end_") && counter.value > 0 {
                let sum = self.0.entry(counter.name.clone()).or_default();
                *sum = sum.saturating_add(counter.value);
            }
        }
    }
}

impl fmt::Display for Ends {
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
            Value::counter("stack.end_drained", 2),
            Value::counter("stack.end_clean", 3),
            Value::counter("stack.end_reset", 0),
            Value::counter("stack.starved", 9),
        ];
        let mut ends = Ends::default();
        assert_eq!(ends.to_string(), "");
        ends.add(&worker);
        ends.add(&worker[1..]);
        assert_eq!(ends.to_string(), "stack.end_clean=6 stack.end_drained=2");
    }
}
