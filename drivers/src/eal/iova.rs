//! IOVA: the addresses by which devices access memory.
//!
//! With an IOMMU they are virtual addresses: one mapping for a whole region. Without one they are
//! physical addresses, so memory is contiguous for a device only within a huge page.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use thiserror::Error;

use crate::device::PciAddress;

/// Which addresses devices use (`--iova-mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Iova {
    /// What the ports need: physical addresses for a card that is bound to a kernel driver without
    /// an IOMMU, else virtual ones.
    #[default]
    Auto,
    /// Virtual addresses.
    Virtual,
    /// Physical addresses.
    Physical,
}

/// The addresses that devices use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IovaMode {
    /// Virtual addresses.
    Virtual,
    /// Physical addresses.
    Physical,
}

impl fmt::Display for IovaMode {
    /// Writes it as the EAL's option has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Virtual => "va",
            Self::Physical => "pa",
        })
    }
}

/// Why devices can't use these addresses.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IovaError {
    /// Virtual addresses, and a card without an IOMMU.
    #[error(
        "[eal] iova = \"va\": card {card} is bound to {binding}, which knows physical addresses \
         only; set iova = \"auto\", or bind the card to vfio-pci with an IOMMU"
    )]
    NoIommu {
        /// The card.
        card: PciAddress,
        /// What it is bound to.
        binding: String,
    },
    /// Physical addresses, and memory that isn't on huge pages.
    #[error("[eal] iova: physical addresses ({why}) need all packet memory on huge pages: {pages}")]
    OrdinaryPages {
        /// Why addresses are physical.
        why: String,
        /// Why memory isn't on huge pages.
        pages: String,
    },
    /// Physical addresses, which this process may not see.
    #[error(
        "[eal] iova: physical addresses ({why}) can't be seen by this process: start it as root \
         or with CAP_SYS_ADMIN, or bind the cards to vfio-pci with an IOMMU"
    )]
    Hidden {
        /// Why addresses are physical.
        why: String,
    },
}

/// Decides which addresses the cards use, and says why.
///
/// These are the rules of DPDK's PCI bus, decided before the EAL starts.
///
/// # Errors
/// [`IovaError::NoIommu`]
pub(super) fn decide(
    sys: &Path,
    wanted: Iova,
    cards: &[PciAddress],
) -> Result<(IovaMode, String), IovaError> {
    let physical = cards
        .iter()
        .find_map(|card| Some((*card, binding_without_iommu(sys, *card)?)));
    match (wanted, physical) {
        (Iova::Virtual, Some((card, binding))) => Err(IovaError::NoIommu { card, binding }),
        (Iova::Virtual, None) => Ok((IovaMode::Virtual, "configured".into())),
        (Iova::Physical, _) => Ok((IovaMode::Physical, "configured".into())),
        (Iova::Auto, Some((card, binding))) => Ok((
            IovaMode::Physical,
            format!("card {card} is bound to {binding}"),
        )),
        (Iova::Auto, None) => {
            let why = if cards.is_empty() {
                "no PCI card"
            } else {
                "no card needs physical ones"
            };
            Ok((IovaMode::Virtual, why.into()))
        }
    }
}

/// Returns what a card is bound to, if that knows physical addresses only.
fn binding_without_iommu(sys: &Path, card: PciAddress) -> Option<String> {
    let driver = fs::read_link(sys.join(format!("bus/pci/devices/{card}/driver"))).ok()?;
    match driver.file_name()?.to_str()? {
        uio @ ("uio_pci_generic" | "igb_uio") => Some(uio.to_owned()),
        "vfio-pci" => {
            let setting = sys.join("module/vfio/parameters/enable_unsafe_noiommu_mode");
            let setting = fs::read_to_string(setting).unwrap_or_default();
            (setting.trim() == "Y").then(|| "vfio-pci in its no-IOMMU mode".into())
        }
        // vfio-pci with an IOMMU, or a driver that keeps the card (mlx5_core).
        _ => None,
    }
}

/// Returns whether this process may see physical addresses: the kernel shows others zeroes.
pub(super) fn physical_addresses_visible() -> bool {
    let here = 1_u64;
    let address = (&raw const here).addr() as u64;
    let mut entry = [0; 8];
    File::open("/proc/self/pagemap")
        .and_then(|map| map.read_exact_at(&mut entry, address / PAGE * 8))
        .is_ok_and(|()| u64::from_ne_bytes(entry) & FRAME_NUMBER != 0)
}

/// Page size of pagemap(5) on x86-64.
const PAGE: u64 = 4096;

/// Bits of an entry with the number of the page frame.
const FRAME_NUMBER: u64 = (1 << 55) - 1;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use lockgate_testing::ScratchDir;

    use super::*;

    fn machine(bindings: &[(&str, &str)], noiommu: &str) -> ScratchDir {
        let scratch = ScratchDir::new();
        for (card, driver) in bindings {
            let dir = scratch.make_dir(format!("bus/pci/devices/{card}"));
            symlink(format!("../../drivers/{driver}"), dir.join("driver")).unwrap();
        }
        scratch.make_dir("module/vfio/parameters");
        scratch.write("module/vfio/parameters/enable_unsafe_noiommu_mode", noiommu);
        scratch
    }

    #[test]
    fn addresses_are_what_the_cards_need() {
        let bindings = [
            ("0000:01:00.0", "vfio-pci"),
            ("0000:02:00.0", "uio_pci_generic"),
            ("0000:03:00.0", "mlx5_core"),
            ("0000:04:00.0", "igb_uio"),
        ];
        let sys = machine(&bindings, "N\n");
        let noiommu = machine(&bindings, "Y\n");
        let (va, pa) = (IovaMode::Virtual, IovaMode::Physical);
        let table: [(&ScratchDir, Iova, &[&str], _, _); 11] = [
            (&sys, Iova::Auto, &[], Ok(va), "no PCI card"),
            (&sys, Iova::Auto, &["01:00.0"], Ok(va), "no card needs"),
            (&sys, Iova::Auto, &["03:00.0"], Ok(va), "no card needs"),
            (&sys, Iova::Auto, &["05:00.0"], Ok(va), "no card needs"),
            (&sys, Iova::Auto, &["04:00.0"], Ok(pa), "bound to igb_uio"),
            (
                &sys,
                Iova::Auto,
                &["01:00.0", "02:00.0"],
                Ok(pa),
                "card 0000:02:00.0 is bound to uio_pci_generic",
            ),
            (&noiommu, Iova::Auto, &["01:00.0"], Ok(pa), "no-IOMMU mode"),
            (&sys, Iova::Physical, &["01:00.0"], Ok(pa), "configured"),
            (&sys, Iova::Virtual, &["01:00.0"], Ok(va), "configured"),
            (
                &sys,
                Iova::Virtual,
                &["01:00.0", "02:00.0"],
                Err(()),
                "iova = \"va\": card 0000:02:00.0 is bound to uio_pci_generic",
            ),
            (&noiommu, Iova::Virtual, &["01:00.0"], Err(()), "no-IOMMU"),
        ];
        for (sys, wanted, cards, mode, why) in table {
            let cards: Vec<PciAddress> = cards.iter().map(|card| card.parse().unwrap()).collect();
            let (got, text) = match decide(sys.path(), wanted, &cards) {
                Ok((mode, text)) => (Ok(mode), text),
                Err(error) => (Err(()), error.to_string()),
            };
            assert_eq!(got, mode, "{wanted:?} {cards:?}: {text}");
            assert!(text.contains(why), "{wanted:?} {cards:?}: {text}");
        }
    }
}
