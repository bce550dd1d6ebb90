//! The counters of everything at one moment.

use core::time::Duration;
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};
use lockgate_cache::FileCache;
use lockgate_drivers::Port;

use crate::control::{Group, GroupKind, Snapshot, Value};
use crate::worker::Command;

/// Where counters come from.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) ports: Arc<Vec<Port>>,
    pub(super) cache: Arc<FileCache>,
    pub(super) mailboxes: Vec<Sender<Command>>,
}

impl Sources {
    /// Asks everybody. A worker that doesn't answer in time is left out.
    pub(super) fn take(&self) -> Snapshot {
        let answers: Vec<_> = self
            .mailboxes
            .iter()
            .map(|mailbox| {
                let (to, answer) = bounded(1);
                mailbox
                    .try_send(Command::Snapshot(to))
                    .ok()
                    .map(|()| answer)
            })
            .collect();
        let mut groups = vec![self.process()];
        let workers = answers.into_iter().flatten();
        groups.extend(workers.filter_map(|answer| answer.recv_timeout(PATIENCE).ok()));
        groups.extend(self.ports.iter().map(port));
        Snapshot { groups }
    }

    fn process(&self) -> Group {
        let values = self.cache.counters();
        let values = values
            .iter()
            .map(|(name, value)| Value::counter(name, value))
            .collect();
        Group {
            kind: GroupKind::Process,
            name: String::new(),
            values,
        }
    }
}

fn port(port: &Port) -> Group {
    let counters = port.counters();
    let mut values = vec![Value::gauge("port.link_up", u64::from(port.poll_link()))];
    let total = counters.total();
    values.extend(
        total
            .named()
            .map(|(name, value)| Value::counter(format!("port.{name}"), value)),
    );
    let device = counters.device;
    values.extend([
        Value::counter("device.rx_packets", device.rx_packets),
        Value::counter("device.rx_bytes", device.rx_bytes),
        Value::counter("device.tx_packets", device.tx_packets),
        Value::counter("device.tx_bytes", device.tx_bytes),
        Value::counter("device.rx_missed", device.rx_missed),
        Value::counter("device.rx_errors", device.rx_errors),
        Value::counter("device.tx_errors", device.tx_errors),
        Value::counter("device.rx_no_mbuf", device.rx_no_mbuf),
    ]);
    let extended = counters.extended.into_iter();
    values.extend(extended.map(|(name, value)| Value::counter(format!("device.x.{name}"), value)));
    for pool in port.pools() {
        let name = &pool.name;
        values.push(Value::gauge(
            format!("pool.{name}.size"),
            u64::from(pool.size),
        ));
        values.push(Value::gauge(
            format!("pool.{name}.available"),
            u64::from(pool.available),
        ));
    }
    Group {
        kind: GroupKind::Port,
        name: port.name().to_owned(),
        values,
    }
}

/// How long a worker may take to answer: many turns of a busy one.
const PATIENCE: Duration = Duration::from_millis(500);
