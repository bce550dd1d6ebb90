//! What the frequent segments cost: prints nanoseconds for each.
#![forbid(unsafe_code)]

use core::hint::black_box;
use core::time::Duration;

use lockgate_tcp::{Connection, OpenParams, SegmentIn, Shared, SharedParams, TcpConfig};
use lockgate_wire::tcp::{Flags, SackBlock, TcpHeader, TcpOptions, Timestamps};
use lockgate_wire::{Instant, SeqNum, StreamOffset};

fn main() {
    report(
        "in-order segment received, every second acknowledged",
        receive(),
    );
    report("segment sent and acknowledged", send(1));
    report("44 segments sent in a burst and acknowledged", send(44));
    report("SACK block in recovery", sack());
}

fn report(what: &str, (rounds, took): (u64, Duration)) {
    println!(
        "{what:<55}{:>8.1} ns",
        took.as_nanos() as f64 / rounds as f64
    );
}

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn timed(rounds: u64, mut round: impl FnMut(u64)) -> (u64, Duration) {
    let began = std::time::Instant::now();
    for i in 0..rounds {
        round(i);
    }
    (rounds, began.elapsed())
}

const ISS: SeqNum = SeqNum(1000);
const IRS: SeqNum = SeqNum(9000);
const MSS: u32 = 1448;

fn header(seq: u64, ack: u64, now: Instant) -> TcpHeader {
    TcpHeader {
        src_port: 40_000,
        dst_port: 443,
        seq: IRS + 1 + low(seq),
        ack: ISS + 1 + low(ack),
        flags: Flags::ACK,
        window: u16::MAX,
        urgent: 0,
        options: TcpOptions {
            timestamps: Some(Timestamps {
                val: low(now.as_millis()),
                ecr: 0,
            }),
            ..TcpOptions::NONE
        },
    }
}

fn low(n: u64) -> u32 {
    u32::try_from(n & 0xffff_ffff).unwrap_or(0)
}

fn open() -> (Connection, Shared, Instant) {
    let config = TcpConfig {
        nodelay: true,
        window_max: 64 << 20,
        ..TcpConfig::default()
    };
    let params = SharedParams {
        ranges: 10_000,
        connections: 1,
        challenge_seed: 1,
        ranges_seed: 2,
    };
    let mut sh = Shared::new(config, &params);
    let opening = OpenParams {
        local_port: 443,
        remote_port: 40_000,
        ipv6: false,
        mss: 1460,
        isn: ISS,
        ts_offset: 0,
    };
    let now = Instant::from_secs(1);
    let mut conn = Connection::connect(now, &opening, &sh);
    conn.room(64 << 20);
    transmit(&mut conn, &mut sh, now, u32::MAX);
    let mut syn = header(0, 0, now);
    syn.seq = IRS;
    syn.flags = Flags::SYN | Flags::ACK;
    syn.options.mss = Some(1460);
    syn.options.window_scale = Some(10);
    syn.options.sack_permitted = true;
    let _ = conn.on_segment(now, SegmentIn::new(&syn, 0), &mut sh);
    transmit(&mut conn, &mut sh, now, u32::MAX);
    let ack = header(0, 0, now);
    let _ = conn.on_segment(now, SegmentIn::new(&ack, 0), &mut sh);
    (conn, sh, now)
}

fn transmit(conn: &mut Connection, sh: &mut Shared, now: Instant, most: u32) -> u64 {
    let mut bytes = 0;
    while let Some(intent) = conn.poll_transmit(now, sh) {
        let len = low(intent.range.end.0 - intent.range.start.0)
            .min(intent.burst_max)
            .min(most);
        bytes += u64::from(len);
        let _ = black_box(conn.commit(intent, len, now, sh));
    }
    bytes
}

fn receive() -> (u64, Duration) {
    let (mut conn, mut sh, mut now) = open();
    timed(10_000_000, |i| {
        now += Duration::from_nanos(500);
        let tcp = header(i * u64::from(MSS), 0, now);
        let _ = black_box(conn.on_segment(now, SegmentIn::new(&tcp, MSS), &mut sh));
        conn.room(64 << 20);
        transmit(&mut conn, &mut sh, now, u32::MAX);
    })
}

fn send(segments: u32) -> (u64, Duration) {
    let (mut conn, mut sh, mut now) = open();
    let mut sent = 0;
    timed(10_000_000, |_| {
        now += Duration::from_nanos(500);
        let end = sent + u64::from(MSS * segments);
        conn.queued(StreamOffset(end));
        conn.ready(StreamOffset(end));
        sent += transmit(&mut conn, &mut sh, now, u32::MAX);
        let tcp = header(0, sent, now);
        let _ = black_box(conn.on_segment(now, SegmentIn::new(&tcp, 0), &mut sh));
    })
}

/// A thousand segments are in flight and the first is missing: one block grows with each segment.
fn sack() -> (u64, Duration) {
    let mut all = Duration::ZERO;
    let mut rounds = 0;
    for _ in 0..200 {
        let (mut conn, mut sh, mut now) = open();
        let mut sent = 0;
        while sent < 1000 * u64::from(MSS) {
            now += Duration::from_millis(1);
            conn.queued(StreamOffset(sent + 100 * u64::from(MSS)));
            conn.ready(StreamOffset(sent + 100 * u64::from(MSS)));
            sent += transmit(&mut conn, &mut sh, now, MSS);
            let tcp = header(0, sent, now);
            let _ = conn.on_segment(now, SegmentIn::new(&tcp, 0), &mut sh);
        }
        let from = sent;
        for _ in 0..1000 {
            now += Duration::from_nanos(100);
            sent += u64::from(MSS);
            conn.queued(StreamOffset(sent));
            conn.ready(StreamOffset(sent));
            transmit(&mut conn, &mut sh, now, MSS);
        }
        let (n, took) = timed(900, |i| {
            let mut tcp = header(0, from, now);
            let start = ISS + 1 + low(from + u64::from(MSS));
            let end = start + low(i + 1) * MSS;
            if let Some(block) = SackBlock::new(start, end) {
                tcp.options.sack.push(block);
            }
            let _ = black_box(conn.on_segment(now, SegmentIn::new(&tcp, 0), &mut sh));
        });
        all += took;
        rounds += n;
    }
    (rounds, all)
}
