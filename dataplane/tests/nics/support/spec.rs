//! What a machine is built of, and the command line of QEMU for it.

use std::path::Path;

use super::card::Card;
use super::guest::GuestFiles;

/// How a machine is built.
#[derive(Clone, Debug)]
pub(crate) struct MachineSpec {
    pub(crate) cards: Vec<Card>,
    /// Workers, each with a CPU and a queue of each card.
    pub(crate) workers: usize,
    pub(crate) mtu: u16,
    /// NUMA nodes, between which CPUs and memory are divided.
    pub(crate) nodes: usize,
    /// An IOMMU, and cards behind it by vfio-pci; else uio_pci_generic.
    pub(crate) iommu: bool,
    pub(crate) pages: PageSize,
}

/// The pages of packet memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageSize {
    /// 2 MiB.
    Huge,
    /// 1 GiB: all memory is in one page.
    Gigantic,
    /// 4 KiB: the machine has no huge pages.
    Ordinary,
}

impl MachineSpec {
    /// A machine with one card, for one worker.
    pub(crate) fn new(card: Card) -> Self {
        Self {
            cards: vec![card],
            workers: 1,
            mtu: 1500,
            nodes: 1,
            iommu: true,
            pages: PageSize::Huge,
        }
    }

    /// The same machine for so many workers.
    pub(crate) fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// The queues of a tap: one for each queue of its card, if all cards can use them.
    pub(super) fn tap_queues(&self) -> usize {
        let virtio_only = self.cards.iter().all(|card| *card == Card::Virtio);
        if virtio_only { self.workers } else { 1 }
    }

    /// The kernel's driver that gives a card to DPDK.
    pub(super) const fn bind_to(&self) -> &'static str {
        if self.iommu {
            "vfio-pci"
        } else {
            "uio_pci_generic"
        }
    }

    /// The command line of QEMU. `scratch` is the directory of the machine's files.
    pub(super) fn arguments(&self, files: &GuestFiles, scratch: &Path) -> Vec<String> {
        let path = |name: &str| scratch.join(name).display().to_string();
        let pages = self.pages();
        let iommu = if self.iommu { "intel_iommu=on" } else { "" };
        let kernel = format!("{KERNEL} {iommu} {}", pages.kernel);
        let mut all: Vec<String> = MACHINE.split_whitespace().map(str::to_owned).collect();
        let mut add = |name: &str, value: String| all.extend([name.to_owned(), value]);
        for directory in files.firmware.split(':') {
            add("-L", directory.to_owned());
        }
        add("-m", pages.mib.to_string());
        let cpus = self.workers.max(2).next_multiple_of(self.nodes);
        let sockets = self.nodes;
        add(
            "-smp",
            format!("{cpus},sockets={sockets},cores={}", cpus / sockets),
        );
        if self.nodes > 1 {
            for node in 0..self.nodes {
                let (cores, mib) = (cpus / self.nodes, pages.mib / self.nodes);
                let (first, last) = (node * cores, node * cores + cores - 1);
                add(
                    "-object",
                    format!("memory-backend-ram,id=m{node},size={mib}M"),
                );
                add(
                    "-numa",
                    format!("node,nodeid={node},memdev=m{node},cpus={first}-{last}"),
                );
            }
        }
        add("-kernel", files.kernel.clone());
        add("-initrd", path(INITRAMFS));
        add("-append", kernel);
        add("-serial", format!("file:{}", path(CONSOLE)));
        add("-serial", format!("unix:{}", path(SHELL)));
        add("-serial", format!("file:{}", path(LOG)));
        add("-monitor", format!("unix:{}", path(MONITOR)));
        if self.iommu {
            add(
                "-device",
                "intel-iommu,intremap=on,caching-mode=on,aw-bits=48".to_owned(),
            );
        }
        for (number, card) in self.cards.iter().enumerate() {
            let queues = match self.tap_queues() {
                1 => String::new(),
                queues => format!(",queues={queues}"),
            };
            let tap = format!("tap,id=net{number},ifname=tap{number},script=no,downscript=no");
            add("-netdev", format!("{tap},vhost=off{queues}"));
            let chassis = number + 1;
            add(
                "-device",
                format!("pcie-root-port,id=port{number},chassis={chassis}"),
            );
            let device = card.device(self.workers);
            let place = format!("netdev=net{number},id=nic{number},bus=port{number}");
            let mac = format!("mac=02:00:00:00:00:{chassis:02x}");
            add("-device", format!("{device},{place},{mac},romfile="));
        }
        all
    }

    /// Memory that suffices for the workers' pools, with 640 MiB for the system.
    fn pages(&self) -> Pages {
        if self.pages == PageSize::Gigantic {
            let kernel = format!(
                "default_hugepagesz=1G hugepagesz=1G hugepages={}",
                self.nodes
            );
            let mib = (1024 + 640) * self.nodes + 640;
            return Pages { kernel, mib };
        }
        let pages = 128 + 80 * self.workers;
        let huge = if self.pages == PageSize::Ordinary {
            0
        } else {
            pages
        };
        Pages {
            kernel: format!("hugepages={huge}"),
            mib: (640 + 2 * pages) * self.nodes,
        }
    }
}

/// The memory of a machine: the kernel's arguments for its huge pages, and the sum.
struct Pages {
    kernel: String,
    mib: usize,
}

/// The kernel's check of its timer fails when the host is busy. A timer that fires once may then be
/// lost, and an idle CPU would wait for it for ever: so the timer is periodic.
const KERNEL: &str = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr audit=0 no_timer_check \
                      nohz=off highres=off";
const MACHINE: &str = "-M q35 -accel tcg -cpu max -nodefaults -no-user-config -display none \
                       -no-reboot";
pub(super) const INITRAMFS: &str = "initramfs";
pub(super) const CONSOLE: &str = "console";
pub(super) const LOG: &str = "log";
pub(super) const SHELL: &str = "shell";
pub(super) const MONITOR: &str = "monitor";
