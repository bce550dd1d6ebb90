//! Every condition in which a call of the record layer's socket interface fails, and its errno: the
//! tables of "Errors" in `docs/ktls.md`, over sockets.

use lockgate_ktls::{Ciphers, Errno, Mode, TlsEnable};
use lockgate_stack::tls::TlsOptions;
use lockgate_stack::{CloseReason, ConnectConfig, ListenConfig, SendError, SocketId};
use lockgate_testing::Random;

use super::{Broken, closed, data, sendfile};
use crate::support::file::File;
use crate::support::raw::{Got, RawPair};
use crate::support::records::{
    ALERT, CBC_SUITES, CONTROL, DATA, GCM_128_12, GCM_128_13, GCM_256_13, HANDSHAKE, TestKeys,
    TestSuite,
};
use crate::support::{HostSpec, World, pki};

const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const TLS10: TestSuite = CBC_SUITES[0];
const CBC: TestSuite = CBC_SUITES[7];

/// A condition, the errno that it has, and what brings it about.
type Row = (&'static str, Errno, fn() -> Errno);

#[test]
fn every_condition_has_its_errno() {
    let mut wrong = Vec::new();
    for (condition, expected, run) in ROWS {
        let errno = run();
        if errno != *expected {
            wrong.push(format!("{condition}: {errno:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

const ROWS: &[Row] = &[
    // Setting keys, in the order of the checks.
    ("switched off, sending", Errno::Enotsup, || {
        let mut pair = with(|host| host.config.ktls = false);
        set_tx(&mut pair, GCM_128_13)
    }),
    ("switched off, receiving", Errno::Enotsup, || {
        let mut pair = with(|host| host.config.ktls = false);
        set_rx(&mut pair, GCM_128_13)
    }),
    (
        "TLS 1.2, sending keys a second time",
        Errno::Ealready,
        || {
            let (mut pair, _) = RawPair::sending(GCM_128_12);
            set_tx(&mut pair, GCM_128_12)
        },
    ),
    (
        "TLS 1.2, receiving keys a second time",
        Errno::Ealready,
        || {
            let (mut pair, _) = RawPair::receiving(GCM_128_12);
            set_rx(&mut pair, GCM_128_12)
        },
    ),
    ("keys of the stack's own handshake", Errno::Ealready, || {
        let (mut world, socket) = own_handshake();
        let keys = TestKeys::new(GCM_128_13, &mut Random::new(1));
        let b = &mut world.b;
        let set = b.stack.set_txtls(socket, &keys.enable(), &mut b.ciphers);
        set.unwrap_err().errno()
    }),
    ("AES-CBC switched off", Errno::Enotsup, || {
        set_tx(&mut RawPair::new(), CBC)
    }),
    ("a version that isn't TLS's", Errno::Einval, || {
        changed(|enable| enable.version = [3, 5])
    }),
    ("a flag", Errno::Einval, || {
        changed(|enable| enable.flags = 1)
    }),
    ("a key of another length", Errno::Einval, || {
        changed(|enable| enable.cipher_key = &[7; 24])
    }),
    ("no key", Errno::Einval, || {
        changed(|enable| enable.cipher_key = &[])
    }),
    ("an IV of another length", Errno::Einval, || {
        changed(|enable| enable.iv = &[7; 8])
    }),
    ("an AEAD with a key for a MAC", Errno::Einval, || {
        changed(|enable| enable.auth_key = &[7; 20])
    }),
    (
        "a cipher that the version doesn't have",
        Errno::Einval,
        || changed(|enable| enable.version = [3, 2]),
    ),
    ("no backend", Errno::Eprotonosupport, || {
        let mut pair = RawPair::new();
        pair.world.b.ciphers = Ciphers::with_backends(Vec::new());
        set_tx(&mut pair, GCM_128_13)
    }),
    ("TLS 1.0 received", Errno::Eprotonosupport, || {
        let mut pair = with(|host| host.config.cbc = true);
        set_rx(&mut pair, TLS10)
    }),
    ("another suite than before", Errno::Einval, || {
        let (mut pair, _) = RawPair::sending(GCM_128_13);
        set_tx(&mut pair, GCM_256_13)
    }),
    ("the key that is in use", Errno::Einval, || {
        let (mut pair, keys) = RawPair::sending(GCM_128_13);
        pair.set_tx(&keys).unwrap_err().errno()
    }),
    ("keys before the last change drained", Errno::Ebusy, || {
        let (mut pair, _) = RawPair::sending(GCM_128_13);
        let host = &mut pair.world.b;
        let sent = host
            .stack
            .send(pair.app, &[1; 20_000], false, &mut host.pages);
        assert!(sent.is_ok());
        let second = TestKeys::new(GCM_128_13, &mut pair.random);
        pair.set_tx(&second).unwrap();
        set_tx(&mut pair, GCM_128_13)
    }),
    ("a listener, sending", Errno::Enotconn, || listener().0),
    ("a listener, receiving", Errno::Einval, || listener().1),
    (
        "a connection that isn't established",
        Errno::Enotconn,
        || {
            let mut world = World::simple();
            let at = world.b_addr(443);
            let opening = world
                .a
                .stack
                .connect(world.now, at, ConnectConfig::default());
            let keys = TestKeys::new(GCM_128_13, &mut Random::new(1));
            let a = &mut world.a;
            let set = a
                .stack
                .set_txtls(opening.unwrap(), &keys.enable(), &mut a.ciphers);
            set.unwrap_err().errno()
        },
    ),
    ("during the stack's own handshake", Errno::Eagain, || {
        let mut world = World::simple();
        world.listen(443, Some(pki::server(&TlsOptions::default())));
        let a = world.connect(Some(pki::client(&TlsOptions::default())));
        let keys = TestKeys::new(GCM_128_13, &mut Random::new(1));
        let host = &mut world.a;
        let set = host.stack.set_txtls(a, &keys.enable(), &mut host.ciphers);
        set.unwrap_err().errno()
    }),
    ("sending keys after shutdown", Errno::Epipe, || {
        let mut pair = RawPair::new();
        pair.world.b.stack.shutdown(pair.app);
        set_tx(&mut pair, GCM_128_13)
    }),
    ("a socket that is gone", Errno::Ebadf, || {
        let mut pair = RawPair::new();
        pair.world.b.stack.abort(pair.app);
        pair.run();
        set_tx(&mut pair, GCM_128_13)
    }),
    // Writing.
    ("a write of no bytes", Errno::Einval, || {
        let (mut pair, _) = RawPair::sending(GCM_128_13);
        write(&mut pair, b"").unwrap_err().errno()
    }),
    (
        "a typed message longer than a record",
        Errno::Emsgsize,
        || {
            let (mut pair, _) = RawPair::sending(GCM_128_13);
            let sent = pair.send_record(CONTROL, &[1; 16_385]);
            sent.unwrap_err().errno()
        },
    ),
    ("a typed message without keys", Errno::Einval, || {
        let sent = RawPair::new().send_record(CONTROL, b"x");
        sent.unwrap_err().errno()
    }),
    ("the last number", Errno::Ebadmsg, || {
        let mut pair = RawPair::new();
        let mut keys = TestKeys::new(GCM_128_13, &mut pair.random);
        keys.seq = u64::MAX;
        pair.set_tx(&keys).unwrap();
        write(&mut pair, b"x").unwrap_err().errno()
    }),
    ("a write after shutdown", Errno::Epipe, || {
        let (mut pair, _) = RawPair::sending(GCM_128_13);
        pair.world.b.stack.shutdown(pair.app);
        write(&mut pair, b"x").unwrap_err().errno()
    }),
    ("a cipher that fails to seal", Errno::Eio, || {
        let mut pair = RawPair::new();
        pair.world.b.ciphers = Ciphers::with_backends(vec![Box::new(Broken)]);
        let keys = TestKeys::new(GCM_128_13, &mut pair.random);
        pair.set_tx(&keys).unwrap();
        write(&mut pair, b"x").unwrap();
        end(&mut pair)
    }),
    ("a file that can't be read", Errno::Eio, || {
        let (mut pair, _) = RawPair::sending(GCM_128_13);
        let file = std::sync::Arc::new(File::with(&[1; 1000], Some(0)));
        sendfile(&mut pair, &file, 0..1000, false).unwrap();
        end(&mut pair)
    }),
    ("a limit of content out of range", Errno::Einval, || {
        limit(GCM_128_12, 63, false)
    }),
    ("a limit while a record is open", Errno::Ebusy, || {
        limit(GCM_128_12, 1000, true)
    }),
    ("a mode that can't be set", Errno::Einval, || {
        mode(Mode::Toe)
    }),
    // EOPNOTSUPP is ENOTSUP on Linux.
    ("no interface that seals", Errno::Enotsup, || {
        mode(Mode::Ifnet)
    }),
    ("expecting no padding in TLS 1.2", Errno::Einval, || {
        let (mut pair, _) = RawPair::receiving(GCM_128_12);
        let set = pair.world.b.stack.set_rx_expect_no_pad(pair.app, true);
        set.unwrap_err().errno()
    }),
    ("the state of keys that aren't set", Errno::Einval, || {
        let pair = RawPair::new();
        pair.world.b.stack.txtls_info(pair.app).unwrap_err().errno()
    }),
    // Reading: headers. The connection is over, for the same reason.
    ("another version in the header", Errno::Einval, || {
        header(GCM_128_12, |header| header[2] = 4)
    }),
    ("another major version", Errno::Einval, || {
        header(GCM_128_13, |header| header[1] = 4)
    }),
    ("TLS 1.3, another outer type", Errno::Einval, || {
        header(GCM_128_13, |header| header[0] = ALERT)
    }),
    ("a record that is too long", Errno::Emsgsize, || {
        header(GCM_128_13, |header| header[3] = 0x80)
    }),
    ("a record that is too short", Errno::Emsgsize, || {
        header(GCM_128_12, |header| (header[3], header[4]) = (0, 23))
    }),
    ("CBC, no multiple of a block", Errno::Emsgsize, || {
        header(CBC, |header| header[4] += 1)
    }),
    // Reading: content. The record is dropped, and the next one can be read.
    ("a wrong tag", Errno::Ebadmsg, || {
        dropped(GCM_128_13, |keys| keys.seal_bad_mac(DATA, b"bad"))
    }),
    ("a wrong MAC", Errno::Ebadmsg, || {
        dropped(CBC, |keys| keys.seal_bad_mac(DATA, b"bad"))
    }),
    ("wrong padding", Errno::Ebadmsg, || {
        dropped(CBC, |keys| keys.seal_bad_padding(DATA, b"bad"))
    }),
    ("no inner type", Errno::Ebadmsg, || {
        dropped(GCM_128_13, |keys| keys.seal_inner(DATA, &[0; 9]))
    }),
    // Reading: the rest.
    ("an end inside a record", Errno::Emsgsize, || {
        let (mut pair, mut keys) = RawPair::receiving(GCM_128_13);
        let record = keys.seal(DATA, b"cut");
        pair.feed(&record[..10]);
        pair.finish();
        let errno = error(&mut pair);
        assert_eq!(pair.recv(), Got::End(false), "once");
        errno
    }),
    ("too many forgeries", Errno::Ebadmsg, || {
        let (mut pair, mut keys) = RawPair::receiving(GCM_128_13);
        let wire: Vec<u8> = (0..300)
            .flat_map(|_| keys.seal_bad_mac(DATA, b""))
            .collect();
        pair.feed(&wire);
        while !matches!(pair.recv(), Got::End(_)) {}
        end(&mut pair)
    }),
    ("the last number received", Errno::Ebadmsg, || {
        let mut pair = RawPair::new();
        let mut keys = TestKeys::new(GCM_128_13, &mut pair.random);
        keys.seq = u64::MAX;
        pair.set_rx(&keys).unwrap();
        let record = keys.seal(DATA, b"x");
        pair.feed(&record);
        error(&mut pair)
    }),
    (
        "behind a KeyUpdate, without new keys",
        Errno::Ekeyexpired,
        || {
            let (mut pair, mut keys) = RawPair::receiving(GCM_128_13);
            let wire = keys.seal(HANDSHAKE, &KEY_UPDATE);
            pair.feed(&wire);
            assert_eq!(pair.recv(), Got::Record(HANDSHAKE, KEY_UPDATE.to_vec()));
            error(&mut pair)
        },
    ),
    (
        "a control record, for a call without types",
        Errno::Eio,
        || {
            let (mut pair, mut keys) = RawPair::receiving(GCM_128_13);
            let record = keys.seal(CONTROL, b"control");
            pair.feed(&record);
            let host = &mut pair.world.b;
            let got = host
                .stack
                .recv(pair.app, &mut host.ciphers, &mut host.pages);
            let errno = got.unwrap_err().errno();
            assert_eq!(pair.recv(), Got::Record(CONTROL, b"control".to_vec()));
            errno
        },
    ),
    ("a cipher that fails to open", Errno::Eio, || {
        let mut pair = RawPair::new();
        let mut keys = TestKeys::new(GCM_128_13, &mut pair.random);
        pair.world.b.ciphers = Ciphers::with_backends(vec![Box::new(Broken)]);
        pair.set_rx(&keys).unwrap();
        let record = keys.seal(DATA, b"x");
        pair.feed(&record);
        error(&mut pair)
    }),
    ("records of a plain connection", Errno::Einval, || {
        error(&mut RawPair::new())
    }),
    ("the peer's reset", Errno::Econnreset, || {
        let (mut pair, _) = RawPair::receiving(GCM_128_13);
        pair.world.a.stack.abort(pair.peer);
        end(&mut pair)
    }),
];

// ---- what brings them about

fn with(change: impl FnOnce(&mut HostSpec)) -> RawPair {
    let mut host = HostSpec::new(2);
    change(&mut host);
    RawPair::with(host)
}

fn set_tx(pair: &mut RawPair, suite: TestSuite) -> Errno {
    let keys = TestKeys::new(suite, &mut pair.random);
    pair.set_tx(&keys).unwrap_err().errno()
}

fn set_rx(pair: &mut RawPair, suite: TestSuite) -> Errno {
    let keys = TestKeys::new(suite, &mut pair.random);
    pair.set_rx(&keys).unwrap_err().errno()
}

/// Valid keys but for one change, in both directions.
fn changed(change: fn(&mut TlsEnable<'_>)) -> Errno {
    let mut pair = RawPair::new();
    let keys = TestKeys::new(GCM_128_12, &mut pair.random);
    let mut enable = keys.enable();
    change(&mut enable);
    let host = &mut pair.world.b;
    let tx = host.stack.set_txtls(pair.app, &enable, &mut host.ciphers);
    let rx = host.stack.set_rxtls(pair.app, &enable, &mut host.ciphers);
    assert_eq!(tx, rx);
    tx.unwrap_err().errno()
}

fn listener() -> (Errno, Errno) {
    let mut world = World::simple();
    let at = world.b_addr(443);
    let b = &mut world.b;
    let listener = b.stack.listen(at, ListenConfig::default()).unwrap();
    let keys = TestKeys::new(GCM_128_13, &mut Random::new(1));
    let enable = keys.enable();
    let tx = b.stack.set_txtls(listener, &enable, &mut b.ciphers);
    let rx = b.stack.set_rxtls(listener, &enable, &mut b.ciphers);
    (tx.unwrap_err().errno(), rx.unwrap_err().errno())
}

fn own_handshake() -> (World, SocketId) {
    let mut world = World::simple();
    world.listen(443, Some(pki::server(&TlsOptions::default())));
    let (_, server) = world.tls_pair(pki::client(&TlsOptions::default()));
    (world, server)
}

fn write(pair: &mut RawPair, bytes: &[u8]) -> Result<u32, SendError> {
    let host = &mut pair.world.b;
    host.stack.send(pair.app, bytes, false, &mut host.pages)
}

fn limit(suite: TestSuite, bytes: u16, opens: bool) -> Errno {
    let (mut pair, _) = RawPair::sending(suite);
    if opens {
        pair.send(b"open", true);
    }
    let set = pair.world.b.stack.set_tx_max_payload(pair.app, bytes);
    set.unwrap_err().errno()
}

fn mode(mode: Mode) -> Errno {
    let (mut pair, _) = RawPair::sending(GCM_128_13);
    let set = pair.world.b.stack.set_txtls_mode(pair.app, mode);
    set.unwrap_err().errno()
}

/// The errno of the next read.
fn error(pair: &mut RawPair) -> Errno {
    match pair.recv() {
        Got::Error(errno) => errno,
        got => panic!("{got:?}"),
    }
}

/// The errno that the connection ended with.
fn end(pair: &mut RawPair) -> Errno {
    pair.run();
    closed(pair).and_then(CloseReason::errno).unwrap()
}

/// A record with a wrong header behind a good one: the read's error is the connection's.
fn header(suite: TestSuite, change: fn(&mut [u8])) -> Errno {
    let mut pair = with(|host| host.config.cbc = true);
    let mut keys = TestKeys::new(suite, &mut pair.random);
    pair.set_rx(&keys).unwrap();
    let good = keys.seal(DATA, b"good");
    let mut bad = keys.seal(DATA, b"bad");
    change(&mut bad);
    pair.feed(&[good, bad].concat());
    assert_eq!(pair.recv(), data(b"good"));
    let errno = error(&mut pair);
    assert_eq!(end(&mut pair), errno);
    errno
}

/// A record that doesn't open between two good ones: its error comes once, in its place.
fn dropped(suite: TestSuite, bad: fn(&mut TestKeys) -> Vec<u8>) -> Errno {
    let mut pair = with(|host| host.config.cbc = true);
    let mut keys = TestKeys::new(suite, &mut pair.random);
    pair.set_rx(&keys).unwrap();
    let wire = [
        keys.seal(DATA, b"before"),
        bad(&mut keys),
        keys.seal(DATA, b"after"),
    ];
    pair.feed(&wire.concat());
    assert_eq!(pair.recv(), data(b"before"));
    let errno = error(&mut pair);
    assert_eq!((pair.recv(), pair.recv()), (data(b"after"), Got::Nothing));
    errno
}
