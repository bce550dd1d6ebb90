//! Keys near their usage limit: record numbers that no test reaches by sending.

use core::net::{IpAddr, Ipv4Addr};

use lockgate_ktls::{BackendChoice, Ciphers, Counter, Params, Session, Suite, Version};
use lockgate_tcp::{OpenParams, SegmentIn, State};
use lockgate_wire::tcp::{Flags, TcpHeader, TcpOptions};
use lockgate_wire::{Endpoint, SeqNum};
use pktbuf::{PagePool, PoolConfig, Region};

use super::*;
use crate::config::StackConfig;
use crate::notice::Recv;
use crate::seeds::Seeds;

/// Returns a connected socket that sends with a TLS 1.2 key whose next record has this number.
fn with_number(first: u64) -> (Socket, SocketContext, Ciphers, PagePool, Region) {
    with_key(Version::Tls12, first)
}

/// The same with a key of this version, which has no secret.
fn with_key(version: Version, first: u64) -> (Socket, SocketContext, Ciphers, PagePool, Region) {
    let params = Params::new(Suite::Aes128Gcm, version);
    with_session(
        Session::from_key(params, &[1; 16], &[2; 12]).unwrap(),
        first,
    )
}

fn with_session(
    session: Session,
    first: u64,
) -> (Socket, SocketContext, Ciphers, PagePool, Region) {
    let config = PoolConfig {
        blocks: 16,
        small_spans: 16,
        large_spans: 4,
    };
    let mut region = Region::heap(PagePool::bytes_needed(config)).unwrap();
    let pages = PagePool::new(&mut region, config).unwrap();
    let mut ciphers = Ciphers::new(BackendChoice::Auto, 4);
    let mut cx = SocketContext::new(Instant::ZERO, &StackConfig::default(), &Seeds::new(1));
    let now = Instant::from_millis(1);
    let opening = OpenParams {
        local_port: 1000,
        remote_port: 443,
        ipv6: false,
        mss: 1460,
        isn: SeqNum(100),
        ts_offset: 0,
    };
    let mut tcp = Connection::connect(now, &opening, &cx.tcp);
    let intent = tcp.poll_transmit(now, &cx.tcp).unwrap();
    tcp.commit(intent, 0, now, &mut cx.tcp);
    let answer = TcpHeader {
        src_port: 443,
        dst_port: 1000,
        seq: SeqNum(500),
        ack: SeqNum(101),
        flags: Flags::SYN | Flags::ACK,
        window: 60_000,
        options: TcpOptions::NONE,
        ..TcpHeader::default()
    };
    let _ = tcp.on_segment(now, SegmentIn::new(&answer, 0), &mut cx.tcp);
    assert_eq!(tcp.state(), State::Established);

    let at = |port| Endpoint::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let tuple = FourTuple::new(at(1000), at(443));
    let mut socket = Socket::new(
        tuple,
        0,
        tcp,
        Rx::Plain(Stream::new()),
        OpenedBy::Application,
    );
    socket.tx.enable(session, first, &mut ciphers).unwrap();
    (socket, cx, ciphers, pages, region)
}

/// TLS 1.2 can't change keys: before the last number is used, the stream ends by close_notify.
#[test]
fn a_used_up_tls12_key_ends_by_close_notify() {
    let (mut socket, mut cx, mut ciphers, mut pages, _region) = with_number(u64::MAX - 1000);
    let now = Instant::from_millis(2);
    socket
        .send(&[b"the last"], false, &mut cx, &mut pages)
        .unwrap();
    socket.advance_keys(&mut cx, &mut ciphers, &mut pages);
    assert!(
        socket
            .send(&[b"too late"], false, &mut cx, &mut pages)
            .is_err()
    );
    assert!(socket.lists.is_ready(), "it gets a turn");
    socket.advance_close(now, &mut cx, &mut ciphers, &mut pages);
    assert_eq!(cx.counters.close_notify_out, 1);
    assert_eq!(socket.tx.next_number(), Some(u64::MAX - 998));
    assert_eq!(socket.phase, TcpPhase::Open);
    assert_eq!(socket.close_reason(), CloseReason::Crypto);
}

/// An AES-GCM key of TLS 1.2 has a usage limit, too: nothing more is taken from the application,
/// what is queued is sent, and close_notify follows.
#[test]
fn a_tls12_key_at_its_usage_limit_ends_by_close_notify() {
    let (mut socket, mut cx, mut ciphers, mut pages, _region) = with_number(7);
    socket.tx.set_refresh_after(3);
    let now = Instant::from_millis(2);
    for n in 0..3 {
        socket.advance_keys(&mut cx, &mut ciphers, &mut pages);
        let sent = socket.send(&[b"record"], false, &mut cx, &mut pages);
        assert_eq!(sent, Ok(6), "record {n}");
    }
    let queued = socket.tx.end();
    socket.advance_keys(&mut cx, &mut ciphers, &mut pages);
    let refused = socket.send(&[b"too late"], false, &mut cx, &mut pages);
    assert_eq!(refused, Err(crate::notice::SendError::Closed));
    socket.advance_close(now, &mut cx, &mut ciphers, &mut pages);
    assert_eq!(cx.counters.close_notify_out, 1);
    assert_eq!(socket.tx.next_number(), Some(7 + 4), "and close_notify");
    assert!(socket.tx.end() > queued && socket.closing == Closing::FinQueued);
    assert_eq!(socket.phase, TcpPhase::Open);
    assert_eq!(socket.close_reason(), CloseReason::Crypto);
}

/// A key of TLS 1.3 near its limit is changed by itself, again and again: the KeyUpdate is the last
/// record under it, and no write is refused. The records of a key have to be sealed before the one
/// after the next can come.
#[test]
fn a_tls13_key_near_its_limit_is_changed() {
    let session = Session::from_secret(Suite::Aes128Gcm, &[3; 32]).unwrap();
    let (mut socket, mut cx, mut ciphers, mut pages, _region) = with_session(session, 0);
    socket.tx.set_refresh_after(3);
    for round in 1..=10 {
        for n in 0..3 {
            socket.advance_keys(&mut cx, &mut ciphers, &mut pages);
            let sent = socket.send(&[b"record"], false, &mut cx, &mut pages);
            assert_eq!(sent, Ok(6), "record {n}");
            assert_eq!(socket.tx.next_number(), Some(n + 1), "round {round}");
        }
        // Those of the key before are sealed when they are sent.
        let all = socket.tx.start()..socket.tx.end();
        socket.tx.prepare(&all, &mut ciphers, &mut pages).unwrap();
        socket.tx.release(all.end);
        socket.advance_keys(&mut cx, &mut ciphers, &mut pages);
        assert_eq!(ciphers.counters.value(Counter::TxRekeyOk), round);
        assert_eq!(socket.tx.next_number(), Some(0));
    }
    assert!(socket.is_sending() && socket.end.is_none());
}

/// Keys of TLS 1.3 without their traffic secret can't be changed: at their limit the connection
/// ends as in TLS 1.2, by close_notify behind what was taken.
#[test]
fn a_tls13_key_without_its_secret_ends_by_close_notify() {
    let (mut socket, mut cx, mut ciphers, mut pages, _region) = with_key(Version::Tls13, 7);
    socket.tx.set_refresh_after(3);
    let now = Instant::from_millis(2);
    for n in 0..3 {
        socket.advance_keys(&mut cx, &mut ciphers, &mut pages);
        let sent = socket.send(&[b"record"], false, &mut cx, &mut pages);
        assert_eq!(sent, Ok(6), "record {n}");
    }
    socket.advance_keys(&mut cx, &mut ciphers, &mut pages);
    let refused = socket.send(&[b"too late"], false, &mut cx, &mut pages);
    assert_eq!(refused, Err(crate::notice::SendError::Closed));
    socket.advance_close(now, &mut cx, &mut ciphers, &mut pages);
    assert_eq!(cx.counters.close_notify_out, 1);
    assert_eq!(socket.tx.next_number(), Some(7 + 4), "and close_notify");
    assert_eq!(socket.closing, Closing::FinQueued);
    assert_eq!(socket.close_reason(), CloseReason::Crypto);
}

/// Without any number left the FIN goes alone, which doesn't count as a clean end.
#[test]
fn a_spent_key_ends_by_a_fin_alone() {
    let (mut socket, mut cx, mut ciphers, mut pages, _region) = with_number(u64::MAX);
    let now = Instant::from_millis(2);
    let sent = socket.send(&[b"too late"], false, &mut cx, &mut pages);
    assert!(sent.is_err());
    socket.close(&mut cx.schedule);
    socket.advance_close(now, &mut cx, &mut ciphers, &mut pages);
    assert_eq!((socket.tx.end(), cx.counters.close_notify_out), (0, 0));
    assert_eq!(socket.closing, Closing::FinQueued);
    assert_eq!(socket.close_reason(), CloseReason::Crypto);
}

/// A Readable notice comes once until everything is read, again when a starved reader may find a
/// page buffer, and never after the application has closed.
#[test]
fn readable_notices_come_once_and_again_after_starvation() {
    let (mut socket, mut cx, mut ciphers, mut pages, _region) = with_number(0);
    let is_readable = |notice| matches!(notice, Some(Notice::Readable(_)));
    socket.notify_readable(&mut cx.notices);
    socket.notify_readable(&mut cx.notices);
    assert!(is_readable(cx.notices.pop()));
    assert!(cx.notices.pop().is_none(), "one notice until it was read");
    let read = socket.recv(&mut cx, &mut ciphers, &mut pages);
    assert!(matches!(read, Ok(Recv::Nothing)));
    socket.notify_readable(&mut cx.notices);
    assert!(is_readable(cx.notices.pop()));

    // A reader that doesn't wait for page buffers gets no notice when there are some.
    socket.on_memory_available(&mut cx.notices, &mut cx.schedule);
    assert!(cx.notices.pop().is_none());
    socket.application = Application::Attached {
        readable: ReadNotice::AwaitsPages,
        wants_writable: false,
    };
    let read = socket.recv(&mut cx, &mut ciphers, &mut pages);
    assert!(matches!(read, Ok(Recv::Nothing)), "it still waits then");
    socket.on_memory_available(&mut cx.notices, &mut cx.schedule);
    assert!(is_readable(cx.notices.pop()));
    socket.on_memory_available(&mut cx.notices, &mut cx.schedule);
    assert!(cx.notices.pop().is_none());

    socket.close(&mut cx.schedule);
    assert!(socket.is_detached() && !socket.is_sending());
    socket.notify_readable(&mut cx.notices);
    assert!(cx.notices.pop().is_none(), "it was closed");
}

/// A socket to be reset stays open until its turn, and a second abort doesn't revive one that's
/// over.
#[test]
fn an_abort_is_carried_out_in_the_next_turn() {
    let (mut socket, mut cx, mut ciphers, mut pages, _region) = with_number(0);
    let now = Instant::from_millis(2);
    socket.abort(CloseReason::Aborted, &mut cx.schedule);
    assert_eq!(socket.phase, TcpPhase::ResetDue);
    assert!(socket.lists.is_ready() && !socket.is_finished());
    let reset = socket.advance_close(now, &mut cx, &mut ciphers, &mut pages);
    assert!(reset.is_some_and(|header| header.flags.contains(Flags::RST)));
    assert!(socket.is_finished());
    socket.abort(CloseReason::Drained, &mut cx.schedule);
    assert_eq!(socket.phase, TcpPhase::Over);
    assert_eq!(socket.close_reason(), CloseReason::Aborted);
    let reset = socket.advance_close(now, &mut cx, &mut ciphers, &mut pages);
    assert!(reset.is_none());
}
