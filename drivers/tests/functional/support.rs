//! An EAL, page buffers, and frames whose checksums are verified independently.

use std::io;
use std::sync::{Arc, Mutex};

use lockgate_drivers::{Demand, Eal, EalConfig, Hugepages, Port, PortConfig, WorkerPorts};
use lockgate_testing::wait_until;
use lockgate_wire::IfaceId;
use pktbuf::{
    Buffer, Headers, L4, Output, Packet, PageBuf, PagePool, PoolConfig, Slice, TxError, TxMeta,
};

/// An EAL on ordinary pages, which every machine has.
pub(crate) fn eal() -> Eal {
    let config = EalConfig {
        hugepages: Hugepages::Off,
        memory_mib: 256,
        ..EalConfig::default()
    };
    Eal::init(&config).expect("the EAL starts")
}

/// A pool of page buffers in the EAL's memory.
pub(crate) fn pages(eal: Eal) -> PagePool {
    let config = PoolConfig {
        blocks: 1024,
        small_spans: 1024,
        large_spans: 256,
    };
    let demand = Demand::new("page buffers", PagePool::bytes_needed(config) as u64);
    let mut regions = eal.regions(&demand).expect("memory for page buffers");
    PagePool::from_regions(&mut regions, config).expect("a pool fits")
}

/// A plain page buffer of `len` bytes that depend on `seed`.
pub(crate) fn filled(pool: &mut PagePool, len: usize, seed: u8) -> PageBuf {
    let mut page = pool
        .alloc(u32::try_from(len).unwrap())
        .expect("a page buffer is free");
    assert_eq!(page.append(&pattern(len, seed)), len);
    page
}

pub(crate) fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ seed)
        .collect()
}

/// The whole of a buffer as a slice.
pub(crate) fn whole(page: &PageBuf) -> Slice<'_> {
    Slice {
        buf: page,
        at: 0,
        len: page.len(),
    }
}

/// A port's first queue with one interface on it.
pub(crate) fn worker(port: &mut Port) -> WorkerPorts {
    let mut queues = port.take_queues();
    queues.truncate(1);
    WorkerPorts::new(queues, &[0])
}

pub(crate) fn open(eal: Eal, config: &PortConfig) -> (Port, WorkerPorts) {
    let mut port = Port::open(eal, config).expect("the port opens");
    let worker = worker(&mut port);
    (port, worker)
}

/// Waits for the link to come up or go down: the kernel reports it some time later.
pub(crate) fn wait_link(port: &Port, up: bool) {
    let what = format!("link of {} that is up: {up}", port.name());
    wait_until(&what, || port.poll_link() == up);
}

/// Sends one TCP packet and expects that it's taken.
pub(crate) fn send(ports: &mut WorkerPorts, shape: Shape, payload: &[Slice<'_>]) {
    try_send(ports, shape, payload).expect("the packet is taken");
}

pub(crate) fn try_send(
    ports: &mut WorkerPorts,
    shape: Shape,
    payload: &[Slice<'_>],
) -> Result<(), TxError> {
    let len: u32 = payload.iter().map(|s| s.len).sum();
    let head = shape.headers(len as usize);
    let meta = TxMeta {
        iface: IfaceId(0),
        mss: shape.mss,
        protocol: L4::Tcp,
        ipv6: shape.ipv6,
        ..TxMeta::default()
    };
    ports.tx(Packet {
        head: &head,
        payload,
        meta,
    })
}

/// Receives until there are `n` packets.
pub(crate) fn receive(ports: &mut WorkerPorts, n: usize) -> Vec<Buffer> {
    let mut got = Vec::new();
    wait_until(&format!("{n} packets"), || {
        while got.len() < n && ports.rx_burst(|_, buffer| got.push(buffer)) > 0 {}
        got.len() >= n
    });
    got
}

/// A buffer's bytes in one piece.
pub(crate) fn bytes(buffer: &Buffer) -> Vec<u8> {
    let mut all = vec![0; buffer.len() as usize];
    assert_eq!(buffer.copy_to(0, &mut all), all.len());
    all
}

/// Headers of a test packet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    pub(crate) ipv6: bool,
    pub(crate) seq: u32,
    pub(crate) mss: u16,
}

impl Shape {
    fn l3_len(self) -> usize {
        if self.ipv6 { 40 } else { 20 }
    }

    /// Headers as the stack makes them: complete but for the TCP checksum, which carries the
    /// pseudo-header's sum.
    fn headers(self, payload_len: usize) -> Headers {
        let l3_len = self.l3_len();
        let mut head = Headers::new(14, l3_len as u8, TCP_LEN as u8);
        let l2 = head.l2_mut();
        l2[..6].fill(0xff);
        l2[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        let ether_type: u16 = if self.ipv6 { 0x86dd } else { 0x0800 };
        l2[12..].copy_from_slice(&ether_type.to_be_bytes());
        let l4_len = (TCP_LEN + payload_len) as u16;
        let ip = head.l3_mut();
        let pseudo = if self.ipv6 {
            ip[0] = 0x60;
            ip[4..6].copy_from_slice(&l4_len.to_be_bytes());
            ip[6] = 6;
            ip[7] = 64;
            ip[8..24].copy_from_slice(&[0xfd, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            ip[24..40].copy_from_slice(&[0xfd, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
            sum(&ip[8..40], 6 + u32::from(l4_len))
        } else {
            ip[0] = 0x45;
            ip[2..4].copy_from_slice(&(20 + l4_len).to_be_bytes());
            ip[4..6].copy_from_slice(&[0x12, 0x34]);
            ip[6] = 0x40;
            ip[8] = 64;
            ip[9] = 6;
            ip[12..20].copy_from_slice(&[198, 18, 0, 1, 198, 18, 0, 2]);
            let checksum = !sum(ip, 0);
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            sum(&ip[12..20], 6 + u32::from(l4_len))
        };
        let tcp = head.l4_mut();
        tcp[0..4].copy_from_slice(&[0x01, 0xbb, 0x30, 0x39]);
        tcp[4..8].copy_from_slice(&self.seq.to_be_bytes());
        tcp[12] = (TCP_LEN as u8 / 4) << 4;
        tcp[13] = 0x18;
        tcp[14..16].copy_from_slice(&0x2000u16.to_be_bytes());
        tcp[16..18].copy_from_slice(&pseudo.to_be_bytes());
        tcp[20..].copy_from_slice(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        head
    }
}

/// Verifies the checksums of a received frame. Returns its sequence number and payload.
pub(crate) fn verify_frame(frame: &[u8]) -> (u32, &[u8]) {
    let ipv6 = frame[12..14] == [0x86, 0xdd];
    let ip = &frame[14..];
    let (l3, l4_len, pseudo) = if ipv6 {
        let len = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        (40, len, sum(&ip[8..40], 6 + len as u32))
    } else {
        assert_eq!(sum(&ip[..20], 0), 0xffff, "IPv4 header checksum");
        let len = usize::from(u16::from_be_bytes([ip[2], ip[3]])) - 20;
        (20, len, sum(&ip[12..20], 6 + len as u32))
    };
    assert_eq!(ip.len(), l3 + l4_len, "length of frame and of packet");
    let tcp = &ip[l3..];
    assert_eq!(sum(tcp, u32::from(pseudo)), 0xffff, "TCP checksum");
    (
        u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        &tcp[TCP_LEN..],
    )
}

/// The payload of a frame whose checksum isn't completed.
pub(crate) fn payload(frame: &[u8]) -> &[u8] {
    let l3 = if frame[12..14] == [0x86, 0xdd] {
        40
    } else {
        20
    };
    &frame[14 + l3 + TCP_LEN..]
}

/// One's complement sum, folded, by the definition of RFC 1071.
pub(crate) fn sum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Runs `action` on this thread. Returns what it logged.
pub(crate) fn logged<T>(action: impl FnOnce() -> T) -> (String, T) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let result = tracing::subscriber::with_default(subscriber, action);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).expect("a log in UTF-8");
    (text, result)
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Closes a port and asserts that every packet buffer is free.
pub(crate) fn close_full(mut port: Port) {
    let name = port.name().to_owned();
    for pool in port.close().expect("no queue is out") {
        assert!(pool.is_full(), "port {name}: {pool:?}");
    }
}

/// Bytes of the TCP header, with the timestamps option.
pub(crate) const TCP_LEN: usize = 32;
