//! PCI ports: presence, kernel driver, IOMMU group, users.

use std::path::Path;

use super::cores::boot_parameters;
use super::{Finding, HostView};
use crate::config::Config;

pub(super) fn check(config: &Config, host: &HostView) -> Vec<Finding> {
    let mut findings = Vec::new();
    for port in &config.ports {
        // A bond has several.
        for address in port.settings.device.pci_addresses() {
            let device = PciDevice {
                subject: format!("port {}", port.settings.name),
                address: address.to_string(),
            };
            findings.extend(device.check(host));
        }
    }
    findings
}

/// A PCI device of a port.
struct PciDevice {
    subject: String,
    address: String,
}

impl PciDevice {
    fn check(&self, host: &HostView) -> Vec<Finding> {
        let address = &self.address;
        if !host.exists(&self.file("")) {
            let message = format!("there is no PCI device {address}");
            let finding = self.fault(message);
            return vec![finding.run("list the network cards", "lspci -D | grep -i net")];
        }
        match host.link(&self.file("driver")).as_deref() {
            Some("vfio-pci") => self.check_vfio(host),
            Some(uio @ ("uio_pci_generic" | "igb_uio")) => vec![self.uio(host, uio)],
            Some(kernel @ ("mlx5_core" | "mlx4_core" | "mana")) => {
                vec![self.bifurcated(host, kernel)]
            }
            Some(kernel) => vec![self.bound_to_kernel(host, kernel)],
            None => vec![
                self.fault(format!("{address} has no driver"))
                    .run("bind it to vfio-pci", self.bind_command(false)),
            ],
        }
    }

    fn check_vfio(&self, host: &HostView) -> Vec<Finding> {
        let address = &self.address;
        if !host.exists("sys/module/vfio_iommu_type1") {
            let finding = self.fault("module vfio_iommu_type1 isn't loaded");
            return vec![finding.run("load it", "modprobe vfio_iommu_type1")];
        }
        let Some(group) = host.link(&self.file("iommu_group")) else {
            let parameters = match host.read("proc/cpuinfo") {
                Some(info) if info.contains("GenuineIntel") => "intel_iommu=on iommu=pt",
                Some(_) | None => "iommu=pt",
            };
            let message = format!("{address} has no IOMMU group: the IOMMU is off");
            return vec![self.fault(message).run(
                "switch it on in the firmware (VT-d, AMD-Vi) and on the kernel's command line",
                boot_parameters(parameters),
            )];
        };
        let mut findings = vec![self.group(host, &group)];
        findings.extend(self.users(host, &format!("/dev/vfio/{group}")));
        findings
    }

    /// A group is viable if none of its devices belongs to a driver of the kernel.
    fn group(&self, host: &HostView, group: &str) -> Finding {
        let directory = format!("sys/kernel/iommu_groups/{group}/devices");
        let blocking = host.list(&directory).into_iter().find_map(|member| {
            let driver = host.link(&format!("{DEVICES}/{member}/driver"))?;
            let is_allowed = matches!(driver.as_str(), "vfio-pci" | "pci-stub" | "pcieport");
            (!is_allowed).then_some((member, driver))
        });
        let address = &self.address;
        match blocking {
            None => self.ok(format!(
                "{address} is bound to vfio-pci, IOMMU group {group}"
            )),
            Some((member, driver)) => {
                let message =
                    format!("IOMMU group {group} isn't viable: {member} in it belongs to {driver}");
                let other = Self {
                    subject: String::new(),
                    address: member,
                };
                self.fault(message).run(
                    "bind every device of the group to vfio-pci",
                    other.bind_command(true),
                )
            }
        }
    }

    fn uio(&self, host: &HostView, driver: &str) -> Finding {
        let address = &self.address;
        let message = format!("{address} is bound to {driver}: no IOMMU limits what it can reach");
        if host.list("sys/class/iommu").is_empty() {
            self.note(message)
        } else {
            let command = self.bind_command(true);
            self.note(message)
                .run("this machine has an IOMMU, use vfio-pci", command)
        }
    }

    /// The card's driver stays the kernel's: DPDK's driver shares it.
    fn bifurcated(&self, host: &HostView, driver: &str) -> Finding {
        let address = &self.address;
        if host.list(&self.file("infiniband")).is_empty() {
            let message = format!("{address} has {driver}, but no RDMA device");
            return self
                .fault(message)
                .run("load its module", "modprobe mlx5_ib");
        }
        self.ok(format!("{address} is shared with the kernel by {driver}"))
    }

    fn bound_to_kernel(&self, host: &HostView, driver: &str) -> Finding {
        let interfaces = host.list(&self.file("net"));
        let addresses = host.facts.addresses.iter();
        let in_use = addresses.filter(|a| interfaces.contains(&a.interface));
        let in_use: Vec<_> = in_use
            .map(|a| format!("{}/{} on {}", a.address, a.prefix_len, a.interface))
            .collect();
        let mut message = format!("{} belongs to the kernel's driver {driver}", self.address);
        if !in_use.is_empty() {
            message = format!("{message}, which has {}", in_use.join(", "));
        }
        let advice = if in_use.is_empty() {
            "bind it to vfio-pci"
        } else {
            "bind it to vfio-pci, unless the machine is managed over these addresses"
        };
        self.fault(message).run(advice, self.bind_command(true))
    }

    /// Finds other processes that have the group open. Only one can.
    fn users(&self, host: &HostView, group: &str) -> Option<Finding> {
        let pids = host.list("proc").into_iter();
        let pids = pids.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        let own = host.facts.instance.map(|pid| pid.to_string());
        let mut others = pids.filter(|pid| Some(pid) != own.as_ref());
        let pid = others.find(|pid| {
            let descriptors = format!("proc/{pid}/fd");
            let mut open = host.list(&descriptors).into_iter();
            open.any(|fd| {
                let target = host.link_target(&format!("{descriptors}/{fd}"));
                target.as_deref() == Some(Path::new(group))
            })
        })?;
        let name = host.name(&format!("proc/{pid}/comm")).unwrap_or_default();
        let finding = self.fault(format!("process {pid} ({name}) has {group} open"));
        Some(finding.run("end it", format!("kill {pid}")))
    }

    /// Returns the commands that bind the device to vfio-pci.
    fn bind_command(&self, has_driver: bool) -> String {
        let address = &self.address;
        let unbind = if has_driver {
            format!("echo {address} > /{} && ", self.file("driver/unbind"))
        } else {
            String::new()
        };
        format!(
            "modprobe -a vfio-pci vfio_iommu_type1 && echo vfio-pci > /{} && {unbind}\
             echo {address} > /sys/bus/pci/drivers_probe",
            self.file("driver_override")
        )
    }

    fn file(&self, name: &str) -> String {
        format!("{DEVICES}/{}/{name}", self.address)
    }

    fn ok(&self, message: impl Into<String>) -> Finding {
        Finding::ok(self.subject.as_str(), message)
    }

    fn note(&self, message: impl Into<String>) -> Finding {
        Finding::note(self.subject.as_str(), message)
    }

    fn fault(&self, message: impl Into<String>) -> Finding {
        Finding::fault(self.subject.as_str(), message)
    }
}

const DEVICES: &str = "sys/bus/pci/devices";
