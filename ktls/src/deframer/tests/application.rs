//! Keys that an application sets again, also while a record is opened elsewhere.

use super::*;
use crate::BackendChoice;

/// A deframer with keys of an application, those that follow them, and the peer.
fn application(rig: &mut Rig) -> Session {
    let (peer, session) = Peer::new(rig.peer.params, &mut rig.rng);
    let next = session.next().unwrap();
    let ciphers = &mut rig.world.ciphers;
    let rx = Deframer::for_application(session, peer.number, Stream::new(), ciphers);
    rig.peer = peer;
    core::mem::replace(&mut rig.rx, rx).retire(ciphers);
    next
}

fn detach(rig: &mut Rig) -> OpenJob {
    let World { ciphers, pool, .. } = &mut rig.world;
    match rig.rx.detach(ciphers, pool, &mut None) {
        Ok(Detached::Job(job)) => job,
        other => panic!("{other:?}"),
    }
}

fn opened(rig: &mut Rig, mut job: OpenJob) -> Result<(ContentType, Vec<u8>), RxError> {
    let _ = Ciphers::new(BackendChoice::Auto, 1).open(&mut job);
    let event = rig.rx.opened(job, &mut rig.world.ciphers)?;
    let Received::Record(record) = event else {
        panic!("{event:?}");
    };
    Ok((record.meta().kind, record.as_slice().to_vec()))
}

/// The record that is away has the old key, whatever it is, and comes before those of the new one.
/// A KeyUpdate, for which the keys were set too early, doesn't ask for others.
#[test]
fn a_record_that_is_away_survives_the_change_of_keys() {
    let key_update: &[u8] = &[24, 0, 0, 1, 0];
    for (kind, content) in [
        (DATA, &b"old key"[..]),
        (DATA, b""),
        (ContentType::ALERT, &[1, 0]),
        (ContentType::HANDSHAKE, key_update),
        // The beginning of a message.
        (ContentType::HANDSHAKE, &[4, 0]),
    ] {
        for changes in 1..3 {
            of(&tls13(), |rig| {
                let mut next = application(rig);
                let wire = rig.peer.seal(kind, content);
                rig.push(&wire);
                let job = detach(rig);
                for _ in 0..changes {
                    let after = next.next().unwrap();
                    let ciphers = &mut rig.world.ciphers;
                    rig.rx.replace_keys(next, 0, ciphers).unwrap();
                    next = after;
                    rig.peer.rekey();
                }
                assert!(rig.rx.has_detached());
                let wire = rig.peer.seal(ContentType::HANDSHAKE, key_update);
                rig.push(&wire);
                assert_eq!(opened(rig, job), Ok((kind, content.to_vec())));
                assert!(!rig.rx.is_key_expired() && !rig.rx.has_detached());
                let job = detach(rig);
                assert_eq!(job.number(), 0);
                let expected = (ContentType::HANDSHAKE, key_update.to_vec());
                assert_eq!(opened(rig, job), Ok(expected));
                assert!(rig.rx.is_key_expired());
            });
        }
    }
}

/// A record of the old key that isn't authentic is reported once, and counts for no key.
#[test]
fn a_bad_record_of_the_old_key_leaves_the_new_one_its_limit() {
    of(&tls13(), |rig| {
        let next = application(rig);
        let limit = KeyLimits::of(rig.peer.params.suite).forgeries;
        let bad = |rig: &mut Rig| {
            let mut wire = rig.peer.seal(DATA, b"changed on the way");
            *wire.last_mut().unwrap() ^= 1;
            rig.push(&wire);
        };
        for _ in 0..limit - 1 {
            bad(rig);
            let job = detach(rig);
            assert_eq!(opened(rig, job), Err(RxError::BadRecord));
        }
        bad(rig);
        let job = detach(rig);
        rig.rx
            .replace_keys(next, 0, &mut rig.world.ciphers)
            .unwrap();
        rig.peer.rekey();
        assert_eq!(opened(rig, job), Err(RxError::BadRecord));
        for n in 1..=limit {
            bad(rig);
            let job = detach(rig);
            let expected = match n == limit {
                true => RxError::Forgeries,
                false => RxError::BadRecord,
            };
            assert_eq!(opened(rig, job), Err(expected), "{n}");
        }
    });
}
