//! The sum of all pools of packet memory.

use lockgate_drivers::PortConfig;
use pktbuf::{PagePool, PoolConfig};

/// Bytes of packet memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemorySum {
    /// What the EAL allocates itself: the packet buffers of all ports, what it needs, and an eighth
    /// more for what lies between its pools.
    pub(super) eal: u64,
    /// The regions: the page buffers of all workers, and the cache.
    pub(super) regions: u64,
}

impl MemorySum {
    /// Adds up what all pools need.
    ///
    /// The terms are the components' own: [`PortConfig::queue_bytes_max`] sizes the packet buffers
    /// of a port, [`PagePool::bytes_needed`] the page buffers of a worker, and both make their
    /// pools by the same sums.
    pub(super) fn new<'a>(
        workers: usize,
        ports: impl Iterator<Item = &'a PortConfig>,
        pool: PoolConfig,
        cache_bytes: u64,
    ) -> Self {
        let workers = u64::try_from(workers).unwrap_or(u64::MAX);
        let pages = u64::try_from(PagePool::bytes_needed(pool)).unwrap_or(u64::MAX);
        let packets = ports.map(PortConfig::queue_bytes_max);
        let eal = workers
            .saturating_mul(packets.fold(0, u64::saturating_add))
            .saturating_add(EAL_BYTES);
        Self {
            eal: eal.saturating_add(eal / 8),
            regions: workers.saturating_mul(pages).saturating_add(cache_bytes),
        }
    }

    /// Returns the sum, in whole huge pages.
    pub(super) fn total(self) -> u64 {
        let sum = self.eal.saturating_add(self.regions);
        sum.checked_next_multiple_of(2 << 20).unwrap_or(sum)
    }
}

/// What DPDK takes for itself.
const EAL_BYTES: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{BASE, Scratch};

    #[test]
    fn the_sum_grows_by_what_each_pool_takes() {
        let scratch = Scratch::new();
        let sizes = |limits: &str| {
            let config = scratch.parse(&format!("{BASE}[limits]\n{limits}")).unwrap();
            let pages = PagePool::bytes_needed(config.pool) as u64;
            let packets = config.ports[0].settings.queue_bytes_max();
            (config.memory_needed(), pages + packets)
        };
        let smallest = "mbufs = 512\nspans_large = 16\nspans_small = 64\npage_buffers = 256\n";
        let (sum_min, pools_min) = sizes(smallest);
        assert!(sum_min > pools_min);
        for limits in [
            "",
            "mbufs = 1048576\n",
            "spans_large = 1048576\n",
            "spans_small = 4194304\n",
            "page_buffers = 16777216\n",
            "spans_large = 1048576\nspans_small = 4194304\npage_buffers = 16777216\n",
        ] {
            let (sum, pools) = sizes(limits);
            assert!(pools > pools_min, "{limits}");
            assert!(
                sum - sum_min >= pools - pools_min,
                "{limits}: {sum}, {pools}"
            );
        }
    }

    #[test]
    fn each_worker_and_each_port_has_pools_of_its_own() {
        let scratch = Scratch::new();
        let needed = |text: &str| {
            scratch
                .parse(&format!("{BASE}{text}"))
                .unwrap()
                .memory_needed()
        };
        let one = needed("");
        let base = (one - one / 9) - EAL_BYTES - (64 << 20);
        let two_workers = needed("[workers]\ncores = [0, 1]\n");
        assert!(two_workers - one >= base, "{one}, {two_workers}");
        let config = scratch.parse(BASE).unwrap();
        let port = config.ports[0].settings.queue_bytes_max();
        let two_ports = needed("[[port]]\nname = \"p1\"\ndevice = \"net_ring1\"\n");
        assert!(two_ports - one >= port, "{one}, {two_ports}, {port}");
        let small = needed("[cache]\nmemory_max = \"1MiB\"\n");
        // In whole huge pages.
        assert!(one - small >= 62 << 20, "{one}, {small}");
        assert_eq!(one % (2 << 20), 0);
        // More than any machine has, and no overflow.
        let most =
            "[limits]\nmbufs = 1048576\nspans_large = 1048576\n[cache]\nmemory_max = \"512GiB\"\n";
        assert!(needed(most) > 512 << 30);
    }
}
