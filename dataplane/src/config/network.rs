//! Parses `[workers]`, `[[port]]`, `[[interface]]`, `[[route]]` and `[[listener]]`, which refer to
//! each other.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use core::str::FromStr;
use core::time::Duration;

use lockgate_drivers::{Assume, Device, DeviceError, Disable, PortConfig};
use lockgate_ip::{Cidr, Route};
use pktbuf::PoolConfig;

use super::document::Document;
use super::fault::Place;
use super::reader::{Located, Reader};
use super::{Host, Interface, Listener, Port, Workers, iface, sections};

/// A `[[port]]` as far as it could be parsed. Without a device it has a fault.
pub(super) struct PortSection {
    name: String,
    device: Option<Device>,
    mtu: u16,
    assume: Assume,
    disable: Disable,
    rx_descriptors: u16,
    tx_descriptors: u16,
    link_wait: Duration,
    device_place: Place,
    mtu_place: Place,
}

pub(super) fn workers(document: &Document<'_>, host: &Host) -> Workers {
    let workers = document.one("workers");
    Workers {
        cores: sections::cores(document, &workers, "cores", host),
        idle: sections::idle(&workers),
        cores_place: workers.place("cores"),
    }
}

pub(super) fn ports(document: &Document<'_>, workers: usize) -> Vec<PortSection> {
    let mut ports: Vec<PortSection> = Vec::new();
    for reader in document.many("port") {
        let port = port(&reader, workers);
        if ports
            .iter()
            .any(|p| p.name == port.name && !p.name.is_empty())
        {
            reader.fault("name", format!("another port is called \"{}\"", port.name));
        }
        if let Some(message) = device_in_use(&ports, &port) {
            reader.fault("device", message);
        }
        ports.push(port);
    }
    if ports.is_empty() {
        document.fault(
            Place::new(0, "port"),
            "there is no [[port]]: packets have nowhere to go",
        );
    }
    ports
}

/// Returns what is wrong if an earlier port uses the same device, PCI card or kernel interface. Two
/// ports on one interface would both get every frame. A member of a bond is the bond's alone.
fn device_in_use(ports: &[PortSection], port: &PortSection) -> Option<String> {
    let device = port.device.as_ref()?;
    let cards = device.pci_addresses();
    ports.iter().find_map(|other| {
        let (name, same) = (&other.name, other.device.as_ref()?);
        // Device names are unique in the EAL, whatever the arguments.
        if same.name() == device.name() {
            return Some(format!("port \"{name}\" is this device"));
        }
        let theirs = same.pci_addresses();
        if let Some(card) = cards.iter().find(|card| theirs.contains(card)) {
            return Some(format!("port \"{name}\" uses card {card} already"));
        }
        if same.has_member(device) {
            return Some(format!("it is a member of port \"{name}\""));
        }
        if device.has_member(same) {
            return Some(format!("port \"{name}\" is a member of it"));
        }
        let interface = device.argument("iface")?;
        (same.argument("iface") == Some(interface))
            .then(|| format!("port \"{name}\" uses interface {interface} already"))
    })
}

/// Returns how to open each port, with one queue for each worker.
pub(super) fn settings(
    ports: Vec<PortSection>,
    interfaces: &[Interface],
    document: &Document<'_>,
    workers: usize,
) -> Vec<Port> {
    let rx_buffers = sections::mbufs(document);
    let ring_pages_max = ring_pages_max(sections::pool(document), ports.len());
    #[cfg(feature = "fault-injection")]
    let hold_sent = sections::test(document).hold_sent;
    let queues = u16::try_from(workers).unwrap_or(u16::MAX);
    let settings = |(index, port): (usize, PortSection)| {
        Some(Port {
            settings: PortConfig {
                mtu: port.mtu,
                queues,
                rx_descriptors: port.rx_descriptors,
                tx_descriptors: port.tx_descriptors,
                rx_buffers,
                ring_pages_max,
                assume: port.assume,
                disable: port.disable,
                ipv6_addresses: ipv6_addresses(interfaces, index),
                #[cfg(feature = "fault-injection")]
                hold_sent,
                ..PortConfig::new(port.name, port.device?)
            },
            link_wait: port.link_wait,
            device_place: port.device_place,
            mtu_place: port.mtu_place,
        })
    };
    ports.into_iter().enumerate().filter_map(settings).collect()
}

fn ipv6_addresses(interfaces: &[Interface], port: usize) -> Vec<Ipv6Addr> {
    let on_port = interfaces.iter().filter(|i| i.port == port);
    let addresses = on_port.flat_map(|interface| &interface.addresses);
    addresses
        .filter_map(|address| match address.addr() {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        })
        .collect()
}

/// Returns the page buffers that a TX ring may hold whose driver frees them late: all rings of a
/// worker together a quarter of the pool that has the fewest.
fn ring_pages_max(pool: PoolConfig, ports: usize) -> u32 {
    let fewest = pool.blocks.min(pool.small_spans).min(pool.large_spans);
    fewest / 4 / u32::try_from(ports.max(1)).unwrap_or(u32::MAX)
}

fn port(reader: &Reader<'_, '_>, workers: usize) -> PortSection {
    let name = reader.text("name").map(|at| at.value);
    if name.as_deref().is_some_and(|name| !is_port_name(name)) {
        reader.fault("name", "a name is 1 to 15 of a-z, 0-9, - and _");
    }
    let mtu = reader.count("mtu");
    let assume = assume(reader);
    let device = device(reader);
    if let Some(device) = &device {
        check_device(reader, device, mtu, workers, assume);
    }
    PortSection {
        name: name.unwrap_or_default(),
        device,
        mtu,
        assume,
        disable: disable(reader),
        rx_descriptors: reader.count("rx_descriptors"),
        tx_descriptors: reader.count("tx_descriptors"),
        link_wait: reader.time("link_wait"),
        device_place: reader.place("device"),
        mtu_place: reader.place("mtu"),
    }
}

fn device(reader: &Reader<'_, '_>) -> Option<Device> {
    let device = Device::from_str(&reader.text("device")?.value);
    let fault = |DeviceError(device)| {
        let expected = "expected a PCI address or a device such as \"net_af_packet0,iface=eth0\"";
        reader.fault("device", format!("{expected}, found {device:?}"));
    };
    device.map_err(fault).ok()
}

fn assume(reader: &Reader<'_, '_>) -> Assume {
    let none = Assume::default();
    let each = reader.choices(
        "assume",
        [
            ("tso", Assume { tso: true, ..none }),
            (
                "txcsum",
                Assume {
                    tx_csum: true,
                    ..none
                },
            ),
            (
                "rxcsum",
                Assume {
                    rx_csum: true,
                    ..none
                },
            ),
        ],
    );
    each.into_iter().fold(none, |all, one| Assume {
        tso: all.tso | one.tso,
        tx_csum: all.tx_csum | one.tx_csum,
        rx_csum: all.rx_csum | one.rx_csum,
    })
}

fn disable(reader: &Reader<'_, '_>) -> Disable {
    let none = Disable::default();
    let tso = Disable { tso: true, ..none };
    let tx_csum = Disable {
        tx_csum: true,
        ..none
    };
    let rx_csum = Disable {
        rx_csum: true,
        ..none
    };
    let names = [("tso", tso), ("txcsum", tx_csum), ("rxcsum", rx_csum)];
    let each = reader.choices("disable", names);
    each.into_iter().fold(none, |all, one| Disable {
        tso: all.tso | one.tso,
        tx_csum: all.tx_csum | one.tx_csum,
        rx_csum: all.rx_csum | one.rx_csum,
    })
}

fn check_device(
    reader: &Reader<'_, '_>,
    device: &Device,
    mtu: u16,
    workers: usize,
    assume: Assume,
) {
    let limits = device.limits();
    let name = device.name();
    if assume != Assume::default() && !limits.in_memory {
        let message = "only net_ring and net_memif can assume offloads: packets leave this \
                       machine's memory on any other device";
        reader.fault("assume", message);
    }
    if limits.needs_interface && device.kernel_interface().is_none_or(str::is_empty) {
        let message = format!("{name} needs a kernel's interface: \"{name},iface=...\"");
        reader.fault("device", message);
    }
    if let Some(interface) = device.kernel_interface()
        && !interface.is_empty()
        && !is_interface_name(interface)
    {
        let message = format!("{interface:?} can't be the name of a kernel's interface");
        reader.fault("device", message);
    }
    if mtu > limits.mtu_max {
        reader.fault("mtu", format!("{name} can do {} at most", limits.mtu_max));
    }
    if workers > usize::from(limits.queues_max) {
        let queues = limits.queues_max;
        let message = format!("{workers} workers need a queue each, {name} has {queues} at most");
        reader.fault("device", message);
    }
}

/// The kernel's rule (`dev_valid_name`): up to 15 bytes without `/`, `:` and white space.
fn is_interface_name(name: &str) -> bool {
    let is_allowed = |c: char| c != '/' && c != ':' && !c.is_whitespace();
    name.len() < 16 && name.chars().all(is_allowed) && name != "." && name != ".."
}

pub(super) fn interfaces(document: &Document<'_>, ports: &[PortSection]) -> Vec<Interface> {
    let mut interfaces: Vec<Interface> = Vec::new();
    // The networks of the interfaces so far.
    let mut connected: Vec<(usize, Cidr)> = Vec::new();
    for (index, reader) in document.many("interface").into_iter().enumerate() {
        let port = reader.text("on").and_then(|on| {
            let found = ports.iter().position(|p| p.name == on.value);
            if found.is_none() {
                document.fault(on.place, format!("there is no port \"{}\"", on.value));
            }
            found
        });
        if port.is_some_and(|port| interfaces.iter().any(|i| i.port == port)) {
            reader.fault("on", "this port has an interface already");
        }
        let mtu = port
            .and_then(|port| ports.get(port))
            .map_or(u16::MAX, |port| port.mtu);
        let mut addresses = Vec::new();
        for Located { value, place } in reader.texts("addresses") {
            match address(value, mtu, index, &connected) {
                Ok(prefix) => {
                    connected.push((index, prefix));
                    addresses.push(prefix);
                }
                Err(message) => document.fault(place, message),
            }
        }
        // Kept even if its port is unknown: routes and listeners are checked against its addresses.
        // The fault keeps the configuration from being used.
        interfaces.push(Interface {
            port: port.unwrap_or(usize::MAX),
            addresses,
        });
    }
    interfaces
}

fn address(
    text: &str,
    mtu: u16,
    interface: usize,
    connected: &[(usize, Cidr)],
) -> Result<Cidr, String> {
    let prefix = Cidr::from_str(text).map_err(|_| {
        format!("expected address/length such as \"198.18.0.1/24\", found {text:?}")
    })?;
    let address = prefix.addr();
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err(format!("{address} can't be an interface's address"));
    }
    if prefix.prefix_len() == 0 || prefix.is_network_or_broadcast() {
        return Err(format!("{prefix} is a network, not an address in one"));
    }
    if address.is_ipv6() && mtu < IPV6_MTU_MIN {
        return Err(format!(
            "IPv6 needs an mtu of {IPV6_MTU_MIN}, the port's is {mtu}"
        ));
    }
    for (other, known) in connected {
        if known.addr() == address {
            return Err(format!("{address} comes twice"));
        }
        if *other != interface && known.overlaps(&prefix) {
            return Err(format!("overlaps with {known} on another interface"));
        }
    }
    Ok(prefix)
}

pub(super) fn routes(document: &Document<'_>, interfaces: &[Interface]) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for reader in document.many("route") {
        let to = reader.text("to").and_then(|to| {
            let network = Cidr::from_str(&to.value);
            if network.is_err() {
                let message = format!("expected network/length, found {:?}", to.value);
                document.fault(to.place.clone(), message);
            }
            let network = network.ok()?;
            if network.network() != network {
                let meant = network.network();
                let message =
                    format!("{network} is an address in a network; did you mean {meant}?");
                document.fault(to.place, message);
            }
            Some(network)
        });
        let via = gateway(document, &reader, interfaces);
        let (Some(to), Some((via, interface))) = (to, via) else {
            continue;
        };
        if to.addr().is_ipv4() != via.is_ipv4() {
            reader.fault("via", format!("{via} and {to} are of different families"));
        }
        if routes.iter().any(|route| route.to == to) {
            reader.fault("to", format!("there is another route to {to}"));
        }
        routes.push(Route {
            to,
            via: Some(via),
            iface: iface(interface),
        });
    }
    routes
}

fn gateway(
    document: &Document<'_>,
    reader: &Reader<'_, '_>,
    interfaces: &[Interface],
) -> Option<(IpAddr, usize)> {
    let via = reader.text("via")?;
    let Ok(address) = IpAddr::from_str(&via.value) else {
        document.fault(
            via.place,
            format!("expected an address, found {:?}", via.value),
        );
        return None;
    };
    let has = |i: &Interface| i.addresses.iter().any(|prefix| prefix.contains(address));
    let Some(interface) = interfaces.iter().position(has) else {
        document.fault(via.place, format!("{address} is in no interface's network"));
        return None;
    };
    if owner(interfaces, address).is_some() {
        document.fault(via.place, format!("{address} is our own address"));
    }
    Some((address, interface))
}

/// Parses the listeners. `check_tls` returns why none can have TLS.
pub(super) fn listeners(
    document: &Document<'_>,
    interfaces: &[Interface],
    check_tls: impl Fn() -> Result<(), &'static str>,
) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    for reader in document.many("listener") {
        let tls = reader.switch("tls");
        if let (true, Err(message)) = (tls, check_tls()) {
            reader.fault("tls", message);
        }
        let Some(Located { value, place }) = reader.text("address") else {
            continue;
        };
        let address = SocketAddr::from_str(&value).ok().filter(|a| a.port() != 0);
        let Some(address) = address else {
            let expected = "expected address:port such as \"198.18.0.1:443\" or \"[fd00::1]:443\"";
            document.fault(place, format!("{expected}, found {value:?}"));
            continue;
        };
        let here = addresses_of(interfaces, address);
        if here.is_empty() {
            document.fault(place.clone(), format!("no interface has {}", address.ip()));
        }
        for address in here {
            if listeners.iter().any(|l| l.address == address) {
                document.fault(place.clone(), format!("another listener has {address}"));
            } else {
                listeners.push(Listener { address, tls });
            }
        }
    }
    listeners
}

/// Returns the concrete addresses that a listener's address stands for.
fn addresses_of(interfaces: &[Interface], asked: SocketAddr) -> Vec<SocketAddr> {
    let own = interfaces.iter().flat_map(|interface| &interface.addresses);
    let own = own.map(Cidr::addr).filter(|own| {
        let any = asked.ip().is_unspecified() && own.is_ipv4() == asked.is_ipv4();
        any || *own == asked.ip()
    });
    own.map(|own| SocketAddr::new(own, asked.port())).collect()
}

fn owner(interfaces: &[Interface], address: IpAddr) -> Option<usize> {
    let has = |i: &Interface| i.addresses.iter().any(|prefix| prefix.addr() == address);
    interfaces.iter().position(has)
}

fn is_port_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=15).contains(&name.len()) && name.bytes().all(allowed)
}

/// RFC 8200, section 5.
const IPV6_MTU_MIN: u16 = 1280;
