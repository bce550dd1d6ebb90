//! What is left when workers have ended: how connections ended, and which buffers are missing.

use core::fmt;
use std::borrow::Cow;
use std::collections::BTreeMap;

use lockgate_drivers::Port;
use pktbuf::DetachedPool;

use crate::control::{Metric, MetricGroup};
use crate::worker::Worker;

/// What a worker leaves behind.
#[derive(Debug)]
pub(super) struct WorkerEnd {
    /// Its last counters.
    pub(super) counters: MetricGroup,
    /// Its page buffers. The ports' TX rings may still hold some.
    pub(super) pages: DetachedPool,
}

impl WorkerEnd {
    /// Drops the connections and the queues of a worker that has ended.
    pub(super) fn of(worker: Worker) -> Self {
        Self {
            counters: worker.snapshot(),
            pages: worker.into_page_pool(),
        }
    }
}

/// Closes the ports, and logs packet buffers that did not come back. The workers have ended.
pub(super) fn close_ports(ports: Vec<Port>) {
    for mut port in ports {
        let name = port.name().to_owned();
        match port.close() {
            Ok(pools) => {
                for pool in pools.iter().filter(|pool| pool.missing() > 0) {
                    tracing::warn!(
                        pool = pool.name,
                        missing = pool.missing(),
                        "port: packet buffers are missing at the end; their memory is kept"
                    );
                }
            }
            Err(error) => tracing::warn!(port = name, %error, "port: can't be closed"),
        }
    }
}

/// Logs page buffers of a worker that did not come back. The ports are closed, so that no driver
/// holds one.
pub(super) fn count_pages(worker: usize, pages: DetachedPool) {
    let pages = pages.adopt();
    if !pages.is_full() {
        let usage = pages.usage();
        tracing::warn!(
            worker,
            ?usage,
            "worker: page buffers are missing at the end; their memory is kept"
        );
    }
}

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
