//! The appliance in an emulated machine, and its clients in the namespace of the taps.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use lockgate_testing::certificates::{Identity, KeyKind};
use lockgate_testing::network::{SERVER4, SERVER6};
use lockgate_testing::process::{Running, run};
use lockgate_testing::{Random, ScratchDir, wait_for, wait_until};
use serde_json::Value as Json;
use toml::{Table, Value};

use super::archive::Archive;
use super::card::Card;
use super::guest::LOCKGATE;
use super::machine::Machine;
use super::spec::MachineSpec;

/// What a case runs: a machine, and the configuration of the appliance in it.
pub(crate) struct Setup {
    pub(crate) machine: MachineSpec,
    config: Table,
    harmless: Vec<&'static str>,
}

impl Setup {
    /// All workers on each of the machine's cards, HTTP and HTTPS over IPv4 and IPv6.
    pub(crate) fn new(machine: MachineSpec) -> Self {
        let mut config: Table = BASE.parse().expect("the base is TOML");
        let mut ports = Vec::new();
        let mut interfaces = Vec::new();
        for (number, card) in machine.cards.iter().enumerate() {
            let mut port = Table::new();
            port.insert("name".to_owned(), format!("p{number}").into());
            port.insert("device".to_owned(), card.address(number).into());
            port.insert("mtu".to_owned(), i64::from(machine.mtu).into());
            ports.push(port.into());
            let addresses = vec![
                format!("198.18.{number}.1/24").into(),
                format!("fd00:18:{number}::1/64").into(),
            ];
            let mut interface = Table::new();
            interface.insert("on".to_owned(), format!("p{number}").into());
            interface.insert("addresses".to_owned(), Value::Array(addresses));
            interfaces.push(interface.into());
        }
        config.insert("port".to_owned(), Value::Array(ports));
        config.insert("interface".to_owned(), Value::Array(interfaces));
        let cores = (0..machine.workers).map(|core| Value::Integer(core as i64));
        let workers = config["workers"].as_table_mut();
        workers
            .expect("it is in the base")
            .insert("cores".to_owned(), Value::Array(cores.collect()));
        let harmless = machine.cards.iter();
        let harmless = harmless.filter_map(|card| card.harmless_error()).collect();
        Self {
            machine,
            config,
            harmless,
        }
    }

    /// The same with the pools, buffers and rings of `configs/small.toml`.
    pub(crate) fn small(mut self) -> Self {
        let mut small: Table = SMALL.parse().expect("it is TOML");
        for section in ["tcp", "cache", "limits"] {
            let keys = small.remove(section).expect("it has this section");
            self.config.insert(section.to_owned(), keys);
        }
        let ports = small["port"].as_array().expect("it has a port");
        for key in ["rx_descriptors", "tx_descriptors"] {
            self = self.set_port(key, ports[0][key].clone());
        }
        self
    }

    /// The same with all cards in one port, an active-backup bond.
    pub(crate) fn bonded(mut self) -> Self {
        let cards = self.machine.cards.iter().enumerate();
        let members = cards.map(|(number, card)| format!(",slave={}", card.address(number)));
        let bond = format!("net_bonding0,mode=1{}", members.collect::<String>());
        for list in ["port", "interface"] {
            let list = self.config[list].as_array_mut();
            list.expect("it is a list").truncate(1);
        }
        self.config["port"][0]["device"] = bond.into();
        // The bond stops its members, which haven't been started, before it starts them.
        self.harmless.push("disabling MSI-X interrupts for fd");
        self
    }

    /// Sets a key of each port.
    pub(crate) fn set_port(mut self, key: &str, value: impl Into<Value> + Clone) -> Self {
        for port in self.config["port"].as_array_mut().expect("it has ports") {
            let port = port.as_table_mut().expect("a port is a table");
            port.insert(key.to_owned(), value.clone().into());
        }
        self
    }

    /// Sets `section.key`.
    pub(crate) fn set(mut self, section: &str, key: &str, value: impl Into<Value>) -> Self {
        let section = self
            .config
            .entry(section)
            .or_insert_with(|| Table::new().into());
        let section = section.as_table_mut().expect("a section");
        section.insert(key.to_owned(), value.into());
        self
    }

    /// Boots the machine. The appliance isn't started yet.
    #[track_caller]
    pub(crate) fn boot(&self) -> Bench {
        let scratch = ScratchDir::new();
        Identity::self_signed(NAMES, KeyKind::Ecdsa).write(scratch.path(), "host");
        let stripped = scratch.join("lockgate");
        let mut strip = Command::new("strip");
        run(strip.arg("-o").arg(&stripped).arg(LOCKGATE)).ok();
        let read = |path: PathBuf| fs::read(path).expect("it was just written");
        let body = Random::new(SEED).bytes(BODY_BYTES);
        let mut archive = Archive::default();
        archive.add("/usr/bin/lockgate", 0o755, &read(stripped));
        archive.add(CONFIG, 0o644, self.config.to_string().as_bytes());
        archive.add("/etc/host.crt", 0o644, &read(scratch.join("host.crt")));
        archive.add("/etc/host.key", 0o600, &read(scratch.join("host.key")));
        archive.add("/srv/index.html", 0o644, INDEX);
        archive.add("/srv/body", 0o644, &body);
        Bench {
            machine: Machine::boot(&self.machine, archive),
            cards: self.machine.cards.clone(),
            workers: self.machine.workers,
            harmless: self.harmless.clone(),
            scratch,
            body,
        }
    }
}

/// A machine with an appliance.
pub(crate) struct Bench {
    pub(crate) machine: Machine,
    cards: Vec<Card>,
    workers: usize,
    /// What is harmless of what drivers log as errors.
    harmless: Vec<&'static str>,
    scratch: ScratchDir,
    body: Vec<u8>,
}

impl Bench {
    /// Starts the appliance and waits until it listens.
    #[track_caller]
    pub(crate) fn start(&mut self) {
        self.machine.ok(&format!("serve {CONFIG}"));
        self.wait_for_log("listening", LISTENERS);
    }

    /// Starts the appliance, which has to end with this exit code. Returns what it says.
    #[track_caller]
    pub(crate) fn start_refused(&mut self, code: u8) -> String {
        self.machine.ok(&format!("serve {CONFIG}"));
        let log = self.ended();
        assert!(log.ends_with(&format!("{ENDED}{code}\n")), "{log}");
        assert!(!log.contains("listening"), "{log}");
        log
    }

    /// What `lockgate doctor` says.
    #[track_caller]
    pub(crate) fn doctor(&mut self) -> String {
        let (_, text) = self
            .machine
            .run(&format!("lockgate doctor --config {CONFIG}"));
        text
    }

    /// Waits for the end of the appliance. Returns its log.
    #[track_caller]
    fn ended(&mut self) -> String {
        self.machine
            .wait_for("the end of the appliance", |machine| {
                let log = machine.log();
                let (_, code) = log.split_once(ENDED)?;
                code.ends_with('\n').then_some(log)
            })
    }

    /// The log's lines with this text.
    #[track_caller]
    pub(crate) fn log_lines(&self, text: &str) -> Vec<String> {
        let log = self.machine.log();
        let lines = log.lines().filter(|line| line.contains(text));
        lines.map(str::to_owned).collect()
    }

    /// The content of `/body`.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Waits until the running appliance has logged `text` so many times.
    #[track_caller]
    pub(crate) fn wait_for_log(&mut self, text: &str, times: usize) {
        self.machine.wait_for(text, |machine| {
            let log = machine.log();
            assert!(!log.contains(ENDED), "{text}: the appliance has ended");
            (log.matches(text).count() >= times).then_some(())
        });
    }

    /// Gets `/body` by HTTP and by HTTPS with curl, and `/` by HTTPS with openssl, over IPv4 and
    /// IPv6: all byte for byte.
    #[track_caller]
    pub(crate) fn transfer_all(&self) {
        self.fetch(&format!("http://{SERVER4}/body"));
        self.fetch(&format!("https://{SERVER4}/body"));
        self.fetch(&format!("https://[{SERVER6}]/body"));
        self.s_client(&format!("[{SERVER6}]:443"));
        self.s_client(&format!("{SERVER4}:443"));
    }

    /// Gets `/body` with curl: the same bytes.
    #[track_caller]
    pub(crate) fn fetch(&self, url: &str) {
        let mut curl = self.machine.command("curl");
        let curl = curl
            .args(["-sS", "--fail", "--cacert"])
            .arg(self.scratch.join("host.crt"));
        let ran = run(curl.arg(url));
        assert_eq!(ran.code, Some(0), "{url}: {}", ran.err);
        // Not by assert_eq!, which would print both.
        assert!(ran.out == self.body, "{url}: {} bytes", ran.out.len());
    }

    /// Gets `/` over new connections until each worker has accepted some: the card spreads them.
    #[track_caller]
    pub(crate) fn reach_workers(&mut self, workers: usize) -> Stats {
        for _ in 0..CONNECTIONS_MAX / CONNECTIONS_AT_ONCE {
            let mut curl = self.machine.command("curl");
            curl.args(["-sS", "--fail", "-H", "Connection: close"]);
            for _ in 0..CONNECTIONS_AT_ONCE {
                curl.arg(format!("http://{SERVER4}/"));
            }
            let ran = run(&mut curl).ok();
            assert_eq!(ran.out, INDEX.repeat(CONNECTIONS_AT_ONCE));
            let stats = self.stats();
            if (0..workers).all(|worker| stats.worker(worker, "stack.accepted") > 0) {
                return stats;
            }
        }
        panic!("not all workers have connections: {:?}", self.stats());
    }

    /// Gets `/` with openssl, which checks the certificate.
    #[track_caller]
    fn s_client(&self, to: &str) {
        let mut openssl = self.machine.command("openssl");
        openssl.args(["s_client", "-connect", to, "-servername", HOST, "-ign_eof"]);
        openssl.args(["-verify_hostname", HOST, "-verify_return_error", "-CAfile"]);
        openssl.arg(self.scratch.join("host.crt"));
        let mut running = Running::start(openssl.stdin(Stdio::piped()));
        let mut input = running.child().stdin.take().expect("it is piped");
        let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        // It may have ended already; its output says why.
        let _ = input.write_all(request.as_bytes());
        let ran = running.finish();
        let text = ran.text();
        assert_eq!(ran.code, Some(0), "{text} {}", ran.err);
        assert!(text.contains("Verification: OK"), "{text}");
        let has_index = ran.out.windows(INDEX.len()).any(|window| window == INDEX);
        assert!(has_index, "{text}");
    }

    /// The appliance's counters now, of all workers: a busy one is left out of an answer.
    #[track_caller]
    pub(crate) fn stats(&mut self) -> Stats {
        let line = format!("lockgate stats --config {CONFIG} --json");
        wait_for("counters of all workers", || {
            let text = self.machine.ok(&line);
            let stats = Stats(serde_json::from_str(&text).expect("the statistics are JSON"));
            let answered = stats.0["workers"].as_object()?.len();
            (answered == self.workers).then_some(stats)
        })
    }

    /// Sets the link of a card, and waits until the appliance has noticed.
    #[track_caller]
    pub(crate) fn set_link(&mut self, port: usize, up: bool) {
        self.machine.set_link(port, up);
        self.wait_for_link(port, up);
    }

    /// Waits until the appliance has noticed that a link is up, or down.
    #[track_caller]
    pub(crate) fn wait_for_link(&mut self, port: usize, up: bool) {
        wait_until("a change of the link", || {
            self.stats().port(port, "port.link_up") == u64::from(up)
        });
    }

    /// The log line of a port that is open.
    #[track_caller]
    pub(crate) fn port_open(&self, port: usize) -> String {
        let log = self.machine.log();
        let name = format!("\"p{port}\"");
        let mut lines = log.lines().filter(|line| line.contains("port open"));
        let found = lines.find(|line| line.contains(&name));
        found.expect("the port is open").to_owned()
    }

    /// Ends the appliance by SIGTERM: it must exit with 0 and every buffer must have come back.
    /// The IOMMU must have refused nothing.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        self.machine.ok("kill -TERM $(cat /run/pid)");
        let log = self.ended();
        assert!(log.ends_with(&format!("{ENDED}0\n")), "{log:?}");
        let harmless = |line: &str| self.harmless.iter().any(|known| line.contains(known));
        let bad = |line: &&str| BAD.iter().any(|bad| line.contains(bad)) && !harmless(line);
        assert_eq!(log.lines().find(bad), None, "{log}");
        assert!(log.contains("stopped"), "{log}");

        let faults = self.machine.ok("dmesg | grep -F 'DMAR: [' || true");
        let known = |line: &str| {
            let mut known = self.cards.iter().filter_map(|card| card.known_fault());
            known.any(|known| line.contains(known))
        };
        let fault = faults.lines().find(|line| !known(line));
        assert_eq!(fault, None, "the IOMMU refused an access");
    }
}

/// The answer of `lockgate stats --json`.
#[derive(Debug)]
pub(crate) struct Stats(Json);

impl Stats {
    /// A counter, summed over the workers.
    #[track_caller]
    pub(crate) fn total(&self, name: &str) -> u64 {
        number(&self.0["totals"][name], name)
    }

    /// A counter of a worker.
    #[track_caller]
    pub(crate) fn worker(&self, worker: usize, name: &str) -> u64 {
        number(&self.0["workers"][worker.to_string()][name], name)
    }

    /// A counter of a port.
    #[track_caller]
    pub(crate) fn port(&self, port: usize, name: &str) -> u64 {
        number(&self.0["ports"][format!("p{port}")][name], name)
    }
}

#[track_caller]
fn number(value: &Json, name: &str) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no counter {name}"))
}

const HOST: &str = "lockgate.test";
const NAMES: &[&str] = &[HOST, SERVER4, SERVER6, "198.18.1.1", "fd00:18:1::1"];
const CONFIG: &str = "/etc/lockgate.toml";
const INDEX: &[u8] = b"<!doctype html>\n<title>A page</title>\n";
const BODY_BYTES: usize = 10 << 20;
const CONNECTIONS_AT_ONCE: usize = 8;
/// With so many, that chance leaves one of four workers without any is less likely than 1e-31.
const CONNECTIONS_MAX: usize = 256;
const SEED: u64 = 0x5eed;
/// What the log of a good run has in no line.
const BAD: &[&str] = &[
    "missing at the end",
    "panicked",
    " ERROR ",
    "can't be closed",
];
const LISTENERS: usize = 4;
/// What `scripts/nics/init` writes to the log after the appliance's end, before the exit code.
const ENDED: &str = "=== ended ";

const SMALL: &str = include_str!("../../../../configs/small.toml");

const BASE: &str = r#"
[eal]
hugepages = "require"
[workers]
idle = "sleep"
# A client that is slow because the machine is busy isn't cut off.
[tls]
handshake_timeout = "5m"
[http]
header_timeout = "5m"
idle_timeout = "5m"
send_timeout = "5m"
[[listener]]
address = "0.0.0.0:80"
[[listener]]
address = "[::]:80"
[[listener]]
address = "0.0.0.0:443"
tls = true
[[listener]]
address = "[::]:443"
tls = true
[[certificate]]
chain = "host.crt"
key = "host.key"
[[site]]
hosts = ["*"]
root = "/srv"
[cache]
memory_max = "16MiB"
[limits]
mbufs = 8192
page_buffers = 16384
spans_small = 4096
spans_large = 2048
[control]
socket = "/run/lockgate.sock"
[drain]
deadline = "5m"
"#;
