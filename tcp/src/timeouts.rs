//! Timer expiry, and arming of the retransmission timer.

use core::time::Duration;

use lockgate_wire::Instant;

use crate::congestion::CongestionControl;
use crate::timers::{RtxMode, Timer};
use crate::{Connection, Event, Keepalive, Shared, State};

impl Connection {
    /// Handles expired timers. Call it at [`deadline`](Self::deadline); an early call does nothing.
    pub fn on_timer(&mut self, now: Instant, sh: &mut Shared) -> Event {
        self.stamp = self.stamp.wrapping_add(1);
        if self.timers.take_expired(Timer::DelayedAck, now) {
            self.rcv.ack_due = true;
        }
        self.reclaim_ranges(sh);
        let mut event = Event::None;
        if self.timers.take_expired(Timer::Linger, now) {
            event = Event::Closed;
        }
        if event == Event::None && self.timers.take_expired(Timer::Keepalive, now) {
            event = self.on_keepalive_timer(now, sh);
        }
        if event == Event::None && self.timers.take_expired(Timer::Retransmit, now) {
            event = self.on_retransmission_timer(now, sh);
        }
        if event == Event::TimedOut {
            sh.counters.timed_out += 1;
        }
        if event.is_over() {
            self.end(sh);
        } else {
            self.arm_rtx_timer(now, sh);
        }
        event
    }

    /// When to call [`on_timer`](Self::on_timer). Read it again after each round of
    /// [`poll_transmit`](Self::poll_transmit). A time in the past means at once.
    pub fn deadline(&self) -> Option<Instant> {
        // Commands have no `now`. If one leaves data that a closed window blocks, the persist timer
        // is armed by the next call of `on_timer`.
        if self.snd.rtx_mode != RtxMode::Persist && self.rtx_mode_wanted() == RtxMode::Persist {
            return Some(Instant::ZERO);
        }
        self.timers.next()
    }

    /// Handles expiry of the retransmission timer: retransmits, probes the window, or gives up.
    fn on_retransmission_timer(&mut self, now: Instant, sh: &mut Shared) -> Event {
        let waited = now.saturating_since(self.snd.progress_at);
        match (self.state, self.snd.rtx_mode) {
            (_, RtxMode::Off) => Event::None,
            (State::SynSent | State::SynReceived, RtxMode::Retransmit | RtxMode::Persist) => {
                if waited >= sh.config.syn_timeout {
                    return Event::TimedOut;
                }
                sh.counters.timeouts += 1;
                self.rtt.back_off();
                self.snd.syn_due = true;
                self.set_retransmit(now, self.rtt.rto(&sh.config), sh.config.syn_timeout);
                Event::None
            }
            (_, RtxMode::Persist) => self.on_closed_window(now, waited, sh),
            (_, RtxMode::Retransmit) => self.on_retransmission_timeout(now, waited, sh),
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.6.1
    //# The transmitting host SHOULD send the first zero-window probe when a
    //# zero window has existed for the retransmission timeout period
    //# (SHLD-29) (Section 3.8.1), and SHOULD increase exponentially the
    //# interval between successive probes (SHLD-30).
    fn on_closed_window(&mut self, now: Instant, waited: Duration, sh: &Shared) -> Event {
        if self.snd.window_closed() {
            // Answers to probes count as progress: only a silent peer times out.
            if waited >= self.user_timeout() && self.snd.window_probes_sent > 0 {
                return Event::TimedOut;
            }
            self.snd.probe_due = true;
        } else {
            self.snd.override_due = true;
        }
        self.snd.window_probes_sent = self.snd.window_probes_sent.saturating_add(1);
        self.set_retransmit(now, self.persist_interval(sh), self.user_timeout());
        Event::None
    }

    /// RFC 6298, section 5.4 to 5.6, and RFC 6675, section 5.1.
    fn on_retransmission_timeout(
        &mut self,
        now: Instant,
        waited: Duration,
        sh: &mut Shared,
    ) -> Event {
        //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.3
        //# When the number of transmissions of the same segment reaches a
        //# threshold R2 greater than R1, close the connection.
        if waited >= self.user_timeout() {
            return Event::TimedOut;
        }
        sh.counters.timeouts += 1;
        //= https://www.rfc-editor.org/rfc/rfc6675#section-5.1
        // RFC 2018 clears all SACK marks at a time-out, because the receiver may have reneged; RFC
        // 6675 allows to keep them where reneging is detected otherwise. Here they are cleared if
        // the ACK contradicts them, or at the second time-out in a row.
        let reneged = self.board.has_reneged(&sh.ranges);
        sh.counters.reneges += u64::from(reneged);
        let again = self.rtt.backoff > 0;
        if reneged || again {
            self.board.clear_sack(&mut sh.ranges);
        }
        let mss = u32::from(self.snd.mss);
        self.congestion
            .on_timeout(now, self.snd.flight(), mss, again);
        self.board.on_timeout(self.snd.nxt, &mut sh.ranges);
        //= https://www.rfc-editor.org/rfc/rfc6298#section-5
        //# (5.5) The host MUST set RTO <- RTO * 2 ("back off the timer").
        self.rtt.back_off();
        self.set_retransmit(now, self.rtt.rto(&sh.config), self.user_timeout());
        Event::None
    }

    /// Arms the retransmission timer, at the latest for the user timeout.
    fn set_retransmit(&mut self, now: Instant, after: Duration, give_up: Duration) {
        let last = (self.snd.progress_at + give_up).max(now + MIN_INTERVAL);
        self.timers.set(Timer::Retransmit, (now + after).min(last));
    }

    /// Arms or stops the retransmission timer by the current state. A timer in the right mode keeps
    /// its deadline.
    pub(crate) fn arm_rtx_timer(&mut self, now: Instant, sh: &Shared) {
        if !self.state.is_synchronized() {
            return;
        }
        let want = self.rtx_mode_wanted();
        if want != RtxMode::Persist {
            self.snd.window_probes_sent = 0;
            self.snd.probe_due = false;
            self.snd.override_due = false;
        }
        if want == self.snd.rtx_mode && want != RtxMode::Off {
            return;
        }
        match want {
            RtxMode::Off => self.timers.stop(Timer::Retransmit),
            RtxMode::Retransmit => {
                self.set_retransmit(now, self.rtt.rto(&sh.config), self.user_timeout())
            }
            RtxMode::Persist => {
                if self.snd.rtx_mode == RtxMode::Off {
                    self.snd.progress_at = now;
                }
                self.set_retransmit(now, self.persist_interval(sh), self.user_timeout());
            }
        }
        self.snd.rtx_mode = want;
    }

    /// The mode that the retransmission timer should have.
    fn rtx_mode_wanted(&self) -> RtxMode {
        if !self.state.sends() {
            RtxMode::Off
        } else if self.snd.window_closed() || self.needs_override_timer() {
            RtxMode::Persist
        } else if self.snd.flight() > 0 {
            RtxMode::Retransmit
        } else {
            RtxMode::Off
        }
    }

    /// Whether nothing is in flight and silly window avoidance blocks the rest (the override
    /// timeout of RFC 9293, section 3.8.6.2.1).
    fn needs_override_timer(&self) -> bool {
        let snd = &self.snd;
        let usable = snd.edge.saturating_sub(snd.nxt);
        snd.una == snd.nxt
            && snd.ready > snd.edge
            && usable < u64::from(snd.mss)
            && usable < u64::from(snd.window_max.div_ceil(2))
    }

    fn persist_interval(&self, sh: &Shared) -> Duration {
        let base = self.rtt.rto_unscaled(&sh.config);
        base.saturating_mul(1 << self.snd.window_probes_sent.min(PERSIST_MAX))
            .min(sh.config.rto_max.max(base))
    }

    pub(crate) fn user_timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.snd.user_timeout_ms))
    }

    /// Handles expiry of the keepalive timer.
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.8.4
    //# Keep-alive packets MUST only be sent when no sent data is
    //# outstanding, and no data or acknowledgment packets have been
    //# received for the connection within an interval (MUST-26).
    fn on_keepalive_timer(&mut self, now: Instant, sh: &Shared) -> Event {
        let times = sh.config.keepalive.unwrap_or_default();
        let silent = now.saturating_since(self.rcv.last_at);
        if self.snd.una < self.snd.nxt || self.snd.has_unsent() {
            self.timers.set(Timer::Keepalive, now + times.idle);
            return Event::None;
        }
        if self.snd.keepalives == 0 && silent < times.idle {
            self.timers
                .set(Timer::Keepalive, self.rcv.last_at + times.idle);
            return Event::None;
        }
        //# It is extremely important to remember that ACK segments that contain
        //# no data are not reliably transmitted by TCP.  Consequently, if a
        //# keep-alive mechanism is implemented it MUST NOT interpret failure to
        //# respond to any specific probe as a dead connection (MUST-29).
        if self.snd.keepalives >= times.count {
            return Event::TimedOut;
        }
        self.snd.keepalives += 1;
        self.snd.keepalive_due = true;
        self.timers.set(Timer::Keepalive, now + times.interval);
        Event::None
    }

    pub(crate) fn arm_keepalive(&mut self, now: Instant, sh: &Shared) {
        if self.keepalive {
            let Keepalive { idle, .. } = sh.config.keepalive.unwrap_or_default();
            self.timers.set(Timer::Keepalive, now + idle);
        }
    }

    pub(crate) fn enter_time_wait(&mut self, now: Instant, sh: &Shared) {
        self.state = State::TimeWait;
        for timer in [Timer::Retransmit, Timer::DelayedAck, Timer::Keepalive] {
            self.timers.stop(timer);
        }
        self.snd.rtx_mode = RtxMode::Off;
        self.timers.set(Timer::Linger, now + sh.config.time_wait);
    }

    /// Limits the time in FIN-WAIT-2 once the application has closed its receiving side.
    pub(crate) fn arm_fin_wait2_timer(&mut self, now: Instant, sh: &Shared) {
        if self.state == State::FinWait2 && self.rcv.read_shutdown {
            self.timers
                .set(Timer::Linger, now + sh.config.fin_wait2_timeout);
        }
    }
}

const PERSIST_MAX: u8 = 16;
/// Shortest interval to which the user timeout can cut the timer.
const MIN_INTERVAL: Duration = Duration::from_millis(1);
