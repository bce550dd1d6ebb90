//! The command line and several instances.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use toml::Value;

use crate::support::client::secure;
use crate::support::scene::{CONFIG, INDEX, SOCKET, Setup};
use crate::support::server::{LOCKGATE, Server};
use lockgate_testing::cases::Case;
use lockgate_testing::network::{self, Network};
use lockgate_testing::process::{Ran, Running, run};
use lockgate_testing::{ScratchDir, wait_until};

pub(crate) const CASES: &[Case] = &[
    Case::new("operation::instances_side_by_side", side_by_side),
    Case::new("operation::statistics", statistics),
    Case::new("operation::a_control_socket_has_one_instance", socket_taken),
    Case::new("operation::check", check),
    Case::new(
        "operation::what_a_device_cannot_do_is_a_fault_of_the_file",
        device_faults,
    ),
    Case::new("operation::what_the_machine_does_not_have", machine_faults),
    Case::new(
        "operation::required_huge_pages_that_are_not_there",
        hugepages_required,
    ),
];

fn side_by_side() {
    let scenes = [Setup::new().start(), Setup::new().start()];
    let pids = scenes.each_ref().map(|scene| {
        let reply = scene
            .inside(|| secure(&scene.roots)?.get("/"))
            .expect("an answer");
        assert_eq!(reply.body, INDEX);
        let stats = scene.server.stats();
        assert_eq!(stats.total("http.connections"), 1);
        stats.json()["pid"].as_u64()
    });
    assert_ne!(pids[0], pids[1]);
    let [one, other] = scenes;
    one.finish();
    // The other one doesn't mind.
    let reply = other
        .inside(|| secure(&other.roots)?.get("/"))
        .expect("an answer");
    assert_eq!(reply.body, INDEX);
    other.finish();
}

fn statistics() {
    let scene = Setup::new().start();
    scene
        .inside(|| secure(&scene.roots)?.get("/"))
        .expect("an answer");
    let table = scene.server.ask(&[]).ok().text();
    for name in [
        "lockgate 0",
        "process",
        "http.responses.200",
        "worker 0",
        "p0",
        "tcp.bytes_out",
    ] {
        assert!(table.contains(name), "{name}: {table}");
    }
    assert!(
        !table.contains("http.responses.404"),
        "zeroes are left out: {table}"
    );
    assert!(
        scene
            .server
            .ask(&["--all"])
            .ok()
            .text()
            .contains("http.responses.404")
    );

    let config = scene.scratch.path().join(CONFIG);
    let mut command = Command::new(LOCKGATE);
    let ran = run(command.args(["stats", "--json", "--config"]).arg(&config)).ok();
    let json: serde_json::Value = serde_json::from_slice(&ran.out).expect("it's JSON");
    for group in ["process", "totals", "workers", "ports"] {
        assert!(json[group].is_object(), "{group}: {json}");
    }
    assert_eq!(json["totals"]["http.responses.200"], 1);
    assert_eq!(json["workers"]["0"]["http.responses.200"], 1);
    assert_eq!(json["ports"]["p0"]["port.link_up"], 1);
    scene.finish();
}

fn socket_taken() {
    let scene = Setup::new().start();
    let socket = scene.scratch.path().join(SOCKET);
    let taken = socket.to_str().expect("a plain path").to_owned();
    let (_net, other) = Setup::new().set("control.socket", taken).prepare_in();
    let ran = other.run();
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("control socket"), "{}", ran.err);
    assert!(!ran.err.contains("EAL started"), "{}", ran.err);
    // The first one still has it.
    assert_eq!(scene.server.stats().total("http.open"), 0);
    scene.finish();

    // What a killed one leaves is no hindrance.
    let mut scene = Setup::new().start();
    scene.server.signal(rustix::process::Signal::KILL);
    wait_until("end of the killed instance", || scene.server.try_reap());
    let socket = scene.scratch.path().join(SOCKET);
    assert!(socket.exists(), "a killed appliance leaves its socket");
    let config = scene.scratch.path().join(CONFIG);
    let again = Server::start(scene.net.server(), &config, &socket, 1);
    again.finish();
}

/// A configuration that isn't started by the scene.
struct Unstarted {
    namespace: String,
    scratch: ScratchDir,
}

impl Setup {
    fn prepare_in(self) -> (Network, Unstarted) {
        let (net, scratch) = self.prepare();
        let namespace = net.server().to_owned();
        (net, Unstarted { namespace, scratch })
    }

    /// Runs it to its end, which has to come soon.
    fn run_to_end(self) -> (Ran, String) {
        let (_net, unstarted) = self.prepare_in();
        let ran = unstarted.run();
        (
            ran,
            fs::read_to_string(unstarted.config()).expect("it's there"),
        )
    }
}

impl Unstarted {
    fn config(&self) -> std::path::PathBuf {
        self.scratch.path().join(CONFIG)
    }

    fn command(&self, what: &str) -> Command {
        let mut command = network::command(&self.namespace, LOCKGATE);
        command
            .args([what, "--config"])
            .arg(self.config())
            .stdin(Stdio::null());
        command
    }

    fn run(&self) -> Ran {
        Running::start(&mut self.command("run")).finish()
    }
}

fn check() {
    let (_net, good) = Setup::new().certificates(&["ecdsa", "rsa"]).prepare_in();
    let ran = run(&mut good.command("check"));
    assert_eq!(
        (ran.code, ran.text().as_str(), ran.err.as_str()),
        (Some(0), "ok\n", "")
    );
    // It needs no network, and starts nothing.
    let ran = run(Command::new(LOCKGATE)
        .args(["check", "--config"])
        .arg(good.config()));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(!good.scratch.path().join(SOCKET).exists());

    let swapped = good.scratch.path();
    fs::copy(swapped.join("rsa.key"), swapped.join("ecdsa.key")).expect("both are there");
    let ran = run(&mut good.command("check"));
    assert_eq!(ran.code, Some(2), "{}", ran.text());
    assert!(ran.err.contains("certificate.key"), "{}", ran.err);
}

/// Asserts that a configuration is refused with `message` about `key`, at a line with `line_has`.
#[track_caller]
fn assert_fault(setup: Setup, key: &str, line_has: &str, message: &str) {
    let (ran, text) = setup.run_to_end();
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    let said = ran
        .err
        .lines()
        .find(|line| line.contains(&format!(": {key}: ")));
    let said = said.unwrap_or_else(|| panic!("nothing about {key}: {}", ran.err));
    assert!(said.contains(message), "{said}");
    let mut parts = said.split(':');
    let file = parts.next().map(Path::new).and_then(Path::file_name);
    assert_eq!(file, Some(CONFIG.as_ref()), "{said}");
    let line = parts.next().and_then(|number| number.parse::<usize>().ok());
    let line = line
        .and_then(|number| text.lines().nth(number - 1))
        .unwrap_or_default();
    assert!(line.contains(line_has), "{said} is about the line {line:?}");
}

/// Known only when the device was asked: still a message with file, line and key.
fn device_faults() {
    // The link's MTU is 1500.
    assert_fault(
        Setup::new().set("port.mtu", 9000),
        "port.mtu",
        "mtu = 9000",
        "1500",
    );
    let absent = "net_af_packet0,iface=absent0";
    assert_fault(
        Setup::new().set("port.device", absent),
        "port.device",
        absent,
        "absent0",
    );
    let unknown = "net_unheard_of0";
    assert_fault(
        Setup::new().set("port.device", unknown),
        "port.device",
        unknown,
        unknown,
    );
    let argument = "net_af_packet0,iface=lg0,no_such_argument=1";
    assert_fault(
        Setup::new().set("port.device", argument),
        "port.device",
        argument,
        "no_such_argument",
    );
}

/// Cores that aren't there, more cores than queues.
fn machine_faults() {
    let cores = |cores: Vec<i64>| Setup::new().set("workers.cores", cores);
    assert_fault(cores(vec![1023]), "workers.cores", "cores = ", "1023");
    assert_fault(cores(vec![0, 0]), "workers.cores", "cores = ", "twice");
    let one_queue = "net_af_packet0,iface=lg0,qpairs=1";
    if core_affinity::get_core_ids().is_some_and(|ids| ids.len() > 1) {
        let setup = cores(vec![0, 1]).set("port.device", one_queue);
        let (ran, _) = setup.run_to_end();
        assert_eq!(ran.code, Some(2), "{}", ran.err);
        assert!(ran.err.contains("queue"), "{}", ran.err);
    }
    let address = Setup::new().set("listener.address", "198.18.0.77:80");
    assert_fault(address, "listener.address", "198.18.0.77:80", "198.18.0.77");
    let unknown = Setup::new().set("http.headers", Value::from(3));
    assert_fault(unknown, "http.headers", "headers = 3", "unknown key");
    let nowhere = Setup::new().set("control.socket", "nowhere/s");
    assert_fault(nowhere, "control.socket", "nowhere/s", "No such file");
}

fn hugepages_required() {
    // More than any machine has.
    let (ran, _) = Setup::smallest()
        .set("eal.hugepages", "require")
        .set("eal.memory", "1024GiB")
        .run_to_end();
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    for part in [
        "[eal] hugepages = \"require\"",
        "MiB of huge pages on node",
        "missing; wanted: ",
        "for page buffers of worker 0",
    ] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
    assert!(!ran.err.contains("EAL started"), "{}", ran.err);
}
