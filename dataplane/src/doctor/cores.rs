//! The workers' cores: NUMA node, isolation, hyperthreads, frequency governor.

use super::host::show_cores;
use super::{Finding, HostView};
use crate::config::Config;

pub(super) fn check(config: &Config, host: &HostView) -> Vec<Finding> {
    let mut findings = placement(config, host);
    findings.push(isolation(config, host));
    findings.extend(hyperthreads(config, host));
    findings.extend(governors(config, host));
    findings
}

/// Compares the NUMA node of each port's device with those of the workers, all of which poll it.
fn placement(config: &Config, host: &HostView) -> Vec<Finding> {
    let mut findings = Vec::new();
    let files = config.ports.iter().flat_map(|port| {
        let device = &port.settings.device;
        let interface = device.kernel_interface();
        let interface = interface.map(|name| format!("sys/class/net/{name}/device"));
        let cards = device.pci_addresses().into_iter();
        let cards = cards.map(|address| format!("sys/bus/pci/devices/{address}"));
        cards
            .chain(interface)
            .map(move |directory| (port, format!("{directory}/numa_node")))
    });
    for (port, file) in files {
        // -1: the firmware doesn't say.
        let Some(node) = host.number::<u16>(&file) else {
            continue;
        };
        let is_remote = |core: &&u16| host.node_of_core(**core).is_some_and(|of| of != node);
        let remote: Vec<u16> = config
            .workers
            .cores
            .iter()
            .filter(is_remote)
            .copied()
            .collect();
        let subject = format!("port {}", port.settings.name);
        let local = show_cores(&host.cores_of_node(node));
        findings.push(if remote.is_empty() {
            Finding::ok(subject, format!("on NUMA node {node}, as the workers"))
        } else {
            let remote = show_cores(&remote);
            let message = format!("on NUMA node {node}, but the workers' cores {remote} aren't");
            Finding::warning(subject, message).advise(format!("take [workers] cores from {local}"))
        });
    }
    findings
}

/// A worker polls. A core that the scheduler gives to other threads, too, loses packets meanwhile.
fn isolation(config: &Config, host: &HostView) -> Finding {
    let isolated = host.cores(&format!("{CPUS}/isolated"));
    let tickless = host.cores(&format!("{CPUS}/nohz_full"));
    let workers = &config.workers.cores;
    let without = |list: &[u16]| -> Vec<u16> {
        let missing = workers.iter().filter(|core| !list.contains(core));
        missing.copied().collect()
    };
    let (shared, ticking) = (without(&isolated), without(&tickless));
    let subject = "isolated cores";
    if shared.is_empty() && ticking.is_empty() {
        return Finding::ok(subject, format!("{} are isolated", show_cores(workers)));
    }
    let message = if shared.is_empty() {
        format!(
            "cores {} of workers have the timer's tick",
            show_cores(&ticking)
        )
    } else {
        format!(
            "cores {} of workers run other threads, too",
            show_cores(&shared)
        )
    };
    if workers.contains(&0) {
        // The kernel keeps the boot core for itself, whatever its parameters say.
        return Finding::note(subject, message)
            .advise("core 0 can't be isolated: take others in [workers] cores, and isolate those");
    }
    let list = show_cores(workers);
    let parameters = format!("isolcpus={list} nohz_full={list} rcu_nocbs={list}");
    Finding::note(subject, message).run(
        "for steady latency, isolate them by the kernel's command line",
        boot_parameters(&parameters),
    )
}

/// Two hyperthreads of a core share its execution units and caches.
fn hyperthreads(config: &Config, host: &HostView) -> Vec<Finding> {
    let workers = &config.workers.cores;
    let mut findings = Vec::new();
    for (at, core) in workers.iter().enumerate() {
        let siblings = host.cores(&format!("{CPUS}/cpu{core}/topology/thread_siblings_list"));
        let of_workers = workers
            .iter()
            .take(at)
            .find(|other| siblings.contains(other));
        if let Some(other) = of_workers {
            findings.push(
                Finding::warning(
                    format!("core {core}"),
                    format!("is a hyperthread of the same core as {other}, also a worker's"),
                )
                .advise("give each worker a core of its own in [workers] cores"),
            );
        }
    }
    findings
}

fn governors(config: &Config, host: &HostView) -> Vec<Finding> {
    let governor = |core: u16| host.name(&format!("{CPUS}/cpu{core}/cpufreq/scaling_governor"));
    let known = config.workers.cores.iter();
    let known: Vec<_> = known
        .filter_map(|core| Some((*core, governor(*core)?)))
        .collect();
    let slow: Vec<_> = known
        .iter()
        .filter(|(_, name)| name != "performance")
        .collect();
    let subject = "frequency governor";
    let Some((_, first)) = slow.first() else {
        let message = if known.is_empty() {
            "this machine doesn't change the frequency of its cores, or not by Linux"
        } else {
            "performance on all workers' cores"
        };
        return vec![Finding::ok(subject, message)];
    };
    let cores: Vec<u16> = slow.iter().map(|(core, _)| *core).collect();
    let files = cores
        .iter()
        .map(|core| format!("/{CPUS}/cpu{core}/cpufreq/scaling_governor"));
    let files = files.collect::<Vec<_>>().join(" ");
    let message = format!("{first} on cores {}", show_cores(&cores));
    vec![Finding::warning(subject, message).run(
        "packets wait while the frequency rises; set performance",
        format!("echo performance | tee {files}"),
    )]
}

/// Returns the command that adds parameters to the kernel's command line, for GRUB.
pub(super) fn boot_parameters(parameters: &str) -> String {
    format!(
        "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{parameters} /' /etc/default/grub && update-grub && \
         reboot"
    )
}

const CPUS: &str = "sys/devices/system/cpu";
