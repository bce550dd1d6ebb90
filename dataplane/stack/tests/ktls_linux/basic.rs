//! Fixture `tls_basic`, and the cases without one.

use crate::support::World;
use crate::support::linux::{End, MSG_DONTWAIT, MSG_MORE, MSG_WAITALL, Pair, Setup};
use crate::support::network::Network;
use crate::support::records::{
    CHACHA_12, CONTROL, DATA, GCM_128_12, GCM_128_13, GCM_256_12, TestKeys, split_records,
};
use crate::{Case, Of, own};
use lockgate_ktls::{CipherAlgorithm, Errno, TlsEnable};
use lockgate_stack::{ConnectConfig, ListenConfig, Recv, SocketError};
use lockgate_testing::Random;

const FD: End = End::Fd;
const CFD: End = End::Cfd;

pub(crate) const CASES: &[Case] = &[
    own(
        "tls_basic.base_base",
        Of::One,
        "without keys data passes as it is, both ways",
        base_base,
    ),
    own(
        "tls_basic.bad_cipher",
        Of::One,
        "wrong pairs of version and cipher: EINVAL",
        bad_cipher,
    ),
    own(
        "tls_basic.recseq_wrap",
        Of::All,
        "number 2^64 - 1 isn't used: EBADMSG",
        recseq_wrap,
    ),
    own(
        "tls_basic.rekey_rx",
        Of::Tls13,
        "receiving keys are changed though none for sending are set",
        rekey_rx,
    ),
    own(
        "tls_basic.rekey_tx",
        Of::Tls13,
        "sending keys are changed though none for receiving are set",
        rekey_tx,
    ),
    own(
        "tls_12_tx_max_payload_len",
        Of::All,
        "a limit of 128: no record has more",
        max_payload_len,
    ),
    own(
        "tls_12_tx_max_payload_len_open_rec",
        Of::All,
        "changed while a record is open: EBUSY",
        max_payload_len_open_rec,
    ),
    own(
        "non_established",
        Of::One,
        "keys on a listener or before the connection is established: ENOTCONN",
        non_established,
    ),
    own(
        "keysizes",
        Of::One,
        "AES-256-GCM, both directions",
        keysizes,
    ),
    own(
        "no_pad",
        Of::All,
        "TLS_RX_EXPECT_NO_PAD: TLS 1.3 with receiving keys, otherwise EINVAL",
        no_pad,
    ),
    own("tls_v6ops", Of::One, "over IPv6", tls_v6ops),
    own(
        "prequeue",
        Of::All,
        "20 000 bytes of records that came before the keys",
        prequeue,
    ),
    own(
        "data_steal",
        Of::All,
        "bytes read before the keys are no records: those behind them are, or the header is wrong",
        data_steal,
    ),
    own(
        "derived: recseq_wrap in a large write",
        Of::All,
        "the bytes before it are returned, then EBADMSG",
        recseq_wrap_in_large_write,
    ),
];

fn base_base(setup: Setup) {
    let mut pair = Pair::plain(setup);
    for end in [FD, CFD] {
        pair.send(end, b"plain", 0).unwrap();
        pair.run_briefly();
        let other = end.other();
        let (host, id) = pair.host(other);
        assert_eq!(host.drain(id), (b"plain".to_vec(), None));
    }
}

fn bad_cipher(setup: Setup) {
    let mut pair = Pair::plain(setup);
    let keys = TestKeys::new(GCM_128_12, &mut pair.random);
    let chacha = TestKeys::new(CHACHA_12, &mut pair.random);
    let (gcm, chacha) = (keys.enable(), chacha.enable());
    let long = [7; 32];
    let rows = [
        TlsEnable {
            version: [3, 0],
            ..gcm
        },
        TlsEnable {
            version: [3, 5],
            ..gcm
        },
        TlsEnable {
            version: [0, 3],
            ..gcm
        },
        TlsEnable {
            version: [3, 2],
            ..gcm
        },
        TlsEnable {
            version: [3, 1],
            ..chacha
        },
        TlsEnable {
            cipher: CipherAlgorithm::Chacha20Poly1305,
            ..gcm
        },
        TlsEnable {
            cipher_key: &long[..24],
            ..gcm
        },
        TlsEnable {
            cipher: CipherAlgorithm::AesCcm,
            cipher_key: &long,
            iv: &long[..12],
            version: [3, 4],
            ..gcm
        },
    ];
    let (host, id) = pair.host(FD);
    for enable in rows {
        let tx = host.stack.set_txtls(id, &enable, &mut host.ciphers);
        let rx = host.stack.set_rxtls(id, &enable, &mut host.ciphers);
        let refused = Err(Errno::Einval);
        assert_eq!(tx.map_err(SocketError::errno), refused, "{enable:?}");
        assert_eq!(rx.map_err(SocketError::errno), refused, "{enable:?}");
    }
    base_base(setup);
}

fn recseq_wrap(setup: Setup) {
    let mut pair = Pair::plain(setup);
    let mut keys = pair.keys[FD as usize].clone();
    keys.seq = u64::MAX;
    pair.set_tx(FD, &keys).unwrap();
    for _ in 0..2 {
        assert_eq!(pair.send(FD, b"x", 0), Err(Errno::Ebadmsg));
        let control = pair.sendmsg(FD, &[b"x"], Some(CONTROL), 0);
        assert_eq!(control, Err(Errno::Ebadmsg));
    }
    // A record that is received with that number is refused, too.
    let mut pair = Pair::plain(setup);
    pair.keys[FD as usize].seq = u64::MAX;
    let keys = pair.keys[FD as usize].clone();
    pair.set_rx(CFD, &keys).unwrap();
    let record = pair.seal(DATA, b"x");
    pair.feed(&record);
    assert_eq!(pair.recv(CFD, 1, 0), Err(Errno::Ebadmsg));
}

fn recseq_wrap_in_large_write(setup: Setup) {
    let mut pair = Pair::plain(setup);
    pair.keys[FD as usize].seq = u64::MAX - 2;
    let keys = pair.keys[FD as usize].clone();
    pair.set_tx(FD, &keys).unwrap();
    pair.set_rx(CFD, &keys).unwrap();
    let sent = pair.bytes(5 * 16_384);
    assert_eq!(pair.send(FD, &sent, 0), Ok(2 * 16_384));
    assert_eq!(pair.send(FD, &sent[2 * 16_384..], 0), Err(Errno::Ebadmsg));
    let got = pair.recv(CFD, 2 * 16_384, MSG_WAITALL).unwrap();
    assert!(got == sent[..2 * 16_384]);
    pair.run_long();
    assert_eq!(pair.recv(CFD, 1, MSG_DONTWAIT), Err(Errno::Eagain));
}

fn rekey_rx(setup: Setup) {
    let mut pair = Pair::raw(setup);
    let record = pair.seal(DATA, b"old");
    pair.feed(&record);
    assert_eq!(pair.recv(CFD, 10, 0), Ok(b"old".to_vec()));
    pair.new_keys(FD);
    let keys = pair.keys[FD as usize].clone();
    assert_eq!(pair.set_rx(CFD, &keys), Ok(()));
    let record = pair.seal(DATA, b"new");
    pair.feed(&record);
    assert_eq!(pair.recv(CFD, 10, 0), Ok(b"new".to_vec()));
    assert_eq!(pair.tx_info(CFD), Err(Errno::Einval));
}

fn rekey_tx(setup: Setup) {
    let mut pair = Pair::plain(setup);
    for content in [&b"old"[..], b"new"] {
        pair.new_keys(CFD);
        let mut keys = pair.keys[CFD as usize].clone();
        assert_eq!(pair.set_tx(CFD, &keys), Ok(()));
        pair.send(CFD, content, 0).unwrap();
        let wire = pair.wire();
        assert_eq!(keys.open_all(&wire), [(DATA, content.to_vec())]);
    }
    assert_eq!(pair.rx_info(CFD), Err(Errno::Einval));
}

fn limit(pair: &mut Pair, bytes: u16) -> Result<(), Errno> {
    let (host, id) = pair.host(CFD);
    let set = host.stack.set_tx_max_payload(id, bytes);
    set.map_err(SocketError::errno)
}

fn max_payload_len(setup: Setup) {
    let mut pair = Pair::plain(setup);
    assert_eq!(limit(&mut pair, 128), Err(Errno::Einval), "without keys");
    let mut keys = pair.keys[CFD as usize].clone();
    pair.set_tx(CFD, &keys).unwrap();
    let min = if setup.suite.is_tls13() { 63 } else { 64 };
    for bad in [0, min - 1, 16_385] {
        assert_eq!(limit(&mut pair, bad), Err(Errno::Einval));
    }
    for good in [min, 16_384, 128] {
        assert_eq!(limit(&mut pair, good), Ok(()));
        let (host, id) = pair.host(CFD);
        assert_eq!(host.stack.tx_max_payload(id), Ok(good));
    }
    let sent = pair.bytes(1000);
    pair.send(CFD, &sent, 0).unwrap();
    let wire = pair.wire();
    assert_eq!(split_records(&wire).count(), 8);
    let records = keys.open_all(&wire);
    assert!(records.iter().all(|(_, content)| content.len() <= 128));
    let got: Vec<u8> = records.into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert_eq!(got, sent);
    let long = pair.sendmsg(CFD, &[&[1; 129]], Some(CONTROL), 0);
    assert_eq!(long, Err(Errno::Emsgsize), "Linux makes two records of it");
}

fn max_payload_len_open_rec(setup: Setup) {
    let mut pair = Pair::plain(setup);
    let keys = pair.keys[CFD as usize].clone();
    pair.set_tx(CFD, &keys).unwrap();
    pair.send(CFD, b"open", MSG_MORE).unwrap();
    assert_eq!(limit(&mut pair, 128), Err(Errno::Ebusy));
    pair.send(CFD, b"closed", 0).unwrap();
    assert_eq!(limit(&mut pair, 128), Ok(()));
}

fn non_established(setup: Setup) {
    let mut world = World::simple();
    let at = world.b_addr(443);
    let listener = world.b.stack.listen(at, ListenConfig::default()).unwrap();
    let keys = TestKeys::new(setup.suite, &mut Random::new(1));
    let enable = keys.enable();
    let b = &mut world.b;
    let tx = b.stack.set_txtls(listener, &enable, &mut b.ciphers);
    assert_eq!(tx.map_err(SocketError::errno), Err(Errno::Enotconn));
    let a = &mut world.a;
    let opening = a.stack.connect(world.now, at, ConnectConfig::default());
    let opening = opening.unwrap();
    let tx = a.stack.set_txtls(opening, &enable, &mut a.ciphers);
    let rx = a.stack.set_rxtls(opening, &enable, &mut a.ciphers);
    assert_eq!(tx.map_err(SocketError::errno), Err(Errno::Enotconn));
    assert_eq!(rx.map_err(SocketError::errno), Err(Errno::Enotconn));
}

fn keysizes(setup: Setup) {
    let suite = GCM_256_12;
    let mut pair = Pair::plain(Setup { suite, ..setup });
    let keys = pair.keys.clone();
    assert_eq!(pair.set_tx(FD, &keys[0]), Ok(()));
    assert_eq!(pair.set_rx(FD, &keys[1]), Ok(()));
    // The other direction may have another suite (Linux: EINVAL).
    let other = TestKeys::new(GCM_128_13, &mut pair.random);
    assert_eq!(pair.set_tx(CFD, &keys[1]), Ok(()));
    assert_eq!(pair.set_rx(CFD, &other), Ok(()));
}

fn no_pad(setup: Setup) {
    let set = |pair: &mut Pair, expected| {
        let (host, id) = pair.host(CFD);
        let set = host.stack.set_rx_expect_no_pad(id, expected);
        set.map_err(SocketError::errno)
    };
    let mut plain = Pair::plain(setup);
    assert_eq!(set(&mut plain, true), Err(Errno::Einval));
    let mut pair = Pair::raw(setup);
    let is_tls13 = setup.suite.is_tls13();
    let expected = if is_tls13 { Ok(()) } else { Err(Errno::Einval) };
    for on in [true, false, true] {
        assert_eq!(set(&mut pair, on), expected);
        let (host, id) = pair.host(CFD);
        assert_eq!(host.stack.rx_expect_no_pad(id), Ok(on && is_tls13));
    }
    let record = pair.seal(DATA, b"record");
    pair.feed(&record);
    assert_eq!(pair.recv(CFD, 10, 0), Ok(b"record".to_vec()));
}

fn tls_v6ops(setup: Setup) {
    let network = Network {
        v6: true,
        ..Network::PERFECT
    };
    let setup = Setup { network, ..setup };
    let mut pair = Pair::plain(setup);
    pair.send(FD, b"plain", 0).unwrap();
    pair.run_briefly();
    let (host, id) = pair.host(CFD);
    assert!(host.stack.remote_addr(id).unwrap().is_ipv6());
    assert_eq!(host.drain(id), (b"plain".to_vec(), None));
    let mut pair = Pair::new(setup);
    let sent = pair.bytes(50_000);
    pair.send(FD, &sent, 0).unwrap();
    assert!(pair.recv(CFD, 50_000, MSG_WAITALL) == Ok(sent));
    pair.end();
}

fn prequeue(setup: Setup) {
    let mut pair = Pair::plain(setup);
    let keys = pair.keys[FD as usize].clone();
    let sent = pair.bytes(20_000);
    let mut wire = Vec::new();
    for piece in sent.chunks(16_384) {
        wire.extend(pair.seal(DATA, piece));
    }
    pair.feed(&wire);
    pair.set_rx(CFD, &keys).unwrap();
    assert!(pair.recv(CFD, 20_000, MSG_WAITALL) == Ok(sent));
}

fn data_steal(setup: Setup) {
    for stolen in [0, 1, 5, 13, 1000] {
        for returns in [false, true] {
            let mut pair = Pair::plain(setup);
            let keys = pair.keys[FD as usize].clone();
            let record = pair.seal(DATA, &[7; 3000]);
            pair.feed(&record);
            let (host, id) = pair.host(CFD);
            let got = host.stack.recv(id, &mut host.ciphers, &mut host.pages);
            let Ok(Recv::Data(mut chunk)) = got else {
                panic!("{got:?}");
            };
            let before = chunk.len();
            if !returns {
                chunk.advance(stolen);
            }
            let is_whole = chunk.len() == before;
            host.stack.unread(id, chunk);
            pair.set_rx(CFD, &keys).unwrap();
            if is_whole {
                assert!(pair.recv(CFD, 3000, MSG_WAITALL) == Ok(vec![7; 3000]));
            } else {
                // Sealed bytes are no header, or one of a record that doesn't open.
                let next = pair.seal(DATA, &[8; 40_000][..16_384]);
                pair.feed(&next);
                let got = pair.recv(CFD, 3000, 0);
                let refused = [Errno::Einval, Errno::Emsgsize, Errno::Ebadmsg];
                assert!(got.is_err_and(|errno| refused.contains(&errno)), "{stolen}");
            }
        }
    }
}
