//! A QEMU that fails before the guest is ready is started once more. Failures of the guest or of a
//! case aren't retried.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use lockgate_testing::ScratchDir;
use lockgate_testing::cases::Case;

use crate::support::archive::Archive;
use crate::support::card::Card;
use crate::support::guest::GuestFiles;
use crate::support::machine::Machine;
use crate::support::spec::MachineSpec;

pub(crate) const CASES: &[Case] = &[
    Case::new("rows::qemu_that_fails_once", fails_once),
    Case::new("rows::qemu_that_fails_twice", fails_twice),
    Case::new("rows::qemu_that_ends", ends),
];

fn fails_once() {
    let scratch = ScratchDir::new();
    let real = GuestFiles::prepare();
    let then = format!(
        "[ \"$(wc -l <\"$starts\")\" = 1 ] && kill -ABRT $$\nexec {} \"$@\"",
        real.qemu
    );
    let mut machine = boot(real, scratch.path(), &then);
    assert_eq!(machine.ok("echo booted"), "booted");
    assert_eq!(starts(scratch.path()), 2);
}

fn fails_twice() {
    let scratch = ScratchDir::new();
    assert!(fails_to_boot(scratch.path(), "kill -ABRT $$"));
    assert_eq!(starts(scratch.path()), 2);
}

/// So ends a guest whose kernel panics.
fn ends() {
    let scratch = ScratchDir::new();
    assert!(fails_to_boot(scratch.path(), "exit 0"));
    assert_eq!(starts(scratch.path()), 1);
}

/// Whether a machine with such a script doesn't boot.
fn fails_to_boot(directory: &Path, then: &str) -> bool {
    // A skipped case unwinds, too.
    let files = GuestFiles::prepare();
    catch_unwind(AssertUnwindSafe(|| boot(files, directory, then))).is_err()
}

/// Boots a machine by a script in the place of QEMU, which notes its start and then does this.
fn boot(mut files: GuestFiles, directory: &Path, then: &str) -> Machine {
    let script = directory.join("qemu");
    let noted = directory.join(STARTS).display().to_string();
    let text = format!("#!/bin/sh\nstarts={noted}\necho start >>\"$starts\"\n{then}\n");
    fs::write(&script, text).expect("there's room for it");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it is ours");
    files.qemu = script.display().to_string();
    Machine::boot_from(&files, &MachineSpec::new(Card::E1000e), Archive::default())
}

fn starts(directory: &Path) -> usize {
    let text = fs::read_to_string(directory.join(STARTS)).expect("it was started");
    text.lines().count()
}

const STARTS: &str = "starts";
