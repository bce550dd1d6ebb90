//! NUMA nodes of cores and PCI cards, read from a `/sys` directory.

use std::fs;
use std::path::Path;

use crate::device::PciAddress;

/// Returns the NUMA node of a core; none if the kernel names none.
pub fn node_of_core(sys: &Path, core: u16) -> Option<u16> {
    let dir = sys.join(format!("devices/system/cpu/cpu{core}"));
    fs::read_dir(dir).ok()?.find_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.strip_prefix("node")?.parse().ok()
    })
}

/// Returns the NUMA node of a PCI card; none if the kernel names none.
pub fn node_of_card(sys: &Path, card: PciAddress) -> Option<u16> {
    let file = sys.join(format!("bus/pci/devices/{card}/numa_node"));
    // -1 on machines with one node.
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use lockgate_testing::ScratchDir;

    use super::*;

    #[test]
    fn nodes_are_what_the_kernel_says() {
        let scratch = ScratchDir::new();
        scratch.make_dir("devices/system/cpu/cpu3/node1");
        scratch.make_dir("devices/system/cpu/cpu3/cache");
        scratch.make_dir("devices/system/cpu/cpu4/cache");
        scratch.make_dir("bus/pci/devices/0000:03:00.0");
        scratch.make_dir("bus/pci/devices/0000:04:00.0");
        scratch.write("bus/pci/devices/0000:03:00.0/numa_node", "1\n");
        scratch.write("bus/pci/devices/0000:04:00.0/numa_node", "-1\n");
        let sys = scratch.path();
        let cores = [3, 4, 5].map(|core| node_of_core(sys, core));
        assert_eq!(cores, [Some(1), None, None]);
        let card = |text: &str| node_of_card(sys, text.parse().unwrap());
        assert_eq!(card("03:00.0"), Some(1));
        assert_eq!(card("04:00.0"), None);
        assert_eq!(card("05:00.0"), None);
    }
}
