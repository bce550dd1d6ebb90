//! Device strings, as DPDK takes them.

mod pci;

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

pub use self::pci::{NotPci, PciAddress};

/// DPDK's driver (PMD) of a device, as far as drivers are treated differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Driver {
    /// `net_af_packet`: a kernel interface through an AF_PACKET socket.
    AfPacket,
    /// `net_af_xdp`: a kernel interface through an AF_XDP socket.
    AfXdp,
    /// `net_tap`: a kernel interface that the driver creates.
    Tap,
    /// `net_ring`: rings in memory; the peer is in this process.
    Ring,
    /// `net_memif`: shared memory; the peer is another process.
    Memif,
    /// `net_null`: drops what is sent.
    Null,
    /// `net_pcap`: capture files, or a kernel interface through libpcap.
    Pcap,
    /// `net_virtio_user`: a virtio device without a virtual machine.
    VirtioUser,
    /// Another driver of virtual devices.
    OtherVirtual,
    /// Any driver of PCI devices.
    Pci,
}

/// A device: a virtual one by driver name and arguments (`net_af_packet0,iface=eth0`), or a PCI
/// address (`0000:03:00.0`), with arguments too. A PCI address has one spelling from here on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    name: String,
    /// Keys, with the values of those that have one.
    arguments: Vec<(String, Option<String>)>,
    driver: Driver,
    /// Port number of a device that exists already: one end of a [`crate::RingPair`].
    existing: Option<u16>,
}

/// The limits of a driver's devices that are known before one is opened (DPDK 22.11). The device's
/// own limits are read when the port is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Queue pairs: one for each worker.
    pub queues_max: u16,
    /// The longest IP packet, in bytes.
    pub mtu_max: u16,
    /// Whether packets stay in this machine's memory, where nothing corrupts them.
    pub in_memory: bool,
    /// Whether it needs a kernel interface (`iface=`).
    pub needs_interface: bool,
}

impl DeviceLimits {
    fn of(driver: Driver) -> Self {
        let any = Self {
            queues_max: u16::MAX,
            mtu_max: u16::MAX,
            in_memory: false,
            needs_interface: false,
        };
        match driver {
            Driver::Ring => Self {
                queues_max: 16,
                in_memory: true,
                ..any
            },
            Driver::Memif => Self {
                queues_max: 255,
                in_memory: true,
                ..any
            },
            Driver::Tap => Self {
                queues_max: 16,
                mtu_max: MTU_ETHERNET,
                ..any
            },
            Driver::Pcap => Self {
                queues_max: 1,
                ..any
            },
            Driver::AfPacket => Self {
                needs_interface: true,
                ..any
            },
            Driver::AfXdp => Self {
                mtu_max: MTU_ETHERNET,
                needs_interface: true,
                ..any
            },
            Driver::Null | Driver::VirtioUser | Driver::OtherVirtual | Driver::Pci => any,
        }
    }
}

/// The string names no device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "\"{0}\" is no device: give a driver name with a number and its arguments, such as \
     \"net_af_packet0,iface=eth0\", or a PCI address, such as \"0000:03:00.0\""
)]
pub struct DeviceError(pub String);

impl Device {
    /// Returns the name without arguments.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its driver.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// Returns the value of an argument, if it is set.
    pub fn argument(&self, key: &str) -> Option<&str> {
        self.arguments
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_deref().unwrap_or_default())
    }

    /// Returns the PCI cards that it uses: its own address, or those that the arguments of a
    /// virtual device name, such as the members of a bond (`net_bonding0,slave=0000:03:00.0`).
    pub fn pci_addresses(&self) -> Vec<PciAddress> {
        if self.driver == Driver::Pci {
            return self.name.parse().into_iter().collect();
        }
        let values = self.arguments.iter().filter_map(|(_, v)| v.as_ref());
        let mut cards: Vec<PciAddress> = Vec::new();
        for card in values.filter_map(|value| value.parse().ok()) {
            // `primary=` of a bond names a member once more.
            if !cards.contains(&card) {
                cards.push(card);
            }
        }
        cards
    }

    /// Returns the names of a bond's members, as the EAL knows them; none if it is no bond.
    pub(crate) fn bond_members(&self) -> Vec<String> {
        let names_member = |key: &str| key == "slave" || key == "member";
        let members = self.arguments.iter().filter(|(key, _)| names_member(key));
        members
            .filter_map(|(_, value)| value.as_deref())
            .map(|name| match name.parse::<PciAddress>() {
                Ok(card) => card.to_string(),
                Err(_) => name.to_owned(),
            })
            .collect()
    }

    /// Returns the devices for the EAL to probe (`-a`): the PCI cards that it uses. A card that is
    /// the device itself comes with its arguments.
    pub fn allow_list(&self) -> Vec<String> {
        if self.driver == Driver::Pci {
            return vec![self.to_string()];
        }
        let cards = self.pci_addresses();
        cards.iter().map(PciAddress::to_string).collect()
    }

    /// Returns whether a device is a member of this one, which is a bond.
    pub fn has_member(&self, device: &Self) -> bool {
        let keys = ["slave", "member"];
        let is_it = |value: &Option<String>| value.as_ref() == Some(&device.name);
        let mut arguments = self.arguments.iter();
        arguments.any(|(key, value)| keys.contains(&key.as_str()) && is_it(value))
    }

    /// Returns the kernel interface that the device uses: argument `iface` of `net_af_packet` and
    /// `net_af_xdp`.
    pub fn kernel_interface(&self) -> Option<&str> {
        match self.driver {
            Driver::AfPacket | Driver::AfXdp => self.argument("iface"),
            _ => None,
        }
    }

    /// Returns the limits of the device's driver.
    pub fn limits(&self) -> DeviceLimits {
        DeviceLimits::of(self.driver)
    }

    pub(crate) fn from_port(name: String, port: u16) -> Self {
        Self {
            name,
            arguments: Vec::new(),
            driver: Driver::Ring,
            existing: Some(port),
        }
    }

    pub(crate) fn existing(&self) -> Option<u16> {
        self.existing
    }

    /// Adds an argument unless it is set.
    pub(crate) fn default_argument(&mut self, key: &str, value: impl fmt::Display) {
        if self.argument(key).is_none() {
            self.arguments.push((key.into(), Some(value.to_string())));
        }
    }

    /// Returns the arguments in the form that `rte_vdev_init` takes.
    pub(crate) fn arguments(&self) -> String {
        let list: Vec<String> = self
            .arguments
            .iter()
            .map(|(k, v)| match v {
                Some(v) => format!("{k}={v}"),
                None => k.clone(),
            })
            .collect();
        list.join(",")
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(s: &str) -> Result<Self, DeviceError> {
        let mut parts = s.split(',').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let driver = driver(name).ok_or_else(|| DeviceError(s.into()))?;
        // The whole of it is in the log.
        if s.contains(char::is_control) || name.len() >= NAME_MAX {
            return Err(DeviceError(s.into()));
        }
        let arguments = parts
            .filter(|part| !part.is_empty())
            .map(|part| match part.split_once('=') {
                Some((k, v)) => (k.to_owned(), Some(v.to_owned())),
                None => (part.to_owned(), None),
            })
            .collect();
        // The EAL finds a PCI port by this spelling only.
        let card = name.parse::<PciAddress>();
        Ok(Self {
            name: card.map_or_else(|_| name.into(), |card| card.to_string()),
            arguments,
            driver,
            existing: None,
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.arguments.is_empty() {
            write!(f, ",{}", self.arguments())?;
        }
        Ok(())
    }
}

fn driver(name: &str) -> Option<Driver> {
    if name.parse::<PciAddress>().is_ok() {
        return Some(Driver::Pci);
    }
    // A virtual device is named after its driver, with a suffix that makes the name unique.
    const DRIVERS: &[(&str, Driver)] = &[
        ("net_af_packet", Driver::AfPacket),
        ("net_af_xdp", Driver::AfXdp),
        ("net_tap", Driver::Tap),
        ("net_ring", Driver::Ring),
        ("net_memif", Driver::Memif),
        ("net_null", Driver::Null),
        ("net_pcap", Driver::Pcap),
        ("net_virtio_user", Driver::VirtioUser),
        ("virtio_user", Driver::VirtioUser),
        ("net_", Driver::OtherVirtual),
    ];
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    DRIVERS
        .iter()
        .find(|(prefix, _)| plain && name.len() > prefix.len() && name.starts_with(prefix))
        .map(|&(_, driver)| driver)
}

/// The longest IP packet of an Ethernet frame that isn't a jumbo frame.
pub(crate) const MTU_ETHERNET: u16 = 1500;

/// RTE_ETH_NAME_MAX_LEN, the terminator included.
const NAME_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_name_drivers() {
        let table = [
            ("net_af_packet0,iface=lg0", Some(Driver::AfPacket)),
            ("net_af_xdp0,iface=lg0", Some(Driver::AfXdp)),
            ("net_tap_a", Some(Driver::Tap)),
            ("net_ring0", Some(Driver::Ring)),
            ("net_memif1,role=client", Some(Driver::Memif)),
            ("net_null0,no-rx=1", Some(Driver::Null)),
            ("net_bonding0", Some(Driver::OtherVirtual)),
            ("virtio_user0", Some(Driver::VirtioUser)),
            ("0000:03:00.0", Some(Driver::Pci)),
            ("03:00.1,arg=2", Some(Driver::Pci)),
            ("0000:03:1f.7", Some(Driver::Pci)),
            ("0000:03:20.0", None),
            ("03:00.8", None),
            ("3:00.0", None),
            ("0000:03:00", None),
            ("net_", None),
            ("eth0", None),
            ("", None),
            (",iface=lg0", None),
            ("net_tap 0", None),
        ];
        for (text, driver) in table {
            let parsed = text.parse::<Device>().map(|d| d.driver()).ok();
            assert_eq!(parsed, driver, "{text:?}");
        }
    }

    #[test]
    fn arguments_are_kept_in_order_and_completed() {
        let mut d: Device = "net_af_packet0, iface=lg0,qdisc_bypass=0".parse().unwrap();
        assert_eq!(d.name(), "net_af_packet0");
        assert_eq!(d.kernel_interface(), Some("lg0"));
        d.default_argument("iface", "other");
        d.default_argument("qpairs", 2);
        assert_eq!(
            d.to_string(),
            "net_af_packet0,iface=lg0,qdisc_bypass=0,qpairs=2"
        );
        let d: Device = "net_tap0".parse().unwrap();
        assert_eq!(d.to_string(), "net_tap0");
        assert_eq!(d.arguments(), "");
    }

    #[test]
    fn a_card_keeps_its_arguments_and_has_one_spelling() {
        let table = [
            ("00:0a.0", "0000:00:0a.0"),
            ("0000:00:0A.0", "0000:00:0a.0"),
            ("00:0A.0, vdpa=1,rx_vec_en", "0000:00:0a.0,vdpa=1,rx_vec_en"),
            ("0000:00:0a.0,a=", "0000:00:0a.0,a="),
            (
                "0000:00:0a.0,representor=[0,1],x=2",
                "0000:00:0a.0,representor=[0,1],x=2",
            ),
        ];
        for (text, shown) in table {
            let card: Device = text.parse().unwrap();
            assert_eq!(card.to_string(), shown);
            assert_eq!(card.name(), "0000:00:0a.0");
            assert_eq!(card.allow_list(), [shown], "all of it is for the EAL");
            assert_eq!(card.pci_addresses(), ["00:0a.0".parse().unwrap()]);
        }
    }

    #[test]
    fn a_virtual_device_names_the_cards_that_it_needs() {
        let table: [(&str, &[&str]); 5] = [
            (
                "net_bonding0,mode=1,slave=03:00.0,slave=0000:03:00.1,primary=0000:03:00.0",
                &["0000:03:00.0", "0000:03:00.1"],
            ),
            ("net_bonding0,mode=4,member=00:0A.0", &["0000:00:0a.0"]),
            ("net_bonding0,slave=net_ring0", &[]),
            ("net_af_packet0,iface=lg0", &[]),
            ("net_tap0,mac=fixed,remote=eth0", &[]),
        ];
        for (text, cards) in table {
            let device: Device = text.parse().unwrap();
            assert_eq!(device.allow_list(), cards, "{text}");
            let members = device.bond_members();
            if members != ["net_ring0"] {
                assert_eq!(members, cards, "{text}");
            }
            assert_eq!(device.to_string(), text, "its arguments stay as they are");
        }
    }

    #[test]
    fn a_name_has_a_limit() {
        assert!("net_null0".repeat(8).parse::<Device>().is_err());
        assert!("net_null\0".parse::<Device>().is_err());
    }
}
