//! Header formats: what parses comes out again as it was meant, and nothing panics.
#![forbid(unsafe_code)]
#![no_main]

use core::net::Ipv6Addr;

use libfuzzer_sys::fuzz_target;
use lockgate_wire::arp::ArpView;
use lockgate_wire::ethernet::EthernetView;
use lockgate_wire::icmpv4::Icmpv4Message;
use lockgate_wire::icmpv6::Icmpv6Message;
use lockgate_wire::ip::IpProtocol;
use lockgate_wire::ipv4::Ipv4View;
use lockgate_wire::ipv6::{self, Ipv6View};
use lockgate_wire::tcp::TcpView;

fuzz_target!(|bytes: &[u8]| {
    let mut out = [0; 256];
    if let Ok((header, _)) = EthernetView::parse(bytes) {
        let len = header.emit(&mut out);
        assert_eq!(
            EthernetView::parse(&out[..len]).map(|(again, _)| again),
            Ok(header)
        );
    }
    let _ = ArpView::parse(bytes);
    let _ = Ipv4View::parse(bytes);
    let _ = Ipv6View::parse(bytes);
    if let Some((next, rest)) = bytes.split_first() {
        let _ = ipv6::walk(IpProtocol(*next), rest);
    }
    let _ = Icmpv4Message::parse(bytes);
    let (src, dst) = (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
    let _ = Icmpv6Message::parse(src, dst, bytes);
    if let Ok((header, len)) = TcpView::parse(bytes) {
        assert!(len <= bytes.len());
        let emitted = header.emit(&mut out);
        assert_eq!(
            TcpView::parse(&out[..emitted]).map(|(again, _)| again),
            Ok(header)
        );
    }
});
