//! Decides before the EAL starts which memory is on huge pages.

use std::path::Path;

use super::{EalConfig, EalError, Hugepages, heap_limits};
use crate::hugepages::{self, Demand, FreePages, HeapLimits, PageBudget, Shortage, free_pages};

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
        let own = config.own_demand();
        plan.shortage = plan.budget.check(config.demands(&own)).err();
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

/// What a start will find of huge pages, as long as these pages are free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageForecast {
    /// The pages that are free.
    pub free: Vec<FreePages>,
    /// What is missing. With [`Hugepages::Require`] the start fails.
    pub shortage: Option<Shortage>,
    /// Bytes of memory that will be on another NUMA node than wanted: the node where they are
    /// wanted, and how many.
    pub strayed: Vec<(u16, u64)>,
}

impl PageForecast {
    /// Returns the commands that reserve pages on the nodes where they are wanted.
    pub fn commands_where_wanted(&self) -> Vec<String> {
        hugepages::commands(&self.free, &self.strayed)
    }
}

impl EalConfig {
    /// Decides by the pages that are free below a `/sys` directory, as a start does.
    pub fn forecast(&self, sys: &Path) -> PageForecast {
        let free = free_pages(sys);
        let own = self.own_demand();
        let budget = PageBudget::new(&free, heap_limits(self));
        let demands = || match self.hugepages {
            Hugepages::Off => Vec::new(),
            Hugepages::Auto | Hugepages::Require => self.demands(&own).collect(),
        };
        PageForecast {
            shortage: budget.check(demands()).err(),
            strayed: budget.take_all(demands()).strayed,
            free,
        }
    }

    /// What the EAL allocates itself.
    fn own_demand(&self) -> Demand {
        let bytes = u64::from(self.memory_mib) << 20;
        Demand::new("packet buffers", bytes).on(self.nodes.clone())
    }

    /// All memory, in the order of its allocation.
    fn demands<'a>(&'a self, own: &'a Demand) -> impl Iterator<Item = &'a Demand> {
        [own].into_iter().chain(&self.regions)
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
            by_node: true,
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
    fn a_forecast_is_what_a_start_decides() {
        let sys = lockgate_testing::ScratchDir::new();
        for (free, missing, strayed) in [([153, 0], 0, 0), ([60, 60], 61, 120), ([153, 60], 0, 0)] {
            for (node, free) in free.iter().enumerate() {
                let dir = format!("devices/system/node/node{node}/hugepages/hugepages-2048kB");
                sys.write(format!("{dir}/free_hugepages"), free.to_string());
                sys.write(format!("{dir}/nr_hugepages"), free.to_string());
            }
            let mut config = config(Hugepages::Require, &[150, 50]);
            config.nodes = vec![0];
            for region in &mut config.regions {
                region.nodes = vec![0];
            }
            let forecast = config.forecast(sys.path());
            let started = Plan::new(&config, &free_pages(sys.path()), HeapLimits::UNLIMITED);
            match started {
                Ok(_) => assert_eq!(forecast.shortage, None),
                Err(EalError::Hugepages(shortage)) => assert_eq!(forecast.shortage, Some(shortage)),
                Err(error) => panic!("{error}"),
            }
            let mib = |list: &[(u16, u64)]| {
                let sum: u64 = list.iter().map(|(_, bytes)| bytes).sum();
                sum.div_ceil(MIB)
            };
            let found = forecast.shortage.as_ref();
            let found = found.map_or(0, |shortage| mib(&shortage.missing));
            assert_eq!(
                (found, mib(&forecast.strayed)),
                (missing, strayed),
                "{free:?}"
            );
            let off = EalConfig {
                hugepages: Hugepages::Off,
                ..config
            };
            assert_eq!(off.forecast(sys.path()).shortage, None);
        }
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
