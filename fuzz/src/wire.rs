//! Header formats: whatever parses is emitted within its limits and parses to the same value.

use core::net::Ipv6Addr;

use lockgate_wire::arp::ArpView;
use lockgate_wire::checksum::{self, Sum};
use lockgate_wire::ethernet::EthernetView;
use lockgate_wire::icmpv4::Icmpv4Message;
use lockgate_wire::icmpv6::Icmpv6Message;
use lockgate_wire::ip::IpProtocol;
use lockgate_wire::ipv4::{self, Ipv4View};
use lockgate_wire::ipv6::{self, Ipv6View};
use lockgate_wire::tcp::{self, TcpView};

/// Runs the target on one input, which each format parses.
///
/// # Panics
/// If a property doesn't hold.
pub fn run(bytes: &[u8]) {
    ethernet(bytes);
    arp(bytes);
    ipv4(bytes);
    ipv6(bytes);
    extension_headers(bytes);
    tcp(bytes);
    icmpv4(bytes);
    icmpv6(bytes);
}

fn ethernet(bytes: &[u8]) {
    let Ok((header, len)) = EthernetView::parse(bytes) else {
        return;
    };
    let mut out = [0; 18];
    assert_eq!(header.emit(&mut out), len);
    assert_eq!(out[..len], bytes[..len], "the bytes are the same");
}

fn arp(bytes: &[u8]) {
    let Ok((packet, len)) = ArpView::parse(bytes) else {
        return;
    };
    let mut out = [0; 28];
    assert_eq!(packet.emit(&mut out), len);
    assert_eq!(out[..len], bytes[..len], "the bytes are the same");
}

/// Options aren't part of the representation: the parsed length counts them, the emitted doesn't.
fn ipv4(bytes: &[u8]) {
    let Ok(view) = Ipv4View::new(bytes) else {
        return;
    };
    let (header, len) = (view.header(), view.header_len());
    let total_len = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
    assert_eq!(len + usize::from(header.payload_len), total_len);
    let _ = (view.checksum_is_valid(), view.has_source_route());
    let mut out = [0; ipv4::HEADER_LEN];
    assert_eq!(header.emit(&mut out), ipv4::HEADER_LEN);
    assert!(checksum::is_valid(&out));
    assert_eq!(Ipv4View::parse(&out), Ok((header, ipv4::HEADER_LEN)));
}

fn ipv6(bytes: &[u8]) {
    let Ok((header, len)) = Ipv6View::parse(bytes) else {
        return;
    };
    let mut out = [0; ipv6::HEADER_LEN];
    assert_eq!(header.emit(&mut out), len);
    assert_eq!(out[..len], bytes[..len], "the bytes are the same");
}

/// Extension headers are never emitted; where the upper layer is must be within the packet.
fn extension_headers(bytes: &[u8]) {
    let Some((next, rest)) = bytes.split_first() else {
        return;
    };
    match ipv6::walk(IpProtocol(*next), rest) {
        Ok(upper) => {
            assert!(upper.at <= rest.len());
            assert!(upper.next_header_at < ipv6::HEADER_LEN + upper.at.max(1));
        }
        Err(ipv6::ExtensionError::ParameterProblem(problem)) => {
            let end = ipv6::HEADER_LEN + rest.len();
            assert!(usize::try_from(problem.pointer).is_ok_and(|at| at < end));
        }
        Err(
            ipv6::ExtensionError::Truncated
            | ipv6::ExtensionError::TooMany
            | ipv6::ExtensionError::Discard,
        ) => {}
    }
}

fn tcp(bytes: &[u8]) {
    let Ok((header, len)) = TcpView::parse(bytes) else {
        return;
    };
    assert!(len <= bytes.len());
    let mut out = [0; tcp::MAX_HEADER_LEN];
    let emitted = header.emit(&mut out);
    assert_eq!(emitted, header.emitted_len());
    assert_eq!(TcpView::parse(&out[..emitted]), Ok((header, emitted)));
}

/// With the right checksum, which a fuzzer doesn't find.
fn icmpv4(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= 4 {
        bytes[2..4].fill(0);
        let sum = checksum::of(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    if let Ok(message) = Icmpv4Message::parse(&bytes) {
        let mut out = vec![0; message.emitted_len()];
        assert_eq!(message.emit(&mut out), bytes.len());
        assert_eq!(Icmpv4Message::parse(&out), Ok(message));
    }
}

/// With the right checksum, which a fuzzer doesn't find.
fn icmpv6(bytes: &[u8]) {
    let (src, dst) = (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
    let mut bytes = bytes.to_vec();
    if let (4.., Ok(len)) = (bytes.len(), u32::try_from(bytes.len())) {
        bytes[2..4].fill(0);
        let mut sum = Sum::pseudo_v6(src, dst, IpProtocol::ICMPV6, len);
        sum.add(&bytes);
        bytes[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    }
    let Ok(mut message) = Icmpv6Message::parse(src, dst, &bytes) else {
        return;
    };
    let mut out = vec![0; message.emitted_len()];
    assert!(out.len() <= bytes.len(), "more is emitted than was parsed");
    assert_eq!(message.emit(src, dst, &mut out), out.len());
    if let Icmpv6Message::RouterAdvertisement(advertisement) = &mut message {
        // Counted when it was parsed, and not emitted.
        advertisement.options.prefixes_dropped = 0;
    }
    assert_eq!(Icmpv6Message::parse(src, dst, &out), Ok(message));
}
