//! The network cards that QEMU emulates.

/// A card with a driver of DPDK's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Card {
    /// Intel 82540EM.
    E1000,
    /// Intel 82574L.
    E1000e,
    /// Intel 82576.
    Igb,
    /// A virtual function of an 82576; the kernel drives its physical function.
    IgbVf,
    /// VMware's paravirtual card.
    Vmxnet3,
    /// A virtio device on PCI, behind the IOMMU.
    Virtio,
}

impl Card {
    /// DPDK's name of the driver.
    pub(crate) const fn driver(self) -> &'static str {
        match self {
            Self::E1000 | Self::E1000e => "net_e1000_em",
            Self::Igb => "net_e1000_igb",
            Self::IgbVf => "net_e1000_igb_vf",
            Self::Vmxnet3 => "net_vmxnet3",
            Self::Virtio => "net_virtio",
        }
    }

    /// The arguments of `-device`, without those that all cards have.
    pub(crate) fn device(self, queues: usize) -> String {
        match self {
            Self::E1000 => "e1000".to_owned(),
            Self::E1000e => "e1000e".to_owned(),
            Self::Igb | Self::IgbVf => "igb".to_owned(),
            Self::Vmxnet3 => "vmxnet3".to_owned(),
            Self::Virtio => format!(
                "virtio-net-pci,disable-legacy=on,iommu_platform=on,mq=on,vectors={},\
                 rx_queue_size=1024,host_mtu=9000,rss=on,hash=on",
                2 * queues + 2
            ),
        }
    }

    /// The PCI address that the appliance gets, of a machine's card by its number. Each card is
    /// behind a root port of its own, as SR-IOV needs PCI Express.
    pub(crate) fn address(self, number: usize) -> String {
        let function = if self == Self::IgbVf { "10.0" } else { "00.0" };
        format!("0000:{:02x}:{function}", number + 1)
    }

    /// What is harmless of what the driver logs as an error: QEMU gives these cards no MSI-X.
    pub(crate) const fn harmless_error(self) -> Option<&'static str> {
        match self {
            Self::E1000 | Self::IgbVf => Some("abling MSI-X interrupts for fd"),
            Self::E1000e | Self::Igb | Self::Vmxnet3 | Self::Virtio => None,
        }
    }

    /// What the IOMMU refuses to QEMU's card whatever the driver does: a read at its start.
    pub(crate) const fn known_fault(self) -> Option<&'static str> {
        match self {
            Self::Vmxnet3 => Some("[DMA Read NO_PASID] Request device [01:00.0] fault addr 0x0 "),
            Self::E1000 | Self::E1000e | Self::Igb | Self::IgbVf | Self::Virtio => None,
        }
    }

    /// Whether the card segments.
    pub(crate) const fn segments(self) -> bool {
        matches!(self, Self::Igb | Self::IgbVf | Self::Vmxnet3 | Self::Virtio)
    }

    /// Whether frames reach the tap as the driver gave them to the card. QEMU completes those of a
    /// virtual function itself, because it switches frames between functions, and those of e1000.
    pub(crate) const fn leaves_work_to_the_tap(self) -> bool {
        !matches!(self, Self::E1000 | Self::IgbVf)
    }
}
