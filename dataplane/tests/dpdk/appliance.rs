//! The whole appliance in this process, on ports that need nothing.

use std::path::{Path, PathBuf};
use std::thread;

use lockgate::appliance::{self, ApplianceError};
use lockgate::clock;
use lockgate::config::{self, Config, Host};
use lockgate::control::{self, GroupKind, Stop};
use lockgate::privileges::Privileges;
use lockgate_testing::{ScratchDir, wait_for};

use crate::support::pki::Pki;
use lockgate_testing::cases::{Case, skip_case};

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "appliance::starts_answers_and_drains",
        starts_answers_and_drains,
    ),
    Case::new(
        "appliance::two_workers_end_at_once",
        two_workers_end_at_once,
    ),
    Case::new(
        "appliance::what_a_device_refuses_is_a_fault",
        what_a_device_refuses_is_a_fault,
    ),
];

/// A directory with everything that a configuration names.
struct Place(ScratchDir);

impl Place {
    fn new() -> Self {
        let scratch = ScratchDir::new();
        let (chain, key) = Pki::new().pem;
        scratch.write("a.crt", chain);
        scratch.write("a.key", key);
        scratch.write(
            "www/index.html",
            "hello
",
        );
        Self(scratch)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    fn config(&self, device: &str, cores: &[u16]) -> Config {
        let text = format!(
            r#"
            [eal]
            hugepages = "off"
            [workers]
            cores = {cores:?}
            [[port]]
            name = "p0"
            device = "{device}"
            [[interface]]
            on = "p0"
            addresses = ["198.18.0.1/24", "fd00::1/64"]
            [[certificate]]
            chain = "a.crt"
            key = "a.key"
            [[listener]]
            address = "198.18.0.1:443"
            tls = true
            [[listener]]
            address = "[fd00::1]:80"
            [[site]]
            hosts = ["*"]
            root = "www"
            [control]
            socket = "control.sock"
            "#
        );
        let host = Host {
            cores: cores_here(),
            unix_seconds: clock::unix_seconds(),
        };
        config::parse(&self.0.join("a.toml"), &text, &host).expect("a valid configuration")
    }
}

fn cores_here() -> Vec<u16> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    cores
        .iter()
        .filter_map(|core| u16::try_from(core.id).ok())
        .collect()
}

/// The counters of the instance, as soon as it and all its workers answer.
fn stats(socket: &Path, workers: usize) -> control::Stats {
    wait_for("counters of all workers", || {
        let stats = control::stats(socket).ok()?;
        let groups = stats.snapshot.groups.iter();
        let answered = groups
            .filter(|group| group.kind == GroupKind::Worker)
            .count();
        (answered == workers).then_some(stats)
    })
}

fn starts_answers_and_drains() {
    let place = Place::new();
    let core = cores_here()[0];
    let config = place.config("net_null0,no-rx=1", &[core]);
    let stop = Stop::default();
    let asked = stop.clone();
    let appliance = thread::spawn(move || appliance::run(config, Privileges::unchanged(), &asked));
    let first = stats(&place.socket(), 1);
    assert_eq!(first.pid, std::process::id());
    let groups = &first.snapshot.groups;
    let of = |kind| {
        groups
            .iter()
            .filter(move |group| group.kind == kind)
            .collect::<Vec<_>>()
    };
    let (workers, ports) = (of(GroupKind::Worker), of(GroupKind::Port));
    assert_eq!((workers.len(), ports.len()), (1, 1), "{groups:?}");
    assert_eq!(ports[0].name, "p0");
    let turns = |stats: &control::Stats| {
        let values = stats.snapshot.groups.iter().flat_map(|group| &group.values);
        let turns = values
            .filter(|value| value.name == "worker.turns")
            .map(|value| value.value);
        turns.sum::<u64>()
    };
    let second = stats(&place.socket(), 1);
    assert!(turns(&second) > turns(&first), "the worker works");
    stop.escalate();
    let ended = appliance.join().expect("no panic");
    assert!(ended.is_ok(), "{ended:?}");
    assert!(
        control::stats(&place.socket()).is_err(),
        "a stopped appliance answered"
    );
    assert!(!place.socket().exists(), "the socket is gone");
}

fn two_workers_end_at_once() {
    let cores = cores_here();
    let Some(two) = cores.get(..2) else {
        skip_case("needs two cores");
    };
    let place = Place::new();
    let config = place.config("net_null0,no-rx=1", two);
    let stop = Stop::default();
    let asked = stop.clone();
    let appliance = thread::spawn(move || appliance::run(config, Privileges::unchanged(), &asked));
    let groups = stats(&place.socket(), 2).snapshot.groups;
    let workers = groups
        .iter()
        .filter(|group| group.kind == GroupKind::Worker);
    assert_eq!(workers.count(), 2);
    stop.escalate();
    stop.escalate();
    let ended = appliance.join().expect("no panic");
    assert!(ended.is_ok(), "{ended:?}");
}

fn what_a_device_refuses_is_a_fault() {
    let place = Place::new();
    let config = place.config("net_af_packet0,iface=lg-nowhere", &cores_here()[..1]);
    match appliance::run(config, Privileges::unchanged(), &Stop::default()) {
        Err(ApplianceError::Config(faults)) => {
            let said = faults.to_string();
            assert!(
                said.contains("lg-nowhere") && said.contains("a.toml"),
                "{said}"
            );
        }
        other => panic!("{other:?}"),
    }
}
