//! A host: a connection, the application on it, and the checks of what it received.

use core::time::Duration;

use lockgate_tcp::{
    Connection, ConnectionInfo, Event, HalfOpen, HalfOpenTimer, HalfOpenVerdict, IntentKind,
    OpenParams, SegmentIn, Shared, SharedParams, State, TcpConfig, TimeWait, TimeWaitVerdict,
    Verdict, reset_for,
};
use lockgate_testing::Random;
use lockgate_wire::tcp::TcpHeader;
use lockgate_wire::{Instant, StreamOffset};

use crate::link::Packet;

/// Behaviour of an application.
#[derive(Clone, Debug)]
pub(crate) struct AppConfig {
    /// Bytes to send in all.
    pub(crate) total: u64,
    /// Bytes that it keeps queued beyond what is acknowledged.
    pub(crate) send_buffer: u64,
    /// Bytes that one write adds at most.
    pub(crate) write_max: u64,
    /// Per million writes: a pause follows.
    pub(crate) stall_ppm: u32,
    pub(crate) stall: Duration,
    /// Receive buffer in bytes.
    pub(crate) receive_buffer: u32,
    /// Interval and size of reads; zero: everything at once.
    pub(crate) read_every: Duration,
    pub(crate) read_max: u32,
    /// Delay between queued and ready.
    pub(crate) ready_after: Duration,
    /// Per million bursts: lost before they leave the host.
    pub(crate) local_loss_ppm: u32,
    /// Largest burst that it sends.
    pub(crate) burst: u32,
}

impl AppConfig {
    pub(crate) fn sender(total: u64) -> Self {
        Self {
            total,
            send_buffer: 8 << 20,
            write_max: 1 << 20,
            stall_ppm: 0,
            stall: Duration::ZERO,
            receive_buffer: 8 << 20,
            read_every: Duration::ZERO,
            read_max: u32::MAX,
            ready_after: Duration::ZERO,
            local_loss_ppm: 0,
            burst: u32::MAX,
        }
    }
}

/// State of the host's connection.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there are two of them")]
pub(crate) enum End {
    Listen,
    HalfOpen(HalfOpen),
    Open(Connection),
    TimeWait(TimeWait),
    Over(Event),
}

/// Statistics beyond the counters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Notes {
    /// Bytes in flight at time-outs, summed: a bound of what they retransmit.
    pub(crate) flight_at_timeouts: u64,
    /// Time spent in time-outs, and idle before other timers expired, summed. Delayed ACKs are
    /// shorter and don't count.
    pub(crate) waited: Duration,
    /// Bursts that did not leave the host, and their payload.
    pub(crate) local_drops: u64,
    pub(crate) local_lost: u64,
    pub(crate) stalled: Duration,
}

/// A host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) end: End,
    pub(crate) sh: Shared,
    pub(crate) app: AppConfig,
    pub(crate) notes: Notes,
    opening: OpenParams,
    random: Random,
    queued: u64,
    ready: u64,
    ready_at: Instant,
    write_at: Instant,
    read_at: Instant,
    closed: bool,
    /// The in-order part of the received stream, and pieces beyond it.
    have: u64,
    beyond: Vec<(u64, u64)>,
    read: u64,
    pub(crate) peer_closed: bool,
    pub(crate) connected: bool,
    out: Vec<Packet>,
    last: Option<ConnectionInfo>,
    active_at: Instant,
}

impl Host {
    pub(crate) fn new(
        config: TcpConfig,
        app: AppConfig,
        opening: OpenParams,
        ranges: u32,
        seed: u64,
    ) -> Self {
        Self {
            end: End::Listen,
            sh: Shared::new(
                config,
                &SharedParams {
                    ranges,
                    connections: 1,
                    challenge_seed: seed,
                    ranges_seed: seed ^ 0x5eed,
                },
            ),
            app,
            notes: Notes::default(),
            opening,
            random: Random::new(seed),
            queued: 0,
            ready: 0,
            ready_at: Instant::ZERO,
            write_at: Instant::ZERO,
            read_at: Instant::ZERO,
            closed: false,
            have: 0,
            beyond: Vec::new(),
            read: 0,
            peer_closed: false,
            connected: false,
            out: Vec::new(),
            last: None,
            active_at: Instant::ZERO,
        }
    }

    pub(crate) fn connect(&mut self, now: Instant) {
        self.active_at = now;
        let mut conn = Connection::connect(now, &self.opening, &self.sh);
        conn.room(self.app.receive_buffer);
        self.end = End::Open(conn);
    }

    /// How much of the peer's stream arrived.
    pub(crate) fn received(&self) -> u64 {
        self.have
    }

    /// How much of our stream was acknowledged; all of it once the connection has closed cleanly.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.end, End::Over(_) | End::TimeWait(_))
    }

    pub(crate) fn info(&self) -> Option<ConnectionInfo> {
        match &self.end {
            End::Open(conn) => Some(conn.info(&self.sh)),
            _ => self.last,
        }
    }

    /// Next deadline of the host.
    pub(crate) fn wake(&self) -> Option<Instant> {
        let timer = match &self.end {
            End::Listen | End::Over(_) => None,
            End::HalfOpen(half) => Some(half.deadline()),
            End::Open(conn) => conn.deadline(),
            End::TimeWait(tw) => Some(tw.deadline()),
        };
        let mut wake = timer;
        if let End::Open(conn) = &self.end {
            let mut at = |t: Instant| wake = Some(wake.map_or(t, |w| w.min(t)));
            let full = self.queued >= conn.acked().0 + self.app.send_buffer;
            if self.queued < self.app.total && !full {
                at(self.write_at);
            }
            if self.ready < self.queued {
                at(self.ready_at);
            }
            if self.read < self.have && !self.app.read_every.is_zero() {
                at(self.read_at);
            }
        }
        wake
    }

    /// A packet arrived.
    pub(crate) fn receive(&mut self, now: Instant, packet: &Packet) {
        self.active_at = now;
        let segment = SegmentIn::new(&packet.tcp, packet.len);
        match &mut self.end {
            End::Listen => match HalfOpen::on_syn(now, &segment, &self.opening, &self.sh) {
                Some((half, header)) => {
                    self.end = End::HalfOpen(half);
                    self.bare(header);
                }
                None => {
                    if let Some(header) = HalfOpen::refuse(&segment) {
                        self.bare(header);
                    }
                }
            },
            End::HalfOpen(half) => match half.on_segment(now, &segment, &mut self.sh) {
                HalfOpenVerdict::Drop => {}
                HalfOpenVerdict::Reply(header) | HalfOpenVerdict::Reset(header) => {
                    self.bare(header);
                }
                HalfOpenVerdict::Closed => self.end = End::Listen,
                HalfOpenVerdict::Established(conn) => {
                    self.end = End::Open(conn);
                    self.report_room();
                    self.receive(now, packet);
                }
            },
            End::Open(conn) => {
                let verdict = conn.on_segment(now, segment, &mut self.sh);
                self.update_recovery(now, packet, verdict);
            }
            End::TimeWait(tw) => {
                if let TimeWaitVerdict::Reply(header) = tw.on_segment(now, &segment, &mut self.sh) {
                    self.bare(header);
                }
            }
            End::Over(_) => {
                if let Some(header) = reset_for(&segment) {
                    self.bare(header);
                }
            }
        }
    }

    /// Checks a verdict against what the packet carried, and acts on it.
    fn update_recovery(&mut self, now: Instant, packet: &Packet, verdict: Verdict) {
        let Verdict {
            keep,
            skip_front,
            readable,
            acked,
            answer,
            peer_closed,
            event,
        } = verdict;
        if keep.start < keep.end {
            let end = packet.tag + u64::from(packet.len);
            assert_eq!(
                keep.start.0,
                packet.tag + u64::from(skip_front),
                "kept bytes have moved"
            );
            assert!(keep.end.0 <= end, "more was kept than came");
            assert!(
                keep.end.0
                    <= self.read + u64::from(self.app.receive_buffer).max(u64::from(u16::MAX)),
                "more was kept than the buffer holds"
            );
            self.keep(keep.start.0, keep.end.0);
        }
        assert_eq!(
            readable.0, self.have,
            "what is readable and what arrived differ"
        );
        assert!(
            acked.0 <= self.queued,
            "what was not queued can't be acknowledged"
        );
        if let Some(header) = answer {
            self.bare(header);
        }
        assert!(!(peer_closed && self.peer_closed), "a stream ends once");
        self.peer_closed |= peer_closed;
        self.connected |= event == Event::Connected;
        self.take(event);
        if self.app.read_every.is_zero() {
            self.read_now(now);
        } else if self.read < self.have && self.read_at <= now {
            self.read_at = now + self.app.read_every;
        }
        self.report_room();
    }

    fn keep(&mut self, start: u64, end: u64) {
        self.beyond.push((start, end));
        loop {
            let have = self.have;
            let Some(at) = self.beyond.iter().position(|(s, _)| *s <= have) else {
                return;
            };
            let (_, end) = self.beyond.swap_remove(at);
            self.have = have.max(end);
        }
    }

    fn read_now(&mut self, now: Instant) {
        let unread = self.have - self.read;
        self.read += unread.min(u64::from(self.app.read_max));
        self.read_at = now + self.app.read_every;
    }

    fn report_room(&mut self) {
        let unread = u32::try_from(self.have - self.read).unwrap_or(u32::MAX);
        if let End::Open(conn) = &mut self.end {
            conn.room(self.app.receive_buffer.saturating_sub(unread));
        }
    }

    fn take(&mut self, event: Event) {
        if let End::Open(conn) = &self.end {
            self.last = Some(conn.info(&self.sh));
            if event == Event::TimeWait {
                let remains = conn.time_wait().expect("in TIME-WAIT there are remains");
                assert_eq!(conn.acked().0, self.app.total);
                self.end = End::TimeWait(remains);
            } else if event.is_over() {
                assert_eq!(conn.state(), State::Closed);
                self.end = End::Over(event);
            }
        }
    }

    /// Runs expired timers, reads and writes.
    pub(crate) fn tick(&mut self, now: Instant) {
        match &mut self.end {
            End::Listen | End::Over(_) => {}
            End::HalfOpen(half) if half.deadline() <= now => match half.on_timer(now, &mut self.sh)
            {
                HalfOpenTimer::NotYet => {}
                HalfOpenTimer::Retransmit(header) => {
                    self.notes.waited += now.saturating_since(self.active_at);
                    self.active_at = now;
                    self.bare(header);
                }
                HalfOpenTimer::GiveUp => self.end = End::Listen,
            },
            End::HalfOpen(_) => {}
            End::TimeWait(tw) => {
                if tw.deadline() <= now {
                    self.end = End::Over(Event::Closed);
                }
            }
            End::Open(conn) => {
                if conn.deadline().is_some_and(|d| d <= now) {
                    let before = conn.info(&self.sh);
                    let timeouts = self.sh.counters.timeouts;
                    let event = conn.on_timer(now, &mut self.sh);
                    let silence = now.saturating_since(self.active_at);
                    if self.sh.counters.timeouts == timeouts {
                        if silence >= self.sh.config.rto_min {
                            self.notes.waited += silence;
                        }
                    } else {
                        self.notes.waited += before.rto.max(silence);
                        self.notes.flight_at_timeouts += u64::from(before.flight);
                    }
                    self.take(event);
                }
                self.run_app(now);
            }
        }
    }

    fn run_app(&mut self, now: Instant) {
        if self.read < self.have && self.read_at <= now {
            self.read_now(now);
        }
        self.report_room();
        let End::Open(conn) = &mut self.end else {
            return;
        };
        while self.write_at <= now && self.queued < self.app.total {
            let room = (conn.acked().0 + self.app.send_buffer).saturating_sub(self.queued);
            let len = self
                .app
                .write_max
                .min(room)
                .min(self.app.total - self.queued);
            if len == 0 {
                break;
            }
            self.queued += self.random.between(1, len).max(len / 2);
            self.ready_at = now + self.app.ready_after;
            if self.random.chance(self.app.stall_ppm.into(), 1_000_000) {
                self.write_at = now + self.app.stall;
                self.notes.stalled += self.app.stall;
            }
        }
        if self.ready_at <= now {
            self.ready = self.queued;
        }
        if !self.closed {
            conn.queued(StreamOffset(self.queued));
            conn.ready(StreamOffset(self.ready));
            if self.queued == self.app.total && conn.state().is_synchronized() {
                conn.close();
                self.closed = true;
            }
        } else {
            conn.ready(StreamOffset(self.ready));
        }
    }

    /// Sends everything that can be sent, through `emit`.
    pub(crate) fn transmit(&mut self, now: Instant, emit: &mut impl FnMut(Packet)) {
        for packet in self.out.drain(..) {
            emit(packet);
        }
        let End::Open(conn) = &mut self.end else {
            return;
        };
        let mut bursts = 0;
        while let Some(intent) = conn.poll_transmit(now, &self.sh) {
            bursts += 1;
            assert!(bursts < 100_000, "it never stops sending: {intent:?}");
            let (start, end) = (intent.range.start.0, intent.range.end.0);
            let (mss, kind) = (u32::from(intent.mss), intent.kind);
            let offered = u32::try_from(end - start).expect("less than a window");
            self.active_at = now;
            assert!(end <= self.queued, "only queued bytes are sent");
            assert!(
                kind != IntentKind::Data || end <= self.ready,
                "only ready bytes are sent"
            );
            let len = offered.min(intent.burst_max).min(self.app.burst.max(mss));
            let (header, sent) = conn.commit(intent, len, now, &mut self.sh);
            if self
                .random
                .chance(self.app.local_loss_ppm.into(), 1_000_000)
            {
                self.notes.local_drops += 1;
                self.notes.local_lost += u64::from(len);
                conn.on_local_loss(now, sent, &mut self.sh);
                if kind == IntentKind::Ack {
                    break;
                }
                continue;
            }
            segment(
                &header,
                start,
                len,
                mss,
                kind == IntentKind::Retransmit,
                emit,
            );
        }
    }

    fn bare(&mut self, tcp: TcpHeader) {
        self.out.push(Packet {
            tcp,
            len: 0,
            tag: 0,
            again: false,
        });
    }
}

/// Cuts a burst into segments as a port would.
fn segment(
    header: &TcpHeader,
    start: u64,
    len: u32,
    mss: u32,
    again: bool,
    emit: &mut impl FnMut(Packet),
) {
    use lockgate_wire::tcp::Flags;
    let mut at = 0;
    loop {
        let piece = (len - at).min(mss);
        let last = at + piece == len;
        let mut tcp = *header;
        tcp.seq += at;
        if !last {
            tcp.flags = tcp.flags.without(Flags::FIN | Flags::PSH);
        }
        emit(Packet {
            tcp,
            len: piece,
            tag: start + u64::from(at),
            again,
        });
        at += piece;
        if last {
            return;
        }
    }
}
