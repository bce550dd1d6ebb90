//! Records that are opened elsewhere.

use super::*;
use crate::{BackendChoice, CipherKind};

fn detach(rig: &mut Rig) -> OpenJob {
    match detached(rig) {
        Ok(Detached::Job(job)) => job,
        other => panic!("{other:?}"),
    }
}

fn detached(rig: &mut Rig) -> Result<Detached, RxError> {
    let (ciphers, pool) = (&mut rig.world.ciphers, &mut rig.world.pool);
    rig.rx.detach(ciphers, pool, &mut None)
}

fn run(mut job: OpenJob, choice: BackendChoice) -> OpenJob {
    let _ = Ciphers::new(choice, 1).open(&mut job);
    job
}

fn opened(rig: &mut Rig, job: OpenJob) -> Result<Received, RxError> {
    rig.rx.opened(job, &mut rig.world.ciphers)
}

/// Between the halves of a call nothing overtakes the record, whose memory still counts.
#[test]
fn records_are_opened_on_other_threads_in_order() {
    every_suite(|rig| {
        let contents: Vec<_> = (1..6).map(|n| rig.rng.bytes(n * 3000)).collect();
        for content in &contents {
            let wire = rig.peer.seal(DATA, content);
            rig.push(&wire);
        }
        for content in &contents {
            let job = detach(rig);
            assert!(rig.rx.has_detached() && rig.rx.true_size() >= job.true_size());
            for _ in 0..2 {
                let next = detached(rig);
                assert!(matches!(next, Ok(Detached::Event(Received::NeedBytes))));
            }
            let job = std::thread::scope(|scope| {
                let thread = scope.spawn(|| run(job, BackendChoice::Auto));
                thread.join().unwrap()
            });
            match opened(rig, job) {
                Ok(Received::Record(record)) => assert!(record.as_slice() == content),
                other => panic!("{other:?}"),
            }
            assert!(!rig.rx.has_detached());
        }
        assert_eq!((rig.rx.true_size(), rig.rx.buffered()), (0, 0));
    });
}

#[test]
fn a_key_update_changes_the_key_of_the_next_job() {
    of(&tls13(), |rig| {
        let wire = rig.peer.seal(ContentType::HANDSHAKE, &[24, 0, 0, 1, 0]);
        rig.push(&wire);
        rig.peer.rekey();
        let wire = rig.peer.seal(DATA, b"next key");
        rig.push(&wire);
        let job = detach(rig);
        let old = job.session().clone();
        let event = opened(rig, run(job, BackendChoice::Auto));
        assert!(matches!(event, Ok(Received::KeyUpdated { answer: false })));
        let job = detach(rig);
        assert!(!job.session().is_same(&old) && job.number() == 0);
        let event = opened(rig, run(job, BackendChoice::Auto));
        assert!(matches!(event, Ok(Received::Record(_))));
    });
}

#[test]
fn a_job_that_failed_is_run_by_another_backend() {
    every_suite(|rig| {
        let content = rig.rng.bytes(5000);
        let wire = rig.peer.seal(DATA, &content);
        rig.push(&wire);
        let mut job = detach(rig);
        let failed = job.set_result(Err(CryptoError::Backend));
        assert_eq!(failed, Err(CryptoError::Backend));
        // RustCrypto's backend has neither CCM nor CBC.
        let other = match rig.peer.params.suite.kind() {
            CipherKind::Gcm | CipherKind::Chacha20 => BackendChoice::RustCrypto,
            CipherKind::Ccm | CipherKind::Cbc => BackendChoice::AwsLcRs,
        };
        match opened(rig, run(job, other)) {
            Ok(Received::Record(record)) => assert!(record.as_slice() == content),
            other => panic!("{other:?}"),
        }
    });
}

/// A wrong tag is an error of its record, in order; a backend that failed ends the stream.
#[test]
fn errors_come_back_with_the_job() {
    every_suite(|rig| {
        let mut wire = rig.peer.seal(DATA, b"changed on the way");
        *wire.last_mut().unwrap() ^= 1;
        wire.extend(rig.peer.seal(DATA, b"good"));
        wire.extend(rig.peer.seal(DATA, b"not run"));
        rig.push(&wire);
        let job = detach(rig);
        let bad = opened(rig, run(job, BackendChoice::Auto));
        assert_eq!(bad.unwrap_err(), RxError::BadRecord);
        let job = detach(rig);
        let good = opened(rig, run(job, BackendChoice::Auto));
        assert!(matches!(good, Ok(Received::Record(_))));
        let job = detach(rig);
        assert_eq!(opened(rig, job).unwrap_err(), RxError::Backend);
        assert_eq!(detached(rig).unwrap_err(), RxError::Backend);
        assert_eq!(rig.world.ciphers.counters.value(Counter::FailedCrypto), 2);
    });
}

/// The connection ends while its record is away; or the job comes to another connection.
#[test]
fn jobs_outlive_their_deframer() {
    every_suite(|rig| {
        for at_end in [true, false] {
            let (mut peer, session) = Peer::new(rig.peer.params, &mut rig.rng);
            let world = &mut rig.world;
            let mut rx = Deframer::new(
                session,
                peer.number,
                Role::Server,
                Stream::new(),
                &mut world.ciphers,
            );
            let wire = [peer.seal(DATA, &[7; 4000]), vec![23, 3, 3]].concat();
            for buffer in world.buffers(&wire, Some(&mut rig.rng)) {
                rx.push(buffer);
            }
            let job = match rx.detach(&mut world.ciphers, &mut world.pool, &mut None) {
                Ok(Detached::Job(job)) => job,
                other => panic!("{other:?}"),
            };
            if at_end {
                assert_eq!(rx.finish(&mut world.ciphers), Err(RxError::Truncated));
                let late = rx.opened(run(job, BackendChoice::Auto), &mut world.ciphers);
                assert_eq!(late.unwrap_err(), RxError::Truncated);
                rx.retire(&mut world.ciphers);
            } else {
                rx.retire(&mut world.ciphers);
                let other = opened(rig, run(job, BackendChoice::Auto));
                assert!(matches!(other, Ok(Received::NeedBytes)));
            }
        }
    });
}
