//! The Lockgate edge appliance: a worker on each core that polls its queues of every port, a TCP/IP
//! stack with TLS records of its own on each worker, and HTTP over a cache of files on top.
//!
//! [`config`] reads the file that says all, [`appliance`] puts it together, [`worker`] is the loop,
//! [`server`] serves files out of [`lockgate_cache`], [`control`] answers whoever asks how it goes, and
//! [`cli`] is the command line. [`clock`] is the one place that reads the time.
#![forbid(unsafe_code)]

pub mod appliance;
pub mod certificates;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod server;
pub mod worker;
