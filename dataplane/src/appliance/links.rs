//! Link states of the ports: the wait for them at the start, and their changes afterwards, those of
//! MAC addresses too.

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

/// Polls link states and MAC addresses. Every worker gets a command for a changed MAC address, and
/// one worker for each change that has to be announced.
#[derive(Debug)]
pub(super) struct LinkWatch {
    /// The changes of each interface's port that the workers know of.
    known: Vec<WatchedInterface>,
}

#[derive(Debug)]
struct WatchedInterface {
    interface: IfaceId,
    port: usize,
    /// Changes that were announced.
    announced: Changes,
    /// Changes of the MAC address that each worker knows of.
    macs: Vec<u64>,
}

/// How often a port has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Changes {
    link: u64,
    mac: u64,
}

impl Changes {
    fn of(port: &Port) -> Self {
        Self {
            link: port.link_changes(),
            mac: port.mac_changes(),
        }
    }
}

impl LinkWatch {
    /// Takes the state of now for known. Make it before the workers read it: a change in between is
    /// announced once more.
    pub(super) fn new(ports: &[Port], config: &Config) -> Self {
        let interfaces = config.interfaces.iter().enumerate();
        let watched = |(index, interface): (usize, &crate::config::Interface)| {
            let announced = Changes::of(&ports[interface.port]);
            WatchedInterface {
                interface: iface(index),
                port: interface.port,
                announced,
                macs: vec![announced.mac; config.workers.cores.len()],
            }
        };
        Self {
            known: interfaces.map(watched).collect(),
        }
    }

    /// Polls all ports. A command that a worker's queue has no room for is retried by the next
    /// call.
    pub(super) fn poll<'a>(
        &mut self,
        ports: &[Port],
        workers: impl Iterator<Item = &'a Sender<WorkerCommand>> + Clone,
    ) {
        for port in ports {
            port.poll_link();
        }
        self.on_changes(|port| Changes::of(&ports[port]), workers);
    }

    fn on_changes<'a>(
        &mut self,
        changes: impl Fn(usize) -> Changes,
        workers: impl Iterator<Item = &'a Sender<WorkerCommand>> + Clone,
    ) {
        for watched in &mut self.known {
            let changes = changes(watched.port);
            let interface = watched.interface;
            for (known, worker) in watched.macs.iter_mut().zip(workers.clone()) {
                let command = WorkerCommand::MacChange(interface);
                if *known != changes.mac && worker.try_send(command).is_ok() {
                    *known = changes.mac;
                }
            }
            // After the worker has got the address that it is to announce.
            let has_mac = watched.macs.first() == Some(&changes.mac);
            if changes != watched.announced
                && has_mac
                && let Some(announcing) = workers.clone().next()
                && announcing
                    .try_send(WorkerCommand::LinkChange(interface))
                    .is_ok()
            {
                watched.announced = changes;
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

    /// Interface 0 is on port 1, interface 1 on port 0.
    fn watch(workers: usize) -> LinkWatch {
        let watched = |interface, port| WatchedInterface {
            interface: IfaceId(interface),
            port,
            announced: Changes { link: 1, mac: 0 },
            macs: vec![0; workers],
        };
        LinkWatch {
            known: vec![watched(0, 1), watched(1, 0)],
        }
    }

    const fn changes(link: u64, mac: u64) -> Changes {
        Changes { link, mac }
    }

    #[test]
    fn every_change_reaches_the_worker_also_when_its_queue_was_full() {
        let mut watch = watch(1);
        let (worker, commands) = bounded(1);
        let workers = [worker];
        let received = || match commands.try_recv() {
            Ok(WorkerCommand::LinkChange(on)) => Some(on),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        };
        watch.on_changes(|_| changes(1, 0), workers.iter());
        assert_eq!(received(), None);
        // Down and up again between two polls are two changes.
        watch.on_changes(|_| changes(3, 0), workers.iter());
        assert_eq!((received(), received()), (Some(IfaceId(0)), None));
        watch.on_changes(|_| changes(3, 0), workers.iter());
        assert_eq!((received(), received()), (Some(IfaceId(1)), None));
        watch.on_changes(|_| changes(3, 0), workers.iter());
        assert_eq!(received(), None);
        let one = |port| changes(if port == 0 { 4 } else { 3 }, 0);
        watch.on_changes(one, workers.iter());
        assert_eq!((received(), received()), (Some(IfaceId(1)), None));
    }

    #[test]
    fn every_worker_gets_a_changed_address_and_one_announces_it_after_that() {
        let mut watch = watch(2);
        let (first, at_first) = bounded(1);
        let (second, at_second) = bounded(2);
        let workers = [first, second];
        let received = |commands: &crossbeam_channel::Receiver<WorkerCommand>| {
            let names = commands.try_iter().map(|command| match command {
                WorkerCommand::MacChange(on) => ("mac", on.0),
                WorkerCommand::LinkChange(on) => ("announce", on.0),
                other => panic!("{other:?}"),
            });
            names.collect::<Vec<_>>()
        };
        // Port 0, which has interface 1. The first worker's queue has room for one command.
        let changed = |port| changes(1, u64::from(port == 0));
        watch.on_changes(changed, workers.iter());
        assert_eq!(received(&at_first), [("mac", 1)]);
        assert_eq!(received(&at_second), [("mac", 1)]);
        watch.on_changes(changed, workers.iter());
        assert_eq!(received(&at_first), [("announce", 1)]);
        watch.on_changes(changed, workers.iter());
        assert_eq!(
            (received(&at_first), received(&at_second)),
            (vec![], vec![])
        );
        // A full queue gets the address before the announcement, too.
        assert!(
            workers[0]
                .try_send(WorkerCommand::LinkChange(IfaceId(9)))
                .is_ok()
        );
        watch.on_changes(|_| changes(1, 2), workers.iter());
        assert_eq!(received(&at_first), [("announce", 9)]);
        assert_eq!(received(&at_second), [("mac", 0), ("mac", 1)]);
        for expected in [("mac", 0), ("announce", 0), ("mac", 1), ("announce", 1)] {
            watch.on_changes(|_| changes(1, 2), workers.iter());
            assert_eq!(received(&at_first), [expected]);
        }
        watch.on_changes(|_| changes(1, 2), workers.iter());
        assert_eq!(
            (received(&at_first), received(&at_second)),
            (vec![], vec![])
        );
    }
}
