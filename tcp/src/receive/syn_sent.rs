//! "3.10.7.3. SYN-SENT STATE"

use lockgate_wire::Instant;
use lockgate_wire::tcp::{Flags, TcpHeader};

use crate::congestion::{Congestion, initial_window};
use crate::options::{TIMESTAMPS_LEN, default_mss, echoed_rtt};
use crate::timers::{RtxMode, Timer};
use crate::{Connection, Event, SegmentIn, Shared, State, Verdict};

impl Connection {
    pub(super) fn in_syn_sent(
        &mut self,
        now: Instant,
        segment: &SegmentIn<'_>,
        sh: &mut Shared,
        verdict: &mut Verdict,
    ) -> (Option<TcpHeader>, Event) {
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.3
        //# If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset (unless
        //# the RST bit is set, if so drop the segment and return)
        //#
        //#    <SEQ=SEG.ACK><CTL=RST>
        //#
        //# and discard the segment.  Return.
        let acked = segment.has(Flags::ACK);
        if acked && segment.tcp.ack != self.snd.iss + 1 {
            sh.counters.bad_acks += 1;
            return (crate::reset_for(segment), Event::None);
        }
        if segment.has(Flags::RST) {
            //# If the ACK was acceptable, then signal to the user "error:
            //# connection reset", drop the segment, enter CLOSED state,
            //# delete TCB, and return.  Otherwise (no ACK), drop the
            //# segment and return.
            if acked {
                sh.counters.resets_in += 1;
                return (None, Event::Refused);
            }
            return (None, Event::None);
        }
        //# fifth, if neither of the SYN or RST bits is set, then drop the
        //# segment and return.
        if !segment.has(Flags::SYN) {
            return (None, Event::None);
        }
        self.on_peer_syn(now, segment, sh);
        if !acked {
            //# Otherwise, enter SYN-RECEIVED, form a SYN,ACK segment
            //#
            //#    <SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK>
            //#
            //# and send it.
            // Payload of the SYN is dropped: the peer retransmits it.
            self.state = State::SynReceived;
            self.snd.syn_due = true;
            self.timers
                .set(Timer::Retransmit, now + self.rtt.rto(&sh.config));
            self.snd.rtx_mode = RtxMode::Retransmit;
            return (None, Event::None);
        }
        let last_sent = self.snd.last_sent;
        let timestamps = segment.tcp.options.timestamps;
        if self.rtt.backoff == 0 {
            self.rtt.sample(now.saturating_since(last_sent), 1);
        } else if let (Some(ts), true) = (timestamps, self.negotiated.timestamps) {
            let ts_offset = self.negotiated.ts_offset;
            let rtt = echoed_rtt(now, ts_offset, ts.ecr, last_sent);
            self.rtt.sample_of_lost_syn(rtt);
        }
        self.rtt.backoff = 0;
        //# If SND.UNA > ISS (our SYN has been ACKed), change the connection
        //# state to ESTABLISHED, form an ACK segment
        //#
        //#    <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>
        //#
        //# and send it.  Data or controls that were queued for
        //# transmission MAY be included.
        self.establish(now, segment, sh);
        self.rcv.ack_due = true;
        verdict.event = Event::Connected;
        //# If there are other controls or text in the segment, then continue processing at the
        //# sixth step under Section 3.10.7.4
        self.process_text(now, segment, sh, verdict)
    }

    /// Takes the sequence number and the options of the peer's SYN.
    pub(crate) fn on_peer_syn(&mut self, now: Instant, segment: &SegmentIn<'_>, sh: &Shared) {
        let options = &segment.tcp.options;
        let cfg = &sh.config;
        self.rtt.syn_lost = self.rtt.backoff > 0;
        self.rcv.irs = segment.tcp.seq;
        self.rcv.last_at = now;
        //= https://www.rfc-editor.org/rfc/rfc7323#section-2.2
        //# Both sides MUST send Window Scale options in their <SYN> segments to
        //# enable window scaling in either direction.
        let scale = options.window_scale.filter(|_| cfg.window_scaling);
        self.negotiated.scaling = scale.is_some();
        self.negotiated.snd_shift = scale.unwrap_or(0);
        self.rcv.shift = if scale.is_some() {
            cfg.window_scale()
        } else {
            0
        };
        self.negotiated.sack = options.sack_permitted && cfg.sack;
        let timestamps = options.timestamps.filter(|_| cfg.timestamps);
        self.negotiated.timestamps = timestamps.is_some();
        if let Some(ts) = timestamps {
            self.rcv.set_ts_recent(now, ts.val);
        }
        self.set_mss(
            options
                .mss
                .unwrap_or_else(|| default_mss(self.negotiated.ipv6)),
            sh,
        );
    }

    /// Sets the send MSS and the initial congestion window that follows from it.
    pub(crate) fn set_mss(&mut self, announced: u16, sh: &Shared) {
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.7.1
        // MUST-16: at most the MSS that the peer announced, and at most ours, which is what the
        // link carries. The minimum bounds the slab entries that a peer with a tiny MSS costs.
        let options = if self.negotiated.timestamps {
            TIMESTAMPS_LEN
        } else {
            0
        };
        let whole = announced.min(self.rcv.mss_out).max(MSS_MIN);
        self.snd.mss = whole - options;
        let window = initial_window(
            sh.config.initial_window,
            u32::from(self.snd.mss),
            self.rtt.syn_lost,
        );
        self.congestion = Congestion::new(sh.config.congestion, window);
    }
}

/// Smallest MSS, options included, that is used whatever the peer announces.
pub(crate) const MSS_MIN: u16 = 88;
