//! The neighbour table's settings.

use core::time::Duration;

use crate::limit::Rate;

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
