//! The appliance between network namespaces: the `lockgate` binary on one end of a veth pair, the
//! kernel's TCP with curl, openssl and clients of our own on the other.
//!
//! Each case makes its own namespaces, starts the binary there, and ends it by SIGTERM: it must
//! exit with 0 and every buffer must have come back to its pool.
#![forbid(unsafe_code)]

mod bulk;
mod clients;
mod doctor;
mod ending;
mod exhaustion;
mod files;
mod hostile;
mod links;
mod network;
mod operation;
mod privileges;
mod rings;
mod serving;
mod support;
mod tls;

use std::process::ExitCode;

use lockgate_testing::cases::{Case, Runner};

fn main() -> ExitCode {
    if let Some(code) = lockgate_testing::network::exec_if_asked() {
        return code;
    }
    let cases: Vec<Case> = [
        serving::CASES,
        tls::CASES,
        bulk::CASES,
        clients::CASES,
        ending::CASES,
        files::CASES,
        links::CASES,
        network::CASES,
        doctor::CASES,
        operation::CASES,
        privileges::CASES,
        rings::CASES,
        exhaustion::CASES,
        hostile::CASES,
        hostile::link::CASES,
        hostile::records::CASES,
        hostile::requests::CASES,
    ]
    .concat();
    // Workers poll: more than two cases at a time would only wait for each other.
    Runner::new()
        .threads(2)
        .needs_root_and(&["ip", "ethtool"])
        .run(&cases)
}
