//! The whole stack with a listener: any frames, whose checksums count as valid. Every buffer is
//! returned at the end.

use core::cell::RefCell;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use lockgate_ip::{Cidr, Interface};
use lockgate_ktls::{BackendChoice, Ciphers};
use lockgate_stack::{Env, ListenConfig, Notice, Recv, Stack, StackConfig};
use lockgate_wire::{IfaceId, Instant, MacAddr};
use pktbuf::{
    Checksum, HeapBuffers, Info, Output, Packet, PagePool, PoolConfig, Region, Room, TxError,
};

/// Runs the target on one input.
///
/// # Panics
/// If a property doesn't hold.
pub fn run(input: &[u8]) {
    MEMORY.with_borrow_mut(|memory| run_in(input, memory));
}

fn run_in(input: &[u8], memory: &mut Memory) {
    let (ciphers, pages, buffers) = memory;
    let mut now = Instant::from_nanos(1_000_000_000);
    let config = StackConfig {
        interfaces: vec![(
            Interface {
                id: IfaceId(0),
                mac: Some(MAC),
                mtu: 1500,
                vlan: None,
            },
            vec![
                Cidr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 24).expect("a prefix"),
                Cidr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)), 64)
                    .expect("a prefix"),
            ],
        )],
        ..StackConfig::default()
    };
    let mut stack = Stack::new(now, small(config), [1, 2, 3, 4]).expect("a stack");
    for address in ["10.0.0.1:80", "[fd00::1]:80"] {
        let at: SocketAddr = address.parse().expect("an address");
        stack
            .listen(at, ListenConfig::default())
            .expect("a listener");
    }
    let mut net = Sink;

    let mut left = input;
    while let [control, len, rest @ ..] = left {
        let (frame, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        left = rest;
        let mut env = Env {
            pages,
            ciphers,
            net: &mut net,
        };
        let whole = with_headers(*control, frame);
        if let Some(mut buffer) = buffers.alloc(&whole) {
            buffer.set_checksums(Checksum::Good, Checksum::Good);
            stack.on_packet(now, IfaceId(0), buffer, &mut env);
        }
        if control & 0x20 != 0 {
            now += Duration::from_millis(1 << (control & 0x0f));
            stack.on_timer(now, &mut env);
        }
        stack.poll(now, &mut env, 64);
        while let Some(notice) = stack.poll_notice() {
            if let Notice::Readable(socket) = notice {
                while let Ok(Recv::Data(_)) = stack.recv(socket, ciphers, pages) {}
                let _ = stack.send(socket, b"answer", false, pages);
            }
        }
    }
    drop(stack);
    pages.reclaim();
    assert!(pages.is_full(), "page buffers are missing");
    assert!(buffers.is_full(), "buffers are missing");
}

type Memory = (Ciphers, PagePool, HeapBuffers);

thread_local! {
    // Allocated once: every input returns all it took.
    static MEMORY: RefCell<Memory> = RefCell::new(memory());
}

fn memory() -> Memory {
    let config = PoolConfig {
        blocks: 256,
        small_spans: 64,
        large_spans: 8,
    };
    let mut region = Region::heap(PagePool::bytes_needed(config)).expect("memory");
    let pages = PagePool::new(&mut region, config).expect("a pool");
    (
        Ciphers::new(BackendChoice::AwsLcRs, 8),
        pages,
        HeapBuffers::new(256),
    )
}

/// Puts link and network headers that reach us in front of a frame, if `control` says so: a fuzzer
/// would take long to find them.
fn with_headers(control: u8, frame: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(frame.len() + 54);
    if control & 0x40 == 0 {
        whole.extend_from_slice(frame);
        return whole;
    }
    whole.extend_from_slice(&MAC.0);
    whole.extend_from_slice(&[2, 0, 0, 0, 0, 9]);
    let len = u16::try_from(frame.len()).unwrap_or(0);
    if control & 0x80 == 0 {
        whole.extend_from_slice(&[0x08, 0x00, 0x45, 0]);
        whole.extend_from_slice(&(len + 20).to_be_bytes());
        let protocol = if control & 0x10 == 0 { 6 } else { 1 };
        whole.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
        whole.extend_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1]);
    } else {
        whole.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
        whole.extend_from_slice(&len.to_be_bytes());
        whole.extend_from_slice(&[if control & 0x10 == 0 { 6 } else { 58 }, 255]);
        whole.extend_from_slice(&Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).octets());
        whole.extend_from_slice(&Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).octets());
    }
    whole.extend_from_slice(frame);
    whole
}

fn small(mut config: StackConfig) -> StackConfig {
    config.limits.connections_max = 16;
    config.limits.half_open_max = 16;
    config.limits.time_wait_max = 16;
    config.limits.handshakes_max = 16;
    config.limits.ranges_max = 256;
    config
}

/// An output that accepts and discards every packet.
struct Sink;

impl Output for Sink {
    fn info(&self, _on: IfaceId) -> Info {
        Info {
            mtu: 1500,
            mac: Some(MAC),
            tso_bytes_max: 65_000,
            entries_max: 17,
            link_up: true,
            ..Info::default()
        }
    }

    fn room(&self, _on: IfaceId) -> Room {
        Room {
            packets: 64,
            entries: 1024,
        }
    }

    fn tx(&mut self, packet: Packet<'_>) -> Result<(), TxError> {
        for slice in packet.payload {
            assert!(slice.bytes().is_some(), "plaintext of a record");
        }
        Ok(())
    }
}

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
