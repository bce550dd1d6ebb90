//! Headers in front of what is sent.

use lockgate_ip::{FrameHeader, IpPair, LinkHeader};
use lockgate_wire::ip::IpProtocol;
use lockgate_wire::tcp::TcpHeader;
use lockgate_wire::{FourTuple, IfaceId};
use pktbuf::{Headers, L4, TxMeta};

/// The way to a peer: its next hop, resolved, and what the interface can do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    pub(crate) iface: IfaceId,
    /// The link-layer header's addresses; none where there is no link layer.
    pub(crate) link: Option<LinkHeader>,
    /// The most scatter entries in a packet, headers included; at least 2.
    pub(crate) entries_max: u16,
    /// As [`pktbuf::Info::tso_bytes_max`].
    pub(crate) tso_bytes_max: u32,
    /// Whether the next hop is resolved and the link up. Packets on an unreachable path are
    /// dropped, as a network would do.
    pub(crate) reachable: bool,
}

impl Path {
    /// No route, no such neighbour, or no link.
    pub(crate) const UNREACHABLE: Self = Self {
        reachable: false,
        ..Self::SMALL_FRAMES
    };

    /// A path for small frames, whatever the interface can do.
    pub(crate) const SMALL_FRAMES: Self = Self {
        iface: IfaceId(0),
        link: None,
        entries_max: 2,
        tso_bytes_max: 0,
        reachable: true,
    };
}

/// Returns the headers of a segment with `len` bytes of payload, or `None` if the path is
/// unreachable or the segment longer than a packet.
pub(crate) fn segment_headers(
    path: &Path,
    tuple: &FourTuple,
    tcp: &TcpHeader,
    len: u32,
) -> Option<(Headers, TxMeta)> {
    if !path.reachable {
        return None;
    }
    let addrs = IpPair::new(tuple.local.addr, tuple.remote.addr)?;
    let l4_len = tcp.emitted_len();
    let segment_len = u32::try_from(l4_len).ok()? + len;
    let payload_len = u16::try_from(segment_len).ok()?;
    let frame = FrameHeader::new(path.link, addrs, IpProtocol::TCP, payload_len);

    let byte = |n: usize| u8::try_from(n).ok();
    let mut head = Headers::new(byte(frame.l2_len())?, byte(frame.l3_len())?, byte(l4_len)?);
    let at = frame.emit(head.bytes_mut());
    tcp.emit(&mut head.bytes_mut()[at..]);
    // The port, or the software behind it, completes the checksum.
    let sum = addrs.pseudo_sum(IpProtocol::TCP, segment_len).fold();
    head.l4_mut()[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());

    let meta = TxMeta {
        iface: path.iface,
        protocol: L4::Tcp,
        ipv6: addrs.is_ipv6(),
        ..TxMeta::default()
    };
    Some((head, meta))
}

const CHECKSUM_AT: usize = 16;
