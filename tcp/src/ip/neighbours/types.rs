//! What goes into the neighbour table and what comes out.

use core::time::Duration;

use lockgate_wire::MacAddr;

use super::super::limit::Rate;
use super::super::routes::NextHop;

/// Settings of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourConfig {
    /// Entries.
    pub entries_max: u16,
    /// Frames that wait for an answer, in all.
    pub waiting_max: u16,
    /// The longest of them.
    pub waiting_bytes_max: u16,
    /// REACHABLE_TIME's base: an entry is believed for half to one and a half of this.
    pub reachable_time: Duration,
    /// RETRANS_TIMER: between two solicitations.
    pub retransmit_time: Duration,
    /// DELAY_FIRST_PROBE_TIME: how long a confirmation from above is waited for.
    pub delay_first_probe: Duration,
    /// MAX_MULTICAST_SOLICIT: questions asked before giving up.
    pub multicast_solicits: u8,
    /// MAX_UNICAST_SOLICIT: questions asked of the address known before asking everybody.
    pub unicast_solicits: u8,
    /// How long after giving up nobody asks again.
    pub hold_down: Duration,
    /// Solicitations of all entries together.
    pub solicit_rate: Rate,
}

impl Default for NeighbourConfig {
    /// RFC 4861's constants (section 10); Linux's hold-down of about a second.
    fn default() -> Self {
        Self {
            entries_max: 1024,
            waiting_max: 64,
            waiting_bytes_max: 1536,
            reachable_time: Duration::from_secs(30),
            retransmit_time: Duration::from_secs(1),
            delay_first_probe: Duration::from_secs(5),
            multicast_solicits: 3,
            unicast_solicits: 3,
            hold_down: Duration::from_secs(1),
            solicit_rate: Rate {
                per_second: 200,
                burst: 100,
            },
        }
    }
}

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
pub struct Solicit {
    /// About whom.
    pub target: NextHop,
    /// Whom to ask; none: everybody.
    pub to: Option<MacAddr>,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advert {
    /// The address; none if the message didn't say.
    pub mac: Option<MacAddr>,
    /// Whether it claims to answer a question.
    pub solicited: bool,
    /// Whether it shall replace what is known.
    pub replaces: bool,
    /// Whether it's a router; none if this kind of message doesn't say.
    pub router: Option<bool>,
}

lockgate_wire::counters! {
    /// What the table did.
    pub struct NeighbourCounters in "neighbours" {
        /// Entries made.
        created,
        /// Entries that had to go to make room for others.
        evicted,
        /// Entries that got a link-layer address.
        resolved,
        /// Entries whose link-layer address changed.
        changed,
        /// Neighbours that didn't answer.
        unreachable,
        /// Solicitations to everybody.
        multicast_solicits,
        /// Solicitations to the address known.
        unicast_solicits,
        /// Solicitations put off by the rate limit.
        solicits_limited,
        /// Claims about neighbours that we don't know, or don't talk to: not believed.
        unasked,
        /// Confirmations by progress of connections.
        confirmed,
        /// Frames put to wait.
        frames_queued,
        /// Frames sent after waiting.
        frames_released,
        /// Frames that had to go because newer ones came.
        frames_displaced,
        /// Frames dropped because their neighbour didn't answer or its entry went.
        frames_dropped,
        /// Frames too large to wait, or for which there was no place.
        frames_refused,
        /// Events that nobody fetched in time.
        events_lost,
    }
}
