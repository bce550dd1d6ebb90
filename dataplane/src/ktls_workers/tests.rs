use lockgate_ktls::{
    BackendChoice, CryptoError, Jobs, OpenJob, Params, RecordCipher, RecordQueue, SealJob, Session,
    Suite, Version,
};
use pktbuf::{PagePool, Placement, PoolConfig, Region, Slices};

use super::*;

fn ciphers() -> Ciphers {
    Ciphers::new(BackendChoice::Auto, 8)
}

fn start(threads: usize, workers: usize) -> (KtlsWorkers, Vec<KtlsQueues>) {
    let config = KtlsWorkersConfig {
        workers: NonZeroUsize::new(threads).unwrap(),
        cores: Vec::new(),
    };
    KtlsWorkers::start(&config, workers, ciphers).unwrap()
}

/// A send queue of its own, with a pool.
struct Connection {
    queue: RecordQueue,
    pages: PagePool,
    session: Session,
    _region: Region,
}

impl Connection {
    fn new(key: u8) -> Self {
        let config = PoolConfig {
            blocks: 512,
            small_spans: 512,
            large_spans: 4,
        };
        let mut region = Region::heap(PagePool::bytes_needed(config)).unwrap();
        let pages = PagePool::new(&mut region, config).unwrap();
        let params = Params::new(Suite::Aes128Gcm, Version::Tls13);
        let session = Session::from_key(params, &[key; 16], &[key; 12]).unwrap();
        let mut queue = RecordQueue::new();
        queue.enable(session.clone(), 0, &mut ciphers()).unwrap();
        Self {
            queue,
            pages,
            session,
            _region: region,
        }
    }

    fn push(&mut self, records: u8) {
        for byte in 0..records {
            let bytes = [byte; 100];
            self.queue
                .push_bytes(&[&bytes], false, &mut self.pages)
                .unwrap();
        }
    }

    fn jobs(&mut self, records_max: usize) -> Vec<SealJob> {
        let (all, mut jobs) = (0..self.queue.end(), Vec::new());
        self.queue
            .jobs(
                &all,
                Placement::InPlace,
                records_max,
                &mut self.pages,
                &mut jobs,
            )
            .unwrap();
        jobs
    }

    fn take_back(&mut self, work: Work) {
        let Jobs::Seal(jobs) = work.jobs else {
            unreachable!("records to be sealed");
        };
        self.queue
            .sealed(jobs, &mut ciphers(), &mut self.pages)
            .unwrap();
    }

    fn wire(&self) -> Vec<u8> {
        let (all, mut slices) = (0..self.queue.ready_end(), Slices::new(512));
        self.queue.slices(&all, &mut slices);
        let pieces = slices.as_slice().iter().filter_map(|slice| slice.bytes());
        pieces.flatten().copied().collect()
    }

    /// What this many records are when they are sealed here.
    fn sealed_here(key: u8, records: u8) -> Vec<u8> {
        let mut reference = Self::new(key);
        reference.push(records);
        let all = 0..reference.queue.end();
        reference
            .queue
            .prepare(&all, &mut ciphers(), &mut reference.pages)
            .unwrap();
        reference.wire()
    }
}

fn wait(queues: &mut KtlsQueues) -> Work {
    loop {
        if let Some(work) = queues.poll() {
            return work;
        }
        thread::yield_now();
    }
}

/// Two workers, two threads: each connection's records come back to its worker, in order. Their
/// bytes are the same as if the worker had sealed them.
#[test]
fn records_come_back_in_order_to_their_worker() {
    let (threads, queues) = start(2, 2);
    let workers = queues.into_iter().enumerate().map(|(number, mut queues)| {
        thread::spawn(move || {
            let keys = [1, 2, 3].map(|n| u8::try_from(4 * number).unwrap() + n);
            let mut connections = keys.map(Connection::new);
            let mut next = [0_u64; 3];
            for connection in &mut connections {
                connection.push(100);
            }
            loop {
                let mut is_done = true;
                for (at, connection) in connections.iter_mut().enumerate() {
                    let flow = u32::try_from(at).unwrap();
                    let room = queues.room(flow).min(7);
                    let jobs = if room > 0 {
                        connection.jobs(room)
                    } else {
                        Vec::new()
                    };
                    is_done &= jobs.is_empty() && !connection.queue.has_away();
                    if jobs.is_empty() {
                        continue;
                    }
                    let work = Work {
                        owner: at as u64,
                        jobs: Jobs::Seal(jobs),
                    };
                    queues.submit(flow, work).unwrap();
                }
                if is_done {
                    break;
                }
                let work = wait(&mut queues);
                let owner = usize::try_from(work.owner).unwrap();
                let Jobs::Seal(jobs) = &work.jobs else {
                    unreachable!("records to be sealed");
                };
                for job in jobs {
                    assert_eq!(job.number(), next[owner], "in order");
                    assert!(job.is_sealed());
                    next[owner] += 1;
                }
                connections[owner].take_back(work);
            }
            assert_eq!(queues.in_flight(), 0);
            for (connection, key) in connections.iter().zip(keys) {
                assert_eq!(connection.wire(), Connection::sealed_here(key, 100));
            }
        })
    });
    let workers: Vec<_> = workers.collect();
    for worker in workers {
        worker.join().unwrap();
    }
    assert!(threads.join());
}

/// A worker that submits all it may leaves another worker its own room.
#[test]
fn a_worker_has_a_share_of_each_queue() {
    let (threads, mut queues) = start(1, 2);
    let mut greedy = Connection::new(1);
    greedy.push(200);
    let mut submitted = 0;
    while queues[0].room(0) > 0 {
        let jobs = greedy.jobs(queues[0].room(0));
        submitted += jobs.len();
        let jobs = Jobs::Seal(jobs);
        queues[0].submit(0, Work { owner: 0, jobs }).unwrap();
    }
    // What is done counts until the worker takes it back.
    assert_eq!(
        (submitted, queues[0].in_flight()),
        (QUEUE_RECORDS, QUEUE_RECORDS)
    );
    let jobs = Jobs::Seal(greedy.jobs(1));
    let refused = queues[0].submit(0, Work { owner: 0, jobs }).unwrap_err();
    assert_eq!(refused.records(), 1);
    assert_eq!(queues[1].room(0), QUEUE_RECORDS);
    let mut fair = Connection::new(2);
    fair.push(3);
    let jobs = Jobs::Seal(fair.jobs(3));
    queues[1].submit(0, Work { owner: 7, jobs }).unwrap();
    let work = wait(&mut queues[1]);
    assert_eq!((work.owner, work.records()), (7, 3));
    fair.take_back(work);
    assert_eq!(fair.wire(), Connection::sealed_here(2, 3));
    // A job that was refused is only framed again.
    greedy.take_back(refused);
    while queues[0].in_flight() > 0 {
        let work = wait(&mut queues[0]);
        greedy.take_back(work);
    }
    assert!(!greedy.queue.has_away());
    drop(queues);
    assert!(threads.join());
}

/// Connections that close while their records are away, and a worker that ends with work in the
/// queue: the memory is back when the threads have ended.
#[test]
fn nothing_is_lost_when_a_worker_ends_with_work_in_the_queue() {
    let (threads, mut queues) = start(2, 1);
    let mut connection = Connection::new(1);
    connection.push(60);
    for flow in 0..6 {
        let jobs = Jobs::Seal(connection.jobs(8));
        queues[0].submit(flow, Work { owner: 0, jobs }).unwrap();
    }
    let (mut pages, region) = (connection.pages, connection._region);
    drop((connection.queue, queues));
    assert!(threads.join());
    pages.reclaim();
    assert!(pages.is_full(), "{:?}", pages.usage());
    drop(region);
}

/// A session that has ended doesn't stay in a KTLS worker's table of keys.
#[test]
fn keys_of_ended_sessions_are_removed() {
    let (threads, mut queues) = start(1, 1);
    let mut connection = Connection::new(1);
    connection.push(1);
    let jobs = Jobs::Seal(connection.jobs(1));
    queues[0].submit(0, Work { owner: 0, jobs }).unwrap();
    let work = wait(&mut queues[0]);
    connection.take_back(work);
    queues[0].forget(connection.session.id());
    assert_eq!(queues[0].queues[0].forgotten.len(), 1);
    // An idle worker polls as well.
    for _ in 0..POLLS_PER_FLUSH {
        assert!(queues[0].poll().is_none());
    }
    assert!(queues[0].queues[0].forgotten.is_empty());
    drop(queues);
    assert!(threads.join());
}

/// A cipher that panics at a record of a session: before it touches the record, or after.
struct Panics {
    inner: Ciphers,
    at: u64,
    of: SessionId,
    has_begun: bool,
}

impl RecordCipher for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn priority(&self) -> u8 {
        1
    }

    fn supports(&self, params: Params) -> bool {
        self.inner.supports(params)
    }

    fn seal(&mut self, run: &mut [SealJob]) -> Result<(), CryptoError> {
        for job in run {
            if (job.session().id(), job.number()) == (self.of, self.at) {
                if self.has_begun {
                    job.parts().body[0] ^= 1;
                }
                panic!("a cipher with a fault");
            }
            self.inner.seal(core::slice::from_mut(job))?;
        }
        Ok(())
    }

    fn open(&mut self, job: &mut OpenJob) -> Result<(), CryptoError> {
        self.inner.open(job)
    }

    fn forget(&mut self, id: SessionId) {
        self.inner.forget(id);
    }
}

/// A thread that panics gives back what it has. The records that it was working on have failed, all
/// of one connection, whether the cipher had begun to write or not. The workers seal what waits in
/// the queue themselves, with the same bytes.
#[test]
fn a_thread_that_panics_gives_its_records_back() {
    for has_begun in [false, true] {
        let mut connections = [1, 2].map(Connection::new);
        let of = connections[0].session.id();
        let config = KtlsWorkersConfig {
            workers: NonZeroUsize::new(1).unwrap(),
            cores: Vec::new(),
        };
        let panics = || {
            Ciphers::with_backends(vec![Box::new(Panics {
                inner: ciphers(),
                at: 20,
                of,
                has_begun,
            })])
        };
        let (threads, mut queues) = KtlsWorkers::start(&config, 2, panics).unwrap();
        let serving = threads.serving();
        assert_eq!(serving.load(Ordering::Relaxed), 1);
        for (connection, queue) in connections.iter_mut().zip(&mut queues) {
            connection.push(60);
            for _ in 0..12 {
                let jobs = Jobs::Seal(connection.jobs(5));
                // Once the thread has failed, it is refused.
                let submitted = queue.submit(0, Work { owner: 0, jobs });
                if let Err(work) = submitted {
                    connection.take_back(work);
                }
            }
        }
        for (at, (connection, queue)) in connections.iter_mut().zip(&mut queues).enumerate() {
            let mut failed = 0;
            while queue.in_flight() > 0 {
                let work = wait(queue);
                let Jobs::Seal(jobs) = work.jobs else {
                    unreachable!("records to be sealed");
                };
                let taken = connection
                    .queue
                    .sealed(jobs, &mut ciphers(), &mut connection.pages);
                failed += usize::from(taken.is_err());
            }
            // The run of five records that has the one with the fault is lost. The runs of the
            // connection that come later fail as well.
            let is_lost = at == 0;
            assert_eq!(failed > 0, is_lost);
            assert_eq!(connection.queue.is_lost(), is_lost);
            assert_eq!(connection.queue.has_away(), is_lost);
            if !is_lost {
                let all = 0..connection.queue.end();
                let (queue, pages) = (&mut connection.queue, &mut connection.pages);
                assert_eq!(queue.prepare(&all, &mut ciphers(), pages), Ok(all.end));
                let key = u8::try_from(at + 1).unwrap();
                assert_eq!(connection.wire(), Connection::sealed_here(key, 60));
            }
        }
        for queue in &queues {
            assert_eq!(queue.room(0), 0);
        }
        assert_eq!(serving.load(Ordering::Relaxed), 0);
        assert!(!threads.has_ended(), "it gives back what still comes");
        drop((connections, queues));
        assert!(!threads.join());
    }
}
