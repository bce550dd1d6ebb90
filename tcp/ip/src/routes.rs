//! The routing table.

use core::net::IpAddr;

use lockgate_wire::IfaceId;

use crate::cidr::Cidr;

/// A route to a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination network.
    pub to: Cidr,
    /// The gateway; `None` if the network is on-link.
    pub via: Option<IpAddr>,
    /// The interface.
    pub iface: IfaceId,
}

/// The neighbour that a packet is sent to, and its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The interface.
    pub iface: IfaceId,
    /// The neighbour's address: the gateway's, or the destination.
    pub addr: IpAddr,
}

/// The routing table: longest prefix first, then first added.
///
/// A host has a handful of routes, so it is a list that is searched in order.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    list: Vec<Route>,
}

impl Routes {
    /// Adds a route.
    ///
    /// # Errors
    /// `Full` above 256 routes; `Version` if network and gateway are of different IP versions.
    pub fn add(&mut self, route: Route) -> Result<(), RouteError> {
        if route
            .via
            .is_some_and(|via| via.is_ipv4() != route.to.addr().is_ipv4())
        {
            return Err(RouteError::Version);
        }
        if self.list.len() >= ROUTES_MAX {
            return Err(RouteError::Full);
        }
        let at = self
            .list
            .partition_point(|r| r.to.prefix_len() >= route.to.prefix_len());
        self.list.insert(
            at,
            Route {
                to: route.to.network(),
                ..route
            },
        );
        Ok(())
    }

    /// Returns the next hop of a packet to `dst`; `None` without a route.
    pub fn lookup(&self, dst: IpAddr) -> Option<NextHop> {
        let route = self.list.iter().find(|r| r.to.contains(dst))?;
        Some(NextHop {
            iface: route.iface,
            addr: route.via.unwrap_or(dst),
        })
    }

    /// Returns the routes in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.list.iter()
    }
}

/// Why a route wasn't added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The table is full.
    #[error("more than {ROUTES_MAX} routes")]
    Full,
    /// Network and gateway are of different IP versions.
    #[error("the gateway is of the other IP version")]
    Version,
}

/// Lookups are linear in this.
const ROUTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(to: &str, via: Option<&str>, iface: u16) -> Route {
        Route {
            to: to.parse().unwrap(),
            via: via.map(|v| v.parse().unwrap()),
            iface: IfaceId(iface),
        }
    }

    fn table() -> Routes {
        let mut routes = Routes::default();
        for r in [
            route("0.0.0.0/0", Some("10.0.0.254"), 0),
            route("10.0.0.1/24", None, 0),
            route("10.0.0.128/25", Some("10.0.0.2"), 0),
            route("192.168.0.0/16", None, 1),
            route("192.168.7.7/32", Some("192.168.0.9"), 1),
            route("2001:db8::1/64", None, 0),
            route("::/0", Some("fe80::1"), 1),
        ] {
            routes.add(r).unwrap();
        }
        routes
    }

    #[test]
    fn longest_prefix_wins() {
        let routes = table();
        for (dst, iface, hop) in [
            ("8.8.8.8", 0, "10.0.0.254"),
            ("10.0.0.9", 0, "10.0.0.9"),
            ("10.0.0.200", 0, "10.0.0.2"),
            ("192.168.7.8", 1, "192.168.7.8"),
            ("192.168.7.7", 1, "192.168.0.9"),
            ("2001:db8::99", 0, "2001:db8::99"),
            ("2001:db8:1::99", 1, "fe80::1"),
        ] {
            let expected = NextHop {
                iface: IfaceId(iface),
                addr: hop.parse().unwrap(),
            };
            assert_eq!(routes.lookup(dst.parse().unwrap()), Some(expected), "{dst}");
        }
    }

    #[test]
    fn no_route() {
        assert_eq!(Routes::default().lookup([1, 1, 1, 1].into()), None);
        let mut only_v4 = Routes::default();
        only_v4
            .add(route("0.0.0.0/0", Some("10.0.0.254"), 0))
            .unwrap();
        assert_eq!(only_v4.lookup("2001:db8::1".parse().unwrap()), None);
    }

    #[test]
    fn first_of_equals_wins() {
        let mut routes = Routes::default();
        routes.add(route("10.0.0.0/8", None, 1)).unwrap();
        routes.add(route("10.0.0.0/8", None, 2)).unwrap();
        assert_eq!(
            routes.lookup([10, 1, 1, 1].into()).unwrap().iface,
            IfaceId(1)
        );
    }

    #[test]
    fn refusals() {
        let mut routes = Routes::default();
        assert_eq!(
            routes.add(route("::/0", Some("10.0.0.1"), 0)),
            Err(RouteError::Version)
        );
        for _ in 0..ROUTES_MAX {
            routes.add(route("10.0.0.0/8", None, 0)).unwrap();
        }
        assert_eq!(
            routes.add(route("10.0.0.0/8", None, 0)),
            Err(RouteError::Full)
        );
    }

    proptest! {
        #![proptest_config(lockgate_testing::proptest_config(256))]

        #[test]
        fn agrees_with_looking_at_all(
            nets in prop::collection::vec((any::<u8>(), 0u8..=32), 1..20), dst: [u8; 2],
        ) {
            let mut routes = Routes::default();
            let mut all = Vec::new();
            for (i, (a, len)) in nets.into_iter().enumerate() {
                let to = Cidr::new([10, a, 0, 0].into(), len).unwrap();
                let r = Route { to, via: None, iface: IfaceId(u16::try_from(i).unwrap()) };
                routes.add(r).unwrap();
                all.push(r);
            }
            let dst = IpAddr::from([10, dst[0], dst[1], 1]);
            let mut best: Option<Route> = None;
            for r in all.into_iter().filter(|r| r.to.contains(dst)) {
                if best.is_none_or(|b| r.to.prefix_len() > b.to.prefix_len()) {
                    best = Some(r);
                }
            }
            prop_assert_eq!(routes.lookup(dst).map(|n| n.iface), best.map(|r| r.iface));
        }
    }
}
