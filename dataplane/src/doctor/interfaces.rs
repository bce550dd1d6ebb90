//! The kernel's interfaces below `net_af_packet` and `net_af_xdp`, and addresses that the kernel
//! must not have.

use core::net::IpAddr;

use lockgate_drivers::Driver;

use super::{Finding, HostView, InterfaceAddress};
use crate::config::{Config, Port};

pub(super) fn check(config: &Config, host: &HostView) -> Vec<Finding> {
    let mut findings = Vec::new();
    for port in &config.ports {
        let device = &port.settings.device;
        if let Some(name) = device.kernel_interface() {
            findings.extend(KernelInterface::new(port, name).check(host));
        } else if device.driver() == Driver::Tap
            && host.facts.instance.is_none()
            && let Some(name) = device.argument("iface")
            && host.exists(&format!("{INTERFACES}/{name}"))
        {
            let message = format!("interface {name}, which the port makes, exists already");
            let finding = Finding::fault(format!("port {}", port.settings.name), message);
            findings.push(finding.run("remove it", format!("ip link del {name}")));
        }
    }
    findings.extend(own_addresses(config, host));
    findings
}

/// The kernel's interface of a port.
struct KernelInterface<'a> {
    subject: String,
    name: &'a str,
    mtu: u16,
}

impl<'a> KernelInterface<'a> {
    fn new(port: &Port, name: &'a str) -> Self {
        Self {
            subject: format!("port {}", port.settings.name),
            name,
            mtu: port.settings.mtu,
        }
    }

    fn check(&self, host: &HostView) -> Vec<Finding> {
        let name = self.name;
        let is_visible = host.exists(&self.file(""));
        if !is_visible && host.facts.interfaces.iter().any(|known| known == name) {
            let message = format!("{name} isn't examined: /sys shows another network namespace");
            let finding = Finding::note(self.subject.as_str(), message);
            return vec![finding.run(
                "enter the namespace by a program that mounts its /sys",
                "ip netns exec NAMESPACE lockgate doctor",
            )];
        }
        if !is_visible {
            let message = format!("there is no interface {name} in this network namespace");
            let finding = Finding::fault(self.subject.as_str(), message);
            return vec![finding.run(
                "check [[port]] device, or start in the namespace that has it",
                "ip -brief link; ip netns",
            )];
        }
        let findings = [
            Some(self.link(host)),
            self.mtu(host),
            self.controller(host),
            self.addresses(host),
            self.ipv6(host),
            self.receive_offload(host),
            self.peer_checksums(host),
            self.other_sockets(host),
        ];
        findings.into_iter().flatten().collect()
    }

    fn link(&self, host: &HostView) -> Finding {
        let name = self.name;
        let flags = host.read(&self.file("flags"));
        let flags =
            flags.and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok());
        if flags.is_some_and(|flags| flags & IFF_UP == 0) {
            let finding = self.warning(format!("interface {name} is down"));
            return finding.run("set it up", format!("ip link set dev {name} up"));
        }
        if host.number::<u8>(&self.file("carrier")) == Some(1) {
            Finding::ok(
                self.subject.as_str(),
                format!("interface {name} is up, with a carrier"),
            )
        } else {
            let finding = self.warning(format!("interface {name} has no carrier"));
            finding.advise("check the cable, or the other end")
        }
    }

    fn mtu(&self, host: &HostView) -> Option<Finding> {
        let (name, mtu) = (self.name, self.mtu);
        let kernel: u32 = host.number(&self.file("mtu"))?;
        (kernel < u32::from(mtu)).then(|| {
            let message = format!("the MTU of {name} is {kernel}, [[port]] mtu is {mtu}");
            let finding = Finding::fault(self.subject.as_str(), message);
            finding.run("raise it", format!("ip link set dev {name} mtu {mtu}"))
        })
    }

    /// A bridge or a bond takes the frames of its interfaces.
    fn controller(&self, host: &HostView) -> Option<Finding> {
        let name = self.name;
        let controller = host.link(&self.file("master"))?;
        let finding = self.warning(format!("interface {name} belongs to {controller}"));
        Some(finding.run("take it out", format!("ip link set dev {name} nomaster")))
    }

    /// Addresses of the interface make the kernel answer there, too.
    fn addresses(&self, host: &HostView) -> Option<Finding> {
        let name = self.name;
        let here = host
            .facts
            .addresses
            .iter()
            .filter(|found| found.interface == name);
        // Link-local ones go with IPv6, which has a check of its own.
        let here: Vec<_> = here.filter(|found| !is_link_local(found.address)).collect();
        let first = here.first()?;
        let list = here
            .iter()
            .map(|found| format!("{}/{}", found.address, found.prefix_len));
        let list = list.collect::<Vec<_>>().join(", ");
        let finding = self.warning(format!(
            "the kernel has {list} on {name}: it answers there, too"
        ));
        Some(finding.run("remove what it doesn't need", delete_command(first)))
    }

    fn ipv6(&self, host: &HostView) -> Option<Finding> {
        let name = self.name;
        let setting = format!("net/ipv6/conf/{name}/disable_ipv6");
        let disabled: u8 = host.number(&format!("proc/sys/{setting}"))?;
        (disabled == 0).then(|| {
            let message = format!("the kernel's IPv6 is on at {name}: it sends its own messages");
            self.warning(message)
                .run("switch it off there", format!("sysctl -w {setting}=1"))
        })
    }

    /// Merged segments are longer than the MTU, and don't fit into a slot of the packet socket.
    fn receive_offload(&self, host: &HostView) -> Option<Finding> {
        let name = self.name;
        let offloads = host.facts.offloads.get(name)?;
        offloads.receive.then(|| {
            let message = format!("the kernel merges received segments on {name} (GRO)");
            self.warning(message).run(
                "switch that off: merged segments are cut off and dropped",
                format!("ethtool -K {name} gro off lro off"),
            )
        })
    }

    /// The other end of a veth leaves checksums to its card, and the packets arrive without.
    fn peer_checksums(&self, host: &HostView) -> Option<Finding> {
        let name = self.name;
        if !host.facts.offloads.get(name)?.is_veth {
            return None;
        }
        let index: u32 = host.number(&self.file("ifindex"))?;
        let peer: u32 = host.number(&self.file("iflink"))?;
        let read = |of: &str, file: &str| host.number::<u32>(&format!("{INTERFACES}/{of}/{file}"));
        let mut others = host.list(INTERFACES).into_iter().filter(|of| of != name);
        // Numbers are unique in a namespace only, so both have to name each other.
        let is_peer =
            |of: &String| read(of, "ifindex") == Some(peer) && read(of, "iflink") == Some(index);
        let Some(peer) = others.find(is_peer) else {
            let message = format!("the other end of veth {name} is in another network namespace");
            let finding = Finding::note(self.subject.as_str(), message);
            return Some(finding.run(
                "switch checksum offload off there, or segments are dropped",
                "ip netns exec NAMESPACE ethtool -K PEER tx off",
            ));
        };
        let offloads = host.facts.offloads.get(&peer)?;
        Some(if offloads.tx_checksum {
            let message = format!("{peer}, the other end of veth {name}, sends no checksums");
            Finding::fault(self.subject.as_str(), message).run(
                "switch its offload off",
                format!("ethtool -K {peer} tx off"),
            )
        } else {
            let message = format!("{peer}, the other end of veth {name}, sends checksums");
            Finding::ok(self.subject.as_str(), message)
        })
    }

    /// Other packet sockets on the interface: another instance, a DHCP client, a capture.
    fn other_sockets(&self, host: &HostView) -> Option<Finding> {
        let index: u32 = host.number(&self.file("ifindex"))?;
        if host.facts.instance.is_some() {
            return None;
        }
        let table = host.read("proc/net/packet")?;
        let rows = table.lines().skip(1);
        // sk, RefCnt, Type, Proto, Iface, R, Rmem, User, Inode
        let on_it = rows.filter(|row| {
            let column = row.split_whitespace().nth(4);
            column.and_then(|at| at.parse().ok()) == Some(index)
        });
        let count = on_it.count();
        (count > 0).then(|| {
            let name = self.name;
            let message = format!("{count} packet sockets are open on {name}");
            Finding::note(self.subject.as_str(), message).run(
                "see whose they are: another instance would answer, too",
                "ss --packet --processes",
            )
        })
    }

    fn warning(&self, message: impl Into<String>) -> Finding {
        Finding::warning(self.subject.as_str(), message)
    }

    fn file(&self, file: &str) -> String {
        format!("{INTERFACES}/{}/{file}", self.name)
    }
}

/// An address of the appliance that the kernel has, too: both answer, and the kernel resets the
/// appliance's connections.
fn own_addresses(config: &Config, host: &HostView) -> Vec<Finding> {
    let own = config
        .interfaces
        .iter()
        .flat_map(|interface| &interface.addresses);
    let own: Vec<IpAddr> = own.map(|cidr| cidr.addr()).collect();
    let taken = host
        .facts
        .addresses
        .iter()
        .filter(|found| own.contains(&found.address));
    let taken = taken.map(|found| {
        let InterfaceAddress {
            interface, address, ..
        } = found;
        let message = format!("the kernel has it, too, on {interface}");
        Finding::fault(format!("address {address}"), message)
            .run("remove it there", delete_command(found))
    });
    taken.collect()
}

fn delete_command(found: &InterfaceAddress) -> String {
    let InterfaceAddress {
        interface,
        address,
        prefix_len,
    } = found;
    format!("ip address del {address}/{prefix_len} dev {interface}")
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

const INTERFACES: &str = "sys/class/net";

/// `IFF_UP` of netdevice(7).
const IFF_UP: u32 = 1;
