//! The queue against a model that remembers what was written and reads the wire.

use std::collections::HashMap;
use std::sync::Arc;

use lockgate_testing::Random;
use pktbuf::{Placement, PoolUsage, SharedSpan};
use proptest::prelude::*;

use super::*;
use crate::BackendChoice;
use crate::cipher::RecordCipher;
use crate::job::{OpenJob, SealJob};
use crate::session::SessionId;

/// Watches every record that's sealed: a number is never used for two plaintexts under one key.
struct Watch {
    inner: Ciphers,
    seen: HashMap<(SessionId, u64), (u8, Vec<u8>)>,
}

impl RecordCipher for Watch {
    fn name(&self) -> &'static str {
        "watch"
    }

    fn priority(&self) -> u8 {
        1
    }

    fn supports(&self, params: Params) -> bool {
        self.inner.supports(params)
    }

    fn seal(&mut self, run: &mut [SealJob]) -> Result<(), CryptoError> {
        for job in run.iter_mut() {
            let (id, kind) = (job.session().id(), job.kind().0);
            let parts = job.parts();
            let (number, content) = (parts.record.number, parts.from.unwrap_or(parts.body));
            let plaintext = (kind, content.to_vec());
            let seen = self
                .seen
                .entry((id, number))
                .or_insert_with(|| plaintext.clone());
            assert!(*seen == plaintext, "number {number} is used twice");
        }
        self.inner.seal(run)
    }

    fn open(&mut self, job: &mut OpenJob) -> Result<(), CryptoError> {
        self.inner.open(job)
    }

    fn forget(&mut self, id: SessionId) {
        self.inner.forget(id);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Bytes {
        len: usize,
        more: bool,
    },
    Span {
        at: u32,
        len: u32,
    },
    Message {
        kind: u8,
        len: usize,
    },
    Flush,
    /// The next records are small, in segments of so many bytes.
    Small {
        records: u8,
        mss: u16,
    },
    Rekey,
    /// Sends up to so many bytes of what wasn't sent.
    Send {
        bytes: u32,
        entries: u16,
    },
    /// Sends again a part of what wasn't acknowledged: (from, length) in parts of 256.
    Again {
        from: u8,
        len: u8,
    },
    /// Drops the ciphertext that can be made again.
    DropCiphertext,
    /// Makes jobs of this part of what's queued, of 255.
    Jobs {
        part: u8,
        placement: Placement,
    },
    /// Ends one of the jobs.
    Job {
        which: u8,
        how: JobEnd,
    },
    TakeBack,
    /// Acknowledges this part of what's in flight, of 255.
    Ack(u8),
    Cut,
}

/// How a job ends.
#[derive(Clone, Copy, Debug)]
enum JobEnd {
    /// It is sealed, and comes back.
    Sealed,
    /// It fails after it wrote to the memory for the ciphertext, and comes back.
    Failed,
    /// It comes back before a cipher had it.
    NotRun,
    /// It never comes back.
    Dropped,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let len = || prop_oneof![4 => 1usize..200, 2 => 1usize..40_000, 1 => Just(16384)];
    let op = prop_oneof![
        3 => (len(), any::<bool>()).prop_map(|(len, more)| Op::Bytes { len, more }),
        3 => (0..5000u32, 1..60_000u32).prop_map(|(at, len)| Op::Span { at, len }),
        2 => (1..=255u8, 1usize..300).prop_map(|(kind, len)| Op::Message { kind, len }),
        1 => Just(Op::Flush),
        1 => (0..20u8, 1..3000u16).prop_map(|(records, mss)| Op::Small { records, mss }),
        1 => Just(Op::Rekey),
        6 => (1..70_000u32, 1..33u16).prop_map(|(bytes, entries)| Op::Send { bytes, entries }),
        2 => any::<(u8, u8)>().prop_map(|(from, len)| Op::Again { from, len }),
        2 => Just(Op::DropCiphertext),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(part, separate)| Op::Jobs {
            part,
            placement: if separate { Placement::Separate } else { Placement::InPlace },
        }),
        6 => (any::<u8>(), job_end()).prop_map(|(which, how)| Op::Job { which, how }),
        1 => Just(Op::TakeBack),
        4 => any::<u8>().prop_map(Op::Ack),
        1 => Just(Op::Cut),
    ];
    prop::collection::vec(op, 1..60)
}

fn job_end() -> impl Strategy<Value = JobEnd> {
    prop_oneof![
        5 => Just(JobEnd::Sealed),
        1 => Just(JobEnd::Failed),
        1 => Just(JobEnd::NotRun),
        1 => Just(JobEnd::Dropped),
    ]
}

struct Model {
    world: World,
    queue: RecordQueue,
    rng: Random,
    peer: Peer,
    span: Arc<SharedSpan>,
    segments: Segments,
    /// What was written and not cut: type and content; neighbours of type data may share a record.
    written: Vec<(u8, Vec<u8>)>,
    /// What's in the open record.
    open: Vec<u8>,
    /// Every byte that was ever sent.
    wire: Vec<u8>,
    record_len_max: usize,
    /// Ciphertext was dropped at some time.
    is_dropped: bool,
    /// Jobs that are elsewhere, also of records that are gone from the queue.
    jobs: Vec<SealJob>,
}

impl Model {
    fn new(params: Params, seed: u64, record_len_max: u16, failures: u32) -> Self {
        let mut world = World::with_pool(PoolConfig {
            blocks: 40,
            small_spans: 10,
            large_spans: 12,
        });
        let inner = Ciphers::new(BackendChoice::Auto, 2);
        world.ciphers = Ciphers::with_backends(vec![Box::new(Watch {
            inner,
            seen: HashMap::new(),
        })]);
        let mut rng = Random::new(seed);
        let (peer, session) = Peer::new(params, &mut rng);
        let mut queue = RecordQueue::new();
        queue
            .enable(session, peer.number, &mut world.ciphers)
            .unwrap();
        queue.set_record_len_max(record_len_max);
        queue.set_dynamic_records(true);
        let span = world.span(&rng.bytes(65_536));
        world.pool.inject_failures(seed, failures);
        Self {
            world,
            queue,
            rng,
            peer,
            span,
            segments: Segments::UNKNOWN,
            written: Vec::new(),
            open: Vec::new(),
            wire: Vec::new(),
            record_len_max: record_len_max.into(),
            is_dropped: false,
            jobs: Vec::new(),
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Bytes { len, more } => self.bytes(len, more),
            Op::Span { at, len } => {
                match self.queue.push_span_in(
                    self.segments,
                    &self.span,
                    at,
                    len,
                    &mut self.world.pool,
                ) {
                    Ok(n) => {
                        self.close_open();
                        let (at, n) = (at as usize, n as usize);
                        self.written.push((23, self.span[at..at + n].to_vec()));
                    }
                    // The open record was closed before the pool ran out.
                    Err(TxError::Exhausted) => self.close_open(),
                    Err(error) => panic!("{error}"),
                }
            }
            Op::Message { kind, len } => {
                let content = self.rng.bytes(len);
                match self
                    .queue
                    .push_message(ContentType(kind), &content, &mut self.world.pool)
                {
                    Ok(()) => {
                        self.close_open();
                        self.written.push((kind, content));
                    }
                    Err(TxError::MessageSize) => assert!(len > self.record_len_max),
                    Err(error) => assert_eq!(error, TxError::Exhausted),
                }
            }
            Op::Flush => {
                self.queue.flush().unwrap();
                self.close_open();
            }
            Op::Small { records, mss } => {
                self.queue.begin_small(records);
                self.segments = Segments::new(self.sent(), mss);
                assert_eq!(self.queue.small_left(), records);
            }
            Op::Rekey => {
                let ciphers = &mut self.world.ciphers;
                match self.queue.update_keys(false, ciphers, &mut self.world.pool) {
                    // The open record stays open.
                    Ok(()) => self.written.push((22, vec![24, 0, 0, 1, 0])),
                    Err(TxError::RekeyUnsupported) => {
                        assert_ne!(self.peer.params.version, Version::Tls13);
                    }
                    Err(error) => {
                        assert!(matches!(error, TxError::RekeyBusy | TxError::Exhausted));
                    }
                }
            }
            Op::Send { bytes, entries } => {
                let limits = Limits {
                    bytes,
                    entries,
                    mss: 1448,
                };
                let want = self.sent()..self.queue.ready_end();
                if !want.is_empty() {
                    let range = self.queue.clamp(&want, &limits);
                    assert!(!range.is_empty());
                    self.send(&range);
                }
            }
            Op::Again { from, len } => self.send_again(from, len),
            Op::DropCiphertext => {
                let before = self.world.pool.usage();
                let spans_used = |usage: PoolUsage| usage.small_spans_used + usage.large_spans_used;
                let freed = self.queue.drop_ciphertext(&mut self.world.pool);
                let after = self.world.pool.usage();
                assert_eq!(spans_used(before) - spans_used(after), freed);
                self.is_dropped |= freed > 0;
            }
            Op::Ack(part) => {
                let start = self.queue.start();
                let to = start + (self.sent() - start) * u64::from(part) / 255;
                self.queue.release(to);
                assert_eq!(self.queue.start(), to);
            }
            Op::Jobs { part, placement } => self.make_jobs(part, placement),
            Op::Job { which, how } => {
                if !self.jobs.is_empty() {
                    let at = usize::from(which) % self.jobs.len();
                    let job = self.jobs.swap_remove(at);
                    self.end_job(job, how);
                }
            }
            Op::TakeBack => self.take_back(),
            Op::Cut => self.cut(),
        }
        self.queue.check().unwrap();
        assert!(self.sent() <= self.queue.ready_end());
        assert_eq!(self.queue.open_len() as usize, self.open.len());
    }

    fn sent(&self) -> u64 {
        self.wire.len() as u64
    }

    fn bytes(&mut self, len: usize, more: bool) {
        let data = self.rng.bytes(len);
        let (a, b) = data.split_at(self.rng.index(len + 1));
        let pool = &mut self.world.pool;
        match self.queue.push_bytes_in(self.segments, &[a, b], more, pool) {
            Ok(n) => {
                self.open.extend_from_slice(&data[..n as usize]);
                let left = self.queue.open_len() as usize;
                assert!(left == 0 || more, "every write closes its record");
                let closed: Vec<_> = self.open.drain(..self.open.len() - left).collect();
                if !closed.is_empty() {
                    self.written.push((23, closed));
                }
            }
            Err(error) => assert_eq!(error, TxError::Exhausted),
        }
    }

    fn close_open(&mut self) {
        if self.queue.open_len() == 0 && !self.open.is_empty() {
            self.written.push((23, core::mem::take(&mut self.open)));
        }
    }

    fn send(&mut self, range: &Range<u64>) {
        let ready = self
            .queue
            .prepare(range, &mut self.world.ciphers, &mut self.world.pool)
            .unwrap();
        assert!(range.start <= ready && ready <= range.end);
        self.wire
            .extend_from_slice(&read(&self.queue, range.start, ready));
    }

    fn make_jobs(&mut self, part: u8, placement: Placement) {
        let (start, end) = (self.queue.start(), self.queue.end());
        let range = start..start + (end - start) * u64::from(part) / 255;
        let (queue, pool) = (&mut self.queue, &mut self.world.pool);
        let before = (queue.ready_end(), self.jobs.len());
        let records_max = 1 + usize::from(part % 8);
        let taken = queue.jobs(&range, placement, records_max, pool, &mut self.jobs);
        let taken = taken.unwrap();
        assert!(self.jobs.len() <= before.1 + records_max);
        if taken == Taken::All {
            assert!(queue.ready_end() >= range.end || queue.has_away());
        }
        assert!(queue.ready_end() == before.0 || self.jobs.len() > before.1);
    }

    fn end_job(&mut self, mut job: SealJob, how: JobEnd) {
        let ready = self.queue.ready_end();
        let result = match how {
            JobEnd::Sealed => self.world.ciphers.seal(core::slice::from_mut(&mut job)),
            JobEnd::Failed => {
                if !job.is_in_place() {
                    let parts = job.parts();
                    parts.body.fill(0xbb);
                    parts.tail.fill(0xbb);
                }
                let _ = job.set_result(Err(CryptoError::Backend));
                Err(CryptoError::Backend)
            }
            JobEnd::NotRun => Ok(()),
            JobEnd::Dropped => return drop(job),
        };
        let (ciphers, pool) = (&mut self.world.ciphers, &mut self.world.pool);
        assert_eq!(self.queue.sealed([job], ciphers, pool), result);
        assert!(self.queue.ready_end() >= ready && !self.queue.is_lost());
    }

    fn take_back(&mut self) {
        match self.queue.take_back(&mut self.world.pool) {
            Ok(()) => assert!(!self.queue.has_away()),
            Err(TxError::Exhausted) => {}
            // Sealed in place.
            Err(error) => {
                assert_eq!(error, TxError::Crypto(CryptoError::Backend));
                assert!(self.queue.has_away());
            }
        }
    }

    /// Ends all jobs, the last one first, so that nothing is away.
    fn end_jobs(&mut self) {
        while let Some(job) = self.jobs.pop() {
            self.end_job(job, JobEnd::Sealed);
        }
        // Those that were dropped come back with the next look.
        self.take_back();
        assert!(!self.queue.has_away());
    }

    fn send_again(&mut self, from: u8, len: u8) {
        let flight = self.sent() - self.queue.start();
        let from = self.queue.start() + flight * u64::from(from) / 256;
        let to = (from + 1 + flight * u64::from(len) / 256).min(self.sent());
        if from < to {
            let range = from..to;
            let ready = self
                .queue
                .prepare(&range, &mut self.world.ciphers, &mut self.world.pool)
                .unwrap();
            assert!(
                ready == to || self.is_dropped,
                "what was sent once needs nothing to be sent again"
            );
            let to = ready.max(from);
            let at = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
            assert_eq!(read(&self.queue, from, to), self.wire[at]);
        }
    }

    /// Cuts, reads the rest, and continues with a stream of only those bytes.
    fn cut(&mut self) {
        let end = self.queue.cut_unsent(self.sent()).unwrap();
        self.open.clear();
        assert!(end >= self.sent());
        assert_eq!(end, self.queue.end());
        let left = self.read_all();
        // A prefix of what was written, in whole records, is what's left.
        let bytes: usize = left.iter().map(|(_, content)| content.len()).sum();
        let mut room = bytes;
        for (_, content) in &mut self.written {
            content.truncate(room);
            room -= content.len();
        }
        self.written.retain(|(_, content)| !content.is_empty());
        self.compare(&left);
    }

    /// Sends whatever isn't sent, and opens the whole stream.
    fn read_all(&mut self) -> Vec<(u8, Vec<u8>)> {
        self.world.pool.inject_failures(0, 0);
        self.end_jobs();
        while self.sent() < self.queue.end() {
            let before = self.sent();
            // Small pools: what's acknowledged makes room.
            self.queue.release(before);
            self.send(&(before..self.queue.end()));
            assert!(self.sent() > before, "the pool holds at least a record");
        }
        let mut peer = self.peer.clone();
        peer.open_all(&self.wire)
            .into_iter()
            .map(|(kind, content)| (kind.0, content))
            .collect()
    }

    fn compare(&self, records: &[(u8, Vec<u8>)]) {
        let joined = |list: &[(u8, Vec<u8>)]| {
            let mut joined: Vec<(u8, Vec<u8>)> = Vec::new();
            for (kind, content) in list {
                match joined.last_mut() {
                    Some((last, bytes)) if last == kind && *kind == 23 => bytes.extend(content),
                    _ => joined.push((*kind, content.clone())),
                }
            }
            joined
        };
        assert!(
            records
                .iter()
                .all(|(_, content)| content.len() <= self.record_len_max)
        );
        assert!(
            joined(records) == joined(&self.written),
            "the wire doesn't say what was written"
        );
    }

    fn finish(mut self) {
        self.queue.flush().unwrap();
        self.close_open();
        let records = self.read_all();
        self.compare(&records);
        self.queue.release(self.queue.end());
        let queued = self
            .queue
            .push_span(&self.span, 0, 9000, &mut self.world.pool);
        assert!(queued.is_ok_and(|len| len > 0));
        // The queue is gone, and its jobs aren't.
        self.make_jobs(255, Placement::Separate);
        self.queue.retire(&mut self.world.ciphers);
        assert!(!self.world.pool.is_full());
        self.jobs.clear();
        self.world.pool.reclaim();
        assert!(self.world.pool.is_full(), "{:?}", self.world.pool.usage());
    }
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(300))]

    #[test]
    fn the_wire_says_what_was_written(
        params in prop::sample::select(sending()),
        seed: u64,
        record_len_max in prop_oneof![Just(16384u16), 1..=16384u16, 300..600u16],
        failures in prop_oneof![Just(0u32), 2..20u32],
        ops in ops(),
    ) {
        let mut model = Model::new(params, seed, record_len_max.max(64), failures);
        for op in &ops {
            model.apply(op);
        }
        model.finish();
    }
}
