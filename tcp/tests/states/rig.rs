//! One connection, and segments made by hand.

use core::ops::Range;
use core::time::Duration;

use lockgate_tcp::{
    Connection, Event, HalfOpen, HalfOpenVerdict, IntentKind, OpenParams, SegmentIn, Sent, Shared,
    SharedParams, State, TcpConfig, Verdict,
};
use lockgate_wire::tcp::{Flags, SackBlock, SackList, TcpHeader, TcpOptions, Timestamps};
use lockgate_wire::{Instant, SeqNum, StreamOffset};

pub(crate) const FIN: Flags = Flags::FIN;
pub(crate) const SYN: Flags = Flags::SYN;
pub(crate) const RST: Flags = Flags::RST;
pub(crate) const ACK: Flags = Flags::ACK;

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A segment, in offsets: `seq` 0 is the sender's first byte, -1 its SYN.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seg {
    pub(crate) flags: Flags,
    pub(crate) seq: i64,
    pub(crate) ack: i64,
    pub(crate) len: u32,
    pub(crate) window: u16,
    pub(crate) options: TcpOptions,
}

/// A segment with ACK of nothing and a window of 10 000.
pub(crate) fn seg(flags: Flags, seq: i64, len: u32) -> Seg {
    Seg {
        flags: flags | ACK,
        seq,
        ack: 0,
        len,
        window: 10_000,
        options: TcpOptions::NONE,
    }
}

impl Seg {
    pub(crate) fn ack(self, ack: i64) -> Self {
        Self { ack, ..self }
    }

    pub(crate) fn window(self, window: u16) -> Self {
        Self { window, ..self }
    }

    /// Without ACK.
    pub(crate) fn bare(self) -> Self {
        Self {
            flags: self.flags.without(ACK),
            ..self
        }
    }

    pub(crate) fn ts(mut self, val: u32, ecr: u32) -> Self {
        self.options.timestamps = Some(Timestamps { val, ecr });
        self
    }
}

/// What was sent.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    pub(crate) kind: IntentKind,
    pub(crate) tcp: TcpHeader,
    /// In offsets of our stream.
    pub(crate) seq: i64,
    /// In offsets of the peer's stream.
    pub(crate) ack: i64,
    pub(crate) len: u32,
    pub(crate) mss: u16,
    pub(crate) sent: Sent,
}

/// A connection and what is around it.
pub(crate) struct Rig {
    pub(crate) now: Instant,
    pub(crate) sh: Shared,
    pub(crate) conn: Connection,
    pub(crate) iss: SeqNum,
    pub(crate) irs: SeqNum,
}

pub(crate) fn opening() -> OpenParams {
    OpenParams {
        local_port: 443,
        remote_port: 40_000,
        ipv6: false,
        mss: 1460,
        isn: SeqNum(1_000_000),
        ts_offset: 7_000,
    }
}

/// A worker's slab: so many shared entries, and one for each connection.
pub(crate) fn params(ranges: u32, connections: u32) -> SharedParams {
    SharedParams {
        ranges,
        connections,
        challenge_seed: 1,
        ranges_seed: 2,
    }
}

/// Without options and delays: every segment means just what it says.
pub(crate) fn plain() -> TcpConfig {
    TcpConfig {
        timestamps: false,
        sack: false,
        window_scaling: false,
        window_max: 10_000,
        nodelay: true,
        ..TcpConfig::default()
    }
}

impl Rig {
    /// A connection in SYN-SENT whose SYN is still to be sent.
    pub(crate) fn connecting(config: TcpConfig) -> Self {
        Self::connecting_as(config, opening(), SeqNum(5_000_000))
    }

    pub(crate) fn connecting_as(config: TcpConfig, opening: OpenParams, irs: SeqNum) -> Self {
        let now = Instant::from_secs(100);
        let room = config.window_max;
        let sh = Shared::new(config, &params(200, 1));
        let mut conn = Connection::connect(now, &opening, &sh);
        conn.room(room);
        Self {
            now,
            sh,
            conn,
            iss: opening.isn,
            irs,
        }
    }

    /// An open connection; the peer's SYN-ACK carries these options. The round trip took 10 ms.
    pub(crate) fn open_with(config: TcpConfig, options: TcpOptions, window: u16) -> Self {
        Self::open_as(config, opening(), SeqNum(5_000_000), options, window)
    }

    pub(crate) fn open_as(
        config: TcpConfig,
        opening: OpenParams,
        irs: SeqNum,
        options: TcpOptions,
        window: u16,
    ) -> Self {
        let mut rig = Self::connecting_as(config, opening, irs);
        assert_eq!(rig.sends().len(), 1);
        rig.now += ms(10);
        let syn_ack = Seg {
            options,
            ..seg(SYN, -1, 0).ack(0).window(window)
        };
        let verdict = rig.feed(syn_ack);
        assert_eq!(verdict.event, Event::Connected);
        assert_eq!(rig.sends().len(), 1, "the handshake's last segment");
        rig
    }

    /// An open connection without options, a window of 10 000 both ways, MSS 1000.
    pub(crate) fn open() -> Self {
        Self::open_with(
            plain(),
            TcpOptions {
                mss: Some(1000),
                ..TcpOptions::NONE
            },
            10_000,
        )
    }

    /// An open connection with SACK, MSS 1000 and a large window.
    pub(crate) fn open_sack() -> Self {
        let config = TcpConfig {
            sack: true,
            window_max: 60_000,
            ..plain()
        };
        let options = TcpOptions {
            mss: Some(1000),
            sack_permitted: true,
            ..TcpOptions::NONE
        };
        Self::open_with(config, options, 60_000)
    }

    /// An open connection with timestamps; the peer's clock is at 500.
    pub(crate) fn open_ts() -> Self {
        let config = TcpConfig {
            timestamps: true,
            ..plain()
        };
        let options = TcpOptions {
            mss: Some(1012),
            timestamps: Some(Timestamps { val: 500, ecr: 0 }),
            ..TcpOptions::NONE
        };
        let mut rig = Self::connecting(config);
        rig.sends();
        rig.now += ms(10);
        let _ = rig.feed(Seg {
            options,
            ..seg(SYN, -1, 0)
        });
        rig.sends();
        rig
    }

    /// A connection that was brought into a state without any option, data or delay.
    pub(crate) fn in_state(state: State) -> Self {
        if state == State::SynSent {
            let mut rig = Self::connecting(plain());
            rig.sends();
            return rig;
        }
        if state == State::SynReceived {
            let mut rig = Self::in_state(State::SynSent);
            let _ = rig.feed(seg(SYN, -1, 0).bare());
            rig.sends();
            return rig;
        }
        let mut rig = Self::open();
        let peer_closes = |rig: &mut Self, ack| {
            let _ = rig.feed(seg(FIN, 0, 0).ack(ack));
            rig.sends();
        };
        let we_close = |rig: &mut Self| {
            rig.conn.close();
            assert!(rig.sends().iter().any(|o| o.tcp.flags.contains(FIN)));
        };
        match state {
            State::Established => {}
            State::FinWait1 => we_close(&mut rig),
            State::FinWait2 => {
                we_close(&mut rig);
                let _ = rig.feed(seg(ACK, 0, 0).ack(1));
            }
            State::CloseWait => peer_closes(&mut rig, 0),
            State::Closing => {
                we_close(&mut rig);
                peer_closes(&mut rig, 0);
            }
            State::LastAck => {
                peer_closes(&mut rig, 0);
                we_close(&mut rig);
            }
            State::TimeWait => {
                we_close(&mut rig);
                peer_closes(&mut rig, 1);
            }
            State::Closed | State::Listen | State::SynSent | State::SynReceived => unreachable!(),
        }
        assert_eq!(rig.conn.state(), state);
        rig
    }

    pub(crate) fn header(&self, s: Seg) -> TcpHeader {
        header(s, self.irs, self.iss)
    }

    /// The segment arrives.
    pub(crate) fn feed(&mut self, s: Seg) -> Verdict {
        let tcp = self.header(s);
        let verdict = self
            .conn
            .on_segment(self.now, SegmentIn::new(&tcp, s.len), &mut self.sh);
        self.conn.check(&self.sh);
        verdict
    }

    /// The segment arrives so much later.
    pub(crate) fn feed_after(&mut self, wait: Duration, s: Seg) -> Verdict {
        self.now += wait;
        self.feed(s)
    }

    /// An acknowledgment with SACK blocks arrives.
    pub(crate) fn sacked(&mut self, ack: i64, blocks: &[Range<i64>]) -> Verdict {
        let list: SackList = blocks
            .iter()
            .filter_map(|b| SackBlock::new(at(self.iss, b.start), at(self.iss, b.end)))
            .collect();
        let options = TcpOptions {
            sack: list,
            ..TcpOptions::NONE
        };
        self.feed(Seg {
            options,
            ..seg(ACK, 0, 0).ack(ack).window(60_000)
        })
    }

    /// The application writes up to `end`, all of it ready.
    pub(crate) fn write(&mut self, end: u64) {
        self.conn.queued(StreamOffset(end));
        self.conn.ready(StreamOffset(end));
    }

    /// Sends one thing, if there is anything to send.
    pub(crate) fn send_at_most(&mut self, most: u32) -> Option<Out> {
        let intent = self.conn.poll_transmit(self.now, &self.sh)?;
        let again = self.conn.poll_transmit(self.now, &self.sh);
        assert_eq!(Some(&intent), again.as_ref(), "asking changes nothing");
        let len = u32::try_from(intent.range.end.0 - intent.range.start.0).unwrap();
        let (kind, mss) = (intent.kind, intent.mss);
        let len = len.min(most);
        let (tcp, sent) = self.conn.commit(intent, len, self.now, &mut self.sh);
        self.conn.check(&self.sh);
        let seq = i64::from(tcp.seq.since(self.iss + 1).cast_signed());
        let ack = i64::from(tcp.ack.since(self.irs + 1).cast_signed());
        Some(Out {
            kind,
            tcp,
            seq,
            ack,
            len,
            mss,
            sent,
        })
    }

    /// Sends everything that can be sent, one segment at a time.
    pub(crate) fn sends(&mut self) -> Vec<Out> {
        let mut all = Vec::new();
        while let Some(mss) = self.conn.poll_transmit(self.now, &self.sh).map(|i| i.mss) {
            all.push(self.send_at_most(u32::from(mss)).unwrap());
            assert!(all.len() < 1000);
        }
        all
    }

    /// Time passes until the next timer, which goes off.
    pub(crate) fn timer(&mut self) -> (Duration, Event) {
        let at = self.conn.deadline().expect("a timer is set");
        let waited = at.saturating_since(self.now);
        self.now = self.now.max(at);
        let event = self.conn.on_timer(self.now, &mut self.sh);
        self.conn.check(&self.sh);
        (waited, event)
    }

    pub(crate) fn state(&self) -> State {
        self.conn.state()
    }

    /// The header that answered, in offsets of both streams.
    pub(crate) fn answer(&self, verdict: &Verdict) -> Option<(Flags, i64, i64)> {
        let tcp = verdict.answer?;
        let seq = i64::from(tcp.seq.since(self.iss + 1).cast_signed());
        let ack = i64::from(tcp.ack.since(self.irs + 1).cast_signed());
        Some((tcp.flags, seq, ack))
    }
}

/// A listener's half-open connection.
pub(crate) struct ListenRig {
    pub(crate) now: Instant,
    pub(crate) sh: Shared,
    pub(crate) half: HalfOpen,
    pub(crate) syn_ack: TcpHeader,
    pub(crate) iss: SeqNum,
    pub(crate) irs: SeqNum,
}

impl ListenRig {
    pub(crate) fn new(config: TcpConfig, options: TcpOptions) -> Self {
        let now = Instant::from_secs(100);
        let (iss, irs) = (opening().isn, SeqNum(5_000_000));
        let sh = Shared::new(config, &params(200, 1));
        let tcp = header(
            Seg {
                options,
                ..seg(SYN, -1, 0).bare()
            },
            irs,
            iss,
        );
        let (half, syn_ack) =
            HalfOpen::on_syn(now, &SegmentIn::new(&tcp, 0), &opening(), &sh).expect("a SYN");
        Self {
            now,
            sh,
            half,
            syn_ack,
            iss,
            irs,
        }
    }

    pub(crate) fn feed(&mut self, s: Seg) -> HalfOpenVerdict {
        let tcp = header(s, self.irs, self.iss);
        self.half
            .on_segment(self.now, &SegmentIn::new(&tcp, s.len), &mut self.sh)
    }

    /// The handshake is completed by this segment.
    pub(crate) fn open(mut self, s: Seg) -> (Rig, Verdict) {
        let HalfOpenVerdict::Established(conn) = self.feed(s) else {
            panic!("not established")
        };
        let mut rig = Rig {
            now: self.now,
            sh: self.sh,
            conn,
            iss: self.iss,
            irs: self.irs,
        };
        rig.conn.room(rig.sh.config.window_max);
        let verdict = rig.feed(s);
        (rig, verdict)
    }
}

pub(crate) fn header(s: Seg, irs: SeqNum, iss: SeqNum) -> TcpHeader {
    TcpHeader {
        src_port: 40_000,
        dst_port: 443,
        seq: at(irs, s.seq),
        ack: if s.flags.contains(ACK) {
            at(iss, s.ack)
        } else {
            SeqNum(0)
        },
        flags: s.flags,
        window: s.window,
        urgent: 0,
        options: s.options,
    }
}

/// The sequence number of an offset.
pub(crate) fn at(initial: SeqNum, offset: i64) -> SeqNum {
    SeqNum(
        initial
            .0
            .wrapping_add(1)
            .wrapping_add(u32::try_from(offset & 0xffff_ffff).unwrap()),
    )
}

/// A range of offsets, as verdicts have it.
pub(crate) fn span(start: u64, end: u64) -> Range<StreamOffset> {
    StreamOffset(start)..StreamOffset(end)
}
