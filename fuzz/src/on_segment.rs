//! A TCP connection: any segments, in any order, between any commands and timers. Its stream
//! positions never go back, and it never offers to send what wasn't queued.

use core::time::Duration;

use lockgate_tcp::{Connection, OpenParams, SegmentIn, Shared, SharedParams, TcpConfig};
use lockgate_wire::tcp::{Flags, SackBlock, TcpHeader, TcpOptions, Timestamps};
use lockgate_wire::{Instant, SeqNum, StreamOffset};

/// Runs the target on one input.
///
/// # Panics
/// If a property doesn't hold.
pub fn run(input: &[u8]) {
    let mut bytes = Bytes(input);
    let seed = u64::from(bytes.byte());
    let params = SharedParams {
        ranges: 64,
        connections: 1,
        challenge_seed: seed,
        ranges_seed: seed,
    };
    let mut sh = Shared::new(TcpConfig::default(), &params);
    let mut now = Instant::from_nanos(1_000_000_000);
    let opening = OpenParams {
        local_port: 1,
        remote_port: 2,
        ipv6: false,
        mss: 1460,
        isn: SeqNum(u32::MAX - 1000),
        ts_offset: u32::MAX - 5,
    };
    let mut tcp = Connection::connect(now, &opening, &sh);
    let mut queued = 0;
    let mut over = establish(&mut tcp, now, &mut sh, bytes.byte());
    let mut end_of_peer = None;
    while !over && !bytes.0.is_empty() {
        let before = (tcp.acked(), tcp.received());
        match bytes.byte() % 16 {
            0..=7 => {
                let header = header(&tcp, &mut bytes, now);
                let len = u32::from(bytes.word()) % 3000;
                let verdict = tcp.on_segment(now, SegmentIn::new(&header, len), &mut sh);
                over = verdict.event.is_over();
                let kept = verdict.keep.end.0.saturating_sub(verdict.keep.start.0);
                assert!(u64::from(verdict.skip_front) + kept <= u64::from(len));
                assert!(
                    verdict.acked.0 <= queued,
                    "acknowledged more than was queued"
                );
                if verdict.peer_closed {
                    assert_eq!(end_of_peer, None, "the peer closed twice");
                    end_of_peer = Some(verdict.readable);
                }
            }
            8 => {
                let more = u64::from(bytes.word());
                if !tcp.is_closing() {
                    queued += more;
                    tcp.queued(StreamOffset(queued));
                    tcp.ready(StreamOffset(queued));
                }
            }
            9 => tcp.room(u32::from(bytes.word()) * 16),
            10 => tcp.close(),
            11 => now += Duration::from_millis(u64::from(bytes.word())),
            12 => tcp.set_nodelay(bytes.byte() & 1 == 0),
            13 => drop(tcp.on_too_big(now, SeqNum(bytes.long()), bytes.word(), &mut sh)),
            _ => over = tcp.on_timer(now, &mut sh).is_over(),
        }
        for _ in 0..8 {
            let Some(intent) = tcp.poll_transmit(now, &sh).filter(|_| !over) else {
                break;
            };
            let len = intent.range.end.0 - intent.range.start.0;
            assert!(intent.range.end.0 <= queued, "offers more than was queued");
            assert!(
                intent.range.start >= tcp.acked(),
                "offers what was acknowledged"
            );
            let len = u32::try_from(len).expect("a burst").min(intent.burst_max);
            let (_, sent) = tcp.commit(intent, len, now, &mut sh);
            if bytes.byte() == 255 {
                tcp.on_local_loss(now, sent, &mut sh);
            }
        }
        assert!(
            tcp.acked() >= before.0 && tcp.received() >= before.1,
            "a stream went back"
        );
        if let Some(end) = end_of_peer {
            assert!(
                over || tcp.received() == end,
                "the peer sent beyond its FIN"
            );
        }
    }
    if !over {
        tcp.abort(&mut sh);
    }
    assert_eq!(sh.ranges_used(), 0, "ranges are missing");
}

/// Answers the SYN as a peer with these options does. Returns whether the connection is over.
fn establish(tcp: &mut Connection, now: Instant, sh: &mut Shared, options: u8) -> bool {
    let Some(intent) = tcp.poll_transmit(now, sh) else {
        return false;
    };
    let (syn, _) = tcp.commit(intent, 0, now, sh);
    let stamps = |on: bool| on.then_some(Timestamps { val: 77, ecr: 0 });
    let answer = TcpHeader {
        src_port: 2,
        dst_port: 1,
        seq: SeqNum(u32::MAX - 3),
        ack: syn.seq + 1,
        flags: Flags::SYN | Flags::ACK,
        window: u16::from(options) * 257,
        urgent: 0,
        options: TcpOptions {
            mss: Some(u16::from(options) * 8),
            window_scale: (options & 1 != 0).then_some(options >> 4),
            sack_permitted: options & 2 != 0,
            timestamps: stamps(options & 4 != 0),
            ..TcpOptions::NONE
        },
    };
    let verdict = tcp.on_segment(now, SegmentIn::new(&answer, 0), sh);
    verdict.event.is_over()
}

/// Returns a header with numbers near the connection's own.
fn header(tcp: &Connection, bytes: &mut Bytes<'_>, now: Instant) -> TcpHeader {
    let near = |at: SeqNum, by: u16| at + u32::from(by) - 0x4000;
    let seq = near(tcp.recv_seq(tcp.received()), 0x4000);
    let choice = bytes.byte();
    let seq = match choice % 4 {
        0 => near(seq, bytes.word()),
        1 => SeqNum(bytes.long()),
        _ => seq,
    };
    let ack = match choice / 4 % 4 {
        0 => near(tcp.send_seq(tcp.acked()), bytes.word()),
        1 => SeqNum(bytes.long()),
        2 => tcp.send_seq(tcp.acked()),
        _ => tcp.send_seq(tcp.sent()),
    };
    let mut options = TcpOptions::NONE;
    if choice & 0x40 != 0 {
        let val = u32::try_from(now.as_nanos() / 1_000_000).unwrap_or(0);
        options.timestamps = Some(Timestamps {
            val,
            ecr: bytes.long(),
        });
    }
    if choice & 0x80 != 0 {
        for _ in 0..bytes.byte() % 4 {
            let start = near(tcp.send_seq(tcp.acked()), bytes.word());
            if let Some(block) = SackBlock::new(start, start + u32::from(bytes.word())) {
                options.sack.push(block);
            }
        }
    }
    let flags = Flags(bytes.byte());
    TcpHeader {
        src_port: 2,
        dst_port: 1,
        seq,
        ack,
        flags,
        window: bytes.word(),
        urgent: 0,
        options,
    }
}

/// Numbers from the input; zeros at its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn long(&mut self) -> u32 {
        u32::from(self.word()) << 16 | u32::from(self.word())
    }
}
