//! Counts free huge pages before the EAL starts.

use std::fs;
use std::path::Path;

use super::{EalConfig, EalError, Hugepages};

/// Decides whether to start on huge pages.
pub(super) fn decide(config: &EalConfig) -> Result<bool, EalError> {
    let free_mib = || free_mib(Path::new(SYSFS));
    match config.hugepages {
        Hugepages::Off => Ok(false),
        Hugepages::Auto => Ok(free_mib() >= u64::from(config.memory_mib)),
        Hugepages::Require => match free_mib() {
            free if free >= u64::from(config.memory_mib) => Ok(true),
            free_mib => Err(EalError::Hugepages {
                free_mib,
                wanted_mib: config.memory_mib,
            }),
        },
    }
}

/// Returns the MiB in free huge pages of all sizes; 0 if the kernel has none.
fn free_mib(dir: &Path) -> u64 {
    let Ok(sizes) = fs::read_dir(dir) else {
        return 0;
    };
    let kib: u64 = sizes
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let kib = name
                .to_str()?
                .strip_prefix("hugepages-")?
                .strip_suffix("kB")?;
            let kib: u64 = kib.parse().ok()?;
            let pages = fs::read_to_string(entry.path().join("free_hugepages")).ok()?;
            kib.checked_mul(pages.trim().parse().ok()?)
        })
        .sum();
    kib / 1024
}

const SYSFS: &str = "/sys/kernel/mm/hugepages";
