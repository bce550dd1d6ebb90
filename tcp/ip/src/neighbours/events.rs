//! What goes into the neighbour table and what comes out.

use lockgate_wire::MacAddr;

use crate::routes::NextHop;

/// Where a next hop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// At this address. On an interface without a link layer: zero.
    Resolved(MacAddr),
    /// It's being asked; an event will tell.
    Pending,
    /// It was asked and didn't answer, a moment ago.
    Unreachable,
}

/// What connections that wait for a neighbour, and other workers' tables, want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourEvent {
    /// The neighbour has an address now, or another one than before.
    Resolved(NextHop, MacAddr),
    /// It doesn't answer.
    Unreachable(NextHop),
}

/// A question that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// About whom.
    pub target: NextHop,
    /// Whom to ask; none: everybody.
    pub to: Option<MacAddr>,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The address; none if the message didn't say.
    pub mac: Option<MacAddr>,
    /// Whether it claims to answer a question.
    pub solicited: bool,
    /// Whether it shall replace what is known.
    pub replaces: bool,
    /// Whether it's a router; none if this kind of message doesn't say.
    pub router: Option<bool>,
}
