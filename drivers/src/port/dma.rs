//! Maps memory that the EAL doesn't manage for the cards of a port (`rte_dev_dma_map`).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::{PortConfig, PortError, open};
use crate::device::{Device, PciAddress};
use crate::memory;
use crate::sys::Errno;

/// Maps all external memory for each card that the device uses: itself, or the members of a bond.
///
/// # Errors
/// [`PortError::NoPciPort`] if a member has no port, [`PortError::Setup`] if a card refuses it:
/// both name the card.
pub(super) fn map_external(config: &PortConfig, device: &Device) -> Result<(), PortError> {
    let external = memory::external();
    let mut in_container = IN_CONTAINER.lock().unwrap_or_else(PoisonError::into_inner);
    for card in device.pci_addresses() {
        let id = open::port_id(&card.to_string()).ok_or_else(|| PortError::NoPciPort {
            device: card.to_string(),
        })?;
        let shares = shares_container(Path::new(SYSFS), card);
        for (base, len) in to_map(&external, shares, &in_container) {
            let address = std::ptr::with_exposed_provenance_mut(base);
            // SAFETY: memory that stays for the life of the process.
            let rc = unsafe { dpdk_sys::lg_port_dma_map(id, address, len) };
            Errno::check(rc).map_err(|errno| PortError::Setup {
                port: config.name.clone(),
                device: card.to_string(),
                step: "to map memory for DMA; ordinary pages need that",
                errno,
            })?;
            if shares {
                in_container.insert(base);
            }
        }
    }
    Ok(())
}

/// Returns what of the memory is still to be mapped for a card.
fn to_map(
    external: &[(usize, usize)],
    shares_container: bool,
    in_container: &BTreeSet<usize>,
) -> Vec<(usize, usize)> {
    let is_mapped = |base: &usize| shares_container && in_container.contains(base);
    let left = external.iter().filter(|(base, _)| !is_mapped(base));
    left.copied().collect()
}

/// Returns whether a card is behind vfio-pci. All such cards of a process are in one container, in
/// which memory is mapped once. Other drivers map for each card.
fn shares_container(sys: &Path, card: PciAddress) -> bool {
    let link = std::fs::read_link(sys.join(format!("bus/pci/devices/{card}/driver")));
    link.is_ok_and(|target| target.file_name().is_some_and(|name| name == "vfio-pci"))
}

/// Addresses of the memory that is mapped in vfio's container.
static IN_CONTAINER: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

const SYSFS: &str = "/sys";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use lockgate_testing::ScratchDir;

    use super::*;

    #[test]
    fn a_container_gets_memory_once_and_other_cards_get_it_each() {
        let external = [(0x1000, 64), (0x2000, 64)];
        let mapped = BTreeSet::from([0x1000]);
        assert_eq!(to_map(&external, true, &BTreeSet::new()), external);
        assert_eq!(to_map(&external, true, &mapped), external[1..]);
        assert_eq!(to_map(&external, false, &mapped), external);
    }

    #[test]
    fn only_vfio_has_a_container() {
        let sys = ScratchDir::new();
        for (card, driver) in [("0000:03:00.0", "vfio-pci"), ("0000:04:00.0", "mlx5_core")] {
            let dir = sys.make_dir(format!("bus/pci/devices/{card}"));
            symlink(format!("../../drivers/{driver}"), dir.join("driver")).unwrap();
        }
        let shares = |card: &str| shares_container(sys.path(), card.parse().unwrap());
        assert!(shares("03:00.0"));
        assert!(!shares("04:00.0"));
        assert!(!shares("05:00.0"));
    }

    #[test]
    fn a_card_without_a_port_is_named() {
        let bond = "net_bonding0,mode=1,slave=03:00.0,slave=04:00.0";
        let config = PortConfig::new("p0", bond.parse().unwrap());
        let error = map_external(&config, &config.device).unwrap_err();
        assert!(error.to_string().contains("device 0000:03:00.0"), "{error}");
        let ring = PortConfig::new("p0", "net_ring0".parse().unwrap());
        assert_eq!(map_external(&ring, &ring.device), Ok(()));
    }
}
