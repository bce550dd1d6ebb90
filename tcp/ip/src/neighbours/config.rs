//! The neighbour table's settings.

use core::time::Duration;

use lockgate_wire::Xorshift64;

use crate::limit::Rate;

/// Settings of the neighbour table. Names in capitals are those of RFC 4861, section 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourConfig {
    /// Entries of the table.
    pub entries_max: u16,
    /// Frames that wait for their neighbour, of all entries together.
    pub waiting_max: u16,
    /// Bytes of the longest frame that may wait.
    pub waiting_bytes_max: u16,
    /// BaseReachableTime: an entry is REACHABLE for 0.5 to 1.5 times this after a confirmation.
    pub reachable_time: Duration,
    /// RETRANS_TIMER: the time between two solicitations of an entry.
    pub retransmit_time: Duration,
    /// DELAY_FIRST_PROBE_TIME: how long DELAY waits for a confirmation by TCP.
    pub delay_first_probe: Duration,
    /// MAX_MULTICAST_SOLICIT: multicast (or broadcast) solicitations before the entry fails.
    pub multicast_solicits: u8,
    /// MAX_UNICAST_SOLICIT: unicast probes of the known address before multicast ones.
    pub unicast_solicits: u8,
    /// How long a failed entry isn't solicited again.
    pub hold_down: Duration,
    /// Rate limit of solicitations, of all entries together.
    pub solicit_rate: Rate,
}

impl NeighbourConfig {
    /// Draws ReachableTime, for which an entry is REACHABLE after a confirmation.
    //= https://www.rfc-editor.org/rfc/rfc4861#section-6.3.2
    //# it should be a uniformly distributed random value between
    //# MIN_RANDOM_FACTOR and MAX_RANDOM_FACTOR times
    //# BaseReachableTime milliseconds.
    pub(super) fn draw_reachable_time(&self, random: &mut Xorshift64) -> Duration {
        // From 512/1024 to 1535/1024: MIN_RANDOM_FACTOR 0.5, MAX_RANDOM_FACTOR 1.5.
        let factor = 512 + u32::try_from(random.next() >> 54).unwrap_or(0);
        self.reachable_time.saturating_mul(factor) / 1024
    }
}

impl Default for NeighbourConfig {
    /// Returns RFC 4861's constants (section 10), and Linux's hold-down of about a second.
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
