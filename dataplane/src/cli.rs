//! The command line.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::config::{self, Host};
use crate::control::{self, Stop};
use crate::doctor::{self, HostView};
use crate::privileges::Privileges;
use crate::{appliance, clock};

/// Serves files over HTTP and HTTPS through its own TCP/IP and TLS record layer on DPDK ports.
#[derive(Debug, Parser)]
#[command(name = "lockgate", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts the appliance and serves until SIGTERM or SIGINT.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Checks a configuration and the files it names, and starts nothing.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Checks whether this machine fits a configuration: memory, cards, interfaces, cores, files.
    ///
    /// It changes nothing. Each finding is a line: its level (ok, note, warning, fault), what was
    /// found, and the command that helps. The exit code is 1 if there is a fault.
    Doctor {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints the counters of a running instance.
    Stats {
        /// The instance's control socket.
        #[arg(long, value_name = "PATH", required_unless_present = "config")]
        socket: Option<PathBuf>,
        /// The instance's configuration file, which names its control socket.
        #[arg(long, value_name = "FILE", conflicts_with = "socket")]
        config: Option<PathBuf>,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
        /// Prints counters that are zero, too.
        #[arg(long, conflicts_with = "json")]
        all: bool,
    },
}

impl Cli {
    /// Runs the command. Returns the process's exit code.
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Run { config } => run(&config),
            Command::Check { config } => check(&config),
            Command::Doctor { config, json } => doctor(&config, json),
            Command::Stats {
                socket,
                config,
                json,
                all,
            } => stats(socket, config, json, all),
        }
    }
}

fn run(file: &Path) -> ExitCode {
    if let Err(error) = control::hold_hangups() {
        return report_error(&error, FAILED);
    }
    let config = match config::load_to_run(file, &host()) {
        Ok(config) => config,
        Err(faults) => return report_error(&faults, CONFIG),
    };
    start_log(config.log_level);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    // Before the first thread is spawned, the one for signals included.
    let privileges = match Privileges::prepare(config.identity.clone()) {
        Ok(privileges) => privileges,
        Err(error) => return report_error(&error, FAILED),
    };
    let stop = match Stop::on_signals() {
        Ok(stop) => stop,
        Err(error) => return report_error(&error, FAILED),
    };
    match appliance::run(config, privileges, &stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(appliance::ApplianceError::Config(faults)) => report_error(&faults, CONFIG),
        Err(error) => report_error(&error, FAILED),
    }
}

fn check(file: &Path) -> ExitCode {
    match config::load(file, &host()) {
        Ok(config) => {
            for warning in &config.warnings {
                eprintln!("warning: {warning}");
            }
            print("ok")
        }
        Err(faults) => report_error(&faults, CONFIG),
    }
}

fn doctor(file: &Path, json: bool) -> ExitCode {
    let config = match config::load(file, &host()) {
        Ok(config) => config,
        Err(faults) => return report_error(&faults, CONFIG),
    };
    let socket = config.control_socket.as_deref();
    let view = HostView::live(clock::unix_seconds(), socket);
    let report = doctor::examine(&config, &view);
    let printed = if json {
        print(&report.to_json())
    } else {
        print(report.to_string().trim_end())
    };
    if report.has_faults() {
        return ExitCode::from(FAILED);
    }
    printed
}

fn stats(socket: Option<PathBuf>, config: Option<PathBuf>, json: bool, all: bool) -> ExitCode {
    let socket = match (socket, config) {
        (Some(socket), _) => socket,
        (None, Some(file)) => match config::control_socket(&file) {
            Ok(socket) => socket,
            Err(faults) => return report_error(&faults, CONFIG),
        },
        // Clap requires one of them.
        (None, None) => return ExitCode::from(CONFIG),
    };
    match control::stats(&socket) {
        Ok(stats) if json => print(&stats.to_json()),
        Ok(stats) => print(stats.to_table(all).trim_end()),
        Err(error) => report_error(&error, FAILED),
    }
}

fn host() -> Host {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let cores = cores
        .into_iter()
        .filter_map(|core| u16::try_from(core.id).ok())
        .collect();
    Host {
        cores,
        unix_seconds: clock::unix_seconds(),
    }
}

fn start_log(level: Level) {
    let configured = || EnvFilter::default().add_directive(level.into());
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| configured());
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours);
    let log = log.with_writer(std::io::stderr);
    // Fails only if a subscriber is set already. That one stays.
    let _ = log.try_init();
}

/// Prints a line to standard output.
fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}

fn report_error(error: &dyn core::fmt::Display, code: u8) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(code)
}

/// Exit code: something failed.
const FAILED: u8 = 1;

/// Exit code: the configuration or the command line is wrong.
const CONFIG: u8 = 2;

const LOG_VARIABLE: &str = "LOCKGATE_LOG";
