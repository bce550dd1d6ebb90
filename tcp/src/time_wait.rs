//! TIME-WAIT entries.

use core::time::Duration;

use lockgate_wire::tcp::{Flags, TcpHeader, TcpOptions, Timestamps};
use lockgate_wire::{Instant, SeqNum};

use crate::options::timestamp_now;
use crate::{SegmentIn, Shared};

/// A connection in TIME-WAIT: the fields that its answers need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeWait {
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    /// SND.NXT: the sequence number after our FIN.
    pub(crate) snd_nxt: SeqNum,
    /// RCV.NXT: the sequence number after the peer's FIN.
    pub(crate) rcv_nxt: SeqNum,
    /// The window field to advertise.
    pub(crate) window: u16,
    pub(crate) timestamps: bool,
    pub(crate) ts_offset: u32,
    pub(crate) ts_recent: u32,
    pub(crate) deadline: Instant,
}

const _: () = assert!(size_of::<TimeWait>() <= 56);

/// What to do with a segment for a connection in TIME-WAIT.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum TimeWaitVerdict {
    /// Drop the segment.
    Drop,
    /// Send this header.
    Reply(TcpHeader),
    /// A SYN that may open a new connection: remove this entry and pass the SYN to the listener.
    Reuse {
        /// The ISN of the new connection must be after this number. If the one from
        /// [`IsnSource`](crate::IsnSource) isn't, use this plus one.
        isn_after: SeqNum,
    },
}

impl TimeWait {
    /// Handles a segment for this connection.
    pub fn on_segment(
        &mut self,
        now: Instant,
        segment: &SegmentIn<'_>,
        sh: &mut Shared,
    ) -> TimeWaitVerdict {
        //= https://www.rfc-editor.org/rfc/rfc1337#section-3
        //# Ignore RST segments in TIME-WAIT state.  If the 2 minute MSL is
        //# enforced, this fix avoids all three hazards.
        if segment.has(Flags::RST) {
            return TimeWaitVerdict::Drop;
        }
        if segment.has(Flags::SYN) && !segment.has(Flags::ACK) {
            return self.on_syn(segment);
        }
        let old = match segment.tcp.options.timestamps {
            Some(ts) if self.timestamps => ts.val.wrapping_sub(self.ts_recent) > 1 << 31,
            Some(_) | None => false,
        };
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
        //# The only thing that can arrive in this
        //# state is a retransmission of the remote FIN.  Acknowledge
        //# it, and restart the 2 MSL timeout.
        let end = segment.tcp.seq + segment.seq_len();
        if segment.has(Flags::FIN) && end == self.rcv_nxt && !old {
            self.deadline = now + sh.config.time_wait;
            return TimeWaitVerdict::Reply(self.ack(now));
        }
        // So is a retransmission of data before the FIN: the peer has not received the ACK that
        // covers both, and retransmits from the first byte that is unacknowledged. It acknowledges
        // our FIN, which an attacker that doesn't see the connection can't.
        let again = segment.len > 0 && segment.has(Flags::ACK) && end.at_or_before(self.rcv_nxt);
        if again && segment.tcp.ack == self.snd_nxt && !old {
            self.deadline = now + sh.config.time_wait;
            return TimeWaitVerdict::Reply(self.ack(now));
        }
        let expected = segment.tcp.seq == self.rcv_nxt && segment.seq_len() == 0;
        if expected && segment.tcp.ack == self.snd_nxt && !old {
            return TimeWaitVerdict::Drop;
        }
        // Anything else is old or invalid and gets a challenge ACK; the limit ends ACK loops.
        if sh.challenge.try_consume(now, &mut sh.counters) {
            TimeWaitVerdict::Reply(self.ack(now))
        } else {
            TimeWaitVerdict::Drop
        }
    }

    /// When the entry expires.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Decides whether a SYN opens a new connection.
    fn on_syn(&self, segment: &SegmentIn<'_>) -> TimeWaitVerdict {
        let newer = segment.tcp.seq.after(self.rcv_nxt);
        //= https://www.rfc-editor.org/rfc/rfc6191#section-2
        // With timestamps: accept if the timestamp is later, or if it is equal and the sequence
        // number is later. Without: accept if the sequence number is later. Otherwise drop
        // silently.
        let honoured = match segment.tcp.options.timestamps {
            Some(ts) if self.timestamps => {
                let ahead = ts.val.wrapping_sub(self.ts_recent);
                if ahead == 0 { newer } else { ahead < 1 << 31 }
            }
            // The previous incarnation had no timestamps; those of the new one protect it.
            Some(_) => true,
            None => newer,
        };
        if honoured {
            TimeWaitVerdict::Reuse {
                isn_after: self.snd_nxt,
            }
        } else {
            TimeWaitVerdict::Drop
        }
    }

    fn ack(&self, now: Instant) -> TcpHeader {
        TcpHeader {
            src_port: self.local_port,
            dst_port: self.remote_port,
            seq: self.snd_nxt,
            ack: self.rcv_nxt,
            flags: Flags::ACK,
            window: self.window,
            urgent: 0,
            options: TcpOptions {
                timestamps: self.timestamps.then(|| Timestamps {
                    val: timestamp_now(now, self.ts_offset),
                    ecr: self.ts_recent,
                }),
                ..TcpOptions::NONE
            },
        }
    }

    /// Time until the entry expires.
    pub fn remaining(&self, now: Instant) -> Duration {
        self.deadline.saturating_since(now)
    }
}
