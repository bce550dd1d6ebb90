//! nginx and wrk, if they're installed.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::tls::Identity;

/// Returns what is missing for a comparison with nginx.
pub(crate) fn missing() -> Option<&'static str> {
    let found = |program: &str, arg| {
        let mut command = Command::new(program);
        let command = command.arg(arg).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok()
    };
    if !found("nginx", "-v") {
        Some("nginx is not installed")
    } else if !found("wrk", "-v") {
        Some("wrk is not installed")
    } else {
        None
    }
}

/// The network between a server and its clients.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Network<'a> {
    /// The kernel's loopback.
    Loopback,
    /// A pair of namespaces: `{0}-a` for the server, `{0}-b` for its clients.
    Pair(&'a str),
}

impl Network<'_> {
    /// Returns the command that runs a server there, on core 0.
    pub(crate) fn server(self, program: &Path) -> Command {
        self.command('a', 0, program)
    }

    /// Returns the command that runs a client there, on core 1.
    pub(crate) fn client(self, program: &Path) -> Command {
        self.command('b', 1, program)
    }

    /// The server's address.
    pub(crate) fn address(self) -> &'static str {
        match self {
            Self::Loopback => "127.0.0.1:18443",
            Self::Pair(_) => "198.18.0.1:443",
        }
    }

    fn command(self, side: char, core: u8, program: &Path) -> Command {
        let mut command = match self {
            Self::Loopback => Command::new("taskset"),
            Self::Pair(pair) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &format!("{pair}-{side}"), "taskset"]);
                command
            }
        };
        command.args(["-c", &core.to_string()]).arg(program);
        command
    }
}

/// Loads a server with wrk, on core 1.
pub(crate) fn wrk(
    network: Network<'_>,
    path: &str,
    connections: u32,
    seconds: u32,
    extra: &[&str],
) -> Load {
    let mut command = network.client(Path::new("wrk"));
    command
        .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s")])
        .args(extra)
        .arg("--latency")
        .arg(format!("https://{}{path}", network.address()));
    let output = command.output().expect("wrk runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |label: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(label))?;
        line.trim().parse::<f64>().ok()
    };
    assert!(!text.contains("Non-2xx"), "wrk: {text}");
    if let Some(errors) = text.lines().find(|line| line.contains("Socket errors")) {
        eprintln!("wrk, {path}: {}", errors.trim());
    }
    let p99 = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("99%"));
    let fault = || panic!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr));
    Load {
        requests_per_second: number("Requests/sec:").unwrap_or_else(fault),
        p99_micros: p99.and_then(micros).unwrap_or_else(fault),
    }
}

/// The result of a run of wrk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) requests_per_second: f64,
    /// The time that a hundredth of the responses exceeded.
    pub(crate) p99_micros: f64,
}

/// Parses a time of wrk, in microseconds.
fn micros(text: &str) -> Option<f64> {
    let text = text.trim();
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 6e7)];
    let (unit, scale) = units.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
    Some(number * scale)
}

/// A running nginx with one worker on core 0, in the foreground.
pub(crate) struct Nginx<'a> {
    network: Network<'a>,
    child: Child,
}

impl<'a> Nginx<'a> {
    /// Serves `www` of a directory.
    pub(crate) fn start(directory: &Path, network: Network<'a>, identity: &Identity) -> Self {
        identity.write(directory);
        let conf = directory.join("nginx.conf");
        fs::write(&conf, config(directory, network.address())).unwrap();
        let mut command = network.server(Path::new("nginx"));
        command.arg("-p").arg(directory).arg("-c").arg(&conf);
        let child = command.stderr(Stdio::null()).spawn().expect("nginx runs");
        thread::sleep(Duration::from_millis(500));
        Self { network, child }
    }

    pub(crate) fn wrk(&self, path: &str, connections: u32, seconds: u32, extra: &[&str]) -> Load {
        wrk(self.network, path, connections, seconds, extra)
    }

    pub(crate) fn network(&self) -> Network<'a> {
        self.network
    }

    /// Returns the worker process.
    pub(crate) fn worker(&self) -> u32 {
        let id = self.child.id();
        let children = format!("/proc/{id}/task/{id}/children");
        let text = fs::read_to_string(children).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Nginx<'_> {
    fn drop(&mut self) {
        terminate(&mut self.child);
    }
}

/// Sends SIGTERM to a child and waits for its end.
pub(crate) fn terminate(child: &mut Child) {
    signal(child.id(), "TERM");
    let _ = child.wait();
}

/// Sends a signal to a child process.
pub(crate) fn signal(process: u32, signal: &str) {
    let _ = Command::new("kill")
        .args(["-s", signal, &process.to_string()])
        .status();
}

fn config(directory: &Path, address: &str) -> String {
    let directory = directory.display();
    let user = if rustix::process::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    format!(
        "worker_processes 1; daemon off; {user} worker_rlimit_nofile 65536;
worker_cpu_affinity 01;
pid {directory}/nginx.pid; error_log {directory}/nginx.log;
events {{ worker_connections 40000; }}
http {{
    access_log off; sendfile on; keepalive_requests 1000000000; open_file_cache max=1000;
    keepalive_timeout 1h; client_header_timeout 1h;
    client_body_temp_path {directory}; proxy_temp_path {directory};
    fastcgi_temp_path {directory}; uwsgi_temp_path {directory}; scgi_temp_path {directory};
    server {{
        listen {address} ssl;
        ssl_certificate {directory}/demo.crt; ssl_certificate_key {directory}/demo.key;
        ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
        root {directory}/www;
    }}
}}
"
    )
}
