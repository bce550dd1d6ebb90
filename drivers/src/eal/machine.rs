//! Whether the machine has the memory that is wanted on ordinary pages.

use std::fs;
use std::path::Path;

use super::plan::Plan;
use super::{EalConfig, EalError};

/// Checks that the machine has the memory that is to be on ordinary pages.
pub(super) fn check(
    config: &EalConfig,
    plan: &Plan,
    machine_mib: Option<u64>,
) -> Result<(), EalError> {
    let own = u64::from(config.memory_mib) << 20;
    let sum = |bytes: &mut dyn Iterator<Item = u64>| bytes.fold(0, u64::saturating_add);
    let regions = || sum(&mut config.regions.iter().map(|demand| demand.bytes));
    let bytes = match &plan.shortage {
        // At least: what the EAL allocates itself is on huge pages as a whole or not at all.
        Some(shortage) => {
            let missing = sum(&mut shortage.missing.iter().map(|(_, bytes)| *bytes));
            missing.max(if plan.hugepages { 0 } else { own })
        }
        None if plan.hugepages => 0,
        None => own.saturating_add(regions()),
    };
    let wanted = bytes.div_ceil(1 << 20);
    match machine_mib {
        Some(there) if wanted > there => Err(EalError::Machine { wanted, there }),
        _ => Ok(()),
    }
}

/// Returns the machine's memory in MiB, as proc_meminfo(5) has it.
pub(super) fn memory_mib(proc: &Path) -> Option<u64> {
    let text = fs::read_to_string(proc.join("meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib >> 10)
}

#[cfg(test)]
mod tests {
    use lockgate_testing::ScratchDir;

    use super::memory_mib;
    use crate::eal::EalConfig;
    use crate::eal::Hugepages;
    use crate::eal::plan::Plan;
    use crate::hugepages::{Demand, FreePages, HeapLimits};

    #[test]
    fn more_memory_than_the_machine_has_is_refused() {
        let proc = ScratchDir::new();
        assert_eq!(memory_mib(proc.path()), None);
        proc.write("meminfo", "MemTotal:       24587344 kB\nMemFree:  1 kB\n");
        let machine = memory_mib(proc.path());
        assert_eq!(machine, Some(24_011));
        for text in [
            "",
            "MemTotal: kB",
            "MemTotal: -1 kB",
            "MemTotal: 1 MB",
            "\0",
        ] {
            proc.write("meminfo", text);
            assert_eq!(memory_mib(proc.path()), None, "{text:?}");
        }
        let check = |hugepages, memory_mib, region_mib: u64, free| {
            let config = EalConfig {
                hugepages,
                memory_mib,
                regions: vec![Demand::new("a region", region_mib << 20)],
                ..EalConfig::default()
            };
            let free = FreePages {
                node: 0,
                page_bytes: 1 << 30,
                free,
                total: free,
                by_node: true,
            };
            let plan = Plan::new(&config, &[free], HeapLimits::UNLIMITED).unwrap();
            let checked = super::check(&config, &plan, machine);
            checked.map_err(|error| error.to_string())
        };
        for (hugepages, memory_mib, region_mib, free, wanted) in [
            (Hugepages::Off, 24_000, 11, 0, None),
            (Hugepages::Off, 24_000, 12, 100, Some(24_012)),
            (Hugepages::Auto, 24_000, 11, 0, None),
            (Hugepages::Auto, 24_012, 0, 0, Some(24_012)),
            (Hugepages::Auto, 12, 24_000, 0, Some(24_012)),
            (Hugepages::Auto, 24_012, 24_012, 100, None),
            (Hugepages::Require, 24_012, 24_012, 100, None),
        ] {
            let expected = wanted.map(|wanted| {
                format!(
                    "[eal] memory: {wanted} MiB are wanted on ordinary pages, and this machine has \
                     24011 MiB in all; ask for less in [eal] memory, [limits] and [cache] \
                     memory_max"
                )
            });
            let got = check(hugepages, memory_mib, region_mib, free).err();
            assert_eq!(got, expected, "{hugepages:?} {memory_mib} {region_mib}");
        }
    }
}
