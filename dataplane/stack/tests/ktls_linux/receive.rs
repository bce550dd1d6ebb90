//! Fixture `tls`, receiving.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::linux::{End, MSG_DONTWAIT, MSG_MORE, MSG_PEEK, MSG_WAITALL, Pair, Setup};
use crate::support::records::{ALERT, CONTROL, DATA, HANDSHAKE, split_records};
use crate::{Case, Of, own, tls};
use lockgate_ktls::Errno;

const FD: End = End::Fd;
const CFD: End = End::Cfd;
/// Linux's type of the control records.
const TYPE: u8 = 100;

pub(crate) const CASES: &[Case] = &[
    tls("tls.splice_to_pipe", "16 384 bytes", splice_to_pipe),
    tls(
        "tls.splice_cmsg_to_pipe",
        "a control record: `splice` is EINVAL, `recv` EIO, `recvmsg` returns it with its type",
        splice_cmsg_to_pipe,
    ),
    tls(
        "tls.splice_dec_cmsg_to_pipe",
        "the same after the record was opened",
        splice_dec_cmsg_to_pipe,
    ),
    tls(
        "tls.recv_and_splice",
        "half a record is read, the rest spliced",
        recv_and_splice,
    ),
    tls(
        "tls.peek_and_splice",
        "`splice` returns what MSG_PEEK returned",
        peek_and_splice,
    ),
    tls(
        "tls.splice_to_pipe_small",
        "pieces smaller than a record leave the rest",
        splice_to_pipe_small,
    ),
    tls("tls.recvmsg_single", "a short record", recvmsg_single),
    tls("tls.recvmsg_single_max", "16 384 bytes", recvmsg_single_max),
    tls(
        "tls.recvmsg_multiple",
        "16 384 bytes into 1 024 pieces (`Chunk::advance` and `unread`)",
        recvmsg_multiple,
    ),
    tls(
        "tls.single_send_multiple_recv",
        "two records of a write, read in two calls",
        single_send_multiple_recv,
    ),
    tls(
        "tls.multiple_send_single_recv",
        "one call returns two records of data",
        multiple_send_single_recv,
    ),
    tls(
        "tls.single_send_multiple_recv_non_align",
        "calls whose sizes aren't those of records",
        single_send_multiple_recv_non_align,
    ),
    tls(
        "tls.recv_partial",
        "a record in two parts, the second with MSG_WAITALL",
        recv_partial,
    ),
    tls("tls.recv_nonblock", "EAGAIN", recv_nonblock),
    tls("tls.recv_peek", "MSG_PEEK, then the same bytes", recv_peek),
    tls("tls.recv_peek_multiple", "100 times", recv_peek_multiple),
    tls(
        "tls.recv_peek_multiple_records",
        "MSG_PEEK spans records of data and leaves them",
        recv_peek_multiple_records,
    ),
    tls(
        "tls.recv_peek_large_buf_mult_recs",
        "with MSG_WAITALL and a buffer for more; control records end it",
        recv_peek_large_buf_mult_recs,
    ),
    tls(
        "tls.recv_lowat",
        "SO_RCVLOWAT above what a record holds",
        recv_lowat,
    ),
    tls("tls.bidir", "both directions", bidir),
    tls("tls.pollin", "POLLIN with a record, none without", pollin),
    tls(
        "tls.poll_wait",
        "`poll` returns when a record comes",
        poll_wait,
    ),
    own(
        "tls.poll_wait_split",
        Of::All,
        "a record in two pieces, cut at every byte: POLLIN with the second",
        poll_wait_split,
    ),
    tls(
        "tls.control_msg",
        "type 100: EIO without a control buffer, MSG_PEEK and `recvmsg` return the type",
        control_msg,
    ),
    tls(
        "tls.control_msg_nomerge",
        "two control records are two reads",
        control_msg_nomerge,
    ),
    tls(
        "tls.data_control_data",
        "a read ends at another type",
        data_control_data,
    ),
    tls("tls.shutdown", "the other end reads 0", shutdown),
    tls(
        "tls.shutdown_unsent",
        "an open record is sent before the FIN",
        shutdown_unsent,
    ),
    tls(
        "tls.getsockopt",
        "suite, version, IV and the next record's number; EINVAL without keys (Linux: EBUSY)",
        getsockopt,
    ),
    own(
        "derived: tls_stat",
        Of::All,
        "each counter moves as often as what it counts",
        counters,
    ),
];

fn splice_to_pipe(pair: &mut Pair) {
    let sent = pair.bytes(16_384);
    pair.send(FD, &sent, 0).unwrap();
    let mut pipe = Vec::new();
    assert_eq!(pair.splice_to_pipe(CFD, &mut pipe, 16_384), Ok(16_384));
    assert!(pipe == sent);
}

fn splice_cmsg_to_pipe(pair: &mut Pair) {
    let mut pipe = Vec::new();
    pair.sendmsg(FD, &[b"test_read\0"], Some(TYPE), 0).unwrap();
    for _ in 0..2 {
        let spliced = pair.splice_to_pipe(CFD, &mut pipe, 10);
        assert_eq!(spliced, Err(Errno::Einval));
        assert_eq!(pair.recv(CFD, 10, 0), Err(Errno::Eio));
    }
    let got = pair.recvmsg(CFD, 10, MSG_WAITALL);
    assert_eq!(got, Ok((b"test_read\0".to_vec(), TYPE)));
    assert!(pipe.is_empty());
}

fn splice_dec_cmsg_to_pipe(pair: &mut Pair) {
    let mut pipe = Vec::new();
    pair.sendmsg(FD, &[b"test_read\0"], Some(TYPE), 0).unwrap();
    assert_eq!(pair.recv(CFD, 10, 0), Err(Errno::Eio));
    let peeked = pair.recvmsg(CFD, 10, MSG_PEEK);
    assert_eq!(peeked, Ok((b"test_read\0".to_vec(), TYPE)));
    let spliced = pair.splice_to_pipe(CFD, &mut pipe, 10);
    assert_eq!(spliced, Err(Errno::Einval));
    assert_eq!(pair.recv(CFD, 10, 0), Err(Errno::Eio));
    let got = pair.recvmsg(CFD, 10, MSG_WAITALL);
    assert_eq!(got, Ok((b"test_read\0".to_vec(), TYPE)));
    // What follows can be spliced again.
    pair.send(FD, b"data", 0).unwrap();
    assert_eq!(pair.splice_to_pipe(CFD, &mut pipe, 10), Ok(4));
    assert_eq!(pipe, b"data");
}

fn recv_and_splice(pair: &mut Pair) {
    let sent = pair.bytes(16_384);
    pair.send(FD, &sent, 0).unwrap();
    let half = pair.recv(CFD, 8192, MSG_WAITALL).unwrap();
    let mut pipe = Vec::new();
    assert_eq!(pair.splice_to_pipe(CFD, &mut pipe, 8192), Ok(8192));
    assert!([half, pipe].concat() == sent);
}

fn peek_and_splice(pair: &mut Pair) {
    let sent = pair.bytes(10_000);
    pair.send(FD, &sent, 0).unwrap();
    let mut pipe = Vec::new();
    assert!(pair.recv(CFD, 10_000, MSG_PEEK) == Ok(sent.clone()));
    assert!(pair.recv(CFD, 100, MSG_PEEK) == Ok(sent[..100].to_vec()));
    assert_eq!(pair.splice_to_pipe(CFD, &mut pipe, 10_000), Ok(10_000));
    assert!(pipe == sent);
}

fn splice_to_pipe_small(pair: &mut Pair) {
    let sent = pair.bytes(2 * 16_384);
    pair.send(FD, &sent, 0).unwrap();
    let mut pipe = Vec::new();
    while pipe.len() < sent.len() {
        let before = pipe.len();
        let spliced = pair.splice_to_pipe(CFD, &mut pipe, 4096).unwrap();
        assert_eq!((spliced, pipe.len()), (4096, before + 4096));
    }
    assert!(pipe == sent);
    assert_eq!(pair.recv(CFD, 1, MSG_DONTWAIT), Err(Errno::Eagain));
}

fn recvmsg_single(pair: &mut Pair) {
    pair.send(FD, b"test_recvmsg_single\0", 0).unwrap();
    let got = pair.recvmsg(CFD, 20, 0);
    assert_eq!(got, Ok((b"test_recvmsg_single\0".to_vec(), DATA)));
}

fn recvmsg_single_max(pair: &mut Pair) {
    let sent = pair.bytes(16_384);
    pair.send(FD, &sent, 0).unwrap();
    assert!(pair.recvmsg(CFD, 16_384, 0) == Ok((sent, DATA)));
}

fn recvmsg_multiple(pair: &mut Pair) {
    let sent = pair.bytes(16_384);
    pair.send(FD, &sent, 0).unwrap();
    for piece in sent.chunks(16) {
        assert_eq!(pair.recv(CFD, 16, MSG_WAITALL), Ok(piece.to_vec()));
    }
}

fn single_send_multiple_recv(pair: &mut Pair) {
    let sent = pair.bytes(2 * 16_384);
    pair.send(FD, &sent, 0).unwrap();
    for half in sent.chunks(16_384) {
        assert!(pair.recv(CFD, 16_384, 0) == Ok(half.to_vec()));
    }
}

fn multiple_send_single_recv(pair: &mut Pair) {
    pair.send(FD, b"0123456789", 0).unwrap();
    pair.send(FD, b"abcdefghij", 0).unwrap();
    assert_eq!(
        pair.recv(CFD, 20, MSG_WAITALL),
        Ok(b"0123456789abcdefghij".to_vec())
    );
}

fn single_send_multiple_recv_non_align(pair: &mut Pair) {
    let sent = pair.bytes(2 * 16_384 + 100);
    pair.send(FD, &sent, 0).unwrap();
    let mut at = 0;
    for len in [10, 9997, 6_400, 1, 16_360] {
        let got = pair.recv(CFD, len, MSG_WAITALL).unwrap();
        assert!(got == sent[at..at + len], "{len}");
        at += len;
    }
    let rest = sent[at..].to_vec();
    assert!(pair.recv(CFD, rest.len(), MSG_WAITALL) == Ok(rest));
}

fn recv_partial(pair: &mut Pair) {
    pair.send(FD, b"test_read_partial\0", 0).unwrap();
    assert_eq!(pair.recv(CFD, 9, 0), Ok(b"test_read".to_vec()));
    assert_eq!(pair.recv(CFD, 9, MSG_WAITALL), Ok(b"_partial\0".to_vec()));
}

fn recv_nonblock(pair: &mut Pair) {
    assert_eq!(pair.recv(CFD, 4096, MSG_DONTWAIT), Err(Errno::Eagain));
    assert_eq!(pair.recvmsg(CFD, 1, MSG_DONTWAIT), Err(Errno::Eagain));
}

fn recv_peek(pair: &mut Pair) {
    pair.send(FD, b"test_read_peek\0", 0).unwrap();
    for flags in [MSG_PEEK, 0] {
        assert_eq!(pair.recv(CFD, 15, flags), Ok(b"test_read_peek\0".to_vec()));
    }
    assert_eq!(pair.recv(CFD, 15, MSG_DONTWAIT), Err(Errno::Eagain));
}

fn recv_peek_multiple(pair: &mut Pair) {
    pair.send(FD, b"test_read_peek\0", 0).unwrap();
    for _ in 0..100 {
        assert_eq!(
            pair.recv(CFD, 15, MSG_PEEK),
            Ok(b"test_read_peek\0".to_vec())
        );
    }
    assert_eq!(pair.recv(CFD, 15, 0), Ok(b"test_read_peek\0".to_vec()));
}

fn recv_peek_multiple_records(pair: &mut Pair) {
    let (first, second): (&[u8], &[u8]) = (b"test_read_peek", b"_mult_recs\0");
    let both = [first, second].concat();
    pair.send(FD, first, 0).unwrap();
    pair.send(FD, second, 0).unwrap();
    pair.run_briefly();
    assert_eq!(pair.recv(CFD, 100, MSG_PEEK), Ok(both.clone()));
    assert_eq!(pair.recv(CFD, 20, MSG_PEEK), Ok(both[..20].to_vec()));
    // A read takes a part of what was seen, and another peek the rest.
    assert_eq!(pair.recv(CFD, 4, 0), Ok(both[..4].to_vec()));
    assert_eq!(pair.recv(CFD, 100, MSG_PEEK), Ok(both[4..].to_vec()));
    pair.send(FD, b"third", 0).unwrap();
    pair.run_briefly();
    let all = [&both[4..], b"third"].concat();
    assert_eq!(pair.recv(CFD, 100, MSG_PEEK), Ok(all.clone()));
    assert_eq!(pair.recv(CFD, all.len(), MSG_WAITALL), Ok(all));
    assert_eq!(pair.recv(CFD, 1, MSG_DONTWAIT), Err(Errno::Eagain));
}

fn recv_peek_large_buf_mult_recs(pair: &mut Pair) {
    let both = b"test_read_peek_mult_recs\0".to_vec();
    pair.send(FD, &both[..14], 0).unwrap();
    pair.send(FD, &both[14..], 0).unwrap();
    let peeked = pair.recv(CFD, both.len(), MSG_PEEK | MSG_WAITALL);
    assert_eq!(peeked, Ok(both.clone()));
    pair.sendmsg(FD, &[b"control"], Some(TYPE), 0).unwrap();
    let peeked = pair.recv(CFD, 64, MSG_PEEK | MSG_WAITALL);
    assert_eq!(peeked, Ok(both.clone()));
    assert_eq!(pair.recv(CFD, 64, MSG_WAITALL), Ok(both));
    let control = pair.recvmsg(CFD, 64, MSG_WAITALL);
    assert_eq!(control, Ok((b"control".to_vec(), TYPE)));
}

fn recv_lowat(pair: &mut Pair) {
    let sent = pair.bytes(20);
    pair.set_low_water(CFD, 8);
    pair.send(FD, &sent[..10], 0).unwrap();
    assert_eq!(pair.recv(CFD, 1, MSG_WAITALL), Ok(sent[..1].to_vec()));
    assert_eq!(pair.recv(CFD, 6, MSG_WAITALL), Ok(sent[1..7].to_vec()));
    // Three bytes are below the mark: the call waits for the next record.
    pair.send_later(FD, &sent[10..]);
    assert_eq!(pair.recv(CFD, 10, 0), Ok(sent[7..17].to_vec()));
    // At the end fewer are all there is.
    pair.shutdown(FD);
    assert_eq!(pair.recv(CFD, 10, 0), Ok(sent[17..].to_vec()));
}

fn bidir(pair: &mut Pair) {
    let (there, back) = (pair.bytes(10_000), pair.bytes(9_000));
    pair.send(FD, &there, 0).unwrap();
    pair.send(CFD, &back, 0).unwrap();
    assert!(pair.recv(CFD, 10_000, MSG_WAITALL) == Ok(there));
    assert!(pair.recv(FD, 9_000, MSG_WAITALL) == Ok(back));
}

fn pollin(pair: &mut Pair) {
    pair.send(FD, b"test_poll\0", 0).unwrap();
    assert!(pair.poll_briefly(CFD));
    assert_eq!(pair.recv(CFD, 10, MSG_WAITALL), Ok(b"test_poll\0".to_vec()));
    assert!(!pair.poll_briefly(CFD));
}

fn poll_wait(pair: &mut Pair) {
    assert!(!pair.poll(CFD, Duration::ZERO));
    pair.send_later(FD, b"test_poll_wait\0");
    assert!(pair.poll(CFD, Duration::from_secs(3600)));
    assert_eq!(
        pair.recv(CFD, 15, MSG_WAITALL),
        Ok(b"test_poll_wait\0".to_vec())
    );
}

fn poll_wait_split(setup: Setup) {
    let mut pair = Pair::raw(setup);
    let len = pair.keys[FD as usize]
        .clone()
        .seal(DATA, b"in two pieces")
        .len();
    for cut in 1..len {
        let record = pair.seal(DATA, b"in two pieces");
        pair.feed(&record[..cut]);
        assert!(!pair.poll_briefly(CFD), "{cut}");
        pair.feed(&record[cut..]);
        assert!(pair.poll_briefly(CFD), "{cut}");
        assert_eq!(pair.recv(CFD, 20, 0), Ok(b"in two pieces".to_vec()));
    }
}

fn control_msg(pair: &mut Pair) {
    pair.sendmsg(FD, &[b"test_read\0"], Some(TYPE), 0).unwrap();
    assert_eq!(pair.recv(CFD, 10, 0), Err(Errno::Eio));
    let expected = Ok((b"test_read\0".to_vec(), TYPE));
    for flags in [MSG_WAITALL | MSG_PEEK, MSG_WAITALL] {
        assert_eq!(pair.recvmsg(CFD, 10, flags), expected);
    }
}

fn control_msg_nomerge(pair: &mut Pair) {
    pair.sendmsg(FD, &[b"first"], Some(TYPE), 0).unwrap();
    pair.sendmsg(FD, &[b"second"], Some(TYPE), 0).unwrap();
    pair.run_briefly();
    for expected in [&b"first"[..], b"second"] {
        let got = pair.recvmsg(CFD, 100, MSG_WAITALL);
        assert_eq!(got, Ok((expected.to_vec(), TYPE)));
    }
}

fn data_control_data(pair: &mut Pair) {
    pair.send(FD, b"before", 0).unwrap();
    pair.sendmsg(FD, &[b"control"], Some(TYPE), 0).unwrap();
    pair.send(FD, b"after", 0).unwrap();
    pair.run_briefly();
    let before = pair.recv(CFD, 100, MSG_WAITALL);
    assert_eq!(before, Ok(b"before".to_vec()));
    assert_eq!(pair.recv(CFD, 100, 0), Err(Errno::Eio));
    // A small buffer leaves the rest of a control record, and its type.
    let control = pair.recvmsg(CFD, 3, MSG_WAITALL);
    assert_eq!(control, Ok((b"con".to_vec(), TYPE)));
    let control = pair.recvmsg(CFD, 100, MSG_WAITALL);
    assert_eq!(control, Ok((b"trol".to_vec(), TYPE)));
    assert_eq!(pair.recv(CFD, 5, MSG_WAITALL), Ok(b"after".to_vec()));
}

fn shutdown(pair: &mut Pair) {
    pair.send(FD, b"last", 0).unwrap();
    for end in [FD, CFD] {
        pair.shutdown(end);
    }
    assert_eq!(pair.recv(CFD, 100, MSG_WAITALL), Ok(b"last".to_vec()));
    for end in [FD, CFD] {
        assert_eq!(pair.recv(end, 100, 0), Ok(Vec::new()));
        assert_eq!(pair.send(end, b"x", 0), Err(Errno::Epipe));
    }
}

fn shutdown_unsent(pair: &mut Pair) {
    pair.send(FD, b"test_read\0", MSG_MORE).unwrap();
    pair.shutdown(FD);
    assert_eq!(pair.recv(CFD, 10, 0), Ok(b"test_read\0".to_vec()));
    assert_eq!(pair.recv(CFD, 10, 0), Ok(Vec::new()));
}

fn getsockopt(pair: &mut Pair) {
    let keys = pair.keys.clone();
    for _ in 0..3 {
        pair.send(FD, &[1; 4000], 0).unwrap();
    }
    let three = keys[FD as usize].seq + 3;
    let tx = pair.tx_info(FD).unwrap();
    assert_eq!(tx.rec_seq, three);
    assert_eq!(pair.recv(CFD, 12_000, MSG_WAITALL).unwrap().len(), 12_000);
    let rx = pair.rx_info(CFD).unwrap();
    assert_eq!((rx.params, rx.rec_seq), (tx.params, three));
    assert_eq!(pair.rx_info(FD).unwrap().rec_seq, keys[CFD as usize].seq);
    let salt = keys[FD as usize].enable().iv;
    assert_eq!(tx.iv[..salt.len()], *salt);
    let suite = keys[FD as usize].suite;
    let mut plain = Pair::plain(Setup::of(suite));
    assert_eq!(plain.tx_info(FD), Err(Errno::Einval));
    assert_eq!(plain.rx_info(FD), Err(Errno::Einval));
}

/// Linux's `tls_stat` counters, each in one scenario, in which no other of them changes.
fn counters(setup: Setup) {
    let mut pair = Pair::raw(setup);
    let is_tls13 = setup.suite.is_tls13();
    let mut expected = BTreeMap::new();
    let mut check = |pair: &mut Pair, changes: &[(&'static str, u64)]| {
        expected.extend(changes.iter().copied());
        let counters = &pair.host(CFD).0.ciphers.counters;
        let found = counters.iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("tls_stat.")?;
            (value > 0).then_some((name, value))
        });
        let found: BTreeMap<&str, u64> = found.collect();
        let nonzero = expected.iter().filter(|(_, value)| **value > 0);
        let nonzero: BTreeMap<&str, u64> = nonzero.map(|(name, value)| (*name, *value)).collect();
        assert_eq!(found, nonzero);
    };
    check(&mut pair, &[("TlsRxSw", 1), ("TlsCurrRxSw", 1)]);
    let tx = pair.keys[CFD as usize].clone();
    pair.set_tx(CFD, &tx).unwrap();
    check(&mut pair, &[("TlsTxSw", 1), ("TlsCurrTxSw", 1)]);

    let mut bad = pair.seal(DATA, b"bad");
    *bad.last_mut().unwrap() ^= 1;
    pair.feed(&bad);
    assert_eq!(pair.recv(CFD, 10, 0), Err(Errno::Ebadmsg));
    check(&mut pair, &[("TlsDecryptError", 1)]);

    if is_tls13 {
        let (host, id) = pair.host(CFD);
        host.stack.set_rx_expect_no_pad(id, true).unwrap();
        for (padding, violations) in [(0, 0), (7, 1), (1, 2)] {
            let record = pair.seal_padded(DATA, b"padded", padding);
            pair.feed(&record);
            assert_eq!(pair.recv(CFD, 10, 0), Ok(b"padded".to_vec()));
            check(&mut pair, &[("TlsRxNoPadViolation", violations)]);
        }
    }

    // TLS 1.2 has no KeyUpdate, and refuses new keys.
    let update = pair.seal(HANDSHAKE, &[24, 0, 0, 1, 0]);
    pair.feed(&update);
    let (_, kind) = pair.recvmsg(CFD, 10, 0).unwrap();
    assert_eq!(kind, HANDSHAKE);
    let (ok, error) = if is_tls13 { (1, 0) } else { (0, 1) };
    check(&mut pair, &[("TlsRxRekeyReceived", ok)]);
    for end in [FD, CFD] {
        pair.new_keys(end);
    }
    let [rx, tx] = pair.keys.clone();
    assert_eq!(pair.set_rx(CFD, &rx).is_ok(), is_tls13);
    check(
        &mut pair,
        &[("TlsRxRekeyOk", ok), ("TlsRxRekeyError", error)],
    );
    assert_eq!(pair.set_tx(CFD, &tx).is_ok(), is_tls13);
    check(
        &mut pair,
        &[("TlsTxRekeyOk", ok), ("TlsTxRekeyError", error)],
    );
    pair.send(CFD, b"sealed", 0).unwrap();
    pair.sendmsg(CFD, &[&[1, 0]], Some(ALERT), 0).unwrap();
    pair.sendmsg(CFD, &[b"x"], Some(CONTROL), 0).unwrap();
    let wire = pair.wire();
    assert_eq!(split_records(&wire).count(), 3);
    check(&mut pair, &[]);

    // The gauges fall at the end, the counters don't.
    let (host, id) = pair.host(CFD);
    host.stack.abort(id);
    pair.run_briefly();
    check(&mut pair, &[("TlsCurrRxSw", 0), ("TlsCurrTxSw", 0)]);
}
