//! The connection: its parts, commands and getters.

use core::time::Duration;

use lockgate_wire::tcp::TcpHeader;
use lockgate_wire::{Instant, SeqNum, StreamOffset};

use crate::congestion::{Congestion, CongestionControl};
use crate::options::Negotiated;
use crate::receive::{MSS_MIN, ReceiveVars, without_fin};
use crate::recovery::{Phase, Scoreboard};
use crate::rtt::Rtt;
use crate::timers::{RtxMode, Timer, Timers};
use crate::transmit::{SendVars, millis};
use crate::{ConnectionInfo, IntentKind, OpenParams, Sent, Shared, State, TimeWait};

/// Severity of an ICMP "destination unreachable" (RFC 1122, 4.2.3.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unreachable {
    /// Transient: network or host unreachable, time exceeded, parameter problem.
    Soft,
    /// Permanent: protocol or port unreachable, or administratively prohibited.
    Hard,
}

/// One TCP connection, as arithmetic on stream offsets.
///
/// # Call order
///
/// *Input.* Reserve memory for the payload, then pass each received segment to
/// [`on_segment`](Self::on_segment). The [`Verdict`](crate::Verdict) names the payload to keep, a
/// segment to send at once, and the acknowledged offset. Call [`on_timer`](Self::on_timer) at
/// [`deadline`](Self::deadline).
///
/// *Commands.* [`queued`](Self::queued) and [`ready`](Self::ready) set the end of the send queue
/// and of its part that can be sent now. [`room`](Self::room) sets the free space of the receive
/// queue. [`close`](Self::close) puts a FIN after the queued data,
/// [`shutdown_read`](Self::shutdown_read) closes the receiving side, [`abort`](Self::abort) ends
/// the connection at once.
///
/// *Output.* After any of these, call [`poll_transmit`](Self::poll_transmit) until it returns
/// `None`. Pass each [`Intent`](crate::Intent) to [`commit`](Self::commit) with the length that is
/// really sent, or drop it. `commit` returns the header. If the packet then does not leave the
/// host, call [`on_local_loss`](Self::on_local_loss). Finally read [`deadline`](Self::deadline)
/// again.
///
/// *End.* After an [`Event`](crate::Event) that [is over](crate::Event::is_over) the connection
/// holds no memory in [`Shared`] and can be dropped. Before that, [abort](Self::abort) it, or
/// replace it by a [`TimeWait`], before dropping it.
///
/// # Offsets
///
/// Both streams count from 0, the first byte after the SYN, in 64 bits that never wrap. A FIN
/// counts as one byte after the last; public offsets never include it.
#[derive(Debug)]
pub struct Connection {
    pub(crate) snd: SendVars,
    pub(crate) rcv: ReceiveVars,
    pub(crate) board: Scoreboard,
    pub(crate) congestion: Congestion,
    pub(crate) rtt: Rtt,
    pub(crate) timers: Timers,
    pub(crate) negotiated: Negotiated,
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    /// Change stamp: an intent is valid only while it is unchanged.
    pub(crate) stamp: u16,
    pub(crate) state: State,
    pub(crate) keepalive: bool,
}

const _: () = assert!(size_of::<Connection>() <= 360);

impl Connection {
    /// Active open. The SYN is the first [`Intent`](crate::Intent) that
    /// [`poll_transmit`](Self::poll_transmit) returns.
    pub fn connect(now: Instant, opening: &OpenParams, sh: &Shared) -> Self {
        let mut conn = Self::new(now, opening, sh);
        conn.state = State::SynSent;
        conn.snd.syn_due = true;
        conn.timers
            .set(Timer::Retransmit, now + conn.rtt.rto(&sh.config));
        conn.snd.rtx_mode = RtxMode::Retransmit;
        conn
    }

    /// A connection of which only our end is known.
    pub(crate) fn new(now: Instant, opening: &OpenParams, sh: &Shared) -> Self {
        let cfg = &sh.config;
        Self {
            snd: SendVars::new(opening.isn, now, cfg),
            rcv: ReceiveVars::new(now, opening.mss.max(MSS_MIN), cfg.quick_acks),
            board: Scoreboard::EMPTY,
            congestion: Congestion::new(cfg.congestion, 0),
            rtt: Rtt::default(),
            timers: Timers::OFF,
            negotiated: Negotiated {
                ts_offset: opening.ts_offset,
                timestamps: false,
                sack: false,
                scaling: false,
                snd_shift: 0,
                ipv6: opening.ipv6,
                nodelay: cfg.nodelay,
            },
            local_port: opening.local_port,
            remote_port: opening.remote_port,
            stamp: 0,
            state: State::Closed,
            keepalive: cfg.keepalive.is_some(),
        }
    }

    /// Reports that a committed segment did not leave this host. It is retransmitted, and not
    /// counted as congestion.
    pub fn on_local_loss(&mut self, now: Instant, sent: Sent, sh: &mut Shared) {
        self.stamp = self.stamp.wrapping_add(1);
        sh.counters.local_losses += 1;
        match sent.kind {
            // The retransmission timer repeats these.
            IntentKind::Syn | IntentKind::SynAck | IntentKind::Keepalive => {}
            IntentKind::Ack => self.rcv.ack_due = self.state.is_synchronized(),
            IntentKind::Data | IntentKind::Retransmit | IntentKind::WindowProbe => {
                let end = sent.start.0 + u64::from(sent.len) + u64::from(sent.fin);
                let start = sent.start.0.max(self.snd.una);
                if start < end.min(self.snd.nxt) {
                    self.board.mark_unsent(start, end, &mut sh.ranges);
                }
                self.arm_rtx_timer(now, sh);
            }
        }
    }

    /// Sets the end of the send queue. It may go back, but not before [`sent`](Self::sent).
    pub fn queued(&mut self, end: StreamOffset) {
        debug_assert!(end >= self.sent(), "what was sent stays queued");
        debug_assert!(
            !self.snd.fin_sent() || end.0 == self.snd.queued,
            "nothing follows the FIN"
        );
        if self.snd.fin_sent() || end.0 < self.snd.nxt {
            return;
        }
        if end.0 < self.snd.queued {
            self.stamp = self.stamp.wrapping_add(1);
        }
        self.snd.queued = end.0;
        self.snd.ready = self.snd.ready.min(end.0);
    }

    /// Sets the end of the part of the send queue that can be sent now; at most what is queued.
    pub fn ready(&mut self, end: StreamOffset) {
        debug_assert!(end.0 <= self.snd.queued, "only what is queued can be ready");
        self.snd.ready = end.0.min(self.snd.queued);
    }

    /// Sets the free space of the receive queue, in bytes beyond [`received`](Self::received). It
    /// may shrink at any time; a window that was advertised is still honoured.
    pub fn room(&mut self, bytes: u32) {
        self.rcv.set_room(bytes);
    }

    /// Closes the sending side: a FIN follows the queued data. In SYN-SENT, where no data can have
    /// been sent, the connection is over at once.
    pub fn close(&mut self) {
        self.stamp = self.stamp.wrapping_add(1);
        self.snd.closing = true;
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.4
        //# ESTABLISHED STATE
        //#
        //# -  Queue this until all preceding SENDs have been segmentized, then
        //#    form a FIN segment and send it.  In any case, enter FIN-WAIT-1
        //#    state.
        self.state = match self.state {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            State::SynSent | State::Listen | State::Closed => {
                self.timers = Timers::OFF;
                State::Closed
            }
            // The FIN is queued until the handshake is complete.
            State::SynReceived => State::SynReceived,
            State::FinWait1 => State::FinWait1,
            State::FinWait2 => State::FinWait2,
            State::Closing => State::Closing,
            State::LastAck => State::LastAck,
            State::TimeWait => State::TimeWait,
        };
    }

    /// Closes the receiving side (SHUT_RD): later data is answered with RST, and FIN-WAIT-2 gets a
    /// time limit. If readable data was not read, call [`abort`](Self::abort) instead.
    pub fn shutdown_read(&mut self, now: Instant, sh: &Shared) {
        self.rcv.read_shutdown = true;
        self.arm_fin_wait2_timer(now, sh);
    }

    /// Ends the connection. Returns the RST to send, if the state requires one.
    pub fn abort(&mut self, sh: &mut Shared) -> Option<TcpHeader> {
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.5
        //# SYN-RECEIVED STATE, ESTABLISHED STATE, FIN-WAIT-1 STATE, FIN-WAIT-2 STATE,
        //# CLOSE-WAIT STATE
        //#
        //# -  Send a reset segment:
        //#
        //#       <SEQ=SND.NXT><CTL=RST>
        // In CLOSING and LAST-ACK the RFC deletes the TCB without a RST. Our data may still be in
        // flight there, and a RST lets the peer free its state, so these two send one as well.
        let reset = match self.state {
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => Some(self.reset_header(self.snd.seq_without_payload())),
            State::Closed | State::Listen | State::SynSent | State::TimeWait => None,
        };
        self.end(sh);
        reset
    }

    /// Enters CLOSED and frees all memory in `sh`.
    pub(crate) fn end(&mut self, sh: &mut Shared) {
        self.stamp = self.stamp.wrapping_add(1);
        self.state = State::Closed;
        self.board.clear(&mut sh.ranges);
        self.free_pieces(sh);
        self.timers = Timers::OFF;
    }

    /// Joins sent ranges if the connection holds more than twice its share of the slab.
    //
    // To half of the share, so that an ACK pays for no more than what was added since then.
    #[inline]
    pub(crate) fn reclaim_ranges(&mut self, sh: &mut Shared) {
        if sh.ranges.is_far_too_many(self.board.tree.count) {
            let target = (sh.ranges.allowance() / 2).max(1);
            self.board.shrink(target, &mut sh.ranges);
            sh.counters.ranges_reclaimed += 1;
        }
    }

    /// Sets TCP_NODELAY: small segments are sent without waiting for ACKs (no Nagle algorithm).
    pub fn set_nodelay(&mut self, on: bool) {
        self.stamp = self.stamp.wrapping_add(1);
        self.negotiated.nodelay = on;
    }

    /// Turns keepalive on, with the times of [`TcpConfig`](crate::TcpConfig) or their defaults, or
    /// off.
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.4
    //# If keep-alives are included, the application MUST be able to turn them on or off for each
    //# TCP connection (MUST-24), and they MUST default to off (MUST-25).
    pub fn set_keepalive(&mut self, on: bool, now: Instant, sh: &Shared) {
        self.keepalive = on;
        self.timers.stop(Timer::Keepalive);
        if self.state.is_synchronized() && self.state != State::TimeWait {
            self.arm_keepalive(now, sh);
        }
    }

    /// Sets the user timeout (RFC 5482): how long sent data may stay unacknowledged.
    pub fn set_user_timeout(&mut self, timeout: Duration) {
        self.snd.user_timeout_ms = millis(timeout);
    }

    /// The TIME-WAIT entry that can replace this connection. `None` in other states.
    pub fn time_wait(&self) -> Option<TimeWait> {
        let window = self.rcv.window() >> self.rcv.shift;
        (self.state == State::TimeWait).then(|| TimeWait {
            local_port: self.local_port,
            remote_port: self.remote_port,
            snd_nxt: self.snd.seq(self.snd.nxt),
            rcv_nxt: self.rcv.seq(self.rcv.nxt),
            window: u16::try_from(window).unwrap_or(u16::MAX),
            timestamps: self.negotiated.timestamps,
            ts_offset: self.negotiated.ts_offset,
            ts_recent: self.rcv.ts_recent,
            deadline: self.timers.next().unwrap_or(Instant::ZERO),
        })
    }

    /// The connection state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Our port and the peer's.
    pub fn ports(&self) -> (u16, u16) {
        (self.local_port, self.remote_port)
    }

    /// Whether the peer's FIN was received, so that [`received`](Self::received) is final.
    pub fn peer_closed(&self) -> bool {
        self.rcv.fin_received()
    }

    /// Whether `close` was called.
    pub fn is_closing(&self) -> bool {
        self.snd.closing
    }

    /// SND.UNA: our stream is acknowledged up to this offset.
    pub fn acked(&self) -> StreamOffset {
        self.outgoing(self.snd.una)
    }

    /// SND.NXT: our stream was sent up to this offset.
    pub fn sent(&self) -> StreamOffset {
        self.outgoing(self.snd.nxt)
    }

    /// When something of our stream was sent last, or the connection's begin.
    pub fn last_sent(&self) -> Instant {
        self.snd.last_sent
    }

    /// Payload bytes of a segment now, with the room for options taken off.
    pub fn mss(&self) -> u16 {
        self.mss_now()
    }

    /// RCV.NXT: the peer's stream is complete up to this offset.
    pub fn received(&self) -> StreamOffset {
        without_fin(self.rcv.nxt, self.rcv.fin)
    }

    /// Whether only the peer's closed window blocks transmission (RFC 9293, 3.8.6.1). Lasts as long
    /// as the peer answers probes.
    pub fn is_window_blocked(&self) -> bool {
        self.snd.rtx_mode == RtxMode::Persist
    }

    /// Whether our FIN was sent and isn't acknowledged.
    pub fn is_fin_in_flight(&self) -> bool {
        self.snd.fin_sent() && !self.snd.fin_acked()
    }

    /// The bytes from the first unacknowledged one on that may be in flight: the smaller of the
    /// congestion window and the peer's window. 0 while the peer's window is closed.
    pub fn usable_window(&self) -> u32 {
        let peer = self.snd.edge.saturating_sub(self.snd.una);
        let peer = u32::try_from(peer).unwrap_or(u32::MAX);
        self.congestion.window().min(peer)
    }

    /// Converts an offset in our stream to a sequence number.
    pub fn send_seq(&self, at: StreamOffset) -> SeqNum {
        self.snd.seq(at.0)
    }

    /// Converts a sequence number near the send window to an offset. `None` before offset 0.
    pub fn send_offset(&self, seq: SeqNum) -> Option<StreamOffset> {
        u64::try_from(self.snd.offset(seq)).ok().map(StreamOffset)
    }

    /// Converts an offset in the peer's stream to a sequence number.
    pub fn recv_seq(&self, at: StreamOffset) -> SeqNum {
        self.rcv.seq(at.0)
    }

    /// Converts a sequence number near the receive window to an offset. `None` before offset 0.
    pub fn recv_offset(&self, seq: SeqNum) -> Option<StreamOffset> {
        u64::try_from(self.rcv.offset(seq)).ok().map(StreamOffset)
    }

    /// A snapshot of the connection's variables.
    pub fn info(&self, sh: &Shared) -> ConnectionInfo {
        ConnectionInfo {
            state: self.state,
            srtt: self.rtt.srtt(),
            rttvar: self.rtt.rttvar(),
            rtt_min: self.rtt.min(),
            rto: self.rtt.rto(&sh.config),
            backoff: self.rtt.backoff,
            cwnd: self.congestion.window(),
            ssthresh: self.congestion.threshold(),
            flight: self.snd.flight(),
            pipe: self.board.pipe(self.snd.flight()),
            delivered: self.board.delivered,
            in_recovery: self.board.phase != Phase::Open,
            send_window: u32::try_from(self.snd.edge.saturating_sub(self.snd.una))
                .unwrap_or(u32::MAX),
            receive_window: self.rcv.window(),
            mss: self.snd.mss,
            sack: self.negotiated.sack,
            timestamps: self.negotiated.timestamps,
            window_scaling: self.negotiated.scaling,
            ranges: self.board.tree.count + self.rcv.pieces.count,
        }
    }

    /// Asserts the invariants of the connection. For tests: takes time linear in its ranges.
    pub fn check(&self, sh: &Shared) {
        let snd = &self.snd;
        assert!(snd.una <= snd.nxt && snd.nxt <= snd.queued + u64::from(snd.closing));
        assert!(snd.ready <= snd.queued);
        assert!(self.rcv.fin_received() || self.rcv.nxt <= self.rcv.fin);
        self.board.check(&sh.ranges);
        let mut pieces: Vec<_> = sh
            .ranges
            .iter_pieces(&self.rcv.pieces)
            .map(|(_, piece)| (piece.start, piece.end()))
            .collect();
        pieces.sort_unstable();
        assert!(
            pieces
                .iter()
                .all(|(start, end)| *start > self.rcv.nxt && start < end)
        );
        assert!(
            pieces.windows(2).all(|pair| pair[0].1 < pair[1].0),
            "pieces don't touch"
        );
        assert_eq!(pieces.len(), self.rcv.pieces.count as usize);
        if self.state == State::Closed {
            assert_eq!(self.board.tree.count + self.rcv.pieces.count, 0);
            assert_eq!(self.timers.next(), None);
        } else if self.state.is_synchronized() {
            assert_eq!(
                self.board.flight(&sh.ranges),
                snd.flight(),
                "what was sent is remembered"
            );
        }
    }

    fn outgoing(&self, at: u64) -> StreamOffset {
        StreamOffset(if self.snd.closing {
            at.min(self.snd.queued)
        } else {
            at
        })
    }
}
