//! What the record layer costs beside the cipher: framing and sealing from page-cache pages, and
//! deframing and opening, each against the backend's bare call on the same records in the same run.
//!
//! Prints a table: name, value, unit, baseline, ratio. With `LOCKGATE_BENCH_ROWS=FILE` the rows are
//! appended there too, one JSON object a line. Short rounds of each kind alternate, each
//! over another part of a working set far beyond the caches, and the fastest of each kind counts:
//! on a busy machine that is the least disturbed one.
#![forbid(unsafe_code)]

use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use lockgate_ktls::{
    BackendChoice, Ciphers, ContentType, Deframer, Limits, Params, Received, RecordQueue, Role,
    Session, Suite, Version, nonce,
};
use pktbuf::{
    Buffer, HeapBuffers, LARGE_SPAN, PageArena, PagePool, PoolConfig, Region, SharedSpan, Slices,
    Stream,
};

fn main() {
    println!(
        "{:<52} {:>8} {:<6} {:>8} {:>6}",
        "name", "value", "unit", "baseline", "ratio"
    );
    for (name, suite) in [
        ("aes-128-gcm", Suite::Aes128Gcm),
        ("aes-256-gcm", Suite::Aes256Gcm),
        ("chacha20-poly1305", Suite::Chacha20Poly1305),
    ] {
        let params = Params::new(suite, Version::Tls13);
        seal_rows(name, params);
        open_rows(name, params);
    }
}

fn seal_rows(name: &str, params: Params) {
    let pages = pages();
    let mut bare = BareSeal::new(params, TIGHT_SLOT);
    let mut bare_in_pages = BareSeal::new(params, LARGE_SPAN as usize);
    let mut by_reference = QueueSeal::new(params);
    let mut copied = QueueSeal::new(params);
    let mut best = [Duration::MAX; 4];
    // Parts far enough from each other that none finds what another left in the cache.
    let part = |at: usize| &pages[at % PARTS * (PART / SPAN)..][..PART / SPAN];
    for round in 0..ROUNDS {
        best[0] = best[0].min(timed(|| bare.run(part(round))));
        let at = round + PARTS / 4;
        best[1] = best[1].min(timed(|| by_reference.run(part(at), Source::Reference)));
        let at = round + PARTS / 2;
        best[2] = best[2].min(timed(|| copied.run(part(at), Source::Copy)));
        let at = round + 3 * PARTS / 4;
        best[3] = best[3].min(timed(|| bare_in_pages.run(part(at))));
    }
    let name = format!("frame + seal 16 KiB, {name}");
    row(
        &format!("{name}, by reference"),
        best[1],
        best[0],
        Some(0.95),
    );
    row(&format!("{name}, copied in"), best[2], best[0], None);
    row(
        &format!("{name}, beside AEAD into whole pages"),
        best[1],
        best[3],
        None,
    );
}

fn open_rows(name: &str, params: Params) {
    let mut bare = BareOpen::new(params);
    let mut packets = DeframerOpen::new(params);
    let mut cold = vec![1; 4 * PART];
    let mut best = [Duration::MAX; 3];
    for _ in 0..ROUNDS / 2 {
        best[0] = best[0].min(bare.round(&mut cold));
        best[1] = best[1].min(packets.round(1448, &mut cold));
        best[2] = best[2].min(packets.round(usize::MAX, &mut cold));
    }
    row(
        &format!("deframe + open 16 KiB, {name}, 1448-byte packets"),
        best[1],
        best[0],
        None,
    );
    row(
        &format!("deframe + open 16 KiB, {name}, one buffer each"),
        best[2],
        best[0],
        None,
    );
}

fn row(name: &str, subject: Duration, baseline: Duration, aim: Option<f64>) {
    let rate = |time: Duration| PART as f64 / time.as_secs_f64() / 1e9;
    let (value, base) = (rate(subject), rate(baseline));
    let ratio = value / base;
    println!(
        "{name:<52} {value:>8.2} {:<6} {base:>8.2} {ratio:>6.3}",
        "GB/s"
    );
    let Some(file) = std::env::var_os("LOCKGATE_BENCH_ROWS") else {
        return;
    };
    let aim = aim.map_or_else(|| "null".to_owned(), |aim| aim.to_string());
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(file)
        .expect("the file for rows");
    writeln!(
        file,
        r#"{{"name":"{name}","value":{value},"unit":"GB/s","baseline":{base},"ratio":{ratio},"aim":{aim}}}"#
    )
    .expect("the file for rows");
}

/// The bare call, out of place from the same pages into a ring of output buffers: one tight behind
/// the other, as one would write it down, or each in pages of its own, as the pool's spans are.
/// Where the buffers begin makes a difference of a tenth.
struct BareSeal {
    key: LessSafeKey,
    iv: [u8; 12],
    number: u64,
    slot: usize,
    ring: Vec<u8>,
}

impl BareSeal {
    fn new(params: Params, slot: usize) -> Self {
        Self {
            key: key(params),
            iv: IV,
            number: 0,
            slot,
            ring: vec![1; RING * slot],
        }
    }

    fn run(&mut self, pages: &[Arc<SharedSpan>]) {
        for (slot, page) in pages
            .iter()
            .flat_map(|span| span.chunks_exact(RECORD))
            .enumerate()
        {
            let out = &mut self.ring[slot % RING * self.slot..][..RECORD + 17];
            let (body, tail) = out.split_at_mut(RECORD);
            let nonce = Nonce::assume_unique_for_key(nonce(&self.iv, self.number));
            self.key
                .seal_out_of_place_scatter(nonce, Aad::from(AAD), page, body, &[23], tail)
                .expect("sealing");
            self.number += 1;
        }
        black_box(&self.ring);
    }
}

#[derive(Clone, Copy)]
enum Source {
    Reference,
    Copy,
}

/// A connection that sends the same pages, 64 KiB bursts, with a mebibyte in flight.
struct QueueSeal {
    queue: RecordQueue,
    pool: PagePool,
    ciphers: Ciphers,
}

impl QueueSeal {
    fn new(params: Params) -> Self {
        let config = PoolConfig {
            blocks: 256,
            small_spans: 8,
            large_spans: 128,
        };
        let mut region = Region::heap(PagePool::bytes_needed(config)).expect("memory");
        let pool = PagePool::new(&mut region, config).expect("memory");
        let mut ciphers = Ciphers::new(BackendChoice::AwsLcRs, 16);
        let mut queue = RecordQueue::new();
        queue
            .enable(session(params), 0, &mut ciphers)
            .expect("keys");
        Self {
            queue,
            pool,
            ciphers,
        }
    }

    fn run(&mut self, pages: &[Arc<SharedSpan>], source: Source) {
        for span in pages {
            let taken = match source {
                Source::Reference => {
                    let len = u32::try_from(span.len()).expect("a span is small");
                    self.queue.push_span(span, 0, len, &mut self.pool)
                }
                Source::Copy => self.queue.push_bytes(&[span], false, &mut self.pool),
            };
            assert_eq!(taken.map(|n| n as usize), Ok(span.len()));
            self.send();
        }
    }

    fn send(&mut self) {
        let limits = Limits {
            bytes: 65_160,
            entries: 32,
            mss: 1448,
        };
        let mut at = self.queue.end() - (SPAN / RECORD * (RECORD + 22)) as u64;
        while at < self.queue.end() {
            let range = self.queue.clamp(&(at..self.queue.end()), &limits);
            let ready = self
                .queue
                .prepare(&range, &mut self.ciphers, &mut self.pool);
            assert_eq!(ready, Ok(range.end));
            let mut slices = Slices::new(32);
            assert_eq!(self.queue.slices(&range, &mut slices), range.end);
            for slice in slices.as_slice() {
                black_box(slice.bytes());
            }
            at = range.end;
            // What is acknowledged leaves room for the next burst: as many output buffers in all
            // as the bare call has.
            self.queue
                .release(at.saturating_sub(((RING - BURST) * RECORD) as u64));
        }
    }
}

/// The bare call, in place on contiguous records.
struct BareOpen {
    key: LessSafeKey,
    params: Params,
    sealed: Vec<u8>,
    records: Vec<u8>,
}

impl BareOpen {
    fn new(params: Params) -> Self {
        let sealed = wire(params);
        Self {
            key: key(params),
            params,
            records: sealed.clone(),
            sealed,
        }
    }

    fn round(&mut self, cold: &mut [u8]) -> Duration {
        self.records.copy_from_slice(&self.sealed);
        evict(cold);
        let head = usize::from(self.params.shape().head_len());
        timed(|| {
            for (number, record) in (0..).zip(self.records.chunks_exact_mut(WIRE_RECORD)) {
                let nonce = Nonce::assume_unique_for_key(nonce(&IV, number));
                let body = &mut record[head..];
                self.key
                    .open_in_place(nonce, Aad::from(AAD), body)
                    .expect("opening");
            }
        })
    }
}

/// A connection that receives the same records in packets of a size.
struct DeframerOpen {
    params: Params,
    sealed: Vec<u8>,
    heap: HeapBuffers,
    pool: PagePool,
    ciphers: Ciphers,
}

impl DeframerOpen {
    fn new(params: Params) -> Self {
        let config = PoolConfig {
            blocks: 16,
            small_spans: 8,
            large_spans: 8,
        };
        let mut region = Region::heap(PagePool::bytes_needed(config)).expect("memory");
        let sealed = wire(params);
        let packets = u32::try_from(sealed.len() / 1400).expect("a count");
        Self {
            params,
            sealed,
            heap: HeapBuffers::new(packets),
            pool: PagePool::new(&mut region, config).expect("memory"),
            ciphers: Ciphers::new(BackendChoice::AwsLcRs, 16),
        }
    }

    fn round(&mut self, packet: usize, cold: &mut [u8]) -> Duration {
        let mut buffers: Vec<Buffer> = self
            .sealed
            .chunks_exact(WIRE_RECORD)
            .flat_map(|record| record.chunks(packet))
            .map(|bytes| self.heap.alloc(bytes).expect("a buffer"))
            .collect();
        let session = session(self.params);
        let mut rx = Deframer::new(session, 0, Role::Server, Stream::new(), &mut self.ciphers);
        let mut bytes = 0;
        evict(cold);
        let time = timed(|| {
            for buffer in buffers.drain(..) {
                rx.push(buffer);
                match rx
                    .next(&mut self.ciphers, &mut self.pool)
                    .expect("good records")
                {
                    Received::Record(record) => bytes += black_box(record.as_slice()).len(),
                    other => assert!(matches!(other, Received::NeedBytes)),
                }
            }
        });
        assert_eq!(bytes, PART);
        rx.retire(&mut self.ciphers);
        time
    }
}

/// Fills the caches with something else.
fn evict(cold: &mut [u8]) {
    for line in cold.chunks_mut(64) {
        line[0] = line[0].wrapping_add(1);
    }
    black_box(cold);
}

/// Page-cache pages, far more than any cache holds.
fn pages() -> Vec<Arc<SharedSpan>> {
    let mut region = Region::heap(WORKING_SET + SPAN).expect("memory");
    let arena = PageArena::new(&mut region, WORKING_SET).expect("memory");
    let mut spans = Vec::new();
    while let Some(mut page) = arena.alloc(SPAN) {
        for (n, byte) in page.iter_mut().enumerate() {
            *byte = (n % 251).to_le_bytes()[0];
        }
        spans.push(page.freeze(SPAN));
    }
    assert_eq!(spans.len() * SPAN, WORKING_SET);
    spans
}

/// The records of one round, one after the other.
fn wire(params: Params) -> Vec<u8> {
    let (key, session) = (key(params), session(params));
    let content = vec![7; RECORD];
    let mut wire = Vec::with_capacity(PART / RECORD * WIRE_RECORD);
    for number in 0..(PART / RECORD) as u64 {
        let kind = ContentType::APPLICATION_DATA;
        let head = session.head(number, kind, 1 << 14);
        wire.extend_from_slice(head.as_bytes());
        let mut body = content.clone();
        let mut tail = [0; 17];
        let nonce = Nonce::assume_unique_for_key(nonce(&IV, number));
        key.seal_in_place_scatter(nonce, Aad::from(AAD), &mut body, &[23], &mut tail)
            .expect("sealing");
        wire.extend_from_slice(&body);
        wire.extend_from_slice(&tail);
    }
    wire
}

fn key(params: Params) -> LessSafeKey {
    let algorithm = match params.suite {
        Suite::Aes128Gcm => &AES_128_GCM,
        Suite::Aes256Gcm => &AES_256_GCM,
        Suite::Chacha20Poly1305 => &CHACHA20_POLY1305,
        suite => panic!("no bare AEAD for {suite:?}"),
    };
    let key = UnboundKey::new(algorithm, &KEY[..params.suite.key_len()]);
    LessSafeKey::new(key.expect("a key of the right length"))
}

fn session(params: Params) -> Session {
    Session::from_key(params, &KEY[..params.suite.key_len()], &IV).expect("a key")
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock; the crate doesn't"
)]
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

const KEY: [u8; 32] = [0x42; 32];
const IV: [u8; 12] = [0x17; 12];
/// The header of every record here, which is TLS 1.3's additional data.
const AAD: [u8; 5] = [23, 3, 3, 0x40, 0x11];

const RECORD: usize = 16_384;
const WIRE_RECORD: usize = RECORD + 22;
const SPAN: usize = 256 * 1024;
const WORKING_SET: usize = PARTS * PART;
const PARTS: usize = 24;
/// Bytes of a round: some milliseconds.
const PART: usize = 16 * 1024 * 1024;
/// Output buffers of the bare call, and records in flight of the queue.
const RING: usize = 64;
/// A record, in whole cache lines.
const TIGHT_SLOT: usize = 16_640;
/// Records that a burst begins or ends in, at most.
const BURST: usize = 5;
const ROUNDS: usize = 48;
