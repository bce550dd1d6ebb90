//! The appliance on emulated network cards: the `lockgate` binary in a QEMU guest with an IOMMU,
//! curl and openssl on the other side of a tap.
//!
//! Each case boots its own machine (`scripts/nics/guest` prepares the files) and ends the appliance
//! by SIGTERM: it must exit with 0, every buffer must have come back to its pool, and the IOMMU
//! must have refused nothing.
#![forbid(unsafe_code)]

mod boots;
mod layouts;
mod link;
mod offloads;
mod ports;
mod privileges;
mod restarts;
mod skips;
mod support;
mod workers;

use std::process::ExitCode;

use lockgate_testing::cases::{Case, Runner};

fn main() -> ExitCode {
    if let Some(code) = lockgate_testing::network::exec_if_asked() {
        return code;
    }
    let cases: Vec<Case> = [
        boots::CASES,
        offloads::CASES,
        ports::CASES,
        workers::CASES,
        link::CASES,
        layouts::CASES,
        privileges::CASES,
        restarts::CASES,
        skips::CASES,
    ]
    .concat();
    // A machine without hardware acceleration keeps more than one core busy.
    Runner::new()
        .threads(2)
        .needs_root_and(&["ip", "curl", "openssl", "strip", "tcpdump"])
        .run(&cases)
}
