//! The log of overload: which budgets of a worker are exhausted, and what was done about it.

use core::fmt;
use core::time::Duration;

use lockgate_stack::Counters;
use lockgate_wire::Instant;

/// Reports exhausted budgets, once in [`INTERVAL`] at most.
#[derive(Debug)]
pub(super) struct OverloadLog {
    /// The counts of [`EVENTS`] that were reported.
    reported: [u64; EVENTS.len()],
    next_at: Instant,
}

/// The events since the last report. Displayed by budget: `page buffers (3 spans of ciphertext
/// dropped), connections (1 closed while idle)`.
#[derive(Debug)]
pub(super) struct OverloadReport([u64; EVENTS.len()]);

/// An event that a counter counts, and the exhausted budget that it is a sign of.
struct Event {
    budget: &'static str,
    what: &'static str,
    count: fn(&Counters) -> u64,
}

impl OverloadLog {
    pub(super) const fn new() -> Self {
        Self {
            reported: [0; EVENTS.len()],
            next_at: Instant::ZERO,
        }
    }

    /// Returns what has happened since the last report, if a report is due.
    pub(super) fn poll(&mut self, now: Instant, counters: &Counters) -> Option<OverloadReport> {
        let counts = EVENTS.map(|event| (event.count)(counters));
        if counts == self.reported || now < self.next_at {
            return None;
        }
        let mut new = counts;
        for (count, reported) in new.iter_mut().zip(self.reported) {
            *count -= reported;
        }
        self.reported = counts;
        self.next_at = now + INTERVAL;
        Some(OverloadReport(new))
    }
}

impl fmt::Display for OverloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut budget = "";
        let all = EVENTS.iter().zip(self.0);
        for (event, count) in all.filter(|(_, count)| *count > 0) {
            let what = event.what;
            if event.budget == budget {
                write!(f, ", {count} {what}")?;
                continue;
            }
            let end = if budget.is_empty() { "" } else { "), " };
            budget = event.budget;
            write!(f, "{end}{budget} ({count} {what}")?;
        }
        f.write_str(")")
    }
}

const fn event(budget: &'static str, what: &'static str, count: fn(&Counters) -> u64) -> Event {
    Event {
        budget,
        what,
        count,
    }
}

/// The events of a budget stand together.
const EVENTS: [Event; 9] = [
    event(PAGES, "waits", |c| c.starved),
    event(PAGES, "spans of ciphertext dropped", |c| {
        c.ciphertext_dropped
    }),
    event("connections", "closed while idle", |c| c.reclaimed_idle),
    event("connections", "refused", |c| c.accept_dropped),
    // For page buffers or a place in the table.
    event("slow peers", "connections reset", |c| c.reclaimed_slow),
    event("handshakes", "evicted", |c| c.handshakes_evicted),
    event("half-open connections", "evicted", |c| c.half_open_evicted),
    event("half-open connections", "refused", |c| c.syn_dropped),
    event("received bytes", "connections reset", |c| {
        c.receive_budget_resets
    }),
];
const PAGES: &str = "page buffers";

/// Time between two reports, at least.
const INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn text(log: &mut OverloadLog, at_millis: u64, counters: &Counters) -> Option<String> {
        let report = log.poll(Instant::from_millis(at_millis), counters);
        report.map(|report| report.to_string())
    }

    #[test]
    fn a_report_names_the_budgets_and_counts_since_the_last_one() {
        let mut log = OverloadLog::new();
        let mut counters = Counters {
            packets_in: 1,
            ..Counters::default()
        };
        assert_eq!(text(&mut log, 1, &counters), None, "nothing is exhausted");
        counters.starved = 7;
        counters.ciphertext_dropped = 3;
        counters.reclaimed_idle = 1;
        assert_eq!(
            text(&mut log, 2, &counters).as_deref(),
            Some(
                "page buffers (7 waits, 3 spans of ciphertext dropped), \
                 connections (1 closed while idle)"
            )
        );
        counters.starved = 9;
        counters.handshakes_evicted = 4;
        counters.half_open_evicted = 5;
        counters.syn_dropped = 6;
        assert_eq!(
            text(&mut log, 1002, &counters).as_deref(),
            Some(
                "page buffers (2 waits), handshakes (4 evicted), \
                 half-open connections (5 evicted, 6 refused)"
            )
        );
        assert_eq!(text(&mut log, 5000, &counters), None, "nothing is new");
    }

    #[test]
    fn there_is_one_report_a_second_and_nothing_is_left_out() {
        let mut log = OverloadLog::new();
        let mut counters = Counters::default();
        let mut reports = Vec::new();
        for millis in 0..3000 {
            counters.accept_dropped += u64::from(millis < 2500);
            reports.extend(text(&mut log, millis, &counters));
        }
        let expected = ["1", "1000", "1000"].map(|count| format!("connections ({count} refused)"));
        assert_eq!(reports, expected);
        let last = text(&mut log, 3000, &counters);
        assert_eq!(last.as_deref(), Some("connections (499 refused)"));
    }

    /// Else the budget would be named twice.
    #[test]
    fn the_events_of_a_budget_stand_together() {
        let mut budgets: Vec<_> = EVENTS.iter().map(|event| event.budget).collect();
        budgets.dedup();
        let runs = budgets.len();
        budgets.sort_unstable();
        budgets.dedup();
        assert_eq!(budgets.len(), runs);
    }
}
