//! What connections may queue, and the memory that they seal with: look-ahead, closed windows, the
//! order of waiting connections, and ciphertext that is dropped and made again.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lockgate_stack::tls::{TlsClient, TlsOptions};
use lockgate_stack::{FileSource, FileSpan, SocketId};
use pktbuf::{PageArena, PoolConfig, Region, SharedSpan};
use support::link::{Link, payload, set_word, tcp_ports};
use support::{HostSpec, World, pki};

/// Two hosts, and a span that B's applications send by reference.
struct Scene {
    world: World,
    client: Arc<TlsClient>,
    span: Arc<SharedSpan>,
    _arena: (PageArena, Region),
}

impl Scene {
    fn new(window: u32) -> Self {
        let (mut a, mut b) = (HostSpec::new(1), HostSpec::new(2));
        a.config.limits.recv_buffer_bytes = window;
        b.pool = POOL;
        // Full records from the first one on.
        b.config.dynamic_records.small_records = 0;
        let mut world = World::new(a, b, Link::perfect());
        let options = TlsOptions::default();
        world.listen(443, Some(pki::server(&options)));
        let mut region = Region::heap(4 * SPAN_BYTES).unwrap();
        let arena = PageArena::new(&mut region, 4 * SPAN_BYTES).unwrap();
        let span = arena.alloc(SPAN_BYTES).unwrap().freeze(SPAN_BYTES);
        Self {
            world,
            client: pki::client(&options),
            span,
            _arena: (arena, region),
        }
    }

    /// Both ends of a new connection, A's first.
    fn pair(&mut self) -> (SocketId, SocketId) {
        let pair = self.world.tls_pair(Arc::clone(&self.client));
        self.world.run(Duration::from_millis(5));
        pair
    }

    /// B queues bytes by reference. Returns how many were taken.
    fn send_span(&mut self, b: SocketId, len: u32) -> u32 {
        let host = &mut self.world.b;
        let sent = host.stack.send_span(b, &self.span, 0, len, &mut host.pages);
        sent.unwrap()
    }

    /// B queues all that it may. Returns how much that was.
    fn fill(&mut self, b: SocketId) -> u32 {
        let mut taken = 0;
        loop {
            match self.send_span(b, SPAN) {
                0 => return taken,
                more => taken += more,
            }
        }
    }

    /// A downloads, so that the congestion window grows beyond a record.
    fn warm_up(&mut self, a: SocketId, b: SocketId, bytes: u32) {
        let mut left = bytes;
        while left > 0 {
            left -= self.send_span(b, left.min(SPAN));
            self.world.run(Duration::from_millis(1));
            self.world.a.drain(a);
        }
        // It rests for a round, and no longer than keeps the congestion window.
        for _ in 0..5 {
            self.world.run(Duration::from_millis(5));
        }
        self.world.a.drain(a);
        assert_eq!(self.world.b.stack.send_queued(b), 0);
    }

    fn port_of(&self, a: SocketId) -> u16 {
        self.world.a.stack.local_addr(a).unwrap().port()
    }

    /// Large spans of B that are in use, the reserve beside them.
    fn spans_used(&self) -> u32 {
        self.world.b.pages.usage().large_spans_used - 1
    }

    fn counter(&self, name: &str) -> u64 {
        let counters = self.world.b.stack.counters();
        counters.iter().find(|(n, _)| *n == name).unwrap().1
    }

    fn finish(mut self) {
        self.world.link.filter = None;
        self.world.a.stack.abort_all();
        self.world.run(Duration::from_secs(2));
        self.world.b.stack.abort_all();
        self.world.run(Duration::from_secs(130));
        self.world.a.assert_full();
        self.world.b.assert_full();
    }
}

/// Frames of B with payload, as (port of A, sequence number, payload).
type Sent = Rc<RefCell<Vec<(u16, u32, Vec<u8>)>>>;

/// Records what B sends from now on. Frames for which `is_lost` is true are lost.
fn record(world: &mut World, mut is_lost: impl FnMut(u16) -> bool + 'static) -> Sent {
    let sent = Sent::default();
    let list = Rc::clone(&sent);
    world.link.filter = Some(Box::new(move |from, frame| {
        if from != 1 || payload(frame).is_empty() {
            return false;
        }
        let port = u16::from_be_bytes([frame[36], frame[37]]);
        let seq = u32::from_be_bytes([frame[38], frame[39], frame[40], frame[41]]);
        list.borrow_mut().push((port, seq, payload(frame).to_vec()));
        is_lost(port)
    }));
    sent
}

/// From now on A keeps all windows closed.
fn close_windows(world: &mut World) {
    world.link.filter = Some(Box::new(|from, frame| {
        if from == 0 && tcp_ports(frame).is_some() {
            set_word(frame, WINDOW_AT, 0);
        }
        false
    }));
}

/// Where a frame has the window of its segment.
const WINDOW_AT: usize = 48;
const SPAN_BYTES: usize = 64 * 1024;
const SPAN: u32 = 64 * 1024;
/// A full record of TLS 1.3 on the wire.
const RECORD: u64 = 5 + 16_384 + 1 + 16;
const POOL: PoolConfig = PoolConfig {
    blocks: 1024,
    small_spans: 64,
    large_spans: 64,
};

/// A peer whose window is closed pins one record, to the byte, and one span for it.
#[test]
fn a_closed_window_pins_one_record() {
    let mut scene = Scene::new(64 << 10);
    let (a, b) = scene.pair();
    close_windows(&mut scene.world);
    assert_eq!(scene.world.a.send(a, b"request"), 7);
    scene.world.run(Duration::from_millis(5));
    assert_eq!(scene.world.b.drain(b).0, b"request");

    assert_eq!(scene.fill(b), 16_384);
    assert_eq!(scene.world.b.stack.send_queued(b), RECORD);
    for _ in 0..20 {
        scene.world.run(Duration::from_secs(1));
        assert_eq!(scene.fill(b), 0, "probes make no room");
        // The peer takes the bytes of probes.
        let queued = scene.world.b.stack.send_queued(b);
        assert!((RECORD - 20..=RECORD).contains(&queued), "{queued}");
        assert!(scene.spans_used() <= 1, "{} spans", scene.spans_used());
    }
    assert!(scene.world.b.stack.tcp_counters().window_probes > 3);
    assert_eq!(scene.spans_used(), 1, "the probe has a byte of the record");
    assert_eq!(scene.world.b.pages.usage().blocks_used, 2);

    // The same with copies: the record's memory has its size.
    let (other_a, other_b) = {
        scene.world.link.filter = None;
        let pair = scene.pair();
        close_windows(&mut scene.world);
        pair
    };
    scene.world.a.send(other_a, b"request");
    scene.world.run(Duration::from_millis(5));
    let taken: Vec<u32> = (0..3)
        .map(|_| scene.world.b.send(other_b, &[1; 1000]))
        .collect();
    assert_eq!(taken, [1000, 0, 0]);
    assert_eq!(
        scene.world.b.stack.send_queued(other_b),
        1000 + RECORD - 16_384
    );
    scene.finish();
}

/// An open record doesn't count as queued: a file behind it completes it, so that a probe is sent.
/// If the window stays closed, the connection is reset after its close.
#[test]
fn a_closed_window_doesnt_keep_an_open_record() {
    let mut scene = Scene::new(64 << 10);
    let (a, b) = scene.pair();
    close_windows(&mut scene.world);
    assert_eq!(scene.world.a.send(a, b"request"), 7);
    scene.world.run(Duration::from_millis(5));
    assert_eq!(scene.world.b.drain(b).0, b"request");

    let host = &mut scene.world.b;
    let taken = host.stack.send(b, &[1; 100], true, &mut host.pages);
    assert_eq!(taken, Ok(100));
    let file = Arc::new(Rewritten(Mutex::new(Arc::clone(&scene.span))));
    let sent = host
        .stack
        .sendfile(b, file, 0..40_000, false, &mut host.pages);
    assert!(sent.unwrap());
    let probes = |scene: &Scene| scene.world.b.stack.tcp_counters().window_probes;
    let before = probes(&scene);
    scene.world.run(Duration::from_secs(2));
    assert!(probes(&scene) > before);
    scene.world.b.stack.close(b);
    scene.world.run(Duration::from_secs(600));
    assert!(scene.world.b.stack.tcp_info(b).is_none(), "it was reset");
    scene.finish();
}

/// A window that closes while data is queued: what was queued stays, one record of it is sealed,
/// and nothing is added.
#[test]
fn a_window_that_closes_pins_no_more() {
    let mut scene = Scene::new(256 << 10);
    let (a, b) = scene.pair();
    scene.warm_up(a, b, 300_000);
    let before = scene.fill(b);
    assert!(before > 100_000, "{before} bytes");
    close_windows(&mut scene.world);
    scene.world.run(Duration::from_millis(5));
    let queued = scene.world.b.stack.send_queued(b);
    assert!(queued > RECORD && queued < before.into(), "{queued}");
    for _ in 0..20 {
        scene.world.run(Duration::from_secs(1));
        assert_eq!(scene.fill(b), 0);
        assert!(scene.world.b.stack.send_queued(b) <= queued);
        assert!(scene.spans_used() <= 1, "{} spans", scene.spans_used());
    }
    scene.finish();
}

/// What is queued reaches no further than two windows ahead of what is acknowledged, or two
/// records: the smaller one of the peer's window and the congestion window counts.
#[test]
fn look_ahead_is_two_of_the_smaller_window() {
    for window in [4 << 10, 40 << 10, 1 << 20] {
        let mut scene = Scene::new(window);
        let (a, b) = scene.pair();
        let (mut by_congestion, mut most) = (0, 0);
        for _ in 0..200 {
            scene.fill(b);
            let info = scene.world.b.stack.tcp_info(b).unwrap();
            let usable = u64::from(info.cwnd.min(info.send_window));
            let ahead = (2 * usable).max(2 * RECORD);
            let queued = scene.world.b.stack.send_queued(b);
            assert!(
                queued <= ahead.min(1 << 20),
                "{queued} of {ahead}: {info:?}"
            );
            // No more than a tail that no record fits into is left.
            assert!(
                queued + RECORD + 100 > ahead.min(1 << 20),
                "{queued} of {ahead}: {info:?}"
            );
            most = most.max(queued);
            by_congestion += u32::from(2 * usable > 2 * RECORD && info.cwnd < info.send_window);
            scene.world.run(Duration::from_micros(110));
            scene.world.a.drain(a);
        }
        match window {
            4096 => assert!(most < 5 * RECORD, "{most}"),
            _ => assert!(most > 3 * RECORD, "{most}"),
        }
        if window == 1 << 20 {
            assert!(by_congestion > 3, "{by_congestion} rounds of slow start");
            assert!(most > 500_000, "{most}");
        }
        scene.finish();
    }
}

/// Two connections wait for a span. The first one gets it, and has a segment to retransmit, which
/// takes none: the span is left for its next record.
#[test]
fn a_grant_is_left_alone_by_a_packet_without_a_span() {
    let mut scene = Scene::new(256 << 10);
    let (first_a, first) = scene.pair();
    let (other_a, other) = scene.pair();
    scene.warm_up(first_a, first, 200_000);
    scene.warm_up(other_a, other, 200_000);
    let ports = [scene.port_of(first_a), scene.port_of(other_a)];

    // The first segment of a record is lost.
    let mut losses = 1;
    let sent = record(&mut scene.world, move |_| {
        losses -= 1;
        losses == 0
    });
    // By copy: its ciphertext can't be dropped.
    assert_eq!(scene.world.b.send(first, &[0; 16_000]), 16_000);
    scene.world.settle();
    let end = sent
        .borrow()
        .iter()
        .map(|(_, seq, bytes)| seq + u32::try_from(bytes.len()).unwrap())
        .max();
    let end = end.unwrap();
    let mut held = scene.world.b.hold_pages();
    for socket in [first, other] {
        assert_eq!(scene.send_span(socket, 16_000), 16_000);
        scene.world.settle();
    }
    assert_eq!(scene.counter("stack.starved"), 2);
    sent.borrow_mut().clear();

    // A span is free in the turn in which the acknowledgment comes that reports the loss.
    assert!(scene.world.step(scene.world.now + Duration::from_millis(1)));
    scene.world.now = scene.world.link.next().unwrap();
    while let Some((to, frame)) = scene.world.link.take(scene.world.now) {
        assert_eq!(to, 1);
        scene.world.b.receive(scene.world.now, &frame);
    }
    assert_eq!(*sent.borrow(), []);
    drop(held.swap_remove(0));
    scene.world.settle();
    let frames: Vec<(u16, bool)> = sent
        .borrow()
        .iter()
        .map(|(port, seq, _)| (*port, *port == ports[0] && *seq < end))
        .collect();
    assert_eq!(frames[0], (ports[0], true), "it is retransmitted");
    assert_eq!(frames[1], (ports[0], false), "the next record of the first");
    drop(held);
    scene.world.run(Duration::from_millis(50));
    assert_eq!(scene.world.a.drain(first_a).0.len(), 32_000);
    assert_eq!(scene.world.a.drain(other_a).0.len(), 16_000);
    scene.finish();
}

/// A retransmission whose ciphertext was dropped has no span, because the connection holds its
/// share in copies. It waits for an acknowledgment or the timer in no list, which isn't forgetting
/// it.
#[test]
fn a_retransmission_without_a_span_waits_for_acknowledgments() {
    let mut scene = Scene::new(256 << 10);
    let (a, b) = scene.pair();
    scene.warm_up(a, b, 300_000);
    let (_, other) = scene.pair();
    scene.world.lose_answers();
    assert_eq!(scene.send_span(b, 16_384), 16_384);
    for _ in 0..3 {
        assert_eq!(scene.world.b.send(b, &[7; 16_384]), 16_384);
    }
    scene.world.settle();
    let held = scene.world.b.hold_pages();
    assert_eq!(scene.send_span(other, 16_384), 16_384);
    scene.world.run(Duration::from_millis(5));
    assert_eq!(scene.counter("stack.ciphertext_dropped"), 1);

    let timeouts = |scene: &Scene| scene.world.b.stack.tcp_counters().timeouts;
    let until = scene.world.now + Duration::from_millis(1500);
    let before = timeouts(&scene);
    while scene.world.step(until) {
        let forgotten = scene.world.b.stack.forgotten_socket(scene.world.now);
        assert_eq!(forgotten, None, "at {:?}", scene.world.now);
    }
    assert!(timeouts(&scene) > before);
    // The copies are acknowledged by nothing; with memory the record is sealed again.
    drop(held);
    scene.world.link.filter = None;
    scene.world.run(Duration::from_secs(5));
    assert_eq!(scene.world.a.drain(a).0.len(), 4 * 16_384);
    scene.finish();
}

/// A file whose content is replaced.
struct Rewritten(Mutex<Arc<SharedSpan>>);

impl FileSource for Rewritten {
    fn span(&self, offset: u64) -> FileSpan {
        let span = Arc::clone(&self.0.lock().unwrap());
        let at = u32::try_from(offset).unwrap();
        FileSpan::Ready { span, at }
    }
}

/// Ciphertext was dropped, then the file was rewritten and the key updated. What has to be sent
/// again is sealed from the span that the queue holds, under its own key: each byte on the wire is
/// the same as the first time.
#[test]
fn dropped_ciphertext_is_made_again_though_file_and_key_have_changed() {
    let mut scene = Scene::new(256 << 10);
    let (a, b) = scene.pair();
    scene.warm_up(a, b, 300_000);
    let (_, other) = scene.pair();
    let content = |byte: u8| {
        let mut page = scene._arena.0.alloc(SPAN_BYTES).unwrap();
        for (at, place) in page[..SPAN_BYTES].iter_mut().enumerate() {
            *place = byte ^ at.to_le_bytes()[0] ^ at.to_le_bytes()[1];
        }
        page.freeze(SPAN_BYTES)
    };
    let (old, new) = (content(1), content(2));
    let file = Arc::new(Rewritten(Mutex::new(Arc::clone(&old))));

    // Three records are sent, and all segments are lost.
    let sent = record(&mut scene.world, |_| true);
    let host = &mut scene.world.b;
    let source = Arc::clone(&file) as Arc<dyn FileSource>;
    let queued = host
        .stack
        .sendfile(b, source, 0..3 * 16_384, false, &mut host.pages);
    assert!(queued.unwrap());
    scene.world.settle();
    let first = std::mem::take(&mut *sent.borrow_mut());
    let bytes = first
        .iter()
        .map(|(_, _, bytes)| bytes.len() as u64)
        .sum::<u64>();
    assert_eq!(bytes, 3 * RECORD);

    // Another connection waits for a span.
    let held = scene.world.b.hold_pages();
    assert_eq!(scene.send_span(other, 16_384), 16_384);
    scene.world.run(Duration::from_millis(5));
    assert_eq!(scene.counter("stack.ciphertext_dropped"), 3);
    drop(held);

    *file.0.lock().unwrap() = new;
    let host = &mut scene.world.b;
    let updated = host
        .stack
        .update_keys(b, false, &mut host.ciphers, &mut host.pages);
    updated.unwrap();
    assert_eq!(scene.send_span(b, 16_384), 16_384, "under the next key");
    assert_eq!(scene.world.b.send(b, b"the end"), 7);
    scene.world.settle();
    sent.borrow_mut().clear();
    scene.world.link.filter = None;
    let sent = record(&mut scene.world, |_| false);
    scene.world.run(Duration::from_secs(10));
    let port = scene.port_of(a);
    let start = first[0].1;
    let stream = |frames: &[(u16, u32, Vec<u8>)]| {
        let mut stream = vec![None; usize::try_from(3 * RECORD).unwrap()];
        for (_, seq, bytes) in frames.iter().filter(|(to, ..)| *to == port) {
            for (at, byte) in (seq.wrapping_sub(start) as usize..).zip(bytes) {
                if let Some(place) = stream.get_mut(at) {
                    assert!(
                        place.is_none_or(|old| old == *byte),
                        "byte {at} has changed"
                    );
                    *place = Some(*byte);
                }
            }
        }
        stream
    };
    let (once, again) = (stream(&first), stream(&sent.borrow()));
    assert!(once.iter().all(Option::is_some) && once == again);

    let mut expected = old[..3 * 16_384].to_vec();
    expected.extend_from_slice(&scene.span[..16_384]);
    expected.extend_from_slice(b"the end");
    assert!(scene.world.a.drain(a).0 == expected);
    drop((old, file));
    scene.finish();
}
