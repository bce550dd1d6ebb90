//! A case's world: namespaces, a directory with certificates and files, and the appliance.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use lockgate_testing::ScratchDir;
use lockgate_testing::cases::skip_case;
use lockgate_testing::certificates::{Identity, KeyKind};
use rustls::RootCertStore;
use toml::{Table, Value};

use super::material::{self, NAMES, noise};
use super::server::Server;
use lockgate_testing::network::{self, Network};
use lockgate_testing::process::{Ran, run};

/// How the appliance is to be configured: the base, and what a case changes.
#[derive(Clone)]
pub(crate) struct Setup {
    config: Table,
    mtu: u16,
    certificates: Vec<&'static str>,
    routed: bool,
    link_down: bool,
}

impl Setup {
    /// One worker, HTTP and HTTPS over IPv4 and IPv6, one ECDSA certificate, moderate pools.
    pub(crate) fn new() -> Self {
        let mut config: Table = BASE.parse().expect("the base is TOML");
        let workers = config["workers"].as_table_mut().expect("it is in the base");
        workers.insert("cores".to_owned(), Value::Array(vec![core().into()]));
        Self {
            config,
            mtu: 1500,
            certificates: vec!["ecdsa"],
            routed: false,
            link_down: false,
        }
    }

    /// The smallest pools that the configuration takes.
    pub(crate) fn smallest() -> Self {
        let mut setup = Self::new()
            .set("cache.memory_max", "1MiB")
            .set("cache.files_max", 16);
        let limits = [
            ("limits.mbufs", 512),
            ("limits.page_buffers", 256),
            ("limits.spans_small", 64),
            ("limits.spans_large", 16),
            ("limits.sent_ranges", 256),
            ("tcp.connections_max", 64),
            ("tcp.half_open_max", 16),
        ];
        for (key, value) in limits {
            setup = setup.set(key, value);
        }
        setup
            .set("limits.send_queue_max", "32KiB")
            .set("tcp.window_max", "64KiB")
    }

    /// Sets `section.key`.
    pub(crate) fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        let (section, key) = key.split_once('.').expect("section.key");
        let section = self
            .config
            .entry(section)
            .or_insert_with(|| Table::new().into());
        let table = match section {
            Value::Array(several) => several.first_mut().and_then(Value::as_table_mut),
            other => other.as_table_mut(),
        };
        table
            .expect("a section")
            .insert(key.to_owned(), value.into());
        self
    }

    /// Removes a section: its keys have their defaults.
    pub(crate) fn without(mut self, section: &str) -> Self {
        self.config.remove(section);
        self
    }

    /// Sets the number of workers. Skips the case on a machine with fewer cores.
    pub(crate) fn workers(self, workers: usize) -> Self {
        let available = core_affinity::get_core_ids().map_or(0, |cores| cores.len());
        if available < workers {
            skip_case(format!("needs {workers} cores, has {available}"));
        }
        let cores: Vec<Value> = (0..workers).map(|_| core().into()).collect();
        self.set("workers.cores", cores)
    }

    /// Adds a `[[section]]`.
    pub(crate) fn add(mut self, section: &str, keys: &[(&str, &str)]) -> Self {
        let table: Table = keys
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).into()))
            .collect();
        let section = self
            .config
            .entry(section)
            .or_insert_with(|| Value::Array(Vec::new()));
        section
            .as_array_mut()
            .expect("a repeated section")
            .push(table.into());
        self
    }

    /// The MTU of the port and of the link.
    pub(crate) fn mtu(mut self, mtu: u16) -> Self {
        self.mtu = mtu;
        self.set("port.mtu", i64::from(mtu))
    }

    /// The certificates: of `ecdsa`, `rsa`, `other-ecdsa`, `other-rsa`.
    pub(crate) fn certificates(mut self, stems: &[&'static str]) -> Self {
        self.certificates = stems.to_vec();
        self
    }

    /// A router between the appliance and its clients.
    pub(crate) fn routed(mut self) -> Self {
        self.routed = true;
        self.add("route", &[("to", "0.0.0.0/0"), ("via", "198.18.0.2")])
            .add("route", &[("to", "::/0"), ("via", "fd00:18::2")])
    }

    /// Leaves the appliance's interface down.
    pub(crate) fn link_down(mut self) -> Self {
        self.link_down = true;
        self
    }

    /// Makes the network and starts the appliance.
    #[track_caller]
    pub(crate) fn start(self) -> Scene {
        let (net, scratch) = self.prepare();
        self.start_in(net, scratch)
    }

    /// Starts the appliance in what [`Setup::prepare`] has made.
    #[track_caller]
    pub(crate) fn start_in(&self, net: Network, scratch: ScratchDir) -> Scene {
        let config = scratch.path().join(CONFIG);
        let server = Server::start(
            net.server(),
            &config,
            &scratch.path().join(SOCKET),
            self.worker_count(),
        );
        let roots = self
            .certificates
            .iter()
            .map(|stem| crt(scratch.path(), stem));
        let roots = material::roots(&roots.collect::<Vec<_>>());
        Scene {
            server,
            net,
            scratch,
            roots,
            failing: self
                .config
                .get("test")
                .is_some_and(|test| test.get("fail_one_in").is_some()),
        }
    }

    /// Makes the network, and the configuration `lockgate.toml` with all that it names.
    pub(crate) fn prepare(&self) -> (Network, ScratchDir) {
        let net = if self.routed {
            Network::routed()
        } else {
            Network::pair(self.mtu)
        };
        if self.link_down {
            network::ip(&format!("-n {} link set lg0 down", net.server()));
        }
        let scratch = ScratchDir::new();
        for stem in &self.certificates {
            let kind = match stem.strip_prefix("other-").unwrap_or(stem) {
                "rsa" => KeyKind::Rsa,
                _ => KeyKind::Ecdsa,
            };
            let names = if stem.starts_with("other-") {
                OTHER_NAMES
            } else {
                NAMES
            };
            Identity::named(stem, names, kind).write(scratch.path(), stem);
        }
        scratch.write(CONFIG, self.text());
        scratch.write("www/index.html", INDEX);
        scratch.write("secret.txt", b"secret text");
        (net, scratch)
    }

    fn worker_count(&self) -> usize {
        self.config["workers"]["cores"]
            .as_array()
            .map_or(0, Vec::len)
    }

    /// The configuration file.
    fn text(&self) -> String {
        let mut config = self.config.clone();
        let certificates = self.certificates.iter().map(|stem| {
            let keys = [("chain", "crt"), ("key", "key")];
            let files = keys
                .iter()
                .map(|(k, e)| ((*k).to_owned(), format!("{stem}.{e}").into()));
            Value::Table(files.collect())
        });
        config.insert(
            "certificate".to_owned(),
            Value::Array(certificates.collect()),
        );
        config.to_string()
    }
}

/// A running appliance between its namespaces.
pub(crate) struct Scene {
    // In this order: the process ends before its namespaces and files go.
    pub(crate) server: Server,
    pub(crate) net: Network,
    pub(crate) scratch: ScratchDir,
    pub(crate) roots: Arc<RootCertStore>,
    /// Allocations fail on purpose.
    failing: bool,
}

impl Scene {
    /// Puts a file with noise into the site; its bytes.
    pub(crate) fn file(&self, name: &str, len: usize) -> Vec<u8> {
        let seed = name
            .bytes()
            .fold(len as u64, |h, b| h.wrapping_mul(31) ^ u64::from(b));
        let bytes = noise(seed, len);
        fs::write(self.www(name), &bytes).expect("there's room for a file");
        bytes
    }

    /// The path of a file of the site.
    pub(crate) fn www(&self, name: &str) -> PathBuf {
        self.scratch.path().join("www").join(name)
    }

    /// A certificate's file.
    pub(crate) fn crt(&self, stem: &str) -> PathBuf {
        crt(self.scratch.path(), stem)
    }

    /// A program in the clients' namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        network::command(self.net.client(), program)
    }

    /// curl, as quiet as it goes, trusting the first certificate.
    pub(crate) fn curl(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command("curl");
        command.args(["-sS", "--cacert"]).arg(self.crt("ecdsa"));
        run(command.args(arguments))
    }

    /// Runs something on a thread in the clients' namespace.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        network::inside(self.net.client(), work)
    }

    /// The end: nothing is open, and the appliance goes well.
    #[track_caller]
    pub(crate) fn finish(self) {
        let stats = self.server.wait_at_rest();
        if self.failing {
            // Or it would show nothing.
            assert!(stats.total("pages.failures") > 0, "{stats:?}");
        }
        self.server.finish();
    }
}

fn crt(directory: &Path, stem: &str) -> PathBuf {
    directory.join(format!("{stem}.crt"))
}

/// A core for a worker: each appliance of this process gets the next one.
fn core() -> i64 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let number = COUNT.fetch_add(1, Ordering::Relaxed) as usize;
    cores
        .get(number % cores.len().max(1))
        .map_or(0, |core| core.id as i64)
}

pub(crate) const CONFIG: &str = "lockgate.toml";
pub(crate) const SOCKET: &str = "s";

/// What is served for `/`.
pub(crate) const INDEX: &[u8] = b"<!doctype html>\n<title>A page</title>\n";

const OTHER_NAMES: &[&str] = &["other.test", "*.other.test"];

const BASE: &str = r#"
[eal]
hugepages = "off"
[workers]
idle = "yield"
[[port]]
name = "p0"
device = "net_af_packet0,iface=lg0"
[[interface]]
on = "p0"
addresses = ["198.18.0.1/24", "fd00:18::1/64"]
[tcp]
time_wait = "1s"
# A client that is slow because the machine is busy isn't cut off.
[tls]
handshake_timeout = "5m"
[http]
header_timeout = "5m"
idle_timeout = "5m"
send_timeout = "5m"
[[listener]]
address = "198.18.0.1:80"
[[listener]]
address = "[fd00:18::1]:80"
[[listener]]
address = "198.18.0.1:443"
tls = true
[[listener]]
address = "[fd00:18::1]:443"
tls = true
[[site]]
hosts = ["*"]
root = "www"
[cache]
memory_max = "16MiB"
revalidate = "0s"
stale_max = "0s"
[limits]
mbufs = 4096
page_buffers = 8192
spans_small = 2048
spans_large = 512
[control]
socket = "s"
[drain]
deadline = "5m"
"#;
