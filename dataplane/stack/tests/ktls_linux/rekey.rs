//! Fixture `tls`, key changes.

use std::time::Duration;

use crate::support::linux::{End, MSG_DONTWAIT, MSG_PEEK, MSG_WAITALL, Pair, Setup};
use crate::support::records::{AEAD_SUITES, DATA, HANDSHAKE, TestKeys};
use crate::{Case, Of, own};
use lockgate_ktls::Errno;

const FD: End = End::Fd;
const CFD: End = End::Cfd;
/// KeyUpdate, update_not_requested.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

pub(crate) const CASES: &[Case] = &[
    own(
        "tls.rekey",
        Of::Tls13,
        "data, KeyUpdate, new keys, data, three times each way",
        rekey,
    ),
    own(
        "tls.rekey_fail",
        Of::All,
        "TLS 1.2: EALREADY (Linux: EBUSY); TLS 1.3: EINVAL for another version or cipher, \
         EKEYEXPIRED for reads without the new key",
        rekey_fail,
    ),
    own(
        "tls.rekey_peek",
        Of::Tls13,
        "MSG_PEEK of the KeyUpdate, then the new key",
        rekey_peek,
    ),
    own(
        "tls.splice_rekey",
        Of::Tls13,
        "`splice` of data before, EKEYEXPIRED, `splice` of data behind",
        splice_rekey,
    ),
    own(
        "tls.rekey_peek_splice",
        Of::Tls13,
        "both",
        rekey_peek_splice,
    ),
    own(
        "tls.rekey_getsockopt",
        Of::Tls13,
        "the new IV and number",
        rekey_getsockopt,
    ),
    own(
        "tls.rekey_poll_pending",
        Of::Tls13,
        "no POLLIN for records behind a KeyUpdate until the new key",
        rekey_poll_pending,
    ),
    own(
        "tls.rekey_poll_delay",
        Of::Tls13,
        "`poll` returns when the key is set",
        rekey_poll_delay,
    ),
];

/// Sends a KeyUpdate under the old key and sets the new one at the sender.
fn change_tx(pair: &mut Pair, end: End) {
    let sent = pair.sendmsg(end, &[&KEY_UPDATE], Some(HANDSHAKE), 0);
    assert_eq!(sent, Ok(KEY_UPDATE.len()));
    pair.new_keys(end);
    let keys = pair.keys[end as usize].clone();
    pair.set_tx(end, &keys).unwrap();
}

fn change_rx(pair: &mut Pair, end: End) {
    let keys = pair.keys[end.other() as usize].clone();
    pair.set_rx(end, &keys).unwrap();
}

fn take_key_update(pair: &mut Pair, end: End) {
    let got = pair.recvmsg(end, 100, MSG_WAITALL);
    assert_eq!(got, Ok((KEY_UPDATE.to_vec(), HANDSHAKE)));
}

fn rekey(setup: Setup) {
    let mut pair = Pair::new(setup);
    for round in 0_u8..3 {
        for end in [FD, CFD] {
            let (before, after) = (vec![round; 20_000], vec![round + 100; 20_000]);
            pair.send(end, &before, 0).unwrap();
            change_tx(&mut pair, end);
            pair.send(end, &after, 0).unwrap();
            let other = end.other();
            assert!(pair.recv(other, 20_000, MSG_WAITALL) == Ok(before));
            take_key_update(&mut pair, other);
            change_rx(&mut pair, other);
            assert!(pair.recv(other, 20_000, MSG_WAITALL) == Ok(after));
        }
    }
    pair.end();
}

fn rekey_fail(setup: Setup) {
    let mut pair = Pair::new(setup);
    let suite = setup.suite;
    if !suite.is_tls13() {
        let keys = TestKeys::new(suite, &mut pair.random);
        assert_eq!(pair.set_tx(FD, &keys), Err(Errno::Ealready));
        assert_eq!(pair.set_rx(CFD, &keys), Err(Errno::Ealready));
        // The keys from before work.
        pair.send(FD, b"still", 0).unwrap();
        assert_eq!(pair.recv(CFD, 5, 0), Ok(b"still".to_vec()));
        return pair.end();
    }
    pair.send(FD, b"before", 0).unwrap();
    change_tx(&mut pair, FD);
    pair.send(FD, b"after", 0).unwrap();
    assert_eq!(pair.recv(CFD, 100, MSG_WAITALL), Ok(b"before".to_vec()));
    take_key_update(&mut pair, CFD);
    for _ in 0..3 {
        assert_eq!(pair.recv(CFD, 5, 0), Err(Errno::Ekeyexpired));
        let peeked = pair.recvmsg(CFD, 5, MSG_PEEK | MSG_DONTWAIT);
        assert_eq!(peeked, Err(Errno::Ekeyexpired));
    }
    for other in AEAD_SUITES.into_iter().filter(|other| *other != suite) {
        let keys = TestKeys::new(other, &mut pair.random);
        assert_eq!(pair.set_tx(FD, &keys), Err(Errno::Einval), "{}", other.name);
        assert_eq!(pair.set_rx(CFD, &keys), Err(Errno::Einval));
        assert_eq!(pair.recv(CFD, 5, 0), Err(Errno::Ekeyexpired));
    }
    change_rx(&mut pair, CFD);
    assert_eq!(pair.recv(CFD, 5, 0), Ok(b"after".to_vec()));
    pair.end();
}

fn rekey_peek(setup: Setup) {
    let mut pair = Pair::new(setup);
    change_tx(&mut pair, FD);
    pair.send(FD, b"after", 0).unwrap();
    for _ in 0..2 {
        let peeked = pair.recvmsg(CFD, 100, MSG_PEEK | MSG_WAITALL);
        assert_eq!(peeked, Ok((KEY_UPDATE.to_vec(), HANDSHAKE)));
    }
    take_key_update(&mut pair, CFD);
    assert_eq!(pair.recv(CFD, 5, 0), Err(Errno::Ekeyexpired));
    change_rx(&mut pair, CFD);
    assert_eq!(pair.recv(CFD, 5, 0), Ok(b"after".to_vec()));
    pair.end();
}

fn splice_rekey(setup: Setup) {
    let mut pair = Pair::new(setup);
    let mut pipe = Vec::new();
    pair.send(FD, &[1; 16_384], 0).unwrap();
    change_tx(&mut pair, FD);
    pair.send(FD, &[2; 16_384], 0).unwrap();
    assert_eq!(pair.splice_to_pipe(CFD, &mut pipe, 16_384), Ok(16_384));
    let refused = pair.splice_to_pipe(CFD, &mut pipe, 16_384);
    assert_eq!(refused, Err(Errno::Einval));
    take_key_update(&mut pair, CFD);
    let expired = pair.splice_to_pipe(CFD, &mut pipe, 16_384);
    assert_eq!(expired, Err(Errno::Ekeyexpired));
    change_rx(&mut pair, CFD);
    assert_eq!(pair.splice_to_pipe(CFD, &mut pipe, 16_384), Ok(16_384));
    assert!(pipe == [[1; 16_384], [2; 16_384]].concat());
    pair.end();
}

fn rekey_peek_splice(setup: Setup) {
    let mut pair = Pair::new(setup);
    let mut pipe = Vec::new();
    pair.send(FD, b"before", 0).unwrap();
    change_tx(&mut pair, FD);
    pair.send(FD, b"after", 0).unwrap();
    let peeked = pair.recvmsg(CFD, 100, MSG_PEEK | MSG_WAITALL);
    assert_eq!(peeked, Ok((b"before".to_vec(), DATA)));
    assert_eq!(pair.splice_to_pipe(CFD, &mut pipe, 100), Ok(6));
    let peeked = pair.recvmsg(CFD, 100, MSG_PEEK | MSG_WAITALL);
    assert_eq!(peeked, Ok((KEY_UPDATE.to_vec(), HANDSHAKE)));
    let refused = pair.splice_to_pipe(CFD, &mut pipe, 100);
    assert_eq!(refused, Err(Errno::Einval));
    take_key_update(&mut pair, CFD);
    let expired = pair.splice_to_pipe(CFD, &mut pipe, 100);
    assert_eq!(expired, Err(Errno::Ekeyexpired));
    change_rx(&mut pair, CFD);
    assert_eq!(pair.splice_to_pipe(CFD, &mut pipe, 100), Ok(5));
    assert_eq!(pipe, b"beforeafter");
    pair.end();
}

fn rekey_getsockopt(setup: Setup) {
    let mut pair = Pair::new(setup);
    let old = pair.keys[FD as usize].clone();
    assert_eq!(pair.tx_info(FD).unwrap().iv, *old.enable().iv);
    change_tx(&mut pair, FD);
    let new = pair.keys[FD as usize].clone();
    let tx = pair.tx_info(FD).unwrap();
    assert_eq!((&tx.iv[..], tx.rec_seq), (new.enable().iv, new.seq));
    take_key_update(&mut pair, CFD);
    let rx = pair.rx_info(CFD).unwrap();
    assert_eq!((&rx.iv[..], rx.rec_seq), (old.enable().iv, old.seq + 1));
    change_rx(&mut pair, CFD);
    assert_eq!(pair.rx_info(CFD), Ok(tx));
    pair.end();
}

fn rekey_poll_pending(setup: Setup) {
    let mut pair = Pair::new(setup);
    change_tx(&mut pair, FD);
    assert!(pair.poll_briefly(CFD), "the KeyUpdate can be read");
    pair.send(FD, b"pending", 0).unwrap();
    take_key_update(&mut pair, CFD);
    assert!(!pair.poll_briefly(CFD));
    assert_eq!(pair.recv(CFD, 10, 0), Err(Errno::Ekeyexpired));
    assert!(!pair.poll_briefly(CFD), "a read that fails changes nothing");
    change_rx(&mut pair, CFD);
    assert!(pair.poll_briefly(CFD));
    assert_eq!(pair.recv(CFD, 10, 0), Ok(b"pending".to_vec()));
    pair.end();
}

fn rekey_poll_delay(setup: Setup) {
    let mut pair = Pair::new(setup);
    change_tx(&mut pair, FD);
    take_key_update(&mut pair, CFD);
    assert!(!pair.poll_briefly(CFD));
    // The data comes while `poll` waits, the key later.
    pair.send(FD, b"delayed", 0).unwrap();
    assert!(!pair.poll_briefly(CFD));
    change_rx(&mut pair, CFD);
    assert!(pair.poll_briefly(CFD));
    assert_eq!(pair.recv(CFD, 10, 0), Ok(b"delayed".to_vec()));
    // Here the key comes before the data.
    change_tx(&mut pair, FD);
    take_key_update(&mut pair, CFD);
    change_rx(&mut pair, CFD);
    assert!(!pair.poll_briefly(CFD));
    pair.send_later(FD, b"later");
    assert!(pair.poll(CFD, Duration::from_secs(3600)));
    assert_eq!(pair.recv(CFD, 10, 0), Ok(b"later".to_vec()));
    pair.end();
}
