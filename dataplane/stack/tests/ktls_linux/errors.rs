//! Fixture `tls_err`: what a peer sends that isn't a record, or not all of one.

use std::time::Duration;

use crate::support::link::payload;
use crate::support::linux::{End, MSG_DONTWAIT, MSG_WAITALL, Pair, Setup};
use crate::support::records::{CONTROL, DATA};
use crate::{Case, Of, own};
use lockgate_ktls::Errno;
use lockgate_stack::CloseReason;

const CFD: End = End::Cfd;

pub(crate) const CASES: &[Case] = &[
    own(
        "tls_err.bad_rec",
        Of::Err,
        "0x55 bytes: EINVAL, because the version is checked before the length as in FreeBSD (Linux: \
         EMSGSIZE), and a reset; a length that is too long alone: EMSGSIZE",
        bad_rec,
    ),
    own(
        "tls_err.bad_auth",
        Of::Err,
        "EBADMSG once (Linux: again and again); the next record is readable",
        bad_auth,
    ),
    own(
        "tls_err.bad_in_large_read",
        Of::Err,
        "one read of two good records and a bad one: the good ones, then EBADMSG once",
        bad_in_large_read,
    ),
    own(
        "tls_err.bad_cmsg",
        Of::Err,
        "a bad control record: EBADMSG once",
        bad_cmsg,
    ),
    own(
        "tls_err.timeo",
        Of::Err,
        "SO_RCVTIMEO: EAGAIN, also for a second reader",
        timeo,
    ),
    own(
        "tls_err.poll_partial_rec",
        Of::Err,
        "half a record: no POLLIN; the rest: POLLIN",
        poll_partial_rec,
    ),
    own(
        "tls_err.epoll_partial_rec",
        Of::Err,
        "the same with notices, which come on edges",
        epoll_partial_rec,
    ),
    own(
        "tls_err.poll_partial_rec_async",
        Of::Err,
        "the rest comes while `poll` waits",
        poll_partial_rec_async,
    ),
    own(
        "tls_err.oob_pressure",
        Of::Err,
        "many small segments with URG: every record is received",
        oob_pressure,
    ),
];

fn bad_rec(setup: Setup) {
    let mut pair = Pair::raw(setup);
    pair.feed(&[0x55; 100]);
    assert_eq!(pair.recv(CFD, 100, 0), Err(Errno::Einval));
    let ended = |pair: &mut Pair, errno| {
        // The boundaries of records are lost: the connection is over.
        let closed = pair.closed(CFD);
        assert_eq!(closed.and_then(CloseReason::errno), Some(errno));
        let again = pair.recv(CFD, 100, MSG_DONTWAIT);
        assert_eq!(again, Err(Errno::Ebadf), "the socket is gone");
    };
    ended(&mut pair, Errno::Einval);

    let mut pair = Pair::raw(setup);
    pair.feed(&[DATA, 3, 3, 0x55, 0x55, 0x55]);
    assert_eq!(pair.recv(CFD, 100, 0), Err(Errno::Emsgsize));
    ended(&mut pair, Errno::Emsgsize);
}

/// A record whose last byte is wrong.
fn bad(pair: &mut Pair, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut record = pair.seal(kind, content);
    *record.last_mut().unwrap() ^= 1;
    record
}

fn bad_auth(setup: Setup) {
    let mut pair = Pair::raw(setup);
    let wire = [bad(&mut pair, DATA, &[1; 128]), pair.seal(DATA, b"next")];
    pair.feed(&wire.concat());
    assert_eq!(pair.recv(CFD, 128, 0), Err(Errno::Ebadmsg));
    assert_eq!(pair.recv(CFD, 128, 0), Ok(b"next".to_vec()));
    assert_eq!(pair.recv(CFD, 128, MSG_DONTWAIT), Err(Errno::Eagain));
    assert_eq!(pair.closed(CFD), None);
}

fn bad_in_large_read(setup: Setup) {
    let mut pair = Pair::raw(setup);
    let mut wire = Vec::new();
    for content in [[1; 128], [2; 128]] {
        wire.extend(pair.seal(DATA, &content));
    }
    wire.extend(bad(&mut pair, DATA, &[3; 128]));
    wire.extend(pair.seal(DATA, b"next"));
    pair.feed(&wire);
    let good = [[1; 128], [2; 128]].concat();
    assert_eq!(pair.recv(CFD, 16_384, MSG_WAITALL), Ok(good));
    assert_eq!(pair.recv(CFD, 16_384, 0), Err(Errno::Ebadmsg));
    assert_eq!(pair.recv(CFD, 16_384, 0), Ok(b"next".to_vec()));
}

fn bad_cmsg(setup: Setup) {
    let mut pair = Pair::raw(setup);
    let wire = [
        bad(&mut pair, CONTROL, &[1; 128]),
        pair.seal(CONTROL, b"next"),
    ];
    pair.feed(&wire.concat());
    // Its type isn't known before it is opened.
    assert_eq!(pair.recv(CFD, 128, 0), Err(Errno::Ebadmsg));
    assert_eq!(pair.recv(CFD, 128, 0), Err(Errno::Eio));
    let next = pair.recvmsg(CFD, 128, MSG_WAITALL);
    assert_eq!(next, Ok((b"next".to_vec(), CONTROL)));
}

fn timeo(setup: Setup) {
    let mut pair = Pair::raw(setup);
    pair.set_timeout(CFD, Duration::from_millis(100));
    let record = pair.seal(DATA, b"late");
    pair.feed(&record[..record.len() - 1]);
    for _reader in 0..2 {
        let before = pair.world.now;
        assert_eq!(pair.recv(CFD, 10, 0), Err(Errno::Eagain));
        assert_eq!(pair.world.now, before + Duration::from_millis(100));
    }
    pair.feed(&record[record.len() - 1..]);
    assert_eq!(pair.recv(CFD, 10, 0), Ok(b"late".to_vec()));
}

fn poll_partial_rec(setup: Setup) {
    let mut pair = Pair::raw(setup);
    for cut in [1, 4, 5, 6, 2500, 4999] {
        let record = pair.seal(DATA, &[7; 5000]);
        pair.feed(&record[..cut]);
        assert!(!pair.poll_briefly(CFD), "{cut}");
        assert_eq!(pair.recv(CFD, 10, MSG_DONTWAIT), Err(Errno::Eagain));
        pair.feed(&record[cut..]);
        assert!(pair.poll_briefly(CFD), "{cut}");
        assert!(pair.recv(CFD, 5000, 0) == Ok(vec![7; 5000]));
    }
}

fn epoll_partial_rec(setup: Setup) {
    let mut pair = Pair::raw(setup);
    for _ in 0..3 {
        // What is read ends with a read of nothing, which arms the notice.
        assert_eq!(pair.recv(CFD, 10, MSG_DONTWAIT), Err(Errno::Eagain));
        let before = pair.readable_notices(CFD);
        let record = pair.seal(DATA, &[7; 5000]);
        let (first, second) = record.split_at(4000);
        pair.feed(first);
        assert_eq!(pair.readable_notices(CFD), before);
        pair.feed(second);
        assert_eq!(pair.readable_notices(CFD), before + 1);
        let more = pair.seal(DATA, b"more");
        pair.feed(&more);
        assert_eq!(
            pair.readable_notices(CFD),
            before + 1,
            "nothing was read since"
        );
        let all = [&[7; 5000][..], b"more"].concat();
        assert!(pair.recv(CFD, 5004, MSG_WAITALL) == Ok(all));
    }
    // Half a record that came before the keys.
    let mut pair = Pair::plain(setup);
    let keys = pair.keys[End::Fd as usize].clone();
    let record = pair.seal(DATA, &[7; 5000]);
    pair.feed(&record[..4000]);
    let before = pair.readable_notices(CFD);
    pair.set_rx(CFD, &keys).unwrap();
    pair.run_briefly();
    assert_eq!(pair.recv(CFD, 10, MSG_DONTWAIT), Err(Errno::Eagain));
    assert_eq!(pair.readable_notices(CFD), before);
    pair.feed(&record[4000..]);
    assert_eq!(pair.readable_notices(CFD), before + 1);
    assert!(pair.recv(CFD, 5000, 0) == Ok(vec![7; 5000]));
}

fn poll_partial_rec_async(setup: Setup) {
    let mut pair = Pair::raw(setup);
    for cut in [3, 5, 300] {
        let record = pair.seal(DATA, &[9; 1000]);
        pair.feed(&record[..cut]);
        assert!(!pair.poll_briefly(CFD));
        pair.feed_later(&record[cut..]);
        assert!(pair.poll(CFD, Duration::from_secs(3600)));
        assert!(pair.recv(CFD, 1000, 0) == Ok(vec![9; 1000]));
    }
}

fn oob_pressure(setup: Setup) {
    let mut pair = Pair::raw(setup);
    pair.world.link.filter = Some(Box::new(|from, frame| {
        if from == 0 && !payload(frame).is_empty() {
            let urgent = u16::try_from(payload(frame).len()).unwrap();
            change_word(frame, FLAGS_AT, |flags| flags | 0x20);
            change_word(frame, URGENT_AT, |_| urgent);
        }
        false
    }));
    let mut sent = pair.bytes(60_000);
    let record = pair.seal(DATA, &sent[..16_000]);
    pair.feed(&record);
    let mut got = pair.recv(CFD, 16_000, MSG_WAITALL).unwrap();
    // Segments of five bytes that aren't read in between.
    for piece in sent[16_000..22_000].chunks(300) {
        let record = pair.seal(DATA, piece);
        for segment in record.chunks(5) {
            pair.feed(segment);
        }
    }
    got.extend(pair.recv(CFD, 6000, MSG_WAITALL).unwrap());
    sent.truncate(22_000);
    assert!(got == sent);
    assert!(pair.world.b.stack.received_bytes_pinned() < 40_000);
}

/// Changes a word of a TCP header over IPv4, and the checksum by RFC 1624.
fn change_word(frame: &mut [u8], at: usize, change: impl Fn(u16) -> u16) {
    let word = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let old = word(frame, at);
    let new = change(old);
    let mut sum = u32::from(!word(frame, CHECKSUM_AT)) + u32::from(!old) + u32::from(new);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).unwrap();
    frame[at..at + 2].copy_from_slice(&new.to_be_bytes());
    frame[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Behind Ethernet's and IPv4's headers.
const TCP_AT: usize = 34;
const FLAGS_AT: usize = TCP_AT + 12;
const CHECKSUM_AT: usize = TCP_AT + 16;
const URGENT_AT: usize = TCP_AT + 18;
