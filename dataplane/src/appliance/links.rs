//! Link states of the ports: the wait for them at the start, and their changes afterwards.

use core::time::Duration;
use std::thread;

use crossbeam_channel::Sender;
use lockgate_drivers::Port;
use lockgate_wire::{IfaceId, Instant};

use crate::clock::Clock;
use crate::config::{Config, iface};
use crate::control::{Stop, StopLevel};
use crate::worker::WorkerCommand;

/// Waits until the links of all ports are up, for `[[port]] link_wait` at most, or until the
/// appliance is to stop. Logs how it ended.
pub(super) fn wait_for_links(ports: &[Port], config: &Config, clock: Clock, stop: &Stop) {
    let times = config.ports.iter().map(|port| port.link_wait);
    let mut waiting = LinkWait::new(clock.now(), times);
    let report = |port: usize, outcome| report(&ports[port], outcome);
    while !waiting.poll(clock.now(), |port| ports[port].poll_link(), report) {
        if stop.level() > StopLevel::Run {
            return;
        }
        thread::sleep(LINK_POLL_PERIOD);
    }
}

fn report(port: &Port, outcome: LinkOutcome) {
    let port = port.name();
    match outcome {
        LinkOutcome::Up(after) => {
            tracing::info!(port, waited_ms = after.as_millis(), "link: up");
        }
        LinkOutcome::Down(waited) => tracing::warn!(
            port,
            waited_ms = waited.as_millis(),
            "link: down; serving starts without it, and the addresses are announced when it comes \
             up"
        ),
    }
}

/// How the wait for a link has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkOutcome {
    /// It came up after this time.
    Up(Duration),
    /// It was down for this time.
    Down(Duration),
}

/// The ports that are waited for.
#[derive(Debug)]
struct LinkWait {
    since: Instant,
    /// Each with the time that it has.
    ports: Vec<(usize, Duration)>,
}

impl LinkWait {
    fn new(now: Instant, times: impl Iterator<Item = Duration>) -> Self {
        Self {
            since: now,
            ports: times.enumerate().collect(),
        }
    }

    /// Looks at the ports that are left, and reports those whose wait is over. Returns whether none
    /// is left.
    fn poll(
        &mut self,
        now: Instant,
        mut is_up: impl FnMut(usize) -> bool,
        mut report: impl FnMut(usize, LinkOutcome),
    ) -> bool {
        let waited = now.saturating_since(self.since);
        self.ports.retain(|&(port, time)| {
            let outcome = if is_up(port) {
                LinkOutcome::Up(waited)
            } else if waited >= time {
                LinkOutcome::Down(waited)
            } else {
                return true;
            };
            report(port, outcome);
            false
        });
        self.ports.is_empty()
    }
}

/// Polls link states, and tells one worker about every change.
#[derive(Debug)]
pub(super) struct LinkWatch {
    /// The changes of each interface's port that the worker knows of.
    known: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    interface: IfaceId,
    port: usize,
    changes: u64,
}

impl LinkWatch {
    /// Takes the state of now for known. Make it before the worker reads link states: a change in
    /// between is announced once more.
    pub(super) fn new(ports: &[Port], config: &Config) -> Self {
        let interfaces = config.interfaces.iter().enumerate();
        let watched = |(index, interface): (usize, &crate::config::Interface)| Watched {
            interface: iface(index),
            port: interface.port,
            changes: ports[interface.port].link_changes(),
        };
        Self {
            known: interfaces.map(watched).collect(),
        }
    }

    /// Polls all ports. A command that the worker's queue has no room for is retried by the next
    /// call.
    pub(super) fn poll(&mut self, ports: &[Port], worker: &Sender<WorkerCommand>) {
        for port in ports {
            port.poll_link();
        }
        self.on_changes(|port| ports[port].link_changes(), worker);
    }

    fn on_changes(&mut self, changes: impl Fn(usize) -> u64, worker: &Sender<WorkerCommand>) {
        for watched in &mut self.known {
            let changes = changes(watched.port);
            let command = WorkerCommand::LinkChange(watched.interface);
            if changes != watched.changes && worker.try_send(command).is_ok() {
                watched.changes = changes;
            }
        }
    }
}

/// How often link states and the request to stop are polled.
pub(super) const LINK_POLL_PERIOD: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Polls with these ports up. Returns what was reported, and whether none is left.
    fn poll(wait: &mut LinkWait, now: u64, up: &[usize]) -> (Vec<(usize, LinkOutcome)>, bool) {
        let mut reported = Vec::new();
        let done = wait.poll(
            at(now),
            |port| up.contains(&port),
            |port, outcome| reported.push((port, outcome)),
        );
        (reported, done)
    }

    #[test]
    fn each_port_is_waited_for_until_it_is_up_or_its_time_is_over() {
        let mut wait = LinkWait::new(at(1000), [ms(5000), ms(200), ms(0)].into_iter());
        let none = (2, LinkOutcome::Down(ms(0)));
        assert_eq!(poll(&mut wait, 1000, &[]), (vec![none], false));
        assert_eq!(poll(&mut wait, 1199, &[]), (vec![], false));
        let late = (1, LinkOutcome::Down(ms(200)));
        assert_eq!(poll(&mut wait, 1200, &[]), (vec![late], false));
        let up = (0, LinkOutcome::Up(ms(2500)));
        assert_eq!(poll(&mut wait, 3500, &[0, 1]), (vec![up], true));
        assert_eq!(poll(&mut wait, 9000, &[]), (vec![], true));
    }

    #[test]
    fn a_link_that_is_up_costs_no_time() {
        let mut wait = LinkWait::new(at(1), [ms(0), ms(5000)].into_iter());
        let up = |port| (port, LinkOutcome::Up(ms(0)));
        assert_eq!(poll(&mut wait, 1, &[0, 1]), (vec![up(0), up(1)], true));
    }

    #[test]
    fn every_change_reaches_the_worker_also_when_its_queue_was_full() {
        let watched = |interface, port| Watched {
            interface: IfaceId(interface),
            port,
            changes: 1,
        };
        let mut watch = LinkWatch {
            known: vec![watched(0, 1), watched(1, 0)],
        };
        let (worker, commands) = bounded(1);
        let received = || match commands.try_recv() {
            Ok(WorkerCommand::LinkChange(on)) => Some(on),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        };
        watch.on_changes(|_| 1, &worker);
        assert_eq!(received(), None);
        // Down and up again between two polls are two changes.
        watch.on_changes(|_| 3, &worker);
        assert_eq!((received(), received()), (Some(IfaceId(0)), None));
        watch.on_changes(|_| 3, &worker);
        assert_eq!((received(), received()), (Some(IfaceId(1)), None));
        watch.on_changes(|_| 3, &worker);
        assert_eq!(received(), None);
        watch.on_changes(|port| if port == 0 { 4 } else { 3 }, &worker);
        assert_eq!((received(), received()), (Some(IfaceId(1)), None));
    }
}
