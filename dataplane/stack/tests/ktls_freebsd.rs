//! The cases of FreeBSD's `tests/sys/kern/ktls_test.c`, under their names, over sockets of two
//! stacks. `docs/ktls.md` has the table of them, which a test here compares.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

#[path = "ktls_freebsd/derived.rs"]
mod derived;

use std::process::ExitCode;

use derived::DERIVED;
use libtest_mimic::{Arguments, Failed, Trial};
use lockgate_ktls::{AuthAlgorithm, CipherAlgorithm, Counter, Errno, Mode, TlsEnable};
use lockgate_stack::{CloseReason, ListenConfig, Notice, SocketError};
use support::cases::{Row, Section, check_document};
use support::network::{Network, check_pairwise, rows};
use support::raw::{Got, RawPair};
use support::records::{CONTROL, DATA, GCM_128_12, TestKeys, TestSuite, split_records, suites};
use support::{HostSpec, World};

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for mode in MODES {
        for case in case_lists() {
            for suite in suites().filter(|suite| (case.suites)(suite)) {
                let name = case.name.replace("<suite>", suite.name);
                let run = case.run;
                trials.push(trial(name + suffix(mode), move || {
                    for away in AWAY {
                        println!("KTLS workers: {away:?}");
                        let network = Network::PERFECT;
                        let with = Setup {
                            mode,
                            away,
                            network,
                        };
                        run(with, suite);
                    }
                }));
            }
        }
    }
    for name in INVALID {
        for direction in ["transmit", "receive"] {
            let title = format!("ktls_{direction}_invalid_{name}");
            trials.push(trial(title, move || invalid(name, direction)));
        }
    }
    for name in UNSUPPORTED {
        let title = format!("ktls_receive_unsupported_{name}");
        trials.push(trial(title, move || unsupported(name)));
    }
    trials.push(trial("ktls_listening_socket".to_owned(), listening_socket));
    let levels = matrix_levels();
    for (number, row) in rows(&levels).into_iter().enumerate() {
        let name = format!("matrix.{number}");
        trials.push(trial(name, move || matrix(&row)));
    }
    trials.push(trial("the_matrix_has_every_pair".to_owned(), move || {
        check_pairwise(&levels);
    }));
    let names: Vec<_> = trials.iter().map(|trial| trial.name().to_owned()).collect();
    trials.push(trial("the_document_has_every_case".to_owned(), move || {
        let section = section(&names);
        check_document(&section);
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn case_lists() -> impl Iterator<Item = &'static Case> {
    TRANSMIT.iter().chain(RECEIVE).chain(DERIVED)
}

/// The modes in which the cases run. Those of network cards will be here, too.
const MODES: [Mode; 1] = [Mode::Sw];

/// Records are sealed and opened by the stack's thread, or by KTLS workers with a queue of so many.
const AWAY: [Option<usize>; 2] = [None, Some(8)];

/// What seals and opens records.
#[derive(Debug, Clone, Copy)]
struct Setup {
    mode: Mode,
    away: Option<usize>,
    network: Network,
}

impl Setup {
    const PLAIN: Self = Self {
        mode: Mode::Sw,
        away: None,
        network: Network::PERFECT,
    };
}

fn suffix(mode: Mode) -> &'static str {
    match mode {
        Mode::None | Mode::Sw => "",
        Mode::Ifnet => "_ifnet",
        Mode::Toe => "_toe",
    }
}

/// Factors of the matrix: the suite, what seals records, the network.
fn matrix_levels() -> Vec<usize> {
    let mut levels = vec![suites().count(), MATRIX_AWAY.len()];
    levels.extend(Network::LEVELS);
    levels
}

const MATRIX_AWAY: [Option<usize>; 3] = [None, Some(1), Some(8)];

/// The cases of good records over one combination.
fn matrix(row: &[usize]) {
    let suite = suites().nth(row[0]).unwrap();
    let with = Setup {
        mode: Mode::Sw,
        away: MATRIX_AWAY[row[1]],
        network: Network::with(&row[2..]),
    };
    let good = [
        "_short",
        "_long",
        "_padded",
        "_extra",
        "_16",
        "_control",
        "_fragment",
    ];
    let cases = TRANSMIT.iter().chain(RECEIVE).filter(|case| {
        let is_good = good.iter().any(|end| case.name.ends_with(end));
        is_good && (case.suites)(&suite)
    });
    for case in cases {
        println!("{} of {} with {with:?}", case.name, suite.name);
        (case.run)(with, suite);
    }
}

fn trial(name: String, run: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        run();
        Ok::<(), Failed>(())
    })
}

/// A case for each of some suites.
struct Case {
    name: &'static str,
    /// Which suites have it, and in words.
    suites: fn(&TestSuite) -> bool,
    of: &'static str,
    asserts: &'static str,
    run: fn(Setup, TestSuite),
}

const fn case(
    name: &'static str,
    (suites, of): (fn(&TestSuite) -> bool, &'static str),
    asserts: &'static str,
    run: fn(Setup, TestSuite),
) -> Case {
    Case {
        name,
        suites,
        of,
        asserts,
        run,
    }
}

type Suites = (fn(&TestSuite) -> bool, &'static str);
const ALL: Suites = (|_| true, "all");
const RECEIVED: Suites = (|suite| suite.minor > 1, "all but TLS 1.0");
const CBC: Suites = (TestSuite::is_cbc, "CBC");
const CBC_NONZERO: Suites = (
    |suite| suite.is_cbc() && suite.minor > 1,
    "CBC, TLS 1.1 and 1.2",
);
const EXPLICIT: Suites = (
    |suite| suite.minor > 1 && suite.head_len() > 5,
    "CBC of TLS 1.1 and 1.2, GCM of TLS 1.2",
);
const TLS13: Suites = (|suite| suite.is_tls13(), "TLS 1.3");

const TRANSMIT: &[Case] = &[
    case(
        "ktls_transmit_<suite>_short",
        ALL,
        "64 bytes are one record",
        transmit_short,
    ),
    case(
        "ktls_transmit_<suite>_long",
        ALL,
        "64 KiB are records of at most 16 384 bytes, numbered in order",
        transmit_long,
    ),
    case(
        "ktls_transmit_<suite>_control",
        ALL,
        "32 bytes of type 0x21 are one record of that type",
        transmit_control,
    ),
    case(
        "ktls_transmit_<suite>_empty_fragment",
        ALL,
        "a write of no bytes is EINVAL; TLS 1.0: an empty record",
        transmit_empty_fragment,
    ),
    case(
        "ktls_transmit_<suite>_padding_1_to_16",
        CBC,
        "the padding is as short as it can be (16 cases of FreeBSD)",
        transmit_padding,
    ),
];

const RECEIVE: &[Case] = &[
    case(
        "ktls_receive_<suite>_short",
        RECEIVED,
        "64 bytes, with type, version and length",
        receive_short,
    ),
    case(
        "ktls_receive_<suite>_long",
        RECEIVED,
        "64 KiB, a record a call",
        receive_long,
    ),
    case(
        "ktls_receive_<suite>_bad_data",
        RECEIVED,
        "EBADMSG; the next record is readable",
        |with, suite| receive_bad(with, suite, BadByte::Data),
    ),
    case(
        "ktls_receive_<suite>_bad_mac",
        RECEIVED,
        "EBADMSG; the next record is readable",
        |with, suite| receive_bad(with, suite, BadByte::Mac),
    ),
    case(
        "ktls_receive_<suite>_truncated_record",
        RECEIVED,
        "EMSGSIZE, then the end",
        receive_truncated,
    ),
    case(
        "ktls_receive_<suite>_bad_major",
        RECEIVED,
        "EINVAL, and the connection is reset",
        |with, suite| receive_bad_header(with, suite, |header| header[1] += 1, Errno::Einval),
    ),
    case(
        "ktls_receive_<suite>_bad_minor",
        RECEIVED,
        "EINVAL, and the connection is reset",
        |with, suite| receive_bad_header(with, suite, |header| header[2] += 1, Errno::Einval),
    ),
    case(
        "ktls_receive_<suite>_small_record",
        RECEIVED,
        "a byte less than a record without content: EMSGSIZE, reset",
        |with, suite| {
            receive_bad_length(with, suite, suite.length_min() - 1);
        },
    ),
    case(
        "ktls_receive_<suite>_oversized_record",
        RECEIVED,
        "32 768 bytes: EMSGSIZE, reset",
        |with, suite| receive_bad_length(with, suite, 2 * 16_384),
    ),
    case(
        "ktls_receive_<suite>_padding_1_to_16",
        CBC_NONZERO,
        "every length of padding opens (16 cases of FreeBSD)",
        |with, suite| receive_padding(with, suite, 0..16, 0),
    ),
    case(
        "ktls_receive_<suite>_padding_16_extra",
        CBC_NONZERO,
        "16 more bytes of padding open",
        |with, suite| receive_padding(with, suite, 16..17, 16),
    ),
    case(
        "ktls_receive_<suite>_padding_32_extra",
        CBC_NONZERO,
        "32 more bytes of padding open",
        |with, suite| receive_padding(with, suite, 16..17, 32),
    ),
    case(
        "ktls_receive_<suite>_bad_padding",
        CBC_NONZERO,
        "EBADMSG; the next record is readable",
        |with, suite| receive_bad(with, suite, BadByte::Padding),
    ),
    case(
        "ktls_receive_<suite>_non_block_size",
        CBC_NONZERO,
        "EMSGSIZE",
        receive_non_block_size,
    ),
    case(
        "ktls_receive_<suite>_bad_iv",
        EXPLICIT,
        "EBADMSG; the next record is readable",
        |with, suite| receive_bad(with, suite, BadByte::Iv),
    ),
    case(
        "ktls_receive_<suite>_short_header",
        EXPLICIT,
        "no room for the explicit part: EMSGSIZE, reset",
        |with, suite| receive_bad_length(with, suite, 1),
    ),
    case(
        "ktls_receive_<suite>_short_padded",
        TLS13,
        "64 bytes and 16 of padding are 64",
        receive_short_padded,
    ),
    case(
        "ktls_receive_<suite>_long_padded",
        TLS13,
        "64 KiB in records with 15 bytes of padding",
        receive_long_padded,
    ),
    case(
        "ktls_receive_<suite>_bad_type",
        TLS13,
        "outer type 24: EINVAL, reset",
        |with, suite| receive_bad_header(with, suite, |header| header[0] = 24, Errno::Einval),
    ),
];

/// `ktls_transmit_invalid_*` and `ktls_receive_invalid_*`.
const INVALID: [&str; 11] = [
    "aes128_cbc_1_0_sha256",
    "aes128_cbc_1_0_sha384",
    "aes128_gcm_1_0",
    "chacha20_poly1305_1_0",
    "aes128_cbc_1_1_sha256",
    "aes128_cbc_1_1_sha384",
    "aes128_gcm_1_1",
    "chacha20_poly1305_1_1",
    "aes128_cbc_1_3_sha1",
    "aes128_cbc_1_3_sha256",
    "aes128_cbc_1_3_sha384",
];

/// `ktls_receive_unsupported_*`.
const UNSUPPORTED: [&str; 2] = ["aes128_cbc_1_0_sha1", "aes256_cbc_1_0_sha1"];

// ---- transmit

/// A connection that takes AES-CBC, and its peer's keys.
fn pair(with: Setup, suite: TestSuite) -> (RawPair, TestKeys) {
    let mut host = HostSpec {
        away: with.away,
        ..with.network.host(2)
    };
    host.config.cbc = true;
    let mut pair = RawPair::over(with.network, host);
    let keys = TestKeys::new(suite, &mut pair.random);
    (pair, keys)
}

fn transmitting(with: Setup, suite: TestSuite) -> (RawPair, TestKeys) {
    let (mut pair, keys) = pair(with, suite);
    pair.set_tx(&keys).unwrap();
    let stack = &mut pair.world.b.stack;
    stack.set_txtls_mode(pair.app, with.mode).unwrap();
    assert_eq!(stack.txtls_mode(pair.app), Ok(with.mode));
    (pair, keys)
}

fn transmit_short(with: Setup, suite: TestSuite) {
    let (mut pair, mut keys) = transmitting(with, suite);
    let sent = pair.random.bytes(64);
    pair.send(&sent, false);
    let wire = pair.wire();
    assert_eq!(keys.open_all(&wire), [(DATA, sent)]);
}

fn transmit_long(with: Setup, suite: TestSuite) {
    let (mut pair, mut keys) = transmitting(with, suite);
    let sent = pair.random.bytes(64 * 1024);
    let mut wire = Vec::new();
    let mut rest = &sent[..];
    while !rest.is_empty() {
        let piece = rest.len().min(16_384);
        pair.send(&rest[..piece], false);
        rest = &rest[piece..];
        wire.extend_from_slice(&pair.wire());
    }
    let records = keys.open_all(&wire);
    assert!(records.len() >= 4 && records.iter().all(|(kind, _)| *kind == DATA));
    let content: Vec<u8> = records
        .into_iter()
        .flat_map(|(_, content)| content)
        .collect();
    assert!(content == sent);
}

fn transmit_control(with: Setup, suite: TestSuite) {
    let (mut pair, mut keys) = transmitting(with, suite);
    let sent = pair.random.bytes(32);
    assert_eq!(pair.send_record(CONTROL, &sent), Ok(true));
    let wire = pair.wire();
    assert_eq!(keys.open_all(&wire), [(CONTROL, sent)]);
}

fn transmit_empty_fragment(with: Setup, suite: TestSuite) {
    let (mut pair, mut keys) = transmitting(with, suite);
    let host = &mut pair.world.b;
    let sent = host.stack.send(pair.app, b"", false, &mut host.pages);
    let wire = pair.wire();
    if suite.minor == 1 {
        assert_eq!(sent, Ok(0));
        assert_eq!(keys.open_all(&wire), [(DATA, Vec::new())]);
    } else {
        assert_eq!(sent.unwrap_err().errno(), Errno::Einval);
        assert!(wire.is_empty());
    }
}

fn transmit_padding(with: Setup, suite: TestSuite) {
    let (mut pair, mut keys) = transmitting(with, suite);
    for len in 1..=16 {
        let sent = pair.random.bytes(len);
        assert_eq!(pair.send_record(CONTROL, &sent), Ok(true));
        let wire = pair.wire();
        let records: Vec<_> = split_records(&wire).collect();
        assert_eq!(records.len(), 1);
        assert_eq!(wire.len(), suite.cbc_record_len(len), "{len}");
        assert_eq!(keys.open_all(&wire), [(CONTROL, sent)]);
    }
}

// ---- receive

fn receiving(with: Setup, suite: TestSuite) -> (RawPair, TestKeys) {
    let (mut pair, keys) = pair(with, suite);
    pair.set_rx(&keys).unwrap();
    assert_eq!(pair.world.b.stack.rxtls_mode(pair.app), Ok(with.mode));
    (pair, keys)
}

fn data(bytes: &[u8]) -> Got {
    Got::Record(DATA, bytes.to_vec())
}

fn receive_short(with: Setup, suite: TestSuite) {
    receive_short_with(with, suite, 0);
}

fn receive_short_padded(with: Setup, suite: TestSuite) {
    receive_short_with(with, suite, 16);
}

fn receive_short_with(with: Setup, suite: TestSuite, padding: usize) {
    let (mut pair, mut keys) = receiving(with, suite);
    let sent = pair.random.bytes(64);
    let record = keys.seal_padded(DATA, &sent, padding);
    pair.feed(&record);
    assert_eq!(pair.recv_all(), [data(&sent)]);
}

fn receive_long(with: Setup, suite: TestSuite) {
    receive_long_with(with, suite, 16_384, 0);
}

fn receive_long_padded(with: Setup, suite: TestSuite) {
    receive_long_with(with, suite, 16_384 - 15, 15);
}

fn receive_long_with(with: Setup, suite: TestSuite, content: usize, padding: usize) {
    let (mut pair, mut keys) = receiving(with, suite);
    let sent = pair.random.bytes(64 * 1024);
    for piece in sent.chunks(content) {
        let record = keys.seal_padded(DATA, piece, padding);
        pair.feed(&record);
        assert!(pair.recv_all() == [data(piece)]);
    }
}

/// Which byte of a record is altered.
#[derive(Clone, Copy)]
enum BadByte {
    Data,
    Mac,
    Padding,
    Iv,
}

fn receive_bad(with: Setup, suite: TestSuite, which: BadByte) {
    let (mut pair, mut keys) = receiving(with, suite);
    let sent = pair.random.bytes(64);
    let mut bad = match which {
        BadByte::Mac => keys.seal_bad_mac(DATA, &sent),
        BadByte::Padding => keys.seal_bad_padding(DATA, &sent),
        BadByte::Data | BadByte::Iv => keys.seal(DATA, &sent),
    };
    match which {
        BadByte::Data => bad[suite.head_len()] ^= 1,
        BadByte::Iv => bad[suite.head_len() - 1] ^= 1,
        BadByte::Mac | BadByte::Padding => {}
    }
    let good = keys.seal(DATA, b"next");
    pair.feed(&[bad, good].concat());
    let expected = [Got::Error(Errno::Ebadmsg), data(b"next")];
    assert_eq!(pair.recv_all(), expected);
    let counters = &pair.world.b.ciphers.counters;
    assert_eq!(counters.value(Counter::FailedCrypto), 1);
}

fn receive_truncated(with: Setup, suite: TestSuite) {
    let (mut pair, mut keys) = receiving(with, suite);
    let record = keys.seal(DATA, &[1; 64]);
    pair.feed(&record[..record.len() / 2]);
    pair.finish();
    let expected = [Got::Error(Errno::Emsgsize), Got::End(false)];
    assert_eq!(pair.recv_all(), expected);
}

fn receive_bad_length(with: Setup, suite: TestSuite, length: u16) {
    let [high, low] = length.to_be_bytes();
    let change = |header: &mut [u8]| header[3..5].copy_from_slice(&[high, low]);
    receive_bad_header(with, suite, change, Errno::Emsgsize);
}

fn receive_bad_header(with: Setup, suite: TestSuite, change: impl Fn(&mut [u8]), errno: Errno) {
    let (mut pair, mut keys) = receiving(with, suite);
    let mut record = keys.seal(DATA, &[1; 64]);
    change(&mut record[..5]);
    pair.feed(&record);
    assert_eq!(pair.recv(), Got::Error(errno));
    pair.run();
    let counters = &pair.world.b.ciphers.counters;
    assert_eq!(counters.value(Counter::CorruptedRecords), 1);
    let end = pair.notices().into_iter().find_map(|notice| match notice {
        Notice::Closed(_, reason) => Some(reason),
        _ => None,
    });
    assert!(
        matches!(end, Some(CloseReason::Tls(error)) if error.errno() == errno),
        "{end:?}"
    );
}

fn receive_padding(with: Setup, suite: TestSuite, lens: core::ops::Range<usize>, extra: usize) {
    let (mut pair, mut keys) = receiving(with, suite);
    for len in lens {
        let sent = pair.random.bytes(len);
        let record = keys.seal_padded(DATA, &sent, extra);
        pair.feed(&record);
        assert_eq!(pair.recv_all(), [data(&sent)]);
    }
}

fn receive_non_block_size(with: Setup, suite: TestSuite) {
    let (mut pair, mut keys) = receiving(with, suite);
    let mut record = keys.seal(DATA, b"");
    record.push(0);
    let length = u16::try_from(record.len() - 5).unwrap();
    record[3..5].copy_from_slice(&length.to_be_bytes());
    pair.feed(&record);
    assert_eq!(pair.recv(), Got::Error(Errno::Emsgsize));
}

// ---- invalid, unsupported, miscellaneous

/// Keys of a name, whether the suite exists or not.
fn named(name: &str) -> TestKeys {
    let (cipher, key_len) = match name {
        name if name.starts_with("chacha") => (CipherAlgorithm::Chacha20Poly1305, 32),
        name if name.contains("gcm") => (CipherAlgorithm::AesGcm, 16),
        name if name.starts_with("aes256") => (CipherAlgorithm::AesCbc, 32),
        _ => (CipherAlgorithm::AesCbc, 16),
    };
    let auth = match name.rsplit('_').next() {
        Some("sha1") => Some(AuthAlgorithm::HmacSha1),
        Some("sha256") => Some(AuthAlgorithm::HmacSha256),
        Some("sha384") => Some(AuthAlgorithm::HmacSha384),
        _ => None,
    };
    let minor = ["_1_0", "_1_1", "_1_2", "_1_3"];
    let minor = minor.iter().position(|version| name.contains(version));
    let suite = TestSuite {
        name: "of a test",
        cipher,
        key_len,
        auth,
        minor: u8::try_from(minor.unwrap() + 1).unwrap(),
    };
    TestKeys::new(suite, &mut lockgate_testing::Random::new(1))
}

fn refused(name: &str, direction: &str) -> Errno {
    let (mut pair, _) = pair(Setup::PLAIN, GCM_128_12);
    let keys = named(name);
    let refused = match direction {
        "transmit" => pair.set_tx(&keys),
        _ => pair.set_rx(&keys),
    };
    pair.send(b"plain", false);
    assert_eq!(pair.wire(), b"plain", "nothing has changed");
    refused.unwrap_err().errno()
}

fn invalid(name: &str, direction: &str) {
    assert_eq!(refused(name, direction), Errno::Einval);
}

fn unsupported(name: &str) {
    assert_eq!(refused(name, "receive"), Errno::Eprotonosupport);
}

fn listening_socket() {
    let mut world = World::simple();
    let at = world.b_addr(443);
    let listener = world.b.stack.listen(at, ListenConfig::default()).unwrap();
    let keys = TestKeys::new(GCM_128_12, &mut lockgate_testing::Random::new(1));
    let enable: TlsEnable<'_> = keys.enable();
    let b = &mut world.b;
    let tx = b.stack.set_txtls(listener, &enable, &mut b.ciphers);
    let rx = b.stack.set_rxtls(listener, &enable, &mut b.ciphers);
    let errnos = (
        tx.map_err(SocketError::errno),
        rx.map_err(SocketError::errno),
    );
    assert_eq!(errnos, (Err(Errno::Enotconn), Err(Errno::Einval)));
}

// ---- the table

fn section(names: &[String]) -> Section {
    let mut rows = Vec::new();
    for case in case_lists() {
        let pattern = case.name.split("<suite>").collect::<Vec<_>>();
        let is_of = |name: &&String| {
            let middle = name.strip_prefix(pattern[0]);
            let middle = middle.and_then(|rest| rest.strip_suffix(pattern[1]));
            middle.is_some_and(|suite| suites().any(|known| known.name == suite))
        };
        let count = names.iter().filter(is_of).count();
        rows.push(Row {
            name: case.name.to_owned(),
            what: format!("{}: {}", case.of, case.asserts),
            status: format!("{count} run"),
        });
    }
    let fixed = [
        (
            "ktls_transmit_invalid_*, ktls_receive_invalid_*",
            "EINVAL at enable",
            "22 run",
        ),
        (
            "ktls_receive_unsupported_aes128_cbc_1_0_sha1, _aes256_",
            "EPROTONOSUPPORT at enable",
            "2 run",
        ),
        (
            "ktls_listening_socket",
            "keys on a listener: ENOTCONN (TX), EINVAL (RX)",
            "runs; `listen` takes an address, so that a socket with keys can't become a listener",
        ),
        (
            "ktls_sendto_baddst",
            "sendto with a destination: EACCES",
            "doesn't apply: there is no call with a destination",
        ),
        (
            "derived: unmapped page buffers off",
            "ENXIO",
            "doesn't apply: page buffers are never mapped one by one, and no switch turns them off",
        ),
        (
            "derived: modes, route changes, lagg, receiving cards, resync, LRO, pacing, switch_tls",
            "what network cards seal and open",
            "doesn't apply: no network card seals records yet",
        ),
    ];
    rows.extend(fixed.map(|(name, what, status)| Row {
        name: name.to_owned(),
        what: what.to_owned(),
        status: status.to_owned(),
    }));
    Section {
        title: "FreeBSD, `ktls_test.c`".to_owned(),
        marker: "ktls_test.c",
        rows,
    }
}
