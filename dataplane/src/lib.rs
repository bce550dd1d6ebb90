//! The Lockgate edge appliance: threads, clocks, files and configuration around crates that do no
//! I/O. It serves files over HTTP and HTTPS through its own TCP/IP and TLS record layer on DPDK
//! ports.
//!
//! # What it owns
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | the configuration file: keys, ranges, defaults, faults with file, line and key |
//! | [`certificates`] | certificate chains and private keys from PEM files |
//! | [`appliance`] | the start, the worker threads, link-state polling, the shutdown |
//! | [`ktls_workers`] | threads that seal and open records for the workers |
//! | [`worker`] | a worker's loop: receive, timers, HTTP, send, one command |
//! | [`server`] | HTTP connections between sockets and the file cache; sites by host name |
//! | [`control`] | the control socket with the counters, signals |
//! | [`privileges`] | the drop from root to `[process] user`, in every thread |
//! | [`doctor`] | checks of the machine against a configuration, each with the command that helps |
//! | [`cli`] | the command line |
//! | [`clock`] | the only place that reads the time |
//!
//! # How they work together
//!
//! [`config::load`] parses the file once, straight into the types that the components take, and
//! returns every fault that it finds. [`appliance::run`] makes the components of a
//! [`Config`](config::Config) and spawns a thread for each [`Worker`](worker::Worker). A worker
//! owns its queue of every port, its page buffers, its stack and its HTTP connections, and calls
//! the [`server`] for those that can make progress. Worker threads share only the file cache's
//! memory. Everything else between threads goes through bounded channels: commands, requests to the
//! file cache, frames that concern every worker.
//!
//! # Invariants
//!
//! - A `Config` holds only checked values. Nothing after it parses text again or meets a value out
//!   of range.
//! - One sum sizes every pool of packet memory, for the check of the file and for the pool itself.
//! - All memory and all tables are allocated at the start. A full table refuses or evicts, and
//!   counts that.
//! - No packet, record, request or configuration file can make a thread panic.
//! - Only [`clock`] reads the time; everything below takes it as an argument.
//!
//! # Example
//!
//! Checking a configuration, as `lockgate check` does:
//!
//! ```
//! use std::path::Path;
//!
//! use lockgate::config::{self, Host};
//!
//! let text = r#"
//! [[port]]
//! name = "p0"
//! device = "net_af_packet0,iface=eth0"
//! [[interface]]
//! on = "p0"
//! addresses = ["192.0.2.1/24"]
//! [[listener]]
//! address = "192.0.2.1:80"
//! [[site]]
//! hosts = ["*"]
//! root = "/"
//! "#;
//! let host = Host { cores: vec![0], unix_seconds: 1_767_225_600 };
//! let file = Path::new("/etc/lockgate.toml");
//!
//! let config = config::parse(file, text, &host).expect("a valid configuration");
//! assert_eq!(config.listeners[0].address.to_string(), "192.0.2.1:80");
//! assert_eq!(config.ports[0].settings.mtu, 1500);
//!
//! let faults = config::parse(file, &text.replace("/24", "/33"), &host).unwrap_err();
//! assert!(faults.to_string().starts_with("/etc/lockgate.toml:7: interface.addresses: "));
//! ```
#![forbid(unsafe_code)]

pub mod appliance;
pub mod certificates;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod doctor;
pub mod ktls_workers;
pub mod privileges;
pub mod server;
pub mod worker;
