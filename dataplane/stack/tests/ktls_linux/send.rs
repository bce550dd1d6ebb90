//! Fixture `tls`, sending.

use crate::support::file::File;
use crate::support::linux::{End, MSG_DONTWAIT, MSG_EOR, MSG_MORE, MSG_WAITALL, Pair};
use crate::support::records::{CONTROL, DATA};
use crate::{Case, tls};
use lockgate_ktls::Errno;

const FD: End = End::Fd;
const CFD: End = End::Cfd;

pub(crate) const CASES: &[Case] = &[
    tls("tls.sendfile", "a file arrives as it is", sendfile),
    tls(
        "tls.send_then_sendfile",
        "a write, then a file: order and content",
        send_then_sendfile,
    ),
    tls(
        "tls.multi_chunk_sendfile",
        "19 pairs of a chunk and what the file is longer: repeated ranges of a chunk",
        multi_chunk_sendfile,
    ),
    tls(
        "tls.recv_max",
        "16 384 bytes are received by one call",
        recv_max,
    ),
    tls("tls.recv_small", "10 bytes", recv_small),
    tls(
        "tls.msg_more",
        "nothing is visible before the write without MSG_MORE, then all of it at once",
        msg_more,
    ),
    tls(
        "tls.cmsg_msg_more",
        "a control record with MSG_MORE: EINVAL (`send_record` has no such flag)",
        cmsg_msg_more,
    ),
    tls(
        "tls.msg_more_then_cmsg",
        "a control record closes the open record and follows it",
        msg_more_then_cmsg,
    ),
    tls(
        "tls.msg_more_unsent",
        "an open record is never visible: EAGAIN",
        msg_more_unsent,
    ),
    tls(
        "tls.msg_eor",
        "MSG_EOR closes the record; with MSG_MORE it is EINVAL",
        msg_eor,
    ),
    tls("tls.sendmsg_single", "one part", sendmsg_single),
    tls(
        "tls.sendmsg_fragmented",
        "1 to 64 parts of 13 bytes are one record",
        sendmsg_fragmented,
    ),
    tls(
        "tls.sendmsg_large",
        "128 writes of 16 384 bytes",
        sendmsg_large,
    ),
    tls("tls.sendmsg_multiple", "5 parts", sendmsg_multiple),
    tls(
        "tls.sendmsg_multiple_stress",
        "1 024 parts are one record",
        sendmsg_multiple_stress,
    ),
    tls(
        "tls.splice_from_pipe",
        "pages of a pipe, by reference (`sendfile`)",
        splice_from_pipe,
    ),
    tls(
        "tls.splice_more",
        "32 pieces of a byte with MSG_MORE stay in the open record",
        splice_more,
    ),
    tls(
        "tls.splice_from_pipe2",
        "two pipes, one after the other",
        splice_from_pipe2,
    ),
    tls(
        "tls.send_and_splice",
        "a write, then a pipe: order",
        send_and_splice,
    ),
    tls(
        "tls.splice_short",
        "48 pieces of a byte, then 256 bytes, the last without MSG_MORE: all of it arrives",
        splice_short,
    ),
];

fn sendfile(pair: &mut Pair) {
    let content = pair.bytes(300_000);
    let file = File::new(&content);
    pair.sendfile(FD, &file, 0..300_000, 0).unwrap();
    assert!(pair.recv(CFD, 300_000, MSG_WAITALL) == Ok(content));
}

fn send_then_sendfile(pair: &mut Pair) {
    let content = pair.bytes(100_000);
    let file = File::new(&content);
    assert_eq!(pair.send(FD, b"test_send", 0), Ok(9));
    pair.sendfile(FD, &file, 0..100_000, 0).unwrap();
    assert_eq!(pair.recv(CFD, 9, MSG_WAITALL), Ok(b"test_send".to_vec()));
    assert!(pair.recv(CFD, 100_000, MSG_WAITALL) == Ok(content));
}

fn multi_chunk_sendfile(pair: &mut Pair) {
    let rows = [
        (4096, 4096),
        (4096, 0),
        (4096, 1),
        (4096, 2048),
        (8192, 2048),
        (4096, 8192),
        (8192, 4096),
        (12_288, 1024),
        (12_288, 2000),
        (15_360, 100),
        (15_360, 300),
        (1, 4096),
        (2048, 4096),
        (2048, 8192),
        (4096, 8192),
        (1024, 12_288),
        (2000, 12_288),
        (100, 15_360),
        (300, 15_360),
    ];
    for (chunk, extra) in rows {
        let len = chunk + extra;
        let content = pair.bytes(len);
        let file = File::new(&content);
        let (mut at, mut got) = (0, Vec::new());
        while at < len {
            let end = len.min(at + chunk);
            let range = at as u64..end as u64;
            // A chunk of a byte fills the queue: it is read in between.
            let queued = pair.sendfile(FD, &file, range, MSG_DONTWAIT);
            if queued.is_ok() {
                at = end;
            }
            let read = pair.recv(CFD, len, MSG_DONTWAIT);
            assert!(
                queued.is_ok() || read.is_ok() || pair.advance(),
                "it stalls"
            );
            got.extend(read.unwrap_or_default());
        }
        while got.len() < len {
            let rest = len - got.len();
            got.extend(pair.recv(CFD, rest, MSG_WAITALL).unwrap());
        }
        assert!(got == content, "{chunk} {extra}");
    }
}

fn recv_max(pair: &mut Pair) {
    let sent = pair.bytes(16_384);
    assert_eq!(pair.send(FD, &sent, 0), Ok(16_384));
    assert!(pair.recv(CFD, 16_384, 0) == Ok(sent));
}

fn recv_small(pair: &mut Pair) {
    assert_eq!(pair.send(FD, b"test_read\0", 0), Ok(10));
    assert_eq!(pair.recv(CFD, 10, 0), Ok(b"test_read\0".to_vec()));
}

fn msg_more(pair: &mut Pair) {
    assert_eq!(pair.send(FD, b"test_read\0", MSG_MORE), Ok(10));
    pair.run_briefly();
    assert_eq!(pair.recv(CFD, 10, MSG_DONTWAIT), Err(Errno::Eagain));
    assert_eq!(pair.send(FD, b"test_read\0", 0), Ok(10));
    let both = b"test_read\0test_read\0".to_vec();
    // One record.
    assert_eq!(pair.recv(CFD, 20, 0), Ok(both));
}

fn cmsg_msg_more(pair: &mut Pair) {
    let sent = pair.sendmsg(FD, &[b"test_read\0"], Some(CONTROL), MSG_MORE);
    assert_eq!(sent, Err(Errno::Einval));
    pair.run_briefly();
    assert_eq!(pair.recv(CFD, 10, MSG_DONTWAIT), Err(Errno::Eagain));
}

fn msg_more_then_cmsg(pair: &mut Pair) {
    assert_eq!(pair.send(FD, b"open", MSG_MORE), Ok(4));
    pair.run_briefly();
    assert_eq!(pair.recv(CFD, 10, MSG_DONTWAIT), Err(Errno::Eagain));
    let sent = pair.sendmsg(FD, &[b"control"], Some(CONTROL), 0);
    assert_eq!(sent, Ok(7));
    let data = pair.recvmsg(CFD, 100, MSG_WAITALL);
    assert_eq!(data, Ok((b"open".to_vec(), DATA)));
    let control = pair.recvmsg(CFD, 100, MSG_WAITALL);
    assert_eq!(control, Ok((b"control".to_vec(), CONTROL)));
}

fn msg_more_unsent(pair: &mut Pair) {
    assert_eq!(pair.send(FD, b"test_read\0", MSG_MORE), Ok(10));
    pair.run_long();
    assert_eq!(pair.recv(CFD, 10, MSG_DONTWAIT), Err(Errno::Eagain));
}

fn msg_eor(pair: &mut Pair) {
    assert_eq!(pair.send(FD, b"test_read\0", MSG_EOR), Ok(10));
    assert_eq!(pair.recv(CFD, 10, MSG_WAITALL), Ok(b"test_read\0".to_vec()));
    assert_eq!(pair.send(FD, b"a", MSG_MORE), Ok(1));
    assert_eq!(pair.send(FD, b"b", MSG_EOR), Ok(1));
    assert_eq!(pair.send(FD, b"c", MSG_EOR | MSG_MORE), Err(Errno::Einval));
    assert_eq!(pair.recv(CFD, 10, 0), Ok(b"ab".to_vec()));
}

fn sendmsg_single(pair: &mut Pair) {
    assert_eq!(pair.sendmsg(FD, &[b"test_sendmsg\0"], None, 0), Ok(13));
    assert_eq!(pair.recv(CFD, 13, 0), Ok(b"test_sendmsg\0".to_vec()));
}

fn sendmsg_fragmented(pair: &mut Pair) {
    for parts in 1..=64 {
        let sent = pair.bytes(13 * parts);
        let list: Vec<&[u8]> = sent.chunks(13).collect();
        assert_eq!(pair.sendmsg(FD, &list, None, 0), Ok(13 * parts));
        assert_eq!(pair.recv(CFD, 1000, 0), Ok(sent), "one record");
    }
}

fn sendmsg_large(pair: &mut Pair) {
    let sent = pair.bytes(16_384 * 128);
    let got = pair.transfer(CFD, &sent, 16_384, 16_384);
    assert!(got == sent);
}

fn sendmsg_multiple(pair: &mut Pair) {
    let part: &[u8] = b"test_sendmsg_multiple\0";
    assert_eq!(pair.sendmsg(CFD, &[part; 5], None, 0), Ok(110));
    assert_eq!(pair.recv(FD, 110, 0), Ok(part.repeat(5)));
}

fn sendmsg_multiple_stress(pair: &mut Pair) {
    let part: &[u8] = b"abcdefghijklmno\0";
    assert_eq!(pair.sendmsg(FD, &[part; 1024], None, 0), Ok(16_384));
    assert!(pair.recv(CFD, 16_384, 0) == Ok(part.repeat(1024)));
}

fn splice_from_pipe(pair: &mut Pair) {
    let sent = pair.bytes(16_384);
    let mut pipe = sent.clone();
    assert_eq!(pair.splice_from_pipe(FD, &mut pipe, 16_384, 0), Ok(16_384));
    assert!(pair.recv(CFD, 16_384, 0) == Ok(sent));
}

fn splice_more(pair: &mut Pair) {
    let sent = pair.bytes(32);
    let mut pipe = sent.clone();
    for _ in 0..32 {
        assert_eq!(pair.splice_from_pipe(FD, &mut pipe, 1, MSG_MORE), Ok(1));
    }
    pair.run_briefly();
    assert_eq!(pair.recv(CFD, 32, MSG_DONTWAIT), Err(Errno::Eagain));
    assert_eq!(pair.send(FD, b"end", 0), Ok(3));
    assert_eq!(pair.recv(CFD, 100, MSG_DONTWAIT), Err(Errno::Eagain));
    assert_eq!(pair.recv(CFD, 100, 0), Ok([&sent[..], b"end"].concat()));
}

fn splice_from_pipe2(pair: &mut Pair) {
    let sent = pair.bytes(16_000);
    let (mut first, mut second) = (sent[..8000].to_vec(), sent[8000..].to_vec());
    assert_eq!(pair.splice_from_pipe(FD, &mut first, 8000, 0), Ok(8000));
    assert_eq!(pair.splice_from_pipe(FD, &mut second, 8000, 0), Ok(8000));
    assert!(pair.recv(CFD, 16_000, MSG_WAITALL) == Ok(sent));
}

fn send_and_splice(pair: &mut Pair) {
    let sent = pair.bytes(16_384);
    let mut pipe = sent.clone();
    assert_eq!(pair.send(FD, b"test_read\0", 0), Ok(10));
    assert_eq!(pair.recv(CFD, 10, 0), Ok(b"test_read\0".to_vec()));
    assert_eq!(pair.splice_from_pipe(FD, &mut pipe, 16_384, 0), Ok(16_384));
    assert!(pair.recv(CFD, 16_384, 0) == Ok(sent));
}

fn splice_short(pair: &mut Pair) {
    let sent = pair.bytes(48 + 256);
    let mut pipe = sent.clone();
    for _ in 0..48 {
        assert_eq!(pair.splice_from_pipe(FD, &mut pipe, 1, MSG_MORE), Ok(1));
    }
    assert_eq!(pair.splice_from_pipe(FD, &mut pipe, 256, 0), Ok(256));
    assert_eq!(pair.recv(CFD, 304, MSG_WAITALL), Ok(sent));
}
