//! Announcements of our addresses: gratuitous ARP (RFC 5227) and unsolicited neighbour
//! advertisements (RFC 4861).

use core::net::IpAddr;
use core::time::Duration;

use lockgate_wire::{IfaceId, Instant, MacAddr};

use crate::interfaces::Interface;
use crate::layer::{Announcement, IpLayer, Transmit};
use crate::routes::NextHop;

impl IpLayer {
    /// Handles the link state of a port's interface, and of the VLANs on it.
    ///
    /// A link that is up announces all addresses: neighbours may have entries of another host, and
    /// switches may have learned our link-layer address on another port. Call it at the start and
    /// after every change. While the link is down nothing is announced, so nothing is lost.
    pub fn on_link(&mut self, now: Instant, iface: IfaceId, is_up: bool) {
        let is_on_link =
            |i: &&Interface| i.id == iface || i.vlan.is_some_and(|(parent, _)| parent == iface);
        let on_link: Vec<IfaceId> = self
            .interfaces
            .iter()
            .filter(is_on_link)
            .map(|i| i.id)
            .collect();
        for iface in on_link {
            self.links_down.retain(|down| *down != iface);
            if !is_up {
                self.links_down.push(iface);
            }
            self.announce(now, iface);
        }
    }

    /// Changes the link-layer address of a port's interface, and of the VLANs on it that had the
    /// same one. Returns whether it differs from the address before. One of the hosts that share
    /// the interface announces it ([`IpLayer::on_link`]).
    pub fn set_mac(&mut self, iface: IfaceId, mac: MacAddr) -> bool {
        let before = self.interfaces.interface(iface).and_then(|i| i.mac);
        if before.is_none() || before == Some(mac) {
            return false;
        }
        let is_on_port =
            |i: &&Interface| i.id == iface || i.vlan.is_some_and(|(parent, _)| parent == iface);
        let on_port = self.interfaces.iter().filter(is_on_port);
        let changed = on_port.filter(|i| i.mac == before).map(|i| i.id);
        for id in changed.collect::<Vec<_>>() {
            self.interfaces.set_mac(id, mac);
        }
        true
    }

    /// Schedules announcements of all addresses of an interface: 0, 1 and 3 seconds from now. The
    /// first ones may be lost while a switch brings up its port.
    //= https://www.rfc-editor.org/rfc/rfc5227#section-2.3
    //# The host may begin legitimately using the IP address immediately
    //# after sending the first of the two ARP Announcements
    pub fn announce(&mut self, now: Instant, iface: IfaceId) {
        self.announcements.retain(|a| a.hop.iface != iface);
        let own = self.interfaces.addresses(iface).iter();
        for addr in own.map(|own| own.addr()).collect::<Vec<_>>() {
            self.announce_address(now, iface, addr);
        }
    }

    /// Schedules announcements of one address of an interface, such as one that was added.
    pub fn announce_address(&mut self, now: Instant, iface: IfaceId, addr: IpAddr) {
        let hop = NextHop { iface, addr };
        self.announcements.retain(|a| a.hop != hop);
        let interface = self.interfaces.interface(iface);
        let has_link_layer = interface.is_some_and(|i| i.mac.is_some());
        // With the link all addresses will be announced.
        let is_down = self.links_down.contains(&iface);
        if has_link_layer && !is_down && self.interfaces.has(iface, addr) {
            self.announcements.push_back(Announcement {
                hop,
                left: ANNOUNCEMENTS,
                next: now,
            });
        }
    }

    /// Writes the next announcement that is due.
    pub(crate) fn poll_announcement(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        let at = self.announcements.iter().position(|a| a.next <= now)?;
        let Announcement { hop, left, .. } = self.announcements.remove(at)?;
        if left > 1 {
            let sent = u32::from(ANNOUNCEMENTS.saturating_sub(left));
            self.announcements.push_back(Announcement {
                hop,
                left: left - 1,
                next: now + ANNOUNCE_INTERVAL * (1 << sent),
            });
        }
        match hop.addr {
            IpAddr::V4(own) => self.write_announcement(hop.iface, own, out),
            IpAddr::V6(own) => self.advertise_unsolicited(hop.iface, own, out),
        }
    }
}

/// RFC 4861's MAX_NEIGHBOR_ADVERTISEMENT; RFC 5227's ANNOUNCE_NUM is 2.
//= https://www.rfc-editor.org/rfc/rfc4861#section-7.2.6
//# In such cases, a node MAY send up to
//# MAX_NEIGHBOR_ADVERTISEMENT unsolicited Neighbor Advertisement
//# messages to the all-nodes multicast address.  These advertisements
//# MUST be separated by at least RetransTimer seconds.
const ANNOUNCEMENTS: u8 = 3;
/// Time between the first two, RFC 4861's RetransTimer; it doubles.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{BARE, ETH, OTHER, VLAN, at, flush, host};

    /// Milliseconds at which an address on an interface is announced, up to a minute later.
    fn times(h: &mut IpLayer, on: IfaceId) -> Vec<u64> {
        let mut times = Vec::new();
        let mut now = 0;
        while let Some(due) = h.deadline().filter(|due| *due < at(60_000)) {
            now = now.max(u64::try_from((due.saturating_since(at(0))).as_millis()).unwrap());
            let sent = flush(h, at(now));
            assert!(!sent.is_empty(), "due at {now}");
            times.extend(sent.iter().filter(|(iface, _)| *iface == on).map(|_| now));
        }
        times
    }

    #[test]
    fn every_link_up_announces_three_times() {
        let mut h = host();
        for _ in 0..3 {
            h.on_link(at(0), VLAN, true);
            assert_eq!(times(&mut h, VLAN), [0, 1000, 3000]);
        }
        // The interface of a port has two addresses and a link-local one, the VLAN on it has one.
        h.on_link(at(0), ETH, true);
        let times = times(&mut h, ETH);
        assert_eq!(times, [0, 0, 0, 1000, 1000, 1000, 3000, 3000, 3000]);
        h.on_link(at(0), ETH, true);
        assert_eq!(flush(&mut h, at(0)).len(), 4);
        h.on_link(at(0), BARE, true);
        assert_eq!(flush(&mut h, at(0)).len(), 0, "it has no link layer");
    }

    #[test]
    fn nothing_is_announced_while_the_link_is_down() {
        let mut h = host();
        h.on_link(at(0), ETH, true);
        assert_eq!(flush(&mut h, at(0)).len(), 4);
        h.on_link(at(500), ETH, false);
        assert_eq!(h.deadline(), None);
        // What changes meanwhile is announced when the link comes up, also on the VLAN.
        assert!(h.set_mac(ETH, OTHER));
        h.announce_address(at(600), VLAN, "10.42.0.1".parse().unwrap());
        h.announce(at(600), ETH);
        assert_eq!((flush(&mut h, at(30_000)).len(), h.deadline()), (0, None));
        h.on_link(at(40_000), ETH, true);
        let sent = flush(&mut h, at(40_000));
        assert_eq!(sent.len(), 4);
        assert_eq!(sent[0].1[6..12], OTHER.0);
        // A flap starts over.
        h.on_link(at(40_500), ETH, false);
        h.on_link(at(40_600), ETH, true);
        let counts = [40_600, 41_000, 41_600, 43_600].map(|ms| flush(&mut h, at(ms)).len());
        assert_eq!((counts, h.deadline()), ([4, 0, 4, 4], None));
    }

    #[test]
    fn a_changed_address_is_announced() {
        let mut h = host();
        assert!(h.set_mac(ETH, OTHER));
        assert!(!h.set_mac(ETH, OTHER), "the same");
        assert!(!h.set_mac(BARE, OTHER), "it has no link layer");
        assert_eq!(
            flush(&mut h, at(0)).len(),
            0,
            "one of several hosts announces it"
        );
        h.on_link(at(0), ETH, true);
        let sent = flush(&mut h, at(0));
        // With the VLAN's.
        assert_eq!(sent.len(), 4);
        assert!(sent.iter().all(|(_, frame)| frame[6..12] == OTHER.0));
        flush(&mut h, at(1000));
        flush(&mut h, at(3000));

        h.add_address(ETH, "10.0.7.1/24".parse().unwrap()).unwrap();
        h.announce_address(at(5000), ETH, "10.0.7.1".parse().unwrap());
        let counts = [5000, 6000, 8000].map(|ms| flush(&mut h, at(ms)).len());
        assert_eq!((counts, h.deadline()), ([1, 1, 1], None));
        h.announce_address(at(9000), ETH, "10.0.7.2".parse().unwrap());
        assert_eq!(h.deadline(), None, "it isn't ours");
    }
}
