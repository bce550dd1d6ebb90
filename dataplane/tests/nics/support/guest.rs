//! The files of every guest.

use std::path::PathBuf;
use std::process::Command;

use lockgate_testing::cases::skip_case;

/// What `scripts/nics/guest` prepares.
pub(crate) struct GuestFiles {
    pub(crate) qemu: String,
    pub(super) libraries: String,
    pub(super) firmware: String,
    pub(super) kernel: String,
    pub(super) initramfs: PathBuf,
}

impl GuestFiles {
    /// Prepares them, or skips the case with the reason why they can't be had.
    pub(crate) fn prepare() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/nics/guest");
        // Fetching packages may take longer than a wait of a test.
        let output = Command::new(script).arg(LOCKGATE).output();
        let output = output.expect("the script can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => {}
            Some(SKIPPED) => skip_case(said.lines().last().unwrap_or_default()),
            _ => panic!("{script}: {}\n{said}", output.status),
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            let found = lines.find(|(key, _)| *key == name);
            let (_, value) = found.unwrap_or_else(|| panic!("{script}: no {name}: {text}"));
            value.to_owned()
        };
        Self {
            qemu: value("qemu"),
            libraries: value("libraries"),
            firmware: value("firmware"),
            kernel: value("kernel"),
            initramfs: value("initramfs").into(),
        }
    }
}

/// The binary.
pub(crate) const LOCKGATE: &str = env!("CARGO_BIN_EXE_lockgate");

const SKIPPED: i32 = 77;
