mod jobs;
mod model;

use lockgate_testing::Random;
use pktbuf::{Placement, PoolConfig};

use super::*;
use crate::alert::Alert;
use crate::limits::KeyLimits;
use crate::testing::{Peer, World, name, read, sending, tls13};
use crate::{AlertDescription, CipherKind, ContentType, Suite, Version};

const CONTROL: ContentType = ContentType(0x21);
const DATA: ContentType = ContentType::APPLICATION_DATA;

/// Runs a case for every suite with keys and first number drawn at random.
fn every_suite(case: impl Fn(&mut World, &mut RecordQueue, &mut Peer, &mut Random)) {
    of(&sending(), case);
}

/// As `every_suite`, without TLS 1.0, whose jobs come one at a time.
fn any_order(case: impl Fn(&mut World, &mut RecordQueue, &mut Peer, &mut Random)) {
    let mut all = sending();
    all.retain(|params| params.shape().order == SealOrder::Any);
    of(&all, case);
}

fn of_tls13(case: impl Fn(&mut World, &mut RecordQueue, &mut Peer, &mut Random)) {
    of(&tls13(), case);
}

fn of(suites: &[Params], case: impl Fn(&mut World, &mut RecordQueue, &mut Peer, &mut Random)) {
    for (seed, &params) in (1..).zip(suites) {
        println!("{}", name(params));
        let (mut world, mut rng) = (World::new(), Random::new(seed));
        let (mut peer, session) = Peer::new(params, &mut rng);
        let mut queue = RecordQueue::new();
        queue
            .enable(session, peer.number, &mut world.ciphers)
            .unwrap();
        case(&mut world, &mut queue, &mut peer, &mut rng);
        queue.check().unwrap();
        queue.retire(&mut world.ciphers);
        assert_eq!(world.ciphers.counters.value(Counter::Active), 0);
        world.pool.reclaim();
        assert!(world.pool.is_full(), "{:?}", world.pool.usage());
    }
}

#[test]
fn ktls_transmit_short() {
    every_suite(|world, queue, peer, rng| {
        let data = rng.bytes(64);
        assert_eq!(queue.push_bytes(&[&data], false, &mut world.pool), Ok(64));
        assert_eq!(queue.ready_end(), queue.end());
        let wire = world.transmit(queue, 0, rng);
        assert_eq!(peer.open_all(&wire), [(DATA, data)]);
    });
}

#[test]
fn ktls_transmit_long() {
    every_suite(|world, queue, peer, rng| {
        let data = rng.bytes(64 << 10);
        assert_eq!(
            queue.push_bytes(&[&data], false, &mut world.pool),
            Ok(64 << 10)
        );
        let wire = world.transmit(queue, 0, rng);
        let records = peer.open_all(&wire);
        assert_eq!(records.len(), 4);
        assert!(
            records
                .iter()
                .all(|(kind, content)| *kind == DATA && content.len() == 16384)
        );
        assert_eq!(
            records
                .into_iter()
                .flat_map(|(_, content)| content)
                .collect::<Vec<_>>(),
            data
        );
    });
}

#[test]
fn ktls_transmit_long_by_reference() {
    every_suite(|world, queue, peer, rng| {
        let data = rng.bytes(100_000);
        let span = world.span(&data);
        // From the middle of the span, so that nothing is aligned.
        assert_eq!(
            queue.push_span(&span, 777, 99_000, &mut world.pool),
            Ok(99_000)
        );
        let wire = world.transmit(queue, 0, rng);
        let records = peer.open_all(&wire);
        assert_eq!(records.len(), 99_000_usize.div_ceil(16384));
        let found: Vec<_> = records
            .into_iter()
            .flat_map(|(_, content)| content)
            .collect();
        assert_eq!(found, data[777..99_777]);
        assert_eq!(&span[..], data, "the page cache is never written to");
        let params = queue.params().unwrap();
        let counters = &world.ciphers.counters;
        assert_eq!(counters.value(Counter::OcfSeparateOutput), 7);
        assert_eq!(counters.value(Counter::OcfInplace), 0);
        assert_eq!(counters.value(Counter::encrypts(params)), 7);
        queue.release(queue.end());
    });
}

#[test]
fn ktls_transmit_control() {
    every_suite(|world, queue, peer, rng| {
        let data = rng.bytes(32);
        queue.push_message(CONTROL, &data, &mut world.pool).unwrap();
        let wire = world.transmit(queue, 0, rng);
        match peer.params.version {
            Version::Tls13 => assert_eq!(wire[0], 23),
            Version::Tls10 | Version::Tls11 | Version::Tls12 => assert_eq!(wire[0], 0x21),
        }
        assert_eq!(peer.open_all(&wire), [(CONTROL, data)]);
    });
}

#[test]
fn ktls_transmit_empty_fragment() {
    every_suite(|world, queue, peer, rng| {
        if peer.params.version == Version::Tls10 {
            assert_eq!(queue.push_bytes(&[b"open"], true, &mut world.pool), Ok(4));
            assert_eq!(queue.push_bytes(&[], false, &mut world.pool), Ok(0));
            assert_eq!(queue.push_bytes(&[b""], false, &mut world.pool), Ok(0));
            assert_eq!(queue.push_bytes(&[b"data"], false, &mut world.pool), Ok(4));
            let error = queue.push_message(CONTROL, b"", &mut world.pool);
            assert_eq!(error, Err(TxError::Empty));
            let wire = world.transmit(queue, 0, rng);
            let records = [&b"open"[..], b"", b"", b"data"].map(|data| (DATA, data.to_vec()));
            assert_eq!(peer.open_all(&wire), records);
            return;
        }
        assert_eq!(
            queue.push_bytes(&[], false, &mut world.pool),
            Err(TxError::Empty)
        );
        assert_eq!(
            queue.push_bytes(&[b"", b""], true, &mut world.pool),
            Err(TxError::Empty)
        );
        assert_eq!(
            queue.push_message(CONTROL, b"", &mut world.pool),
            Err(TxError::Empty)
        );
        let span = world.span(b"something");
        assert_eq!(
            queue.push_span(&span, 3, 0, &mut world.pool),
            Err(TxError::Empty)
        );
        assert_eq!(TxError::Empty.errno().raw(), 22);
        assert_eq!(queue.end(), 0);
    });
}

/// The judge checks that padding is the least, and every byte of it.
#[test]
fn ktls_transmit_padding_1_to_16() {
    every_suite(|world, queue, peer, rng| {
        if !peer.params.suite.is_cbc() {
            return;
        }
        let (mut sent, mut at) = (Vec::new(), 0);
        for len in 1..=16 {
            let data = rng.bytes(len);
            queue.push_message(CONTROL, &data, &mut world.pool).unwrap();
            let filled = (len + peer.params.suite.tag_len() + 1).div_ceil(16) * 16;
            let head = usize::from(peer.params.shape().head_len());
            assert_eq!(queue.end() - at, (head + filled) as u64, "{len}");
            at = queue.end();
            sent.push((CONTROL, data));
        }
        let wire = world.transmit(queue, 0, rng);
        assert_eq!(peer.open_all(&wire), sent);
    });
}

/// TLS 1.0: a record's IV is the end of the record before, so one record is away at a time.
#[test]
fn chained_records_are_sealed_one_after_the_other() {
    for (seed, params) in (1..).zip(sending()) {
        if params.version != Version::Tls10 {
            continue;
        }
        let (mut world, mut rng) = (World::new(), Random::new(seed));
        let (mut peer, session) = Peer::new(params, &mut rng);
        let mut queue = RecordQueue::new();
        queue
            .enable(session, peer.number, &mut world.ciphers)
            .unwrap();
        let span = world.span(&[7; 40_000]);
        queue.push_span(&span, 0, 40_000, &mut world.pool).unwrap();
        queue
            .push_bytes(&[b"owned"], false, &mut world.pool)
            .unwrap();
        let end = queue.end();
        let (mut jobs, mut count) = (Vec::new(), 0);
        loop {
            let taken = queue
                .jobs(
                    &(0..end),
                    Placement::Separate,
                    8,
                    &mut world.pool,
                    &mut jobs,
                )
                .unwrap();
            let Some(mut job) = jobs.pop() else {
                assert_eq!(taken, Taken::All);
                break;
            };
            assert!(jobs.is_empty(), "one job at a time");
            count += 1;
            let again = queue.jobs(
                &(0..end),
                Placement::Separate,
                8,
                &mut world.pool,
                &mut jobs,
            );
            assert!(jobs.is_empty() && (count >= 6 || again == Ok(Taken::More)));
            // Every other one comes back unsealed, and the next is the same record again.
            if count % 2 == 0 {
                job.set_result(Err(CryptoError::Backend)).unwrap_err();
                assert!(
                    queue
                        .sealed([job], &mut world.ciphers, &mut world.pool)
                        .is_err()
                );
                continue;
            }
            world.ciphers.seal(core::slice::from_mut(&mut job)).unwrap();
            queue
                .sealed([job], &mut world.ciphers, &mut world.pool)
                .unwrap();
        }
        let wire = read(&queue, 0, end);
        let records = peer.open_all(&wire);
        let lens: Vec<usize> = records.iter().map(|(_, data)| data.len()).collect();
        assert_eq!(lens, [16384, 16384, 7232, 5], "{params}");

        // Ciphertext stays: the IVs of old records are gone.
        assert_eq!(queue.drop_ciphertext(&mut world.pool), 0);
        assert_eq!(read(&queue, 0, end), wire);
        queue.retire(&mut world.ciphers);
    }
}

/// Sealed again after its ciphertext was dropped, a record has the same IV and the same bytes.
#[test]
fn a_record_sealed_again_has_the_same_iv() {
    every_suite(|world, queue, peer, rng| {
        if peer.params.shape().explicit_len == 0 {
            return;
        }
        let span = world.span(&rng.bytes(40_000));
        queue.push_span(&span, 0, 40_000, &mut world.pool).unwrap();
        let first = world.transmit(queue, 0, rng);
        assert_eq!(queue.drop_ciphertext(&mut world.pool), 3);
        let again = world.transmit(queue, 0, rng);
        assert!(first == again);
        assert_eq!(peer.open_all(&again).len(), 3);
    });
}

#[test]
fn a_typed_message_is_one_record_or_none() {
    every_suite(|world, queue, peer, rng| {
        let data = rng.bytes(16385);
        let error = queue
            .push_message(CONTROL, &data, &mut world.pool)
            .unwrap_err();
        assert_eq!((error, error.errno().raw()), (TxError::MessageSize, 90));
        queue.set_record_len_max(1000);
        let error = queue.push_message(CONTROL, &data[..1001], &mut world.pool);
        assert_eq!(error, Err(TxError::MessageSize));
        assert_eq!(queue.end(), 0);
        queue
            .push_message(CONTROL, &data[..1000], &mut world.pool)
            .unwrap();
        let wire = world.transmit(queue, 0, rng);
        assert_eq!(peer.open_all(&wire), [(CONTROL, data[..1000].to_vec())]);
    });
}

#[test]
fn tls_12_tx_max_payload_len() {
    every_suite(|world, queue, peer, rng| {
        queue.set_record_len_max(128);
        let data = rng.bytes(1000);
        queue.push_bytes(&[&data], false, &mut world.pool).unwrap();
        let span = world.span(&data);
        queue.push_span(&span, 0, 1000, &mut world.pool).unwrap();
        let wire = world.transmit(queue, 0, rng);
        let lens: Vec<_> = peer
            .open_all(&wire)
            .iter()
            .map(|(_, content)| content.len())
            .collect();
        let once = [128, 128, 128, 128, 128, 128, 128, 104];
        assert_eq!(lens, [once, once].concat());
    });
}

#[test]
fn msg_more() {
    every_suite(|world, queue, peer, rng| {
        assert_eq!(
            queue.push_bytes(&[b"one ", b"two "], true, &mut world.pool),
            Ok(8)
        );
        assert_eq!(
            (queue.end(), queue.open_len()),
            (0, 8),
            "nothing can be sent yet"
        );
        assert_eq!(queue.push_bytes(&[b"three"], false, &mut world.pool), Ok(5));
        assert_eq!(queue.open_len(), 0);
        let wire = world.transmit(queue, 0, rng);
        assert_eq!(peer.open_all(&wire), [(DATA, b"one two three".to_vec())]);
    });
}

#[test]
fn msg_more_then_cmsg() {
    every_suite(|world, queue, peer, rng| {
        queue.push_bytes(&[b"data"], true, &mut world.pool).unwrap();
        queue
            .push_message(CONTROL, b"control", &mut world.pool)
            .unwrap();
        queue
            .push_bytes(&[b"again"], true, &mut world.pool)
            .unwrap();
        let span = world.span(b"by reference");
        queue.push_span(&span, 3, 9, &mut world.pool).unwrap();
        let wire = world.transmit(queue, 0, rng);
        assert_eq!(
            peer.open_all(&wire),
            [
                (DATA, b"data".to_vec()),
                (CONTROL, b"control".to_vec()),
                (DATA, b"again".to_vec()),
                (DATA, b"reference".to_vec())
            ]
        );
    });
}

#[test]
fn an_open_record_closes_when_it_is_full() {
    every_suite(|world, queue, peer, rng| {
        let data = rng.bytes(20_000);
        for piece in data.chunks(999) {
            queue.push_bytes(&[piece], true, &mut world.pool).unwrap();
        }
        assert_eq!(queue.open_len(), 20_000 - 16384);
        queue.flush().unwrap();
        let wire = world.transmit(queue, 0, rng);
        let records = peer.open_all(&wire);
        assert_eq!(records[0].1, data[..16384]);
        assert_eq!(records[1].1, data[16384..]);
        assert_eq!(records.len(), 2);
    });
}

#[test]
fn plain_bytes_precede_the_first_record() {
    let (mut world, mut rng) = (World::new(), Random::new(5));
    let mut queue = RecordQueue::new();
    let mut handshake = world.pool.alloc(10).unwrap();
    handshake.append(b"handshake ");
    queue.push_plain(handshake).unwrap();
    assert_eq!(
        queue.push_bytes(&[b"in ", b"the clear"], true, &mut world.pool),
        Ok(12)
    );
    assert_eq!(queue.push_bytes(&[], false, &mut world.pool), Ok(0));
    let span = world.span(&[b'.'; 50_000]);
    assert_eq!(
        queue.push_span(&span, 0, 50_000, &mut world.pool),
        Ok(50_000)
    );
    assert_eq!(
        queue.push_message(CONTROL, b"x", &mut world.pool),
        Err(TxError::WrongMode)
    );
    assert_eq!((queue.mode(), queue.params()), (Mode::None, None));
    let clear = queue.end();

    let (mut peer, session) = Peer::new(Params::ALL[3], &mut rng);
    queue
        .enable(session, peer.number, &mut world.ciphers)
        .unwrap();
    let (_, second) = Peer::new(Params::ALL[3], &mut rng);
    let again = queue.enable(second, 0, &mut world.ciphers).unwrap_err();
    assert_eq!((again, again.errno().raw()), (TxError::AlreadyEnabled, 114));
    assert_eq!(queue.mode(), Mode::Sw);
    let refused = world.pool.alloc(10).unwrap();
    assert!(
        queue.push_plain(refused).is_err(),
        "nothing in the clear follows a record"
    );
    queue
        .push_bytes(&[b"secret"], false, &mut world.pool)
        .unwrap();

    let wire = world.transmit(&mut queue, 0, &mut rng);
    let (plain, records) = wire.split_at(usize::try_from(clear).unwrap());
    assert_eq!(plain[..22], *b"handshake in the clear");
    assert!(plain[22..].iter().all(|&byte| byte == b'.') && plain.len() == 50_022);
    assert_eq!(peer.open_all(records), [(DATA, b"secret".to_vec())]);
    queue.check().unwrap();
}

#[test]
fn plaintext_cannot_be_read_and_is_sealed_just_in_time() {
    every_suite(|world, queue, peer, rng| {
        let data = rng.bytes(5 * 16384);
        let span = world.span(&data);
        queue
            .push_span(&span, 0, 5 * 16384, &mut world.pool)
            .unwrap();
        let record = queue.end() / 5;
        let readable = |queue: &RecordQueue| queue.slices(&(0..queue.end()), &mut Slices::new(32));
        assert_eq!(readable(queue), 0);

        // One byte of the second record seals the first two and no more.
        let range = record..record + 1;
        let ready = queue
            .prepare(&range, &mut world.ciphers, &mut world.pool)
            .unwrap();
        assert_eq!(ready, range.end);
        assert_eq!(readable(queue), 2 * record);
        assert_eq!(
            world.ciphers.counters.value(Counter::encrypts(peer.params)),
            2
        );
        assert_eq!(world.pool.usage().large_spans_used, 2);
        queue.release(queue.start() + record);
        assert_eq!(world.pool.usage().large_spans_used, 1);
        queue.release(2 * record - 1);
        assert_eq!(
            world.pool.usage().large_spans_used,
            1,
            "a record lives to its last byte"
        );
    });
}

#[test]
fn retransmissions_repeat_every_byte() {
    every_suite(|world, queue, _, rng| {
        let span = world.span(&rng.bytes(40_000));
        queue
            .push_bytes(&[&rng.bytes(3000)], false, &mut world.pool)
            .unwrap();
        queue.push_span(&span, 0, 40_000, &mut world.pool).unwrap();
        let first = world.transmit(queue, 0, rng);
        for _ in 0..50 {
            let from = rng.index(first.len());
            let to = from + 1 + rng.index(first.len() - from);
            let range = from as u64..to as u64;
            let ready = queue
                .prepare(&range, &mut world.ciphers, &mut world.pool)
                .unwrap();
            assert_eq!(ready, range.end);
            assert_eq!(read(queue, range.start, range.end), first[from..to]);
        }
        let sealed = world.ciphers.counters.value(Counter::OcfSeparateOutput)
            + world.ciphers.counters.value(Counter::OcfInplace);
        assert_eq!(sealed, 4, "each record is sealed once");
    });
}

#[test]
fn a_cut_takes_back_records_and_numbers_that_nobody_saw() {
    every_suite(|world, queue, peer, rng| {
        let first = peer.number;
        for n in 0..5_u8 {
            queue
                .push_bytes(&[&[n; 100]], false, &mut world.pool)
                .unwrap();
        }
        let record = queue.end() / 5;
        // Half of the second record is sent.
        let range = 0..record + record / 2;
        queue
            .prepare(&range, &mut world.ciphers, &mut world.pool)
            .unwrap();
        queue.push_bytes(&[b"open"], true, &mut world.pool).unwrap();
        assert_eq!(queue.next_number(), Some(first + 5));
        assert_eq!(queue.cut_unsent(range.end), Ok(2 * record));
        assert_eq!(
            (queue.next_number(), queue.open_len()),
            (Some(first + 2), 0)
        );
        let alert = Alert::fatal(AlertDescription::INTERNAL_ERROR);
        queue.push_alert(alert, &mut world.pool).unwrap();
        let wire = world.transmit(queue, 0, rng);
        assert_eq!(
            peer.open_all(&wire),
            [
                (DATA, vec![0; 100]),
                (DATA, vec![1; 100]),
                (ContentType::ALERT, alert.encode().to_vec())
            ]
        );
        let end = queue.end();
        assert_eq!(
            queue.cut_unsent(end),
            Ok(end),
            "nothing that was sealed is cut"
        );
    });
}

/// What is sealed may have been seen by a device, even if TCP didn't count it as sent: were it cut,
/// its number would seal other content.
#[test]
fn a_sealed_record_is_never_cut() {
    every_suite(|world, queue, peer, _| {
        let first = peer.number;
        for n in 0..3_u8 {
            queue
                .push_bytes(&[&[n; 100]], false, &mut world.pool)
                .unwrap();
        }
        let record = queue.end() / 3;
        queue
            .prepare(&(0..record + 1), &mut world.ciphers, &mut world.pool)
            .unwrap();
        assert_eq!(queue.cut_unsent(0), Ok(2 * record));
        assert_eq!(queue.next_number(), Some(first + 2));
    });
}

#[test]
fn recseq_wrap() {
    every_suite(|world, queue, peer, rng| {
        // The last number that can be used is the one before all ones.
        let (mut last, session) = Peer::new(peer.params, rng);
        last.number = u64::MAX - 1;
        let mut short = RecordQueue::new();
        short
            .enable(session, last.number, &mut world.ciphers)
            .unwrap();
        assert_eq!(short.key_use(), KeyUse::RefreshDue);
        let data = rng.bytes(3 * 16384);
        assert_eq!(
            short.push_bytes(&[&data], false, &mut world.pool),
            Ok(16384)
        );
        assert_eq!(short.key_use(), KeyUse::Spent);
        for _ in 0..2 {
            let error = short
                .push_bytes(&[b"x"], false, &mut world.pool)
                .unwrap_err();
            assert_eq!((error, error.errno().raw()), (TxError::KeySpent, 74));
        }
        let error = short.push_message(CONTROL, b"x", &mut world.pool);
        assert_eq!(error, Err(TxError::KeySpent));
        let span = world.span(b"x");
        assert_eq!(
            short.push_span(&span, 0, 1, &mut world.pool),
            Err(TxError::KeySpent)
        );
        let error = short.update_keys(false, &mut world.ciphers, &mut world.pool);
        assert_eq!(error, Err(TxError::KeySpent));
        short.check().unwrap();
        let wire = world.transmit(&mut short, 0, rng);
        assert_eq!(last.open_all(&wire), [(DATA, data[..16384].to_vec())]);
        short.retire(&mut world.ciphers);
        assert_eq!(queue.key_use(), KeyUse::Fine);
    });
}

#[test]
fn key_usage_limits() {
    let (mut world, mut rng) = (World::new(), Random::new(9));
    for params in sending() {
        let (_, session) = Peer::new(params, &mut rng);
        let first = 1000;
        let mut keys = Protection::new(session, first, 0);
        // Before TLS 1.3, too, where the connection is closed instead.
        let (refresh, spent) = match params.suite.kind() {
            CipherKind::Ccm => (5_931_641, 1 << 23),
            CipherKind::Gcm | CipherKind::Cbc | CipherKind::Chacha20 => (1 << 24, 23_726_566),
        };
        let limited = params.suite.kind() != CipherKind::Chacha20;
        let expect = |limit| if limited { limit } else { KeyUse::Fine };
        for (records, due) in [
            (0, KeyUse::Fine),
            (refresh - 1, KeyUse::Fine),
            (refresh, expect(KeyUse::RefreshDue)),
            (spent - 1, expect(KeyUse::RefreshDue)),
            (spent, expect(KeyUse::Spent)),
        ] {
            keys.set_next_number(first + records);
            assert_eq!(keys.key_use(), due, "{} after {records}", name(params));
            assert_eq!(keys.can_frame(1), due != KeyUse::Spent);
        }
        keys.forget(&mut world.ciphers);
    }
}

/// A key that is used up takes no data, and a few messages more: an alert, or the KeyUpdate after
/// which data can follow under the next key. Each has a number of its own, and then it is over.
#[test]
fn a_key_that_is_used_up_still_sends_messages() {
    for params in sending() {
        let Some(spent) = 1_000_u64.checked_add(KeyLimits::of(params.suite).spent) else {
            continue;
        };
        let (mut world, mut rng) = (World::new(), Random::new(3));
        let (mut peer, session) = Peer::new(params, &mut rng);
        let can_update = params.version == Version::Tls13;
        let mut queue = RecordQueue::new();
        queue.enable(session, 1000, &mut world.ciphers).unwrap();
        let keys = queue.keys.as_mut().unwrap();
        keys.set_next_number(spent);
        peer.number = spent;
        let World { ciphers, pool, .. } = &mut world;
        let refused = queue.push_bytes(&[b"data"], false, pool);
        assert_eq!(refused, Err(TxError::KeySpent));
        let refused = queue.push_message(DATA, b"data", pool);
        assert_eq!(refused, Err(TxError::KeySpent));
        let mut expected = Vec::new();
        let last = if can_update { 15 } else { 16 };
        for _ in 0..last {
            queue.push_alert(Alert::CLOSE_NOTIFY, pool).unwrap();
            expected.push((ContentType::ALERT, vec![1, 0]));
        }
        if can_update {
            queue.update_keys(false, ciphers, pool).unwrap();
            queue.push_bytes(&[b"next key"], false, pool).unwrap();
        } else {
            let refused = queue.push_alert(Alert::CLOSE_NOTIFY, pool);
            assert_eq!(refused, Err(TxError::KeySpent), "{}", name(params));
        }
        assert_eq!(
            queue.next_number(),
            Some(if can_update { 1 } else { spent + 16 })
        );
        queue.check().unwrap();
        let wire = world.transmit(&mut queue, 0, &mut rng);
        if can_update {
            expected.push((ContentType::HANDSHAKE, vec![24, 0, 0, 1, 0]));
            expected.push((DATA, b"next key".to_vec()));
        }
        assert_eq!(peer.open_all(&wire), expected);
        queue.retire(&mut world.ciphers);
    }
}

#[test]
fn rekey() {
    every_suite(|world, queue, peer, rng| {
        if peer.params.version != Version::Tls13 {
            let error = queue.update_keys(false, &mut world.ciphers, &mut world.pool);
            assert_eq!(error, Err(TxError::RekeyUnsupported));
            return;
        }
        queue.set_refresh_after(3);
        let span = world.span(&rng.bytes(1000));
        let mut expected = Vec::new();
        for round in 0..4_u8 {
            for _ in 0..3 {
                assert_eq!(queue.key_use(), KeyUse::Fine);
                queue.push_span(&span, 0, 1000, &mut world.pool).unwrap();
                expected.push((DATA, span.to_vec()));
            }
            assert_eq!(queue.key_use(), KeyUse::RefreshDue);
            // Records of two keys wait at a time, never of three.
            let ask = round % 2 == 0;
            queue
                .update_keys(ask, &mut world.ciphers, &mut world.pool)
                .unwrap();
            expected.push((ContentType::HANDSHAKE, vec![24, 0, 0, 1, ask.into()]));
            assert_eq!(queue.next_number(), Some(0));
            let busy = queue
                .update_keys(false, &mut world.ciphers, &mut world.pool)
                .unwrap_err();
            assert_eq!((busy, busy.errno().raw()), (TxError::RekeyBusy, 16));
            queue
                .push_bytes(&[b"new key"], false, &mut world.pool)
                .unwrap();
            expected.push((DATA, b"new key".to_vec()));
            queue.check().unwrap();

            // No cut crosses the key change: it's sealed, and what's before it stays.
            let end = queue.end();
            queue.cut_unsent(queue.start()).unwrap();
            assert!(queue.end() < end && queue.next_number() == Some(0));
            expected.pop();
            let from = queue.start();
            let wire = world.transmit(queue, from, rng);
            assert_eq!(peer.open_all(&wire), expected);
            expected.clear();
            queue.release(queue.end());
        }
        assert_eq!(world.ciphers.counters.value(Counter::TxRekeyOk), 4);
    });
}

/// RFC 8446, 4.6.3: a KeyUpdate precedes the next application data record. What an open record has
/// was not sent, so it comes after the KeyUpdate and under the new key.
#[test]
fn an_open_record_gets_the_next_key() {
    of_tls13(|world, queue, peer, rng| {
        queue
            .push_bytes(&[b"framed"], false, &mut world.pool)
            .unwrap();
        queue
            .push_bytes(&[b"open, "], true, &mut world.pool)
            .unwrap();
        queue
            .update_keys(false, &mut world.ciphers, &mut world.pool)
            .unwrap();
        assert_eq!((queue.open_len(), queue.next_number()), (6, Some(0)));
        queue
            .push_bytes(&[b"closed"], false, &mut world.pool)
            .unwrap();
        let wire = world.transmit(queue, 0, rng);
        assert_eq!(
            peer.open_all(&wire),
            [
                (DATA, b"framed".to_vec()),
                (ContentType::HANDSHAKE, vec![24, 0, 0, 1, 0]),
                (DATA, b"open, closed".to_vec()),
            ]
        );
    });
}

/// Records whose ciphertext was dropped hold back a further key change only until they are
/// acknowledged: nothing has to be sealed for it.
#[test]
fn acknowledged_records_do_not_hold_back_a_key_change() {
    of_tls13(|world, queue, _, rng| {
        let span = world.span(&rng.bytes(40_000));
        queue.push_span(&span, 0, 40_000, &mut world.pool).unwrap();
        world.transmit(queue, 0, rng);
        assert_eq!(queue.drop_ciphertext(&mut world.pool), 3);
        let update = |queue: &mut RecordQueue, world: &mut World| {
            queue.update_keys(false, &mut world.ciphers, &mut world.pool)
        };
        assert_eq!(update(queue, world), Ok(()));
        assert_eq!(update(queue, world), Err(TxError::RekeyBusy));
        queue.release(queue.end());
        assert_eq!(update(queue, world), Ok(()));
    });
}

#[test]
fn keys_without_their_secret_cannot_change() {
    let mut world = World::new();
    let params = Params::new(Suite::Aes128Gcm, Version::Tls13);
    let session = Session::from_key(params, &[1; 16], &[2; 12]).unwrap();
    let mut queue = RecordQueue::new();
    queue.enable(session, 0, &mut world.ciphers).unwrap();
    let error = queue.update_keys(true, &mut world.ciphers, &mut world.pool);
    assert_eq!(error, Err(TxError::RekeyUnsupported));
    assert_eq!((queue.end(), queue.next_number()), (0, Some(0)));
}

#[test]
fn bursts_are_clamped_to_limits_and_whole_segments() {
    let (mut world, mut rng) = (World::new(), Random::new(11));
    let (peer, session) = Peer::new(Params::ALL[0], &mut rng);
    let mut queue = RecordQueue::new();
    queue
        .enable(session, peer.number, &mut world.ciphers)
        .unwrap();
    for _ in 0..10 {
        queue
            .push_bytes(&[&[7; 1000]], false, &mut world.pool)
            .unwrap();
    }
    let record = queue.end() / 10;
    let limits = |bytes, entries| Limits {
        bytes,
        entries,
        mss: 700,
    };
    let rows = [
        // Nothing limits.
        (0..queue.end(), limits(u32::MAX, 32), queue.end()),
        (5..105, limits(100, 1), 105),
        // More is wanted than there is.
        (0..queue.end() + 999, limits(u32::MAX, 32), queue.end()),
        // Bytes limit: whole segments.
        (0..queue.end(), limits(1500, 32), 1400),
        (100..queue.end(), limits(1500, 32), 1500),
        // Entries limit: two records, whole segments.
        (
            0..queue.end(),
            limits(u32::MAX, 2),
            2 * record - 2 * record % 700,
        ),
        (10..queue.end(), limits(u32::MAX, 1), 10 + 700),
        // Not even a segment fits.
        (0..queue.end(), limits(699, 32), 699),
        (record - 3..queue.end(), limits(u32::MAX, 1), record),
        (0..queue.end(), limits(0, 32), 0),
        (0..queue.end(), limits(u32::MAX, 0), 0),
    ];
    for (want, limits, end) in rows {
        let start = want.start;
        assert_eq!(
            queue.clamp(&want, &limits),
            start..end,
            "{want:?} {limits:?}"
        );
    }
    let end = queue.end();
    assert!(queue.clamp(&(end..end + 10), &limits(1, 1)).is_empty());
}

#[test]
fn an_exhausted_pool_slows_and_loses_nothing() {
    for (seed, params) in (20..).zip(sending()) {
        let config = PoolConfig {
            blocks: 4,
            small_spans: 2,
            large_spans: 2,
        };
        let (mut world, mut rng) = (World::with_pool(config), Random::new(seed));
        let (mut peer, session) = Peer::new(params, &mut rng);
        let mut queue = RecordQueue::new();
        queue
            .enable(session, peer.number, &mut world.ciphers)
            .unwrap();
        let data = rng.bytes(15 * 16384);
        let span = world.span(&data);
        let (mut pushed, mut wire) = (0, Vec::new());
        while wire.is_empty() || queue.start() < queue.end() || pushed < data.len() {
            match queue.push_span(
                &span,
                u32::try_from(pushed).unwrap(),
                u32::try_from(data.len() - pushed).unwrap(),
                &mut world.pool,
            ) {
                Ok(n) => pushed += n as usize,
                Err(error) => assert!(matches!(error, TxError::Exhausted | TxError::Empty)),
            }
            let from = queue.start();
            wire.extend_from_slice(&world.transmit(&mut queue, from, &mut rng));
            queue.release(wire.len() as u64);
            queue.check().unwrap();
        }
        let found: Vec<_> = peer
            .open_all(&wire)
            .into_iter()
            .flat_map(|(_, content)| content)
            .collect();
        assert_eq!(found, data);
        assert!(world.ciphers.counters.value(Counter::WaitedForPages) > 0);
        assert!(world.pool.is_full());
    }
}

#[test]
fn sizes() {
    assert!(
        size_of::<RecordQueue>() <= 144,
        "{}",
        size_of::<RecordQueue>()
    );
    assert!(size_of::<Protection>() <= 80, "{}", size_of::<Protection>());
}
