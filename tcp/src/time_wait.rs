//! TIME-WAIT: what is left of a connection while old segments of it may still arrive.

use core::time::Duration;

use lockgate_wire::tcp::{Flags, TcpHeader, TcpOptions, Timestamps};
use lockgate_wire::{Instant, SeqNum};

use crate::options::timestamp_now;
use crate::{SegmentIn, Shared};

/// A connection in TIME-WAIT, with just what its answers need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeWait {
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    /// What follows our FIN.
    pub(crate) snd_nxt: SeqNum,
    /// What follows the peer's FIN.
    pub(crate) rcv_nxt: SeqNum,
    /// The window field that is still advertised.
    pub(crate) window: u16,
    pub(crate) timestamps: bool,
    pub(crate) ts_offset: u32,
    pub(crate) ts_recent: u32,
    pub(crate) deadline: Instant,
}

const _: () = assert!(size_of::<TimeWait>() <= 56);

/// What to do about a segment for a connection in TIME-WAIT.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum TimeWaitVerdict {
    /// Nothing.
    Drop,
    /// Send this.
    Reply(TcpHeader),
    /// It is a SYN that may open a new connection: forget this one and give the SYN to the
    /// listener.
    Reuse {
        /// The new connection's initial sequence number must be after this one; if the
        /// [`IsnSource`](crate::IsnSource)'s isn't, take the one behind this.
        isn_after: SeqNum,
    },
}

impl TimeWait {
    /// A segment came for this connection.
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
        let expected = segment.tcp.seq == self.rcv_nxt && segment.seq_len() == 0;
        if expected && segment.tcp.ack == self.snd_nxt && !old {
            return TimeWaitVerdict::Drop;
        }
        // Anything else is old or wrong: say where we are, but not in an endless exchange.
        if sh.challenge.try_consume(now, &mut sh.counters) {
            TimeWaitVerdict::Reply(self.ack(now))
        } else {
            TimeWaitVerdict::Drop
        }
    }

    /// When it may be forgotten.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether a SYN begins a new connection.
    fn on_syn(&self, segment: &SegmentIn<'_>) -> TimeWaitVerdict {
        let newer = segment.tcp.seq.after(self.rcv_nxt);
        //= https://www.rfc-editor.org/rfc/rfc6191#section-2
        // With timestamps a later one decides, or the sequence number if it is the same; without,
        // the sequence number. A SYN that is not honoured is dropped silently.
        let honoured = match segment.tcp.options.timestamps {
            Some(ts) if self.timestamps => {
                let ahead = ts.val.wrapping_sub(self.ts_recent);
                if ahead == 0 { newer } else { ahead < 1 << 31 }
            }
            // The previous incarnation had none: the new one's protect it.
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

    /// How long it has left.
    pub fn remaining(&self, now: Instant) -> Duration {
        self.deadline.saturating_since(now)
    }
}
