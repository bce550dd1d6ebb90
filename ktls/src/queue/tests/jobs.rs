//! Records that are sealed elsewhere: jobs that come back in any order, late, failed or never.

use pktbuf::Placement;

use super::*;
use crate::job::SealJob;
use crate::{BackendChoice, CipherKind};

/// Makes jobs of all framed records that `range` touches.
fn take(
    world: &mut World,
    queue: &mut RecordQueue,
    range: Range<u64>,
    placement: Placement,
) -> Vec<SealJob> {
    let mut jobs = Vec::new();
    while queue
        .jobs(&range, placement, usize::MAX, &mut world.pool, &mut jobs)
        .unwrap()
        == Taken::More
    {}
    jobs
}

fn run(mut job: SealJob, choice: BackendChoice) -> SealJob {
    Ciphers::new(choice, 1)
        .seal(core::slice::from_mut(&mut job))
        .unwrap();
    job
}

fn give_back(world: &mut World, queue: &mut RecordQueue, job: SealJob) {
    queue
        .sealed([job], &mut world.ciphers, &mut world.pool)
        .unwrap();
    queue.check().unwrap();
}

/// Queues records of 100 bytes: copied ones and ones by reference in turns. Returns their length.
fn push(world: &mut World, queue: &mut RecordQueue, count: u8) -> u64 {
    let before = queue.end();
    for n in 0..count {
        if n % 2 == 0 {
            queue
                .push_bytes(&[&[n; 100]], false, &mut world.pool)
                .unwrap();
        } else {
            let span = world.span(&[n; 100]);
            queue.push_span(&span, 0, 100, &mut world.pool).unwrap();
        }
    }
    (queue.end() - before) / u64::from(count)
}

fn records(count: u8) -> Vec<(ContentType, Vec<u8>)> {
    (0..count).map(|n| (DATA, vec![n; 100])).collect()
}

/// What can be sent ends at the first record that is away, whatever is sealed behind it.
#[test]
fn jobs_come_back_in_any_order() {
    for placement in [Placement::InPlace, Placement::Separate] {
        any_order(|world, queue, peer, rng| {
            let record = push(world, queue, 4);
            let mut jobs = take(world, queue, 0..queue.end(), placement);
            assert_eq!((queue.ready_end(), queue.has_away()), (0, true));
            let numbers: Vec<_> = jobs.iter().map(SealJob::number).collect();
            assert_eq!(numbers, [0, 1, 2, 3].map(|n| peer.number + n));
            for (which, ready) in [(2, 0), (0, 1), (1, 1), (0, 4)] {
                // Positions in what is left: the third, the first, the fourth, the second.
                let job = jobs.remove(which);
                give_back(world, queue, run(job, BackendChoice::Auto));
                assert_eq!(queue.ready_end(), ready * record);
                let readable = queue.slices(&(0..queue.end()), &mut Slices::new(32));
                assert_eq!(readable, ready * record);
                let want = 0..queue.end();
                let prepared = queue.prepare(&want, &mut world.ciphers, &mut world.pool);
                assert_eq!(prepared, Ok(ready * record), "nothing overtakes");
            }
            assert!(!queue.has_away());
            let wire = world.transmit(queue, 0, rng);
            assert_eq!(peer.open_all(&wire), records(4));
        });
    }
}

#[test]
fn jobs_run_on_other_threads() {
    any_order(|world, queue, peer, rng| {
        let data = rng.bytes(200_000);
        let span = world.span(&data);
        queue.push_span(&span, 0, 200_000, &mut world.pool).unwrap();
        let jobs = take(world, queue, 0..queue.end(), Placement::InPlace);
        assert_eq!(jobs.len(), 13);
        let mut back: Vec<SealJob> = std::thread::scope(|scope| {
            let spawn = |job| scope.spawn(|| run(job, BackendChoice::Auto));
            let threads: Vec<_> = jobs.into_iter().map(spawn).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        while !back.is_empty() {
            let job = back.swap_remove(rng.index(back.len()));
            give_back(world, queue, job);
        }
        let wire = world.transmit(queue, 0, rng);
        let found = peer
            .open_all(&wire)
            .into_iter()
            .flat_map(|(_, content)| content);
        assert!(found.eq(data));
        queue.release(queue.end());
    });
}

/// A record that was submitted may be sealed by now: were it cut, its number would seal other
/// content.
#[test]
fn a_cut_stops_behind_what_was_submitted() {
    any_order(|world, queue, peer, rng| {
        let first = peer.number;
        let record = push(world, queue, 5);
        let jobs = take(world, queue, 0..record + 1, Placement::InPlace);
        assert_eq!(jobs.len(), 2);
        assert_eq!(queue.cut_unsent(0), Ok(2 * record));
        assert_eq!(queue.next_number(), Some(first + 2));
        let alert = Alert::fatal(AlertDescription::INTERNAL_ERROR);
        queue.push_alert(alert, &mut world.pool).unwrap();
        assert_eq!(queue.ready_end(), 0);
        for job in jobs.into_iter().rev() {
            give_back(world, queue, run(job, BackendChoice::Auto));
        }
        let wire = world.transmit(queue, 0, rng);
        let mut expected = records(2);
        expected.push((ContentType::ALERT, alert.encode().to_vec()));
        assert_eq!(peer.open_all(&wire), expected);
    });
}

/// Jobs carry their key: a key change changes nothing for them.
#[test]
fn keys_change_while_records_are_away() {
    of_tls13(|world, queue, peer, rng| {
        push(world, queue, 2);
        let jobs = take(world, queue, 0..queue.end(), Placement::InPlace);
        let update = |world: &mut World, queue: &mut RecordQueue| {
            queue.update_keys(false, &mut world.ciphers, &mut world.pool)
        };
        update(world, queue).unwrap();
        queue
            .push_bytes(&[b"next key"], false, &mut world.pool)
            .unwrap();
        let next = take(world, queue, 0..queue.end(), Placement::InPlace);
        assert!(!next[0].session().is_same(jobs[0].session()));
        for job in next.into_iter().chain(jobs) {
            assert_eq!(update(world, queue), Err(TxError::RekeyBusy));
            assert_eq!(queue.ready_end(), queue.start().max(queue.sealed_to()));
            give_back(world, queue, run(job, BackendChoice::Auto));
        }
        update(world, queue).unwrap();
        let wire = world.transmit(queue, 0, rng);
        let key_update = (ContentType::HANDSHAKE, vec![24, 0, 0, 1, 0]);
        let mut expected = records(2);
        expected.extend([key_update.clone(), (DATA, b"next key".to_vec()), key_update]);
        assert_eq!(peer.open_all(&wire), expected);
    });
}

#[test]
fn a_record_of_an_unknown_epoch_makes_no_job() {
    any_order(|world, queue, _, _| {
        let record = push(world, queue, 2);
        let keys = queue.keys.as_mut().unwrap();
        keys.set_epoch(7);
        let mut jobs = Vec::new();
        let taken = queue.jobs(
            &(0..record),
            Placement::InPlace,
            1,
            &mut world.pool,
            &mut jobs,
        );
        assert_eq!(taken, Err(CryptoError::Backend));
        assert!(jobs.is_empty() && !queue.has_away());
        let prepared = queue.prepare(&(0..record), &mut world.ciphers, &mut world.pool);
        assert_eq!(prepared, Err(CryptoError::Backend));
        assert_eq!(world.ciphers.counters.value(Counter::FailedCrypto), 1);
        queue.keys.as_mut().unwrap().set_epoch(0);
    });
}

/// The queue ends while its records are away, in every way that queues end.
#[test]
fn jobs_outlive_their_queue() {
    for placement in [Placement::InPlace, Placement::Separate] {
        for ending in 0..4 {
            any_order(|world, queue, _, rng| {
                let (peer, session) = Peer::new(queue.params().unwrap(), rng);
                let mut short = RecordQueue::new();
                short
                    .enable(session, peer.number, &mut world.ciphers)
                    .unwrap();
                push(world, &mut short, 6);
                let all = 0..short.end();
                let jobs = take(world, &mut short, all, placement);
                assert_eq!(jobs.len(), 6);
                match ending {
                    0 => assert_eq!(short.cut_unsent(0), Ok(short.end())),
                    1 => short
                        .push_alert(Alert::CLOSE_NOTIFY, &mut world.pool)
                        .unwrap(),
                    _ => {}
                }
                short.retire(&mut world.ciphers);
                assert!(!world.pool.is_full());
                if ending == 3 {
                    std::thread::scope(|scope| scope.spawn(move || drop(jobs)).join().unwrap());
                    return;
                }
                for job in jobs {
                    // They find their way to another queue, and do nothing there.
                    give_back(world, queue, run(job, BackendChoice::Auto));
                    assert_eq!(queue.ready_end(), 0);
                }
            });
        }
    }
}

/// The wire bytes of a queue that seals everything itself.
fn reference(world: &mut World, queue: &RecordQueue, rng: &mut Random) -> Vec<u8> {
    let keys = queue.keys.as_ref().unwrap();
    let mut twin = RecordQueue::new();
    let (session, number) = (keys.session().clone(), keys.next_number());
    twin.enable(session, number, &mut world.ciphers).unwrap();
    push(world, &mut twin, 4);
    let wire = world.transmit(&mut twin, 0, rng);
    twin.retire(&mut world.ciphers);
    wire
}

#[test]
fn a_failed_job_is_sealed_by_another_backend_with_the_same_bytes() {
    for placement in [Placement::InPlace, Placement::Separate] {
        any_order(|world, queue, _, rng| {
            let wire = reference(world, queue, rng);
            let record = push(world, queue, 4);
            for (n, mut job) in take(world, queue, 0..queue.end(), placement)
                .into_iter()
                .enumerate()
            {
                if n == 1 || n == 2 {
                    if !job.is_in_place() {
                        job.parts().body.fill(0xbb);
                    }
                    let _ = job.set_result(Err(CryptoError::Backend));
                    let failed = queue.sealed([job], &mut world.ciphers, &mut world.pool);
                    assert_eq!(failed, Err(CryptoError::Backend));
                } else {
                    give_back(world, queue, run(job, BackendChoice::AwsLcRs));
                }
            }
            assert_eq!(world.ciphers.counters.value(Counter::FailedCrypto), 2);
            assert_eq!(
                queue.slices(&(0..queue.end()), &mut Slices::new(32)),
                record
            );
            let again = take(world, queue, 0..queue.end(), Placement::InPlace);
            assert_eq!(again.len(), 2);
            for job in again {
                // RustCrypto's backend has neither CCM nor CBC.
                let other = match job.session().params().suite.kind() {
                    CipherKind::Gcm | CipherKind::Chacha20 => BackendChoice::RustCrypto,
                    CipherKind::Ccm | CipherKind::Cbc => BackendChoice::AwsLcRs,
                };
                give_back(world, queue, run(job, other));
            }
            assert_eq!(read(queue, 0, queue.end()), wire);
        });
    }
}

/// A backend that holds its jobs too long loses them: the records are sealed in new page buffers.
#[test]
fn records_are_taken_back_from_a_backend_that_does_not_answer() {
    any_order(|world, queue, _, rng| {
        let wire = reference(world, queue, rng);
        push(world, queue, 4);
        let late = take(world, queue, 0..queue.end(), Placement::Separate);
        queue.take_back(&mut world.pool).unwrap();
        queue.check().unwrap();
        assert!(!queue.has_away());
        let ready = queue.prepare(&(0..queue.end()), &mut world.ciphers, &mut world.pool);
        assert_eq!(ready, Ok(queue.end()));
        for mut job in late {
            job.parts().body.fill(0xbb);
            let _ = job.set_result(Ok(()));
            give_back(world, queue, job);
        }
        assert_eq!(read(queue, 0, queue.end()), wire);
    });
}

#[test]
fn records_sealed_in_place_are_not_taken_back() {
    any_order(|world, queue, _, _| {
        push(world, queue, 2);
        let jobs = take(world, queue, 0..queue.end(), Placement::InPlace);
        let taken = queue.take_back(&mut world.pool);
        assert_eq!(taken, Err(TxError::Crypto(CryptoError::Backend)));
        queue.check().unwrap();
        for job in jobs {
            give_back(world, queue, run(job, BackendChoice::Auto));
        }
    });
}

/// What a cipher left half-done in place is never sealed again: the number would seal other bytes.
#[test]
fn a_record_that_is_lost_blocks_the_queue() {
    any_order(|world, queue, _, _| {
        push(world, queue, 3);
        let mut jobs = take(world, queue, 0..queue.end(), Placement::InPlace);
        jobs[0].parts().body[0] ^= 1;
        let last = jobs.pop().unwrap();
        drop(jobs);
        assert!(!queue.is_lost(), "not looked at yet");
        let sealed = queue.sealed([last], &mut world.ciphers, &mut world.pool);
        assert_eq!(sealed, Err(CryptoError::Backend));
        assert!(queue.is_lost() && queue.ready_end() == 0);
        let prepared = queue.prepare(&(0..1), &mut world.ciphers, &mut world.pool);
        assert_eq!(
            prepared,
            Err(CryptoError::Backend),
            "the connection has to be reset"
        );
        queue.check().unwrap();
    });
}

#[test]
fn a_pool_without_spans_stops_jobs_where_it_ends() {
    any_order(|world, queue, _, _| {
        let record = push(world, queue, 4);
        world.pool.inject_failures(1, 1);
        let mut jobs = Vec::new();
        let range = 0..queue.end();
        let taken = queue.jobs(&range, Placement::InPlace, 8, &mut world.pool, &mut jobs);
        assert_eq!(taken, Ok(Taken::Exhausted));
        assert_eq!(
            (jobs.len(), queue.unsubmitted),
            (1, record),
            "the second needs a span"
        );
        world.pool.inject_failures(0, 0);
        for job in jobs {
            give_back(world, queue, run(job, BackendChoice::Auto));
        }
        assert_eq!(
            queue.ready_end(),
            queue.end(),
            "the worker seals the others in time"
        );
    });
}

/// What was sent stays ready: ciphertext that was dropped is made again when it has to be sent.
#[test]
fn a_record_whose_ciphertext_was_dropped_gets_no_job() {
    any_order(|world, queue, peer, rng| {
        let record = push(world, queue, 4);
        let half = record + record / 2;
        queue
            .prepare(&(0..half), &mut world.ciphers, &mut world.pool)
            .unwrap();
        let first = read(queue, 0, half);
        assert_eq!(queue.drop_ciphertext(&mut world.pool), 1);
        let jobs = take(world, queue, 0..queue.end(), Placement::InPlace);
        assert_eq!((jobs.len(), queue.ready_end()), (2, 2 * record));
        queue.check().unwrap();
        let ready = queue.prepare(&(0..half), &mut world.ciphers, &mut world.pool);
        assert_eq!(ready, Ok(half));
        assert_eq!(read(queue, 0, half), first);
        for job in jobs {
            give_back(world, queue, run(job, BackendChoice::Auto));
        }
        let wire = world.transmit(queue, 0, rng);
        assert_eq!(peer.open_all(&wire), records(4));
    });
}

/// What was sealed once is sealed again by the worker; the rest goes elsewhere.
#[test]
fn what_can_be_sent_ends_where_records_were_never_sealed() {
    any_order(|world, queue, _, _| {
        let record = push(world, queue, 4);
        assert_eq!(queue.sendable_end(4 * record), 0);
        let want = 0..4 * record;
        let prepared = queue.prepare(&want, &mut world.ciphers, &mut world.pool);
        assert_eq!(prepared, Ok(4 * record));
        push(world, queue, 2);
        // The second and the fourth were sealed from the page cache.
        assert_eq!(queue.drop_ciphertext(&mut world.pool), 2);
        assert_eq!(queue.first_unsealed(), Some(4 * record));
        assert_eq!(queue.sendable_end(6 * record), 4 * record);
        assert_eq!(queue.sendable_end(record), record);

        let all = 0..6 * record;
        let mut jobs = take(world, queue, all.clone(), Placement::InPlace);
        assert_eq!((jobs.len(), queue.first_unsealed()), (2, None));
        assert_eq!(queue.sendable_end(6 * record), 4 * record);
        let prepared = queue.prepare(&all, &mut world.ciphers, &mut world.pool);
        assert_eq!(prepared, Ok(4 * record), "they are sealed again here");
        for job in jobs.drain(..) {
            give_back(world, queue, run(job, BackendChoice::Auto));
        }
        assert_eq!(queue.sendable_end(6 * record), 6 * record);
    });
}
