//! Bursts: segments that are handled together have the effect of each alone.
//!
//! Two hosts that are alike get the same frames, one host in bursts, the other one by one. What
//! they send, deliver, count and pin must be the same after every turn.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

use lockgate_ip::{FrameHeader, IpPair, LinkHeader};
use lockgate_stack::{ListenConfig, Notice, SocketId};
use lockgate_testing::Random;
use lockgate_wire::ip::{IpProtocol, TrafficClass};
use lockgate_wire::tcp::{Flags, SackBlock, SackList, TcpHeader, TcpOptions, TcpView, Timestamps};
use lockgate_wire::{IfaceId, Instant, MacAddr, SeqNum};
use support::records::{GCM_128_12, TestKeys};
use support::{Host, HostSpec};

/// A peer without a TCP of its own: the test decides what it sends.
struct RawPeer {
    port: u16,
    /// Sequence number of the first byte.
    first: SeqNum,
    /// Everything that it may send.
    stream: Vec<u8>,
    /// What it has sent so far, without losses.
    next: usize,
    /// Sequence number of the host's first byte, and how much of its stream came.
    host_first: SeqNum,
    host_sent: u32,
    acked: u32,
    /// What the host has acknowledged.
    acknowledged: usize,
    window: u16,
    timestamps: bool,
    socket: Option<SocketId>,
}

/// A frame of one of the peers.
#[derive(Clone)]
struct Segment {
    tcp: TcpHeader,
    class: TrafficClass,
    payload: Vec<u8>,
    /// Bytes behind the packet.
    padding: usize,
    has_ip_options: bool,
    is_corrupt: bool,
}

impl Segment {
    fn frame(&self) -> Vec<u8> {
        let addrs = IpPair::new(PEER.into(), IpAddr::from([10, 0, 0, 2])).unwrap();
        let len = self.tcp.emitted_len() + self.payload.len();
        let frame = FrameHeader {
            class: self.class,
            ..FrameHeader::new(
                Some(LinkHeader {
                    dst: MacAddr([2, 0, 0, 0, 0, 2]),
                    src: PEER_MAC,
                    vlan: None,
                }),
                addrs,
                IpProtocol::TCP,
                u16::try_from(len).unwrap(),
            )
        };
        let mut bytes = vec![0; frame.emitted_len() + len];
        let at = frame.emit(&mut bytes);
        let header = self.tcp.emit(&mut bytes[at..]);
        bytes[at + header..].copy_from_slice(&self.payload);
        let mut sum = addrs.pseudo_sum(IpProtocol::TCP, u32::try_from(len).unwrap());
        sum.add(&bytes[at..]);
        let checksum = sum.finish() ^ u16::from(self.is_corrupt);
        bytes[at + 16..at + 18].copy_from_slice(&checksum.to_be_bytes());
        if self.has_ip_options {
            insert_ip_options(&mut bytes, at);
        }
        bytes.resize(bytes.len() + self.padding, 0xee);
        bytes
    }
}

/// Puts four no-operation options behind an IPv4 header that ends at `at`.
fn insert_ip_options(bytes: &mut Vec<u8>, at: usize) {
    bytes.splice(at..at, [1; 4]);
    let ip = &mut bytes[14..at + 4];
    ip[0] = 0x46;
    let total = u16::from_be_bytes([ip[2], ip[3]]) + 4;
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip[10..12].fill(0);
    let sum = lockgate_wire::checksum::of(ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Both hosts, and the peers that they hear.
struct Twins {
    now: Instant,
    /// Gets bursts.
    merging: Host,
    /// Gets packets.
    single: Host,
    peers: Vec<RawPeer>,
    keys: Vec<TestKeys>,
    random: Random,
    delivered: u64,
}

impl Twins {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // Small budgets refuse payloads, large ones let runs be merged.
        let receive = random.pick(&[16_000, 64_000, 256_000]);
        let total = random.pick(&[100_000, 400_000, 8_000_000]);
        let items = random.pick(&[8, 64, 1024]);
        Self::of(random, receive, total, items)
    }

    fn with_room() -> Self {
        Self::of(Random::new(1), 256_000, 8_000_000, 1024)
    }

    fn of(random: Random, receive: u32, total: u64, items: u16) -> Self {
        let host = |receive: u32, total: u64, items: u16| {
            let mut spec = HostSpec::new(2);
            spec.config.limits.recv_buffer_bytes = receive;
            spec.config.limits.recv_total_bytes = total;
            spec.config.limits.reassembly_items_max = items;
            spec.buffers = 4096;
            spec.build()
        };
        let [mut merging, mut single] = [0; 2].map(|_| host(receive, total, items));
        let at = SocketAddr::from(([10, 0, 0, 2], 80));
        for host in [&mut merging, &mut single] {
            host.stack.listen(at, ListenConfig::default()).unwrap();
        }
        Self {
            now: Instant::from_millis(1000),
            merging,
            single,
            peers: Vec::new(),
            keys: Vec::new(),
            random,
            delivered: 0,
        }
    }

    /// Gives frames to both hosts, and runs a turn of each. Returns what both have sent.
    fn exchange(&mut self, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let now = self.now;
        let host = &mut self.merging;
        let mut burst: Vec<_> = frames
            .iter()
            .map(|frame| (IfaceId(0), host.buffers.alloc(frame).unwrap()))
            .collect();
        host.with(|stack, env| stack.on_burst(now, &mut burst, env));
        assert!(burst.is_empty());
        for frame in frames {
            self.single.receive(now, frame);
        }
        self.turn()
    }

    fn turn(&mut self) -> Vec<Vec<u8>> {
        let now = self.now;
        let [a, b] = [&mut self.merging, &mut self.single].map(|host| {
            while host.turn(now) {}
            host.net.frames.drain(..).collect::<Vec<_>>()
        });
        assert_eq!(a, b, "both hosts send the same");
        self.assert_alike();
        self.heed(&a);
        a
    }

    /// Peers learn what the hosts sent. Answers ARP.
    fn heed(&mut self, frames: &[Vec<u8>]) {
        for frame in frames {
            if frame[12..14] == [8, 6] {
                let answer = arp_reply(frame);
                let now = self.now;
                self.merging.receive(now, &answer);
                self.single.receive(now, &answer);
                self.turn();
                continue;
            }
            let (header, len) = TcpView::parse(&frame[34..]).unwrap();
            let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            let payload = u32::try_from(total - 20 - len).unwrap();
            let peer = self.peers.iter_mut().find(|p| p.port == header.dst_port);
            let Some(peer) = peer else { continue };
            if header.flags.contains(Flags::SYN) {
                peer.host_first = header.seq + 1;
            } else if header.flags.contains(Flags::ACK) {
                let end = header.seq.since(peer.host_first) + payload;
                peer.host_sent = peer.host_sent.max(end);
                let acknowledged = header.ack.since(peer.first);
                peer.acknowledged = usize::try_from(acknowledged).unwrap();
            }
        }
    }

    fn assert_alike(&mut self) {
        let (a, b) = (&self.merging, &self.single);
        let counters = |host: &Host| {
            let stack = host.stack.counters().iter();
            let tcp = host.stack.tcp_counters().iter();
            let ktls = host.ciphers.counters.iter();
            let all = stack.chain(tcp).chain(ktls);
            // The tests' only difference.
            all.filter(|(name, _)| *name != "stack.segments_merged")
                .collect::<Vec<_>>()
        };
        assert_eq!(counters(a), counters(b));
        assert_eq!(a.stack.next_timer(), b.stack.next_timer());
        assert_eq!(
            a.stack.received_bytes_pinned(),
            b.stack.received_bytes_pinned()
        );
        assert_eq!(a.pages.usage(), b.pages.usage());
        assert_eq!(a.buffers.usage(), b.buffers.usage());
        assert_eq!(a.stack.connections(), b.stack.connections());
        for socket in self.peers.iter().filter_map(|peer| peer.socket) {
            let info = |host: &Host| format!("{:?}", host.stack.tcp_info(socket));
            assert_eq!(info(a), info(b));
        }
        loop {
            let notices = [&mut self.merging, &mut self.single].map(|h| h.stack.poll_notice());
            assert_eq!(format!("{:?}", notices[0]), format!("{:?}", notices[1]));
            match notices {
                [Some(Notice::Accepted { socket, remote, .. }), _] => {
                    let peer = self.peers.iter_mut().find(|p| p.port == remote.port());
                    peer.unwrap().socket = Some(socket);
                }
                [None, _] => return,
                _ => {}
            }
        }
    }

    /// A connection, with records if `tls`.
    fn connect(&mut self, tls: bool) {
        let random = &mut self.random;
        let number = u16::try_from(self.peers.len()).unwrap();
        let stream = if tls {
            let mut keys = TestKeys::new(GCM_128_12, random);
            let mut stream = Vec::new();
            while stream.len() < STREAM_BYTES {
                let len = random.pick(&[0, 1, 100, 1400, 8000, 16_384]);
                let content = random.bytes(len);
                stream.extend(keys.seal(23, &content));
            }
            self.keys.push(keys);
            stream
        } else {
            random.bytes(STREAM_BYTES)
        };
        let timestamps = random.chance(3, 4);
        let syn = TcpHeader {
            src_port: 40_000 + number,
            dst_port: 80,
            seq: SeqNum(self.random.between_u32(0, u32::MAX)),
            flags: Flags::SYN,
            window: 60_000,
            options: TcpOptions {
                mss: Some(1460),
                sack_permitted: self.random.chance(1, 2),
                timestamps: timestamps.then(|| self.timestamps(0)),
                ..TcpOptions::NONE
            },
            ..TcpHeader::default()
        };
        self.peers.push(RawPeer {
            port: syn.src_port,
            first: syn.seq + 1,
            stream,
            next: 0,
            host_first: SeqNum(0),
            host_sent: 0,
            acked: 0,
            acknowledged: 0,
            window: 60_000,
            timestamps,
            socket: None,
        });
        self.exchange(&[plain(syn, Vec::new()).frame()]);
        let at = self.peers.len() - 1;
        let ack = self.header(at, 0);
        self.exchange(&[plain(ack, Vec::new()).frame()]);
        let socket = self.peers[at].socket.expect("it is accepted");
        if tls {
            let keys = self.keys.last().unwrap();
            for host in [&mut self.merging, &mut self.single] {
                let set = host
                    .stack
                    .set_rxtls(socket, &keys.enable(), &mut host.ciphers);
                set.unwrap();
            }
        }
    }

    fn timestamps(&self, older: u32) -> Timestamps {
        Timestamps {
            val: u32::try_from(self.now.as_millis()).unwrap() - older,
            ecr: 0,
        }
    }

    /// The usual header of a peer's segment at offset `at` of its stream.
    fn header(&self, peer: usize, at: usize) -> TcpHeader {
        let peer = &self.peers[peer];
        TcpHeader {
            src_port: peer.port,
            dst_port: 80,
            seq: peer.first + u32::try_from(at).unwrap(),
            ack: peer.host_first + peer.acked,
            flags: Flags::ACK,
            window: peer.window,
            options: TcpOptions {
                timestamps: peer.timestamps.then(|| self.timestamps(0)),
                ..TcpOptions::NONE
            },
            ..TcpHeader::default()
        }
    }

    /// The next segment of a peer: what a bulk transfer sends, or sometimes anything.
    fn segment(&mut self, number: usize, mss: usize, is_bulk: bool) -> Segment {
        let sent = self.peers[number].next;
        let whole = self.peers[number].stream.len();
        let fate = self.random.below(if is_bulk { 70 } else { 100 });
        let (at, len) = match fate {
            // A gap, which may be filled later.
            70..74 => (sent + self.random.index(3 * mss), mss),
            // Sent before, in part or as a whole.
            74..78 => (sent - self.random.index(sent.min(5 * mss) + 1), mss),
            78..82 => (sent, 1 + self.random.index(mss)),
            // A window probe, a keepalive probe.
            82 => (sent.saturating_sub(1), 1),
            83 => (sent.saturating_sub(1), 0),
            84 => (sent, 0),
            _ => (sent, mss),
        };
        let (at, end) = (at.min(whole), (at + len).min(whole));
        let mut tcp = self.header(number, at);
        let mut segment = plain(tcp, self.peers[number].stream[at..end].to_vec());
        match fate {
            85 | 86 => tcp.flags |= Flags::PSH,
            83 if self.random.chance(1, 4) => tcp.src_port = 0,
            87 => tcp.flags |= self.random.pick(&[Flags::URG, Flags::ECE, Flags::CWR]),
            88 if self.random.chance(1, 8) => tcp.flags |= Flags::FIN,
            89 if self.random.chance(1, 16) => tcp.flags |= Flags::RST,
            89 => tcp.flags = self.random.pick(&[Flags::SYN, Flags::NONE, Flags::PSH]),
            90 => {
                let older = self.random.between_u32(1, 40);
                tcp.options.timestamps = tcp.options.timestamps.map(|_| self.timestamps(older));
            }
            91 => tcp.options.timestamps = None,
            92 => tcp.window = self.random.pick(&[0, 100, 30_000]),
            93 => {
                let start = tcp.ack + 10;
                let block = SackBlock::new(start, start + 20).unwrap();
                tcp.options.sack = SackList::from_iter([block]);
            }
            94 => segment.class = TrafficClass(self.random.pick(&[1, 2, 3, 0xb8])),
            95 => segment.padding = self.random.index(60),
            96 => segment.has_ip_options = true,
            97 => segment.is_corrupt = true,
            98 => {
                let sent = self.peers[number].host_sent;
                self.peers[number].acked = sent - self.random.between_u32(0, sent) / 2;
                tcp.ack = self.peers[number].host_first + self.peers[number].acked;
            }
            99 => tcp.ack += self.random.between_u32(1, 100_000),
            _ => {}
        }
        // A lost or refused one is sent again by some later "sent before".
        let is_usual = matches!(fate, 0..70 | 78..82 | 85..99);
        if is_usual && !segment.is_corrupt {
            self.peers[number].next = end;
        }
        segment.tcp = tcp;
        segment
    }

    /// A burst, then what an application and a peer's retransmissions do.
    fn round(&mut self) {
        self.now += Duration::from_millis(self.random.pick(&[0, 1, 1, 5, 60]));
        let count = self.random.between(1, 40);
        let mut number = self.random.index(self.peers.len());
        let mss = self.random.pick(&[1448, 1448, 1448, 536, 90, 7]);
        let is_bulk = self.random.chance(1, 2);
        let mut frames = Vec::new();
        for _ in 0..count {
            if self.random.chance(1, 12) {
                number = self.random.index(self.peers.len());
            }
            if self.random.chance(1, 60) {
                frames.push(arp_request());
            }
            frames.push(self.segment(number, mss, is_bulk).frame());
        }
        if self.random.chance(1, 8) {
            let at = self.random.index(frames.len());
            let to = self.random.index(frames.len());
            frames.swap(at, to);
        }
        self.exchange(&frames);
        // The peer goes back to what the host has acknowledged, as after a time-out.
        if self.random.chance(1, 3) {
            for peer in &mut self.peers {
                peer.next = peer.acknowledged.min(peer.stream.len());
            }
        }
        if self.random.chance(2, 3) {
            self.read();
        }
        if self.random.chance(1, 5) {
            let socket = self.peers[number].socket.unwrap();
            let bytes = self.random.bytes(700);
            let sent = [&mut self.merging, &mut self.single]
                .map(|host| host.stack.send(socket, &bytes, false, &mut host.pages));
            assert_eq!(sent[0], sent[1]);
        }
        self.turn();
    }

    fn read(&mut self) {
        for socket in self.peers.iter().filter_map(|peer| peer.socket) {
            let [a, b] = [&mut self.merging, &mut self.single].map(|host| host.drain(socket));
            assert_eq!(a, b, "both hosts deliver the same");
            self.delivered += a.0.len() as u64;
        }
    }

    fn count(&self, name: &str) -> u64 {
        let counters = self.merging.stack.counters().iter();
        let mut all = counters.chain(self.merging.stack.tcp_counters().iter());
        let found = all.find(|(found, _)| *found == name);
        found.unwrap_or_else(|| panic!("no counter {name}")).1
    }
}

/// A segment without anything unusual.
fn plain(tcp: TcpHeader, payload: Vec<u8>) -> Segment {
    Segment {
        tcp,
        class: TrafficClass(0),
        payload,
        padding: 0,
        has_ip_options: false,
        is_corrupt: false,
    }
}

/// Answers an ARP request.
fn arp_reply(request: &[u8]) -> Vec<u8> {
    let mut reply = request[..42].to_vec();
    reply[..6].copy_from_slice(&request[6..12]);
    reply[6..12].copy_from_slice(&PEER_MAC.0);
    reply[21] = 2;
    reply[22..28].copy_from_slice(&PEER_MAC.0);
    reply[28..32].copy_from_slice(&request[38..42]);
    reply[32..38].copy_from_slice(&request[22..28]);
    reply[38..42].copy_from_slice(&request[28..32]);
    reply
}

/// A request for the hosts' address.
fn arp_request() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(PEER_MAC.0);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(PEER_MAC.0);
    frame.extend(PEER.octets());
    frame.extend([0; 6]);
    frame.extend([10, 0, 0, 2]);
    frame
}

#[test]
fn merged_segments_have_the_effect_of_each_alone() {
    let names = [
        "stack.segments_merged",
        "stack.refused_payload",
        "stack.bad_checksum",
        "stack.malformed",
        "stack.resets_out",
        "tcp.unacceptable",
        "tcp.paws_dropped",
        "tcp.timestamp_missing",
        "tcp.resets_in",
    ];
    let mut seen = [0; 9];
    let (mut delivered, mut segments) = (0, 0);
    for seed in 0..CASES {
        let mut twins = Twins::new(seed);
        for n in 0..4 {
            twins.connect(n % 2 == 1);
        }
        for _ in 0..40 {
            twins.round();
        }
        twins.read();
        twins.turn();
        for (seen, name) in seen.iter_mut().zip(names) {
            *seen += twins.count(name);
        }
        delivered += twins.delivered;
        segments += twins.count("stack.segments_in");
    }
    for (seen, name) in seen.iter().zip(names) {
        assert!(*seen > 0, "{name} never counted");
    }
    assert!(delivered > CASES * 100_000, "{delivered} bytes delivered");
    assert!(seen[0] > segments / 6, "{} of {segments} merged", seen[0]);
}

/// Which segments of a burst join the one before.
#[test]
fn segments_are_merged_if_they_differ_in_nothing_but_their_place() {
    type Change = fn(&mut Segment);
    let rows: [(&[usize], usize, Change, u64); 11] = [
        (&[1000, 1000, 1000, 1000], 0, |_| {}, 3),
        // A shorter one is the last, and a longer one doesn't join.
        (&[1000, 1000, 400, 1000], 0, |_| {}, 2),
        (&[400, 1000, 1000], 0, |_| {}, 1),
        (&[1000, 0, 1000], 0, |_| {}, 0),
        // The segment that is changed is the second one, of three.
        (&[1000; 3], 1, |s| s.tcp.flags |= Flags::PSH, 1),
        (&[1000; 3], 1, |s| s.tcp.flags |= Flags::URG, 0),
        (&[1000; 3], 1, |s| s.tcp.window -= 1, 0),
        (&[1000; 3], 1, |s| s.tcp.options.timestamps = None, 0),
        (&[1000; 3], 1, |s| s.class = TrafficClass(3), 0),
        (&[1000; 3], 1, |s| s.has_ip_options = true, 0),
        // Without the second one there is a gap.
        (&[1000; 4], 1, |s| s.is_corrupt = true, 0),
    ];
    for (n, (lengths, changed, change, merged)) in rows.into_iter().enumerate() {
        let mut twins = Twins::with_room();
        twins.connect(false);
        assert!(twins.peers[0].timestamps, "the seed draws them");
        let mut at = 0;
        let mut frames = Vec::new();
        for (index, len) in lengths.iter().enumerate() {
            let payload = twins.peers[0].stream[at..at + len].to_vec();
            let mut segment = plain(twins.header(0, at), payload);
            if index == changed {
                change(&mut segment);
            }
            frames.push(segment.frame());
            at += len;
        }
        twins.exchange(&frames);
        twins.read();
        assert_eq!(twins.count("stack.segments_merged"), merged, "row {n}");
    }
}

const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const CASES: u64 = 60;
const STREAM_BYTES: usize = 2_000_000;
