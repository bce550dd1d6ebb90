//! Huge pages and locked memory.

use lockgate_drivers::{Driver, Hugepages};

use super::{Finding, HostView};
use crate::config::Config;

pub(super) fn check(config: &Config, host: &HostView) -> Vec<Finding> {
    vec![huge_pages(config, host), locked_memory(config, host)]
}

/// The huge pages of one size on one NUMA node.
struct PageCount {
    /// The directory of the counters.
    directory: String,
    node: u16,
    kib: u64,
    all: u64,
    free: u64,
}

impl PageCount {
    fn read(host: &HostView) -> Vec<Self> {
        let mut found = Vec::new();
        for name in host.list(NODES) {
            let Some(node) = name.strip_prefix("node").and_then(|n| n.parse().ok()) else {
                continue;
            };
            found.extend(Self::in_directory(
                host,
                &format!("{NODES}/{name}/hugepages"),
                node,
            ));
        }
        if found.is_empty() {
            // A kernel without NUMA.
            found = Self::in_directory(host, POOLS, 0);
        }
        found
    }

    fn in_directory(host: &HostView, directory: &str, node: u16) -> Vec<Self> {
        let sizes = host.list(directory).into_iter().filter_map(|name| {
            let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
            let directory = format!("{directory}/{name}");
            Some(Self {
                node,
                kib: kib.parse().ok()?,
                all: host.number(&format!("{directory}/nr_hugepages"))?,
                free: host.number(&format!("{directory}/free_hugepages"))?,
                directory,
            })
        });
        sizes.collect()
    }

    fn free_mib(&self) -> u64 {
        self.free.saturating_mul(self.kib) / 1024
    }

    fn show(&self) -> String {
        let size = match self.kib {
            kib if kib.is_multiple_of(1 << 20) => format!("{} GiB", kib >> 20),
            kib => format!("{} MiB", kib >> 10),
        };
        format!(
            "node {}: {} of {} of {size}",
            self.node, self.free, self.all
        )
    }
}

fn huge_pages(config: &Config, host: &HostView) -> Finding {
    let subject = "huge pages";
    if config.eal.hugepages == Hugepages::Off {
        let message = "[eal] hugepages is \"off\": packet memory is on ordinary pages";
        return Finding::note(subject, message);
    }
    let needed = config.memory_mib();
    let pools = PageCount::read(host);
    let free: u64 = pools.iter().map(PageCount::free_mib).sum();
    let shown = pools
        .iter()
        .filter(|pool| pool.all > 0)
        .map(PageCount::show);
    let shown = shown.collect::<Vec<_>>().join(", ");
    let shown = if shown.is_empty() {
        "none are reserved".to_owned()
    } else {
        format!("free are {shown}")
    };
    let message = format!("[eal] memory needs {needed} MiB; {shown}");
    if let Some(pid) = host.facts.instance {
        return Finding::ok(subject, format!("{message}, beside those of process {pid}"));
    }
    if free >= needed {
        return remote_pages(config, host, &pools, &message)
            .unwrap_or_else(|| Finding::ok(subject, message));
    }
    let finding = match config.eal.hugepages {
        Hugepages::Require => Finding::fault(subject, message),
        Hugepages::Auto | Hugepages::Off => {
            Finding::warning(subject, format!("{message}: ordinary pages will be used"))
        }
    };
    match reserve(config, host, &pools, needed - free) {
        Some(command) => finding.run("reserve more", command),
        None => finding.advise("this kernel has no huge pages; set [eal] hugepages = \"off\""),
    }
}

/// Finds that enough pages are free, but not on the nodes of the workers.
fn remote_pages(
    config: &Config,
    host: &HostView,
    pools: &[PageCount],
    message: &str,
) -> Option<Finding> {
    let workers = config.workers.cores.iter();
    let nodes: Vec<u16> = workers
        .filter_map(|core| host.node_of_core(*core))
        .collect();
    let local = pools.iter().filter(|pool| nodes.contains(&pool.node));
    let needed = config.memory_mib();
    let local: u64 = local.map(PageCount::free_mib).sum();
    if nodes.is_empty() || local >= needed {
        return None;
    }
    let finding = Finding::note(
        "huge pages",
        format!("{message}: {local} MiB of them on the workers' nodes"),
    );
    let command = reserve(config, host, pools, needed - local)?;
    Some(finding.run("reserve more there", command))
}

/// Returns the command that reserves `missing` MiB more, in the smallest pages, on the node of the
/// first worker.
fn reserve(config: &Config, host: &HostView, pools: &[PageCount], missing: u64) -> Option<String> {
    let first = config.workers.cores.first();
    let node = first.and_then(|core| host.node_of_core(*core)).unwrap_or(0);
    let on_node = pools.iter().filter(|pool| pool.node == node);
    let pool = on_node.min_by_key(|pool| pool.kib)?;
    let pages = pool.all + (missing << 10).div_ceil(pool.kib);
    Some(format!("echo {pages} > /{}/nr_hugepages", pool.directory))
}

fn locked_memory(config: &Config, host: &HostView) -> Finding {
    let subject = "locked memory";
    let needed = config.memory_mib();
    let Some(limit) = host.facts.memlock_max else {
        return Finding::ok(subject, "RLIMIT_MEMLOCK has no limit");
    };
    let mib = limit >> 20;
    if mib >= needed {
        return Finding::ok(
            subject,
            format!("RLIMIT_MEMLOCK is {mib} MiB, {needed} are needed"),
        );
    }
    let message = format!("RLIMIT_MEMLOCK is {mib} MiB, DMA mapping needs {needed}");
    let stays_root = config.identity.is_none() && host.facts.may_lock_memory;
    if stays_root || host.facts.may_raise_limits {
        return Finding::ok(
            subject,
            format!("{message}; the start raises or ignores it"),
        );
    }
    let mut drivers = config
        .ports
        .iter()
        .map(|port| port.settings.device.driver());
    if !drivers.any(|driver| matches!(driver, Driver::Pci | Driver::AfXdp)) {
        return Finding::ok(
            subject,
            format!("RLIMIT_MEMLOCK is {mib} MiB, no port needs more"),
        );
    }
    Finding::warning(subject, message).run(
        "raise it where the appliance is started, in systemd by LimitMEMLOCK=infinity",
        "ulimit -l unlimited",
    )
}

const NODES: &str = "sys/devices/system/node";
const POOLS: &str = "sys/kernel/mm/hugepages";
