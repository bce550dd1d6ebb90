//! Half-open connections of a listener (SYN-RECEIVED).

use core::time::Duration;

use lockgate_wire::tcp::{Flags, TcpHeader, TcpOptions, Timestamps};
use lockgate_wire::{Instant, SeqNum};

use crate::options::{default_mss, echoed_rtt, syn_options, timestamp_now};
use crate::{Connection, OpenParams, SegmentIn, Shared, State, TcpConfig, reset_for};

/// A connection attempt answered with a SYN-ACK.
///
/// The caller keeps these in its flow table and limits their number. Payload of the SYN, and of any
/// segment before the last one of the handshake, is dropped: the peer retransmits it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalfOpen {
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    pub(crate) iss: SeqNum,
    pub(crate) irs: SeqNum,
    pub(crate) ts_offset: u32,
    pub(crate) ts_recent: u32,
    pub(crate) mss_out: u16,
    pub(crate) mss_peer: u16,
    /// Window of the SYN, which is never scaled.
    pub(crate) window: u16,
    /// The peer's window scale, if it offered one.
    pub(crate) peer_scale: Option<u8>,
    pub(crate) timestamps: bool,
    pub(crate) sack: bool,
    pub(crate) ipv6: bool,
    /// Retransmissions of the SYN-ACK by the timer.
    pub(crate) retries: u8,
    /// The SYN-ACK was sent more than once, by the timer or in answer to a repeated SYN: an ACK of
    /// it gives no sample of the round-trip time.
    pub(crate) resent: bool,
    pub(crate) deadline: Instant,
}

const _: () = assert!(size_of::<HalfOpen>() <= 48);

/// What to do with a segment for a half-open connection.
#[derive(Debug)]
#[must_use]
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart at once, never stored"
)]
pub enum HalfOpenVerdict {
    /// Drop the segment.
    Drop,
    /// Send this header.
    Reply(TcpHeader),
    /// The handshake is complete. Replace the entry by this connection and pass it the same
    /// segment, which may carry payload. If there is no room for a connection, drop it: the peer
    /// retransmits.
    Established(Connection),
    /// The segment does not belong to this handshake: send this RST. The entry stays.
    Reset(TcpHeader),
    /// The peer reset the attempt: remove the entry.
    Closed,
}

/// What to do at the deadline of a half-open connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum HalfOpenTimer {
    /// The deadline has not been reached.
    NotYet,
    /// Retransmit the SYN-ACK.
    Retransmit(TcpHeader),
    /// The peer did not answer: remove the entry.
    GiveUp,
}

impl HalfOpen {
    /// Handles a segment for a listener. Returns the entry to keep and the SYN-ACK to send, or
    /// `None` if the segment does not open a connection; then [`refuse`](Self::refuse) has the
    /// answer.
    pub fn on_syn(
        now: Instant,
        segment: &SegmentIn<'_>,
        opening: &OpenParams,
        sh: &Shared,
    ) -> Option<(Self, TcpHeader)> {
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.2
        // RFC 9293, 3.10.7.2: RST is ignored, ACK is refused (see `refuse`), SYN is accepted. A SYN
        // with FIN can only be a scan.
        let unwanted = Flags::RST | Flags::ACK | Flags::FIN;
        if !segment.has(Flags::SYN) || segment.tcp.flags.intersects(unwanted) {
            return None;
        }
        let cfg = &sh.config;
        let options = &segment.tcp.options;
        let timestamps = options.timestamps.filter(|_| cfg.timestamps);
        let entry = Self {
            local_port: opening.local_port,
            remote_port: opening.remote_port,
            iss: opening.isn,
            irs: segment.tcp.seq,
            ts_offset: opening.ts_offset,
            ts_recent: timestamps.map_or(0, |ts| ts.val),
            mss_out: opening.mss,
            mss_peer: options.mss.unwrap_or_else(|| default_mss(opening.ipv6)),
            window: segment.tcp.window,
            peer_scale: options.window_scale.filter(|_| cfg.window_scaling),
            timestamps: timestamps.is_some(),
            sack: options.sack_permitted && cfg.sack,
            ipv6: opening.ipv6,
            retries: 0,
            resent: false,
            deadline: now + cfg.rto_initial,
        };
        let syn_ack = entry.syn_ack(now, sh);
        Some((entry, syn_ack))
    }

    /// A listener's answer to a segment that [`on_syn`](Self::on_syn) did not accept.
    pub fn refuse(segment: &SegmentIn<'_>) -> Option<TcpHeader> {
        // A SYN with FIN is dropped; an ACK is answered with RST.
        if segment.has(Flags::ACK) {
            reset_for(segment)
        } else {
            None
        }
    }

    /// Handles a segment for this entry.
    pub fn on_segment(
        &mut self,
        now: Instant,
        segment: &SegmentIn<'_>,
        sh: &mut Shared,
    ) -> HalfOpenVerdict {
        let tcp = segment.tcp;
        // A retransmitted SYN: our SYN-ACK was lost.
        if segment.has(Flags::SYN) && !segment.has(Flags::ACK) && tcp.seq == self.irs {
            return if segment.has(Flags::RST) {
                HalfOpenVerdict::Drop
            } else {
                HalfOpenVerdict::Reply(self.on_repeated_syn(now, segment, sh))
            };
        }
        if self.is_old(segment) || !self.is_acceptable(segment, sh) {
            sh.counters.unacceptable += 1;
            return if segment.has(Flags::RST) {
                HalfOpenVerdict::Drop
            } else {
                self.challenge(now, sh)
            };
        }
        //= https://www.rfc-editor.org/rfc/rfc5961#section-3.2
        // As in the synchronized states: only the exact sequence number resets (RFC 5961, 3).
        if segment.has(Flags::RST) {
            if tcp.seq == self.irs + 1 {
                sh.counters.resets_in += 1;
                return HalfOpenVerdict::Closed;
            }
            return self.challenge(now, sh);
        }
        // RFC 9293 returns to LISTEN. A challenge ACK protects the entry from a blind SYN as RFC
        // 5961 protects established connections; a restarted peer answers it with RST.
        if segment.has(Flags::SYN) {
            return self.challenge(now, sh);
        }
        if !segment.has(Flags::ACK) {
            return HalfOpenVerdict::Drop;
        }
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.4
        //# If the segment acknowledgment is not acceptable, form a
        //# reset segment
        //#
        //#    <SEQ=SEG.ACK><CTL=RST>
        if tcp.ack != self.iss + 1 {
            sh.counters.bad_acks += 1;
            return match reset_for(segment) {
                Some(reset) => HalfOpenVerdict::Reset(reset),
                None => HalfOpenVerdict::Drop,
            };
        }
        HalfOpenVerdict::Established(self.connection(now, segment, sh))
    }

    /// Handles a repeated SYN: our SYN-ACK was lost, or is slow. Returns it again. The timer starts
    /// anew, but doesn't back off: as on Linux, such a retransmission is none of the timer's.
    fn on_repeated_syn(&mut self, now: Instant, segment: &SegmentIn<'_>, sh: &Shared) -> TcpHeader {
        //= https://www.rfc-editor.org/rfc/rfc7323#section-4.3
        // TS.Recent is that of the last SYN. The peer measures the round trip of that SYN by our
        // echo, and PAWS compares with it.
        if let Some(ts) = segment.tcp.options.timestamps
            && self.timestamps
            && ts.val.wrapping_sub(self.ts_recent) < 1 << 31
        {
            self.ts_recent = ts.val;
        }
        self.resent = true;
        self.deadline = now + self.wait(&sh.config);
        self.syn_ack(now, sh)
    }

    /// Handles the deadline: retransmits the SYN-ACK or gives up.
    pub fn on_timer(&mut self, now: Instant, sh: &mut Shared) -> HalfOpenTimer {
        if now < self.deadline {
            return HalfOpenTimer::NotYet;
        }
        if self.retries >= sh.config.syn_ack_retries {
            return HalfOpenTimer::GiveUp;
        }
        sh.counters.timeouts += 1;
        self.retries += 1;
        self.resent = true;
        self.deadline = now + self.wait(&sh.config);
        HalfOpenTimer::Retransmit(self.syn_ack(now, sh))
    }

    /// How long the SYN-ACK that was sent last is waited for.
    fn wait(&self, config: &TcpConfig) -> Duration {
        let doubled = config.rto_initial.saturating_mul(1 << self.retries.min(16));
        // The first wait isn't cut.
        doubled.min(config.rto_max.max(config.rto_initial))
    }

    /// When to call [`on_timer`](Self::on_timer).
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    fn opening(&self) -> OpenParams {
        OpenParams {
            local_port: self.local_port,
            remote_port: self.remote_port,
            ipv6: self.ipv6,
            mss: self.mss_out,
            isn: self.iss,
            ts_offset: self.ts_offset,
        }
    }

    /// Creates the connection, in SYN-RECEIVED. The segment that completes the handshake is passed
    /// to it next.
    fn connection(&self, now: Instant, segment: &SegmentIn<'_>, sh: &Shared) -> Connection {
        let mut conn = Connection::new(now, &self.opening(), sh);
        conn.state = State::SynReceived;
        conn.rcv.irs = self.irs;
        let window = self.own_window(sh);
        conn.rcv.advance_window_edge(u64::from(window));
        conn.rcv.set_ts_recent(now, self.ts_recent);
        conn.negotiated.timestamps = self.timestamps;
        conn.negotiated.sack = self.sack;
        conn.negotiated.scaling = self.peer_scale.is_some();
        conn.negotiated.snd_shift = self.peer_scale.unwrap_or(0);
        conn.rcv.shift = if self.peer_scale.is_some() {
            sh.config.window_scale()
        } else {
            0
        };
        conn.snd.window_max = u32::from(self.window);
        conn.snd.wl1 = self.irs;
        let sent_at = self.deadline - self.wait(&sh.config);
        if !self.resent {
            conn.rtt.sample(now.saturating_since(sent_at), 1);
        } else {
            let timestamps = segment.tcp.options.timestamps;
            let echo = timestamps.filter(|_| self.timestamps);
            let rtt = echo.and_then(|ts| echoed_rtt(now, self.ts_offset, ts.ecr, sent_at));
            conn.rtt.sample_of_lost_syn(rtt);
        }
        // A SYN-ACK that was lost leaves one segment (RFC 5681, 3.1). The RTO of RFC 6298, 5.7, is
        // for a timer that expired; a repeated SYN came before it.
        conn.set_mss(self.mss_peer, sh);
        conn.rtt.syn_lost = self.retries > 0;
        conn
    }

    /// Whether the timestamp is older than that of the SYN (PAWS).
    fn is_old(&self, segment: &SegmentIn<'_>) -> bool {
        match segment.tcp.options.timestamps {
            Some(ts) if self.timestamps && !segment.has(Flags::RST) => {
                ts.val.wrapping_sub(self.ts_recent) > 1 << 31
            }
            Some(_) | None => false,
        }
    }

    fn is_acceptable(&self, segment: &SegmentIn<'_>, sh: &Shared) -> bool {
        let ahead = segment.tcp.seq.since(self.irs + 1);
        ahead <= u32::from(self.own_window(sh))
    }

    /// The window that SYN-ACKs advertise.
    fn own_window(&self, sh: &Shared) -> u16 {
        u16::try_from(sh.config.window_max).unwrap_or(u16::MAX)
    }

    fn challenge(&self, now: Instant, sh: &mut Shared) -> HalfOpenVerdict {
        if !sh.challenge.try_consume(now, &mut sh.counters) {
            return HalfOpenVerdict::Drop;
        }
        let syn_ack = self.syn_ack(now, sh);
        HalfOpenVerdict::Reply(TcpHeader {
            seq: self.iss + 1,
            flags: Flags::ACK,
            options: TcpOptions {
                timestamps: syn_ack.options.timestamps,
                ..TcpOptions::NONE
            },
            ..syn_ack
        })
    }

    fn syn_ack(&self, now: Instant, sh: &Shared) -> TcpHeader {
        let offered = syn_options(now, &self.opening(), &sh.config);
        TcpHeader {
            src_port: self.local_port,
            dst_port: self.remote_port,
            seq: self.iss,
            ack: self.irs + 1,
            flags: Flags::SYN | Flags::ACK,
            window: self.own_window(sh),
            urgent: 0,
            options: TcpOptions {
                mss: offered.mss,
                window_scale: offered.window_scale.filter(|_| self.peer_scale.is_some()),
                sack_permitted: self.sack,
                timestamps: self.timestamps.then(|| Timestamps {
                    val: timestamp_now(now, self.ts_offset),
                    ecr: self.ts_recent,
                }),
                ..TcpOptions::NONE
            },
        }
    }
}
