//! Packet memory: what it is wanted for, on which NUMA nodes, and where it is in the end.

use std::path::Path;

use lockgate_drivers::{self as drivers, Demand, Eal, EalConfig, Holding, Port};
use pktbuf::{PageArena, PagePool, Region};

use super::ApplianceError;
use crate::config::Config;

/// The memory of the cache and of each worker's page buffers.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) arena: PageArena,
    pub(super) pools: Vec<Vec<Region>>,
}

impl Memory {
    /// Reserves the regions that [`eal_config`] announced.
    pub(super) fn reserve(
        eal: Eal,
        config: &Config,
        demands: &[Demand],
    ) -> Result<Self, ApplianceError> {
        // The cache is the last one.
        let (cache, pools) = demands
            .split_last()
            .ok_or(ApplianceError::Pool("the cache"))?;
        let pools = pools.iter().map(|demand| eal.regions(demand));
        let pools = pools.collect::<Result<Vec<_>, _>>()?;
        let mut cache = eal.regions(cache)?;
        let bytes = usize::try_from(config.cache_bytes).unwrap_or(usize::MAX);
        let arena = PageArena::from_regions(&mut cache, bytes)
            .map_err(|_| ApplianceError::Pool("the cache"))?;
        Ok(Self { arena, pools })
    }
}

/// Returns the EAL's configuration with all regions: one for the page buffers of each worker, on
/// the node of its core, and the cache, on the nodes of the ports.
pub(crate) fn eal_config(sys: &Path, config: &Config) -> EalConfig {
    let cores = &config.workers.cores;
    let core_node = |core: &u16| drivers::node_of_core(sys, *core);
    let ports = config.ports.iter().map(|port| &port.settings.device);
    let card_nodes = distinct(
        ports
            .flat_map(drivers::Device::pci_addresses)
            .filter_map(|card| drivers::node_of_card(sys, card)),
    );
    let cache_nodes = if card_nodes.is_empty() {
        distinct(cores.iter().filter_map(core_node))
    } else {
        card_nodes.clone()
    };
    let bytes = PagePool::bytes_needed(config.pool) as u64;
    let pools = cores.iter().enumerate().map(|(worker, core)| {
        let what = format!("page buffers of worker {worker} ([limits])");
        Demand::new(what, bytes).on(core_node(core).into_iter().collect())
    });
    let cache = Demand::new("the file cache ([cache] memory_max)", config.cache_bytes);
    EalConfig {
        regions: pools.chain([cache.on(cache_nodes)]).collect(),
        nodes: card_nodes,
        ..config.eal.clone()
    }
}

/// Locks the process's memory, and logs in one line which pages hold what.
pub(super) fn settle(eal: Eal, ports: &[Port]) {
    if let Err(error) = eal.lock_memory() {
        tracing::warn!("{error}");
    }
    let held = eal.holdings().into_iter();
    let held = held.chain(ports.iter().flat_map(Port::memory));
    let held: Vec<String> = held.map(|holding: Holding| holding.to_string()).collect();
    tracing::info!(iova = %eal.iova(), "memory: {}", held.join("; "));
}

fn distinct(nodes: impl Iterator<Item = u16>) -> Vec<u16> {
    let mut nodes: Vec<u16> = nodes.collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

#[cfg(test)]
mod tests {
    use lockgate_testing::ScratchDir;

    use super::*;
    use crate::config::tests::{BASE, Scratch};

    #[test]
    fn memory_is_on_the_nodes_of_its_users() {
        let sys = ScratchDir::new();
        for (core, node) in [(0, 0), (1, 1)] {
            sys.make_dir(format!("devices/system/cpu/cpu{core}/node{node}"));
        }
        for (card, node) in [
            ("0000:03:00.0", 1),
            ("0000:04:00.0", 1),
            ("0000:05:00.0", 0),
        ] {
            sys.make_dir(format!("bus/pci/devices/{card}"));
            sys.write(
                format!("bus/pci/devices/{card}/numa_node"),
                format!("{node}\n"),
            );
        }
        let nodes = |text: &str| {
            let config = Scratch::new().parse(text).unwrap();
            let eal = eal_config(sys.path(), &config);
            let regions = eal.regions.iter();
            let regions = regions.map(|demand| (demand.bytes, demand.nodes.clone()));
            (eal.nodes, regions.collect::<Vec<_>>())
        };
        let pool = |text: &str| {
            let config = Scratch::new().parse(text).unwrap();
            PagePool::bytes_needed(config.pool) as u64
        };
        let cache = 64 << 20;
        // Virtual ports: the cache is where the workers are.
        let text = BASE.to_owned() + "[workers]\ncores = [1, 0]\n";
        let bytes = pool(&text);
        assert_eq!(
            nodes(&text),
            (
                vec![],
                vec![(bytes, vec![1]), (bytes, vec![0]), (cache, vec![0, 1])]
            )
        );
        // Cards: the cache is where they are.
        let text = BASE.replace("net_ring0", "03:00.0");
        assert_eq!(
            nodes(&text),
            (vec![1], vec![(bytes, vec![0]), (cache, vec![1])])
        );
        let bond = "net_bonding0,mode=1,slave=0000:04:00.0,slave=0000:05:00.0";
        let text = BASE.replace("net_ring0", bond);
        assert_eq!(
            nodes(&text),
            (vec![0, 1], vec![(bytes, vec![0]), (cache, vec![0, 1])])
        );
    }
}
