//! Network namespaces joined by veth pairs or with taps, and processes and threads in them.
//!
//! Names carry this process's number. A [`Network`] is removed on drop, also when a test fails;
//! what a killed process left behind is removed by the next one that makes a network.
//!
//! A program starts in a namespace through this very binary, which enters the namespace, asks the
//! kernel to be killed together with its parent, and becomes the program: nothing is left running.

mod taps;

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub use self::taps::Taps;
use crate::process::run;
use crate::stale;

/// The server's IPv4 address in every network.
pub const SERVER4: &str = "198.18.0.1";
/// The server's IPv6 address in every network.
pub const SERVER6: &str = "fd00:18::1";

/// The namespace of a server, which has the interface `lg0`, and the namespace of its clients.
#[derive(Debug)]
pub struct Network {
    server: String,
    router: Option<String>,
    client: String,
}

impl Network {
    /// Makes two namespaces joined by a veth pair: `lg0` at the server, without addresses; `lg1` at
    /// the clients, with 198.18.0.2/24 and fd00:18::2/64.
    #[must_use]
    pub fn pair(mtu: u16) -> Self {
        let network = Self::new(false);
        join(&network.server, "lg0", &network.client, "lg1", mtu);
        silence(&network.server, "lg0");
        address(&network.client, "lg1", &["198.18.0.2/24", "fd00:18::2/64"]);
        up(&network.server, "lg0");
        network
    }

    /// Makes three namespaces: a pair's, with a router between them. The router has `lg1` and
    /// `far0`, the clients have `far1` with 198.19.0.2/24 and fd00:19::2/64.
    #[must_use]
    pub fn routed() -> Self {
        let network = Self::new(true);
        let router = network.router();
        join(&network.server, "lg0", router, "lg1", 1500);
        join(router, "far0", &network.client, "far1", 1500);
        for forwarding in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            write_setting(router, forwarding, "1");
        }
        silence(&network.server, "lg0");
        address(router, "lg1", &["198.18.0.2/24", "fd00:18::2/64"]);
        address(router, "far0", &["198.19.0.1/24", "fd00:19::1/64"]);
        address(&network.client, "far1", &["198.19.0.2/24", "fd00:19::2/64"]);
        up(&network.server, "lg0");
        let client = &network.client;
        ip(&format!("-n {client} route add default via 198.19.0.1"));
        ip(&format!("-n {client} -6 route add default via fd00:19::1"));
        network
    }

    fn new(routed: bool) -> Self {
        remove_stale_once();
        let network = Self {
            server: name("a"),
            router: routed.then(|| name("r")),
            client: name("b"),
        };
        for name in network.names() {
            ip(&format!("netns add {name}"));
            up(name, "lo");
        }
        network
    }

    /// Gives the server's interface its IPv4 address, for a server of the kernel's.
    pub fn give_server_address(&self) {
        address(&self.server, "lg0", &["198.18.0.1/24"]);
    }

    /// The name of the server's namespace.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The name of the clients' namespace.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }

    /// The name of the router's namespace.
    ///
    /// # Panics
    ///
    /// If the network has none.
    #[must_use]
    #[track_caller]
    pub fn router(&self) -> &str {
        self.router.as_deref().expect("a routed network")
    }

    /// The name of the namespace at the other end of the server's link: the router's, or else the
    /// clients'. Its interface is `lg1`.
    #[must_use]
    pub fn next_to_server(&self) -> &str {
        self.router.as_deref().unwrap_or(&self.client)
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        [&self.server, &self.client].into_iter().chain(&self.router)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in self.names() {
            delete(name);
        }
    }
}

/// Runs `ip`.
///
/// # Panics
///
/// If it fails.
#[track_caller]
pub fn ip(arguments: &str) {
    run(Command::new("ip").args(arguments.split_whitespace())).ok();
}

/// A command that runs `program` in a namespace. Its process is killed when its parent ends.
///
/// The test binary has to call [`exec_if_asked`] first of all.
///
/// # Panics
///
/// If this program's own file can't be found.
pub fn command(namespace: &str, program: impl AsRef<OsStr>) -> Command {
    let this = env::current_exe().expect("a process has a program");
    let mut command = Command::new(this);
    command.env(NAMESPACE, namespace).arg(program);
    command
}

/// Becomes the program in the namespace, in a process that was started by [`command`]. Returns in
/// every other process, and, with an exit code, if the program can't be started.
#[must_use]
pub fn exec_if_asked() -> Option<ExitCode> {
    let namespace = env::var(NAMESPACE).ok()?;
    let mut arguments = env::args_os().skip(1);
    let program = arguments.next()?;
    set_parent_process_death_signal(Some(Signal::KILL)).expect("a process chooses its signal");
    enter(&namespace);
    let error = Command::new(&program)
        .args(arguments)
        .env_remove(NAMESPACE)
        .exec();
    eprintln!("{}: {error}", program.display());
    Some(ExitCode::from(127))
}

/// Runs `work` on a thread in the namespace; threads that it starts are there, too.
pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let result = thread::scope(|scope| {
        let work = || {
            enter(namespace);
            work()
        };
        scope.spawn(work).join()
    });
    result.unwrap_or_else(|payload| resume_unwind(payload))
}

/// Moves the calling thread.
fn enter(namespace: &str) {
    let file = File::open(Path::new("/run/netns").join(namespace)).expect("the namespace exists");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("root may enter a namespace");
}

/// Removes what is left behind, once in a process.
fn remove_stale_once() {
    static CLEAN: Once = Once::new();
    CLEAN.call_once(remove_stale);
}

/// Removes the namespaces of processes that have ended without doing so, and what runs in them.
fn remove_stale() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if stale::is_stale(&name, PREFIX) {
            kill_processes(&name);
            delete(&name);
        }
    }
}

fn kill_processes(namespace: &str) {
    let listed = run(Command::new("ip").args(["netns", "pids", namespace])).text();
    let pids = listed.split_whitespace().filter_map(|pid| pid.parse().ok());
    for pid in pids.filter_map(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn delete(namespace: &str) {
    run(Command::new("ip").args(["netns", "del", namespace]));
}

fn name(end: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{}-{number}{end}", std::process::id())
}

/// Joins two namespaces by a veth pair without offloads: a driver sees frames as they are on a
/// wire.
fn join(a: &str, on_a: &str, b: &str, on_b: &str, mtu: u16) {
    ip(&format!(
        "-n {a} link add {on_a} mtu {mtu} type veth peer name {on_b} mtu {mtu} netns {b}"
    ));
    for (namespace, interface) in [(a, on_a), (b, on_b)] {
        ip(&format!(
            "netns exec {namespace} ethtool -K {interface} tx off rx off tso off gso off gro off"
        ));
    }
}

/// Keeps the kernel from sending anything by itself on an interface that a driver uses.
fn silence(namespace: &str, interface: &str) {
    write_setting(
        namespace,
        &format!("ipv6/conf/{interface}/disable_ipv6"),
        "1",
    );
}

fn write_setting(namespace: &str, setting: &str, value: &str) {
    let file = format!("/proc/sys/net/{setting}");
    inside(namespace, || {
        fs::write(&file, value).unwrap_or_else(|error| panic!("{file}: {error}"));
    });
}

fn address(namespace: &str, interface: &str, addresses: &[&str]) {
    for address in addresses {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        ip(&format!(
            "-n {namespace} addr add {address} dev {interface} {nodad}"
        ));
    }
    up(namespace, interface);
}

fn up(namespace: &str, interface: &str) {
    ip(&format!("-n {namespace} link set {interface} up"));
}

const NAMESPACE: &str = "LOCKGATE_TEST_NAMESPACE";
const PREFIX: &str = "lockgate-test-";
