//! Inputs and outputs of the neighbour table.

use lockgate_wire::MacAddr;

use crate::routes::NextHop;

/// The result of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The link-layer address. Zero on an interface without a link layer.
    Resolved(MacAddr),
    /// Resolution is in progress. A [`NeighbourEvent`] follows.
    Pending,
    /// The neighbour didn't answer, and the hold-down isn't over.
    Unreachable,
}

/// A change that concerns waiting connections and the tables of other workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourEvent {
    /// The neighbour was resolved, or its address changed.
    Resolved(NextHop, MacAddr),
    /// The neighbour doesn't answer: its entry failed.
    Unreachable(NextHop),
}

/// A solicitation to send: an ARP request or a neighbour solicitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// The address to resolve.
    pub target: NextHop,
    /// The known link-layer address for a unicast probe; `None` for multicast.
    pub to: Option<MacAddr>,
}

/// What an ARP reply, a gratuitous ARP or a neighbour advertisement says about a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The link-layer address, if the message contains it.
    pub mac: Option<MacAddr>,
    /// The Solicited flag: it claims to answer a solicitation.
    pub solicited: bool,
    /// The Override flag: it replaces a known address.
    pub replaces: bool,
    /// The Router flag; `None` for ARP, which has none.
    pub router: Option<bool>,
}
