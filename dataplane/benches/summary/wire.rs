//! A veth pair as the wire: the appliance and nginx, each at one end of its own pair, wrk at the
//! other.
//!
//! The server has core 0 and wrk core 1. The MTU is 1500, with no offloads at either end. The two
//! servers take turns: the other server is stopped meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use lockgate_testing::ScratchDir;

use crate::nginx::{self, Network, Nginx, signal, terminate};
use crate::rows::{Row, median, skip};
use crate::tls::Identity;

pub(crate) fn measure() {
    let Some(servers) = Servers::start("rates", &[]) else {
        return;
    };
    let loads = [
        ("1 KiB over HTTPS on a veth", "/1k", 64, &[][..], Some(1.0)),
        ("1 MiB over HTTPS on a veth", "/1m", 16, &[], None),
        (
            "new HTTPS connection per 1 KiB request on a veth",
            "/1k",
            32,
            &["-H", "Connection: close"],
            None,
        ),
    ];
    for (name, path, connections, extra, aim) in loads {
        let (mut subject, mut baseline) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let seconds = if round == 0 { 1 } else { SECONDS };
            servers.lockgate.resume();
            let ours = nginx::wrk(
                servers.lockgate.network(),
                path,
                connections,
                seconds,
                extra,
            );
            servers.lockgate.pause();
            let theirs = servers.nginx.wrk(path, connections, seconds, extra);
            // The first round warms up.
            if round > 0 {
                subject.push(ours.requests_per_second);
                baseline.push(theirs.requests_per_second);
            }
        }
        let row = Row::new(name, "requests/s", median(subject)).against(median(baseline));
        match aim {
            Some(aim) => row.aim(aim).emit(),
            None => row.emit(),
        }
    }
}

/// Both servers, each in a pair of namespaces of its own, because both have the same address.
pub(crate) struct Servers {
    // In the order of their drops.
    pub(crate) lockgate: Lockgate,
    pub(crate) nginx: Nginx<'static>,
    _pairs: [Pair; 2],
    scratch: ScratchDir,
}

impl Servers {
    /// Starts both, or reports why that can't be done here. `extra` is added to the appliance's
    /// configuration.
    pub(crate) fn start(what: &str, extra: &[(&str, &str)]) -> Option<Self> {
        let missing = if rustix::process::geteuid().is_root() {
            nginx::missing()
        } else {
            Some("namespaces need root")
        };
        if let Some(why) = missing {
            skip(&format!("{what} beside nginx on a veth"), why);
            return None;
        }
        let scratch = ScratchDir::new();
        scratch.write("www/1k", [b'x'; 1024]);
        scratch.write("www/64k", vec![b'x'; 64 << 10]);
        scratch.write("www/1m", vec![b'x'; 1 << 20]);
        let identity = Identity::new();
        let pairs = ["l", "n"].map(|side| Pair::new(&format!("lgb{}{side}", std::process::id())));
        pairs[1].assign_address();
        // Leaked: the names are used until the process ends.
        let names = pairs.each_ref().map(|pair| &*String::leak(pair.0.clone()));
        identity.write(scratch.path());
        let lockgate = Lockgate::start(scratch.path(), names[0], extra);
        let nginx = Nginx::start(scratch.path(), Network::Pair(names[1]), &identity);
        Some(Self {
            lockgate,
            nginx,
            _pairs: pairs,
            scratch,
        })
    }

    /// Returns where the file of a path is.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.scratch.path().join(format!("www{path}"))
    }
}

/// The appliance, on core 0.
pub(crate) struct Lockgate {
    pair: &'static str,
    child: Child,
}

impl Lockgate {
    fn start(directory: &Path, pair: &'static str, extra: &[(&str, &str)]) -> Self {
        let sections = extra
            .iter()
            .map(|(section, text)| format!("[{section}]\n{text}\n"));
        let config = CONFIG.to_owned() + &sections.collect::<String>();
        let file = directory.join("bench.toml");
        fs::write(&file, config).unwrap();
        let binary = Path::new(env!("CARGO_BIN_EXE_lockgate"));
        // The appliance binds its worker itself. Its other threads may run on any core.
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &format!("{pair}-a")])
            .arg(binary)
            .args(["run", "--config"])
            .arg(&file);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let lockgate = Self {
            pair,
            child: child.unwrap(),
        };
        lockgate.await_answer();
        lockgate
    }

    fn await_answer(&self) {
        let mut probe = self.network().client(Path::new("curl"));
        let url = format!("https://{}/1k", self.network().address());
        probe.args([
            "-ks",
            "--retry",
            "40",
            "--retry-delay",
            "1",
            "--retry-all-errors",
        ]);
        probe.args(["--connect-timeout", "1", "-o", "/dev/null", &url]);
        let status = probe.status().expect("curl runs");
        assert!(status.success(), "the appliance answers");
    }

    pub(crate) fn network(&self) -> Network<'static> {
        Network::Pair(self.pair)
    }

    /// Returns its process, which replaced `ip`.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Stops the process: a polling worker would disturb the other server on its core.
    pub(crate) fn pause(&self) {
        signal(self.child.id(), "STOP");
    }

    pub(crate) fn resume(&self) {
        signal(self.child.id(), "CONT");
        thread::sleep(Duration::from_millis(50));
    }
}

impl Drop for Lockgate {
    fn drop(&mut self) {
        self.resume();
        terminate(&mut self.child);
    }
}

/// Two namespaces joined by a veth pair, removed when dropped.
struct Pair(String);

impl Pair {
    fn new(name: &str) -> Self {
        let pair = Self(name.to_owned());
        let (a, b) = (format!("{name}-a"), format!("{name}-b"));
        ip(&["netns", "add", &a]);
        ip(&["netns", "add", &b]);
        ip(&[
            "-n", &a, "link", "add", "lg0", "type", "veth", "peer", "name", "lg1", "netns", &b,
        ]);
        for (namespace, device) in [(&a, "lg0"), (&b, "lg1")] {
            let mut command = vec!["netns", "exec", namespace, "ethtool", "-K", device];
            command.extend("tx off rx off tso off gso off gro off".split(' '));
            ip(&command);
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
            ip(&["-n", namespace, "link", "set", device, "up"]);
        }
        let quiet = "echo 1 >/proc/sys/net/ipv6/conf/lg0/disable_ipv6";
        ip(&["netns", "exec", &a, "sh", "-c", quiet]);
        ip(&["-n", &b, "addr", "add", "198.18.0.2/24", "dev", "lg1"]);
        pair
    }

    /// Assigns the server's address, for a server on the kernel's TCP.
    fn assign_address(&self) {
        let namespace = format!("{}-a", self.0);
        ip(&[
            "-n",
            &namespace,
            "addr",
            "add",
            "198.18.0.1/24",
            "dev",
            "lg0",
        ]);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for side in ["a", "b"] {
            ip(&["netns", "del", &format!("{}-{side}", self.0)]);
        }
    }
}

fn ip(args: &[&str]) {
    let status = Command::new("ip").args(args).stdout(Stdio::null()).status();
    assert!(status.unwrap().success(), "ip {args:?}");
}

const ROUNDS: usize = 5;
const SECONDS: u32 = 2;

const CONFIG: &str = r#"
[eal]
hugepages = "auto"
[workers]
cores = [0]
idle = "yield"
[[port]]
name = "p0"
device = "net_af_packet0,iface=lg0"
mtu = 1500
[[interface]]
on = "p0"
addresses = ["198.18.0.1/24"]
[ktls]
enable = true
[[certificate]]
chain = "demo.crt"
key = "demo.key"
[[listener]]
address = "198.18.0.1:443"
tls = true
[[site]]
hosts = ["*"]
root = "www"
[control]
socket = "lockgate.sock"
[tls]
versions = ["1.3"]
suites = ["aes-128-gcm"]
"#;
