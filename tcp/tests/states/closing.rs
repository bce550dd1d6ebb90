//! Closing connections.

use core::time::Duration;

use lockgate_tcp::{Event, IntentKind, State};
use lockgate_wire::StreamOffset;
use lockgate_wire::tcp::Flags;

use crate::rig::{ACK, FIN, Rig, ms, seg, span};

/// RFC 9293, figure 12, from the side that closes first.
#[test]
fn closing_first() {
    let mut rig = Rig::open();
    rig.write(100);
    rig.conn.close();
    assert_eq!(rig.state(), State::FinWait1);
    let out = rig.sends();
    let [last] = &out[..] else { panic!("{out:?}") };
    assert_eq!(
        (last.tcp.flags, last.len),
        (FIN | ACK | Flags::PSH, 100),
        "FIN goes with the text"
    );
    let verdict = rig.feed(seg(ACK, 0, 0).ack(101));
    assert_eq!(
        (verdict.acked, rig.state()),
        (StreamOffset(100), State::FinWait2)
    );
    assert_eq!(rig.conn.deadline(), None, "the peer may take its time");
    let verdict = rig.feed(seg(FIN, 0, 0).ack(101));
    assert_eq!(
        (verdict.event, rig.state()),
        (Event::TimeWait, State::TimeWait)
    );
    assert!(verdict.peer_closed);
}

/// RFC 9293, figure 12, from the other side.
#[test]
fn closing_second() {
    let mut rig = Rig::open();
    let verdict = rig.feed(seg(FIN, 0, 50));
    assert!(verdict.peer_closed && rig.conn.peer_closed());
    assert_eq!(
        (verdict.readable, rig.state()),
        (StreamOffset(50), State::CloseWait)
    );
    let out = rig.sends();
    assert_eq!(
        (out[0].tcp.flags, out[0].ack),
        (ACK, 51),
        "the FIN is acknowledged at once"
    );
    rig.conn.close();
    assert_eq!(rig.state(), State::LastAck);
    let out = rig.sends();
    assert_eq!((out[0].tcp.flags, out[0].len), (FIN | ACK, 0));
    let verdict = rig.feed(seg(ACK, 51, 0).ack(1));
    assert_eq!((verdict.event, rig.state()), (Event::Closed, State::Closed));
    assert_eq!(rig.sh.ranges_used(), 0);
}

/// RFC 9293, figure 13.
#[test]
fn both_close_at_once() {
    let mut rig = Rig::open();
    rig.conn.close();
    rig.sends();
    let verdict = rig.feed(seg(FIN, 0, 0));
    assert_eq!((verdict.event, rig.state()), (Event::None, State::Closing));
    let verdict = rig.feed(seg(ACK, 1, 0).ack(1));
    assert_eq!(
        (verdict.event, rig.state()),
        (Event::TimeWait, State::TimeWait)
    );
}

/// RFC 9293, section 3.6: after our close we still receive, and the peer may still send.
#[test]
fn half_close() {
    let mut rig = Rig::in_state(State::FinWait2);
    for i in 0..5 {
        let verdict = rig.feed(seg(ACK, i * 100, 100).ack(1));
        let start = u64::try_from(i).unwrap() * 100;
        assert_eq!(verdict.keep, span(start, start + 100));
    }
    assert_eq!(rig.sends()[0].ack, 500);
    let mut rig = Rig::in_state(State::CloseWait);
    rig.write(3000);
    assert_eq!(rig.sends().iter().map(|o| o.len).sum::<u32>(), 3000);
    let verdict = rig.feed(seg(ACK, 1, 0).ack(3000));
    assert_eq!(verdict.acked, StreamOffset(3000));
    assert_eq!(rig.state(), State::CloseWait);
}

#[test]
fn a_fin_waits_for_the_text_before_it() {
    let mut rig = Rig::open();
    rig.conn.queued(StreamOffset(200));
    rig.conn.close();
    assert!(rig.sends().is_empty(), "nothing is ready");
    rig.conn.ready(StreamOffset(120));
    let out = rig.sends();
    assert_eq!((out.len(), out[0].len), (1, 120));
    assert!(!out[0].tcp.flags.contains(FIN) && !out[0].tcp.flags.contains(Flags::PSH));
    rig.conn.ready(StreamOffset(200));
    let out = rig.sends();
    assert_eq!((out[0].len, out[0].tcp.flags.contains(FIN)), (80, true));
    assert!(rig.sends().is_empty(), "one FIN is enough");
}

#[test]
fn a_fin_out_of_order_waits_for_what_is_missing() {
    let mut rig = Rig::open();
    let verdict = rig.feed(seg(FIN, 100, 50));
    assert_eq!(verdict.keep, span(100, 150));
    assert!(!verdict.peer_closed && rig.state() == State::Established);
    assert_eq!(rig.answer(&verdict), Some((ACK, 0, 0)));
    let verdict = rig.feed(seg(ACK, 0, 100));
    assert!(verdict.peer_closed);
    assert_eq!(
        (verdict.readable, rig.state()),
        (StreamOffset(150), State::CloseWait)
    );
    assert_eq!(rig.sends()[0].ack, 151);
    // A bare FIN out of order is answered and remembered as well.
    let mut rig = Rig::open();
    let _ = rig.feed(seg(FIN, 100, 0));
    assert_eq!(rig.sends()[0].ack, 0);
    let verdict = rig.feed(seg(ACK, 0, 100));
    assert!(verdict.peer_closed, "even by the fast path");
    assert_eq!(verdict.readable, StreamOffset(100));
}

/// Without SACK the sender counts duplicate ACKs: one segment, one of them.
#[test]
fn a_segment_out_of_order_with_a_fin_is_acknowledged_once() {
    let mut rig = Rig::open();
    let verdict = rig.feed(seg(FIN, 1000, 500));
    assert_eq!(rig.answer(&verdict), Some((ACK, 0, 0)));
    assert!(rig.sends().is_empty());
    // The same where the text is old and only the FIN is new: the answer covers the FIN.
    let mut rig = Rig::open();
    let _ = rig.feed(seg(ACK, 0, 500));
    rig.sends();
    let verdict = rig.feed(seg(FIN, 0, 500));
    assert_eq!(rig.answer(&verdict), Some((ACK, 0, 501)));
    assert!(rig.sends().is_empty());
}

#[test]
fn nothing_is_behind_a_fin() {
    let mut rig = Rig::open();
    let _ = rig.feed(seg(FIN, 100, 0));
    // Payload beyond the FIN is trimmed, and a second FIN changes nothing.
    let verdict = rig.feed(seg(ACK, 50, 100));
    assert_eq!(verdict.keep, span(50, 100));
    let _ = rig.feed(seg(FIN, 300, 0));
    let verdict = rig.feed(seg(ACK, 0, 50));
    assert!(verdict.peer_closed);
    assert_eq!(verdict.readable, StreamOffset(100));
    // A FIN before received payload is invalid.
    let mut rig = Rig::open();
    let _ = rig.feed(seg(ACK, 100, 100));
    let _ = rig.feed(seg(FIN, 150, 0));
    let verdict = rig.feed(seg(ACK, 0, 100));
    assert_eq!(
        (verdict.readable, verdict.peer_closed),
        (StreamOffset(200), false)
    );
}

#[test]
fn a_fin_is_retransmitted() {
    let mut rig = Rig::in_state(State::FinWait1);
    let (_, event) = rig.timer();
    assert_eq!(event, Event::None);
    let out = rig.sends();
    assert_eq!(
        (out[0].kind, out[0].tcp.flags),
        (IntentKind::Retransmit, FIN | ACK)
    );
    assert_eq!((out[0].seq, out[0].len), (0, 0));
    let _ = rig.feed(seg(ACK, 0, 0).ack(1));
    assert_eq!(rig.state(), State::FinWait2);
    // With text before it, both.
    let mut rig = Rig::open();
    rig.write(100);
    rig.conn.close();
    rig.sends();
    rig.timer();
    let out = rig.sends();
    assert_eq!((out[0].len, out[0].tcp.flags.contains(FIN)), (100, true));
}

#[test]
fn a_fin_passes_a_full_congestion_window_but_not_the_peers() {
    let mut rig = Rig::open();
    rig.write(10_000);
    assert_eq!(rig.sends().len(), 10, "the whole window of the peer");
    rig.conn.close();
    assert!(rig.sends().is_empty(), "no place for a FIN in the window");
    let _ = rig.feed(seg(ACK, 0, 0).ack(5_000).window(5_001));
    let out = rig.sends();
    assert_eq!((out.len(), out[0].len, out[0].seq), (1, 0, 10_000));
    assert!(out[0].tcp.flags.contains(FIN));
}

#[test]
fn a_closed_window_is_probed_with_the_fin() {
    let mut rig = Rig::open();
    rig.write(10_000);
    rig.sends();
    rig.conn.close();
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_000).window(0));
    assert!(rig.sends().is_empty());
    rig.timer();
    rig.timer();
    let out = rig.sends();
    assert_eq!((out[0].kind, out[0].len), (IntentKind::WindowProbe, 0));
    assert!(out[0].tcp.flags.contains(FIN));
    let _ = rig.feed(seg(ACK, 0, 0).ack(10_001).window(0));
    assert_eq!(rig.state(), State::FinWait2);
}

/// A FIN needs no buffer: it is taken though the window is closed.
#[test]
fn a_closed_window_does_not_keep_a_fin_out() {
    let mut rig = Rig::open();
    for i in 0..10 {
        let _ = rig.feed(seg(ACK, i * 1000, 1000));
        rig.conn.room(u32::try_from(9 - i).unwrap() * 1000);
    }
    rig.sends();
    assert_eq!(rig.conn.info(&rig.sh).receive_window, 0);
    let verdict = rig.feed(seg(FIN, 10_000, 0));
    assert!(verdict.peer_closed);
    assert_eq!(rig.state(), State::CloseWait);
}

#[test]
fn fin_wait_2_ends_when_nobody_reads_any_more() {
    let mut rig = Rig::in_state(State::FinWait2);
    assert_eq!(rig.conn.deadline(), None);
    rig.conn.shutdown_read(rig.now, &rig.sh);
    let (waited, event) = rig.timer();
    assert_eq!(
        (waited, event),
        (rig.sh.config.fin_wait2_timeout, Event::Closed)
    );
    // The receiving side was closed before.
    let mut rig = Rig::in_state(State::FinWait1);
    rig.conn.shutdown_read(rig.now, &rig.sh);
    let _ = rig.feed(seg(ACK, 0, 0).ack(1));
    assert_eq!(rig.timer(), (Duration::from_secs(60), Event::Closed));
}

#[test]
fn what_is_queued_may_be_cut_to_what_was_sent() {
    let mut rig = Rig::open();
    rig.conn.queued(StreamOffset(5_000));
    rig.conn.ready(StreamOffset(1_000));
    assert_eq!(rig.sends().len(), 1);
    rig.conn.queued(StreamOffset(1_000));
    rig.conn.close();
    let out = rig.sends();
    assert_eq!(
        (out.len(), out[0].seq, out[0].len),
        (1, 1_000, 0),
        "the FIN alone"
    );
    assert!(out[0].tcp.flags.contains(FIN));
    assert_eq!(
        rig.conn.sent(),
        StreamOffset(1_000),
        "without the FIN's place"
    );
    let verdict = rig.feed(seg(ACK, 0, 0).ack(1_001));
    assert_eq!(verdict.acked, StreamOffset(1_000));
}

#[test]
fn an_acknowledged_fin_leaves_time_for_nothing_else() {
    let mut rig = Rig::in_state(State::FinWait2);
    assert!(rig.conn.is_closing());
    rig.now += ms(100_000);
    assert!(rig.sends().is_empty());
    assert_eq!(rig.conn.send_seq(StreamOffset(0)), rig.iss + 1);
}

/// The window must have a place for the FIN too, even where it could ride on the last bytes.
#[test]
fn a_fin_needs_a_place_in_the_window() {
    let mut rig = Rig::open();
    rig.write(10_000);
    rig.conn.close();
    let out = rig.sends();
    assert_eq!(out.len(), 10, "the whole window");
    assert!(out.iter().all(|o| !o.tcp.flags.contains(FIN)));
    let _ = rig.feed(seg(ACK, 0, 0).ack(0).window(10_001));
    let out = rig.sends();
    assert_eq!((out.len(), out[0].seq, out[0].len), (1, 10_000, 0));
    assert!(out[0].tcp.flags.contains(FIN));
}
