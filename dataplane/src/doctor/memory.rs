//! Huge pages and locked memory.

use lockgate_drivers::{Driver, Hugepages, PageForecast, show_free};

use super::{Finding, HostView};
use crate::appliance::eal_config;
use crate::config::Config;

pub(super) fn check(config: &Config, host: &HostView) -> Vec<Finding> {
    vec![huge_pages(config, host), locked_memory(config, host)]
}

/// Decides as the start does: the same demands, in the same order, from the same pages.
fn huge_pages(config: &Config, host: &HostView) -> Finding {
    let subject = "huge pages";
    if config.eal.hugepages == Hugepages::Off {
        let message = "[eal] hugepages is \"off\": packet memory is on ordinary pages";
        return Finding::note(subject, message);
    }
    let sys = host.path("sys");
    let forecast = eal_config(&sys, config).forecast(&sys);
    let needed = config.memory_mib();
    let free = show_free(&forecast.free);
    let message = format!("[eal] memory needs {needed} MiB; free: {free}");
    if let Some(pid) = host.facts.instance {
        return Finding::ok(subject, format!("{message}, beside those of process {pid}"));
    }
    let Some(shortage) = &forecast.shortage else {
        return misplaced(&forecast, &message).unwrap_or_else(|| Finding::ok(subject, message));
    };
    let message = shortage.summary();
    let finding = match config.eal.hugepages {
        Hugepages::Require => Finding::fault(subject, message),
        Hugepages::Auto | Hugepages::Off => {
            Finding::warning(subject, format!("{message}: ordinary pages will be used"))
        }
    };
    match &shortage.commands()[..] {
        [] => finding.advise("this kernel has no huge pages; set [eal] hugepages = \"off\""),
        commands => finding.run("reserve more", commands.join(" && ")),
    }
}

/// Finds that enough pages are free, but on other NUMA nodes than the workers and ports.
fn misplaced(forecast: &PageForecast, message: &str) -> Option<Finding> {
    let strayed: u64 = forecast.strayed.iter().map(|(_, bytes)| bytes).sum();
    let commands = forecast.commands_where_wanted();
    if commands.is_empty() {
        return None;
    }
    let mib = strayed.div_ceil(1 << 20);
    let message = format!("{message}: {mib} MiB will be on another node than its users");
    let finding = Finding::note("huge pages", message);
    Some(finding.run("reserve more there", commands.join(" && ")))
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
