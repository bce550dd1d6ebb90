//! Decides before the EAL starts which memory is on huge pages.

use super::{EalConfig, EalError, Hugepages};
use crate::hugepages::{Demand, FreePages, HeapLimits, PageBudget, Shortage};

/// Which memory is on huge pages.
#[derive(Debug)]
pub(super) struct Plan {
    /// Whether the EAL's own memory is.
    pub(super) hugepages: bool,
    /// Pages that are left for regions.
    pub(super) budget: PageBudget,
    /// Why some memory isn't, although it should be.
    pub(super) shortage: Option<Shortage>,
}

impl Plan {
    /// Decides by the pages that are free.
    ///
    /// What the EAL allocates itself comes first: it is on huge pages as a whole or not at all.
    /// Regions get what is left, and ordinary pages for the rest.
    ///
    /// # Errors
    /// [`EalError::Hugepages`] if pages are required and missing.
    pub(super) fn new(
        config: &EalConfig,
        free: &[FreePages],
        limits: HeapLimits,
    ) -> Result<Self, EalError> {
        let mut plan = Self {
            hugepages: false,
            budget: PageBudget::new(free, limits),
            shortage: None,
        };
        if config.hugepages == Hugepages::Off {
            return Ok(plan);
        }
        let own = Demand::new("packet buffers", u64::from(config.memory_mib) << 20)
            .on(config.nodes.clone());
        let all = [&own].into_iter().chain(&config.regions);
        plan.shortage = plan.budget.check(all).err();
        match plan.shortage.take() {
            Some(shortage) if config.hugepages == Hugepages::Require => {
                return Err(EalError::Hugepages(shortage));
            }
            shortage => plan.shortage = shortage,
        }
        plan.hugepages = plan.budget.take(&own).missing.is_empty();
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn config(hugepages: Hugepages, regions: &[u64]) -> EalConfig {
        let demand = |mib: &u64| Demand::new("a region", mib * MIB);
        EalConfig {
            hugepages,
            memory_mib: 100,
            regions: regions.iter().map(demand).collect(),
            ..EalConfig::default()
        }
    }

    fn plan(config: &EalConfig, free: u64) -> Result<Plan, EalError> {
        let free = FreePages {
            node: 0,
            page_bytes: 2 * MIB,
            free,
            total: free,
        };
        Plan::new(config, &[free], HeapLimits::UNLIMITED)
    }

    #[test]
    fn pages_are_counted_once_for_everything() {
        use Hugepages::{Auto, Off, Require};
        // Setting, free pages of 2 MiB: whether the EAL is on huge pages, the MiB that are missing.
        let table = [
            (Auto, 153, Some((true, 0))),
            (Require, 153, Some((true, 0))),
            (Off, 153, Some((false, 0))),
            // The EAL has its memory, a region has a part of it.
            (Auto, 100, Some((true, 100))),
            (Require, 100, None),
            // Not even the EAL.
            (Auto, 50, Some((false, 200))),
            (Auto, 0, Some((false, 300))),
            (Require, 0, None),
        ];
        for (hugepages, free, expected) in table {
            let plan = plan(&config(hugepages, &[150, 50]), free);
            let got = plan.ok().map(|plan| {
                let missing = plan.shortage.map_or(0, |shortage| {
                    let bytes = shortage.missing.iter().map(|(_, bytes)| bytes);
                    bytes.sum::<u64>() / MIB
                });
                (plan.hugepages, missing)
            });
            assert_eq!(got, expected, "{hugepages:?}, {free} pages");
        }
    }

    #[test]
    fn regions_get_what_the_eal_leaves() {
        let mut plan = plan(&config(Hugepages::Auto, &[400]), 100).unwrap();
        let grant = plan.budget.take(&Demand::new("a region", 400 * MIB));
        let bytes: u64 = grant.chunks.iter().map(|chunk| chunk.bytes).sum();
        assert_eq!(bytes.div_ceil(MIB), 100);
        assert_eq!(grant.missing.len(), 1);
    }

    #[test]
    fn a_required_page_that_is_missing_is_an_error_with_its_number() {
        let error = plan(&config(Hugepages::Require, &[150]), 60).unwrap_err();
        let message = error.to_string();
        let start = "[eal] hugepages = \"require\": 131 MiB of huge pages on node 0 missing; \
                     wanted: 100 MiB for packet buffers, 150 MiB for a region; free: 60 pages of \
                     2 MiB on node 0; to have them: echo 126 > ";
        assert!(message.starts_with(start), "{message}");
    }
}
