//! Namespaces joined by veth pairs; gone when dropped.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use super::material::is_of_the_dead;
use super::run::run;

/// The appliance's addresses.
pub(crate) const SERVER4: &str = "198.18.0.1";
/// As above.
pub(crate) const SERVER6: &str = "fd00:18::1";

/// A network of namespaces: the appliance's, which has the interface `lg0`, and the peer's.
pub(crate) struct Net {
    ours: String,
    router: Option<String>,
    peer: String,
}

impl Net {
    /// Two namespaces: `lg0` in one; `lg1` in the other, 198.18.0.2/24 and fd00:18::2/64.
    pub(crate) fn pair(mtu: u16) -> Self {
        let net = Self {
            ours: name("a"),
            router: None,
            peer: name("b"),
        };
        net.add();
        join(&net.ours, "lg0", &net.peer, "lg1", mtu);
        quiet(&net.ours, "lg0");
        address(&net.peer, "lg1", &["198.18.0.2/24", "fd00:18::2/64"]);
        up(&net.ours, "lg0");
        net
    }

    /// Three namespaces: the pair's, with a router between. The peer is 198.19.0.2 and fd00:19::2.
    pub(crate) fn routed() -> Self {
        let net = Self {
            ours: name("a"),
            router: Some(name("r")),
            peer: name("b"),
        };
        net.add();
        let router = net.router();
        join(&net.ours, "lg0", router, "lg1", 1500);
        join(router, "far0", &net.peer, "far1", 1500);
        for forwarding in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            write_setting(router, forwarding, "1");
        }
        quiet(&net.ours, "lg0");
        address(router, "lg1", &["198.18.0.2/24", "fd00:18::2/64"]);
        address(router, "far0", &["198.19.0.1/24", "fd00:19::1/64"]);
        address(&net.peer, "far1", &["198.19.0.2/24", "fd00:19::2/64"]);
        up(&net.ours, "lg0");
        ip(&format!("-n {} route add default via 198.19.0.1", net.peer));
        ip(&format!(
            "-n {} -6 route add default via fd00:19::1",
            net.peer
        ));
        net
    }

    /// The appliance's namespace.
    pub(crate) fn ours(&self) -> &str {
        &self.ours
    }

    /// The clients' namespace.
    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    /// The router's namespace, if there is one.
    pub(crate) fn router(&self) -> &str {
        self.router.as_deref().expect("a network with a router")
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        [&self.ours, &self.peer].into_iter().chain(&self.router)
    }

    fn add(&self) {
        for name in self.names() {
            ip(&format!("netns add {name}"));
            up(name, "lo");
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in self.names() {
            delete(name);
        }
    }
}

/// Runs `ip`, which has to succeed.
#[track_caller]
pub(crate) fn ip(arguments: &str) {
    run(Command::new("ip").args(arguments.split_whitespace())).ok();
}

/// Removes namespaces of test processes that are no more, and what runs there.
pub(crate) fn remove_stale() {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(PREFIX).is_some_and(is_of_the_dead) {
            end_processes(&name);
            delete(&name);
        }
    }
}

fn end_processes(namespace: &str) {
    let listed = run(Command::new("ip").args(["netns", "pids", namespace]));
    for pid in listed
        .text()
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
    {
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
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

/// A veth pair from one namespace to another, both ends without offloads: the appliance sees
/// frames as they are on a wire.
fn join(a: &str, on_a: &str, b: &str, on_b: &str, mtu: u16) {
    ip(&format!(
        "-n {a} link add {on_a} mtu {mtu} type veth peer name {on_b} mtu {mtu} netns {b}"
    ));
    for (namespace, interface) in [(a, on_a), (b, on_b)] {
        let offloads = "tx off rx off tso off gso off gro off";
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, "ethtool", "-K", interface]);
        run(command.args(offloads.split(' '))).ok();
    }
}

/// The kernel says nothing on this interface: it's the appliance's.
fn quiet(namespace: &str, interface: &str) {
    write_setting(
        namespace,
        &format!("ipv6/conf/{interface}/disable_ipv6"),
        "1",
    );
}

fn write_setting(namespace: &str, setting: &str, value: &str) {
    let mut command = Command::new("ip");
    let file = format!("/proc/sys/net/{setting}");
    command.args([
        "netns",
        "exec",
        namespace,
        "sh",
        "-c",
        "echo \"$0\" >\"$1\"",
        value,
        &file,
    ]);
    run(&mut command).ok();
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

const PREFIX: &str = "lockgate-test-";
