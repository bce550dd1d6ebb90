//! A snapshot of the counters of workers, ports and process.

use core::sync::atomic::{AtomicUsize, Ordering};
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
    /// KTLS workers that serve.
    pub(super) ktls_threads: Arc<AtomicUsize>,
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
        let threads = self.ktls_threads.load(Ordering::Relaxed) as u64;
        let files = self.cache.counters();
        let files = files
            .iter()
            .map(|(name, value)| Metric::counter(name, value));
        let threads = Metric::gauge("kern.ipc.tls.stats.threads", threads);
        let values = files.chain(core::iter::once(threads)).collect();
        MetricGroup {
            kind: GroupKind::Process,
            name: String::new(),
            values,
        }
    }
}

fn port(port: &Port) -> MetricGroup {
    let counters = port.counters();
    let mut values = vec![
        Metric::gauge("port.link_up", u64::from(port.is_link_up())),
        Metric::counter("port.link_changes", port.link_changes()),
        Metric::counter("port.mac_changes", port.mac_changes()),
        Metric::counter("port.resets", port.resets()),
    ];
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use crate::server::HttpCounters;

    /// Every counter of the program by its name, and those of ports that a snapshot names.
    fn names() -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut add = |values: &mut dyn Iterator<Item = (&'static str, u64)>| {
            names.extend(values.map(|(name, _)| name.to_owned()));
        };
        add(&mut HttpCounters::default().iter());
        add(&mut lockgate_cache::FileCounters::default().iter());
        add(&mut lockgate_stack::Counters::default().iter());
        add(&mut lockgate_tcp::Counters::default().iter());
        add(&mut lockgate_ip::IpCounters::default().iter());
        add(&mut lockgate_ktls::Counters::default().iter());
        let queue = lockgate_drivers::QueueCounters::default();
        names.extend(queue.named().map(|(name, _)| format!("port.{name}")));
        // Those that a snapshot names itself.
        for source in [include_str!("snapshot.rs"), include_str!("../worker.rs")] {
            let literals = source.split('"').skip(1).step_by(2);
            let is_name = |s: &&str| {
                let dots = s.contains('.') && !s.starts_with('.');
                dots && s
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b"_.".contains(&b))
            };
            names.extend(literals.filter(is_name).map(str::to_owned));
        }
        names
    }

    #[test]
    fn the_documentation_names_counters_that_exist() {
        let names = names();
        for known in [
            "stack.end_clean",
            "worker.turns",
            "port.rx_packets",
            "device.rx_missed",
        ] {
            assert!(names.contains(known), "{known} of {names:?}");
        }
        let groups: BTreeSet<_> = names
            .iter()
            .filter_map(|name| name.split('.').next())
            .collect();
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let (mut wrong, mut found) = (Vec::new(), 0);
        for entry in std::fs::read_dir(docs).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            for quoted in text
                .lines()
                .flat_map(|line| line.split('`').skip(1).step_by(2))
            {
                let group = quoted.split('.').next().unwrap();
                let is_file = quoted.ends_with(".rs") || quoted.contains('/');
                let is_word = !quoted.contains([' ', '(', ':', '=']);
                if !quoted.contains('.') || !groups.contains(group) || is_file || !is_word {
                    continue;
                }
                found += 1;
                // `stack.end_…` and `ip.drop.` stand for all that begin so; `pool.` has names of
                // the configuration.
                let prefix = quoted.trim_end_matches(['…', '*']);
                let is_prefix = prefix != quoted || quoted.ends_with('.');
                let exists = names.contains(quoted)
                    || is_prefix && names.iter().any(|name| name.starts_with(prefix));
                if !exists {
                    wrong.push(format!("{}: {quoted}", path.display()));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(found > 30, "{found} names of counters were found");
    }
}
