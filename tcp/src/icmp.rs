//! ICMP errors for a connection: packet too big, destination unreachable.

use lockgate_wire::{Instant, SeqNum};

use crate::options::TIMESTAMPS_LEN;
use crate::receive::MSS_MIN;
use crate::transmit::signed;
use crate::{Connection, Event, Shared, State, Unreachable};

impl Connection {
    /// Handles "fragmentation needed" or "packet too big" for the packet with sequence number
    /// `quoted`. Returns true if the message was accepted and the segment size was reduced.
    pub fn on_too_big(&mut self, now: Instant, quoted: SeqNum, mtu: u16, sh: &mut Shared) -> bool {
        self.stamp = self.stamp.wrapping_add(1);
        if !self.is_in_flight(quoted) {
            sh.counters.icmp_ignored += 1;
            return false;
        }
        let (headers, floor) = if self.negotiated.ipv6 {
            (60, MTU_MIN_IPV6)
        } else {
            (40, MTU_MIN_IPV4)
        };
        let options = if self.negotiated.timestamps {
            TIMESTAMPS_LEN
        } else {
            0
        };
        let whole = (mtu.max(floor) - headers).max(MSS_MIN);
        let mss = whole - options;
        if !self.state.is_synchronized() || mss >= self.snd.mss {
            return false;
        }
        sh.counters.too_big += 1;
        self.snd.mss = mss;
        // This loss is no sign of congestion: the congestion window stays.
        self.board.mark_longer_lost(u32::from(mss), &mut sh.ranges);
        self.arm_rtx_timer(now, sh);
        true
    }

    /// Handles "destination unreachable".
    //= https://www.rfc-editor.org/rfc/rfc5461#section-4.1
    // In synchronized states hard errors are treated as soft ones (RFC 5927, 5), as all major
    // stacks do.
    pub fn on_unreachable(&mut self, quoted: SeqNum, kind: Unreachable, sh: &mut Shared) -> Event {
        self.stamp = self.stamp.wrapping_add(1);
        if !self.is_in_flight(quoted) {
            sh.counters.icmp_ignored += 1;
            return Event::None;
        }
        match (self.state, kind) {
            (State::SynSent | State::SynReceived, Unreachable::Hard) => {
                self.end(sh);
                Event::Refused
            }
            (
                State::SynSent
                | State::SynReceived
                | State::Closed
                | State::Listen
                | State::Established
                | State::FinWait1
                | State::FinWait2
                | State::CloseWait
                | State::Closing
                | State::LastAck
                | State::TimeWait,
                Unreachable::Soft | Unreachable::Hard,
            ) => {
                sh.counters.unreachable += 1;
                Event::None
            }
        }
    }

    /// Whether a quoted sequence number is in flight: sent and not acknowledged.
    //= https://www.rfc-editor.org/rfc/rfc5927#section-4.1
    //# TCP SHOULD check that the TCP sequence number contained in the payload
    //# of the ICMP error message is within the range SND.UNA =< SEG.SEQ < SND.NXT.
    fn is_in_flight(&self, quoted: SeqNum) -> bool {
        if !self.state.is_synchronized() {
            return self.state != State::Closed && quoted == self.snd.iss;
        }
        let at = self.snd.offset(quoted);
        signed(self.snd.una) <= at && at < signed(self.snd.nxt)
    }
}

/// Smaller path MTUs are ignored (as on Linux): too little of a segment would remain.
const MTU_MIN_IPV4: u16 = 552;
/// RFC 8200, section 5.
const MTU_MIN_IPV6: u16 = 1280;
