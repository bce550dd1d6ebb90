//! A snapshot of the counters of workers, ports and process.

use core::time::Duration;
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};
use lockgate_cache::FileCache;
use lockgate_drivers::Port;

use crate::control::{GroupKind, Metric, MetricGroup, Snapshot};
use crate::worker::WorkerCommand;

/// The sources of the counters.
#[derive(Debug)]
pub(super) struct MetricSources {
    pub(super) ports: Arc<Vec<Port>>,
    pub(super) cache: Arc<FileCache>,
    pub(super) command_queues: Vec<Sender<WorkerCommand>>,
}

impl MetricSources {
    /// Collects all counters. A worker that doesn't answer in time is left out.
    pub(super) fn snapshot(&self) -> Snapshot {
        let answers: Vec<_> = self
            .command_queues
            .iter()
            .map(|commands| {
                let (to, answer) = bounded(1);
                commands
                    .try_send(WorkerCommand::Snapshot(to))
                    .ok()
                    .map(|()| answer)
            })
            .collect();
        let mut groups = vec![self.process()];
        let workers = answers.into_iter().flatten();
        groups.extend(workers.filter_map(|answer| answer.recv_timeout(ANSWER_TIMEOUT).ok()));
        groups.extend(self.ports.iter().map(port));
        Snapshot { groups }
    }

    fn process(&self) -> MetricGroup {
        let values = self.cache.counters();
        let values = values
            .iter()
            .map(|(name, value)| Metric::counter(name, value))
            .collect();
        MetricGroup {
            kind: GroupKind::Process,
            name: String::new(),
            values,
        }
    }
}

fn port(port: &Port) -> MetricGroup {
    let counters = port.counters();
    let mut values = vec![Metric::gauge("port.link_up", u64::from(port.poll_link()))];
    let total = counters.total();
    values.extend(
        total
            .named()
            .map(|(name, value)| Metric::counter(format!("port.{name}"), value)),
    );
    let device = counters.device;
    values.extend([
        Metric::counter("device.rx_packets", device.rx_packets),
        Metric::counter("device.rx_bytes", device.rx_bytes),
        Metric::counter("device.tx_packets", device.tx_packets),
        Metric::counter("device.tx_bytes", device.tx_bytes),
        Metric::counter("device.rx_missed", device.rx_missed),
        Metric::counter("device.rx_errors", device.rx_errors),
        Metric::counter("device.tx_errors", device.tx_errors),
        Metric::counter("device.rx_no_mbuf", device.rx_no_mbuf),
    ]);
    let extended = counters.extended.into_iter();
    values.extend(extended.map(|(name, value)| Metric::counter(format!("device.x.{name}"), value)));
    for pool in port.pools() {
        let name = &pool.name;
        values.push(Metric::gauge(
            format!("pool.{name}.size"),
            u64::from(pool.size),
        ));
        values.push(Metric::gauge(
            format!("pool.{name}.available"),
            u64::from(pool.available),
        ));
    }
    MetricGroup {
        kind: GroupKind::Port,
        name: port.name().to_owned(),
        values,
    }
}

/// How long a worker may take to answer: many turns under load.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
