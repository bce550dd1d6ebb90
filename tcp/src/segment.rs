//! A received segment: header and payload length.

use lockgate_wire::SeqNum;
use lockgate_wire::tcp::{Flags, TcpHeader, TcpOptions};

/// A received segment, or several consecutive segments of a connection merged by LRO.
#[derive(Clone, Copy, Debug)]
pub struct SegmentIn<'a> {
    /// The header. Merged segments: the header of the first with the ACK fields, PSH and FIN of the
    /// last.
    pub tcp: &'a TcpHeader,
    /// The two ECN bits of the IP header.
    pub ecn: u8,
    /// Number of merged segments, at least 1.
    pub segments: u16,
    /// Number of merged segments with ECN codepoint CE.
    pub ce: u16,
    /// Payload length in bytes.
    pub len: u32,
    /// What is known of the merged segments.
    pub merged: Option<MergedSegments>,
}

/// What [`Connection::on_segment`](crate::Connection::on_segment) has to know of merged segments,
/// so that their effect is that of each alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergedSegments {
    /// Longest payload of a segment in bytes. The acknowledgment policy counts full-sized segments
    /// (RFC 9293, 3.8.6.3).
    pub longest: u16,
    /// Sequence number of the last segment. It decides which window is the latest (SND.WL1).
    pub last_seq: SeqNum,
}

impl<'a> SegmentIn<'a> {
    /// Creates a segment that was not merged.
    pub fn new(tcp: &'a TcpHeader, len: u32) -> Self {
        Self {
            tcp,
            ecn: 0,
            segments: 1,
            ce: 0,
            len,
            merged: None,
        }
    }

    /// SEG.LEN: payload length plus one each for SYN and FIN.
    pub fn seq_len(&self) -> u32 {
        let bits = u32::from(self.has(Flags::SYN)) + u32::from(self.has(Flags::FIN));
        self.len.saturating_add(bits)
    }

    /// Sequence number of the last merged segment.
    pub(crate) fn last_seq(&self) -> SeqNum {
        self.merged.map_or(self.tcp.seq, |merged| merged.last_seq)
    }

    pub(crate) fn has(&self, flags: Flags) -> bool {
        self.tcp.flags.contains(flags)
    }
}

/// The RST for a segment that belongs to no connection (RFC 9293, 3.10.7.1). `None` for a RST.
//= https://www.rfc-editor.org/rfc/rfc9293#section-3.10.7.1
//# If the state is CLOSED (i.e., TCB does not exist), then
//#
//# all data in the incoming segment is discarded.  An incoming segment
//# containing a RST is discarded.  An incoming segment not containing
//# a RST causes a RST to be sent in response.
pub fn reset_for(segment: &SegmentIn<'_>) -> Option<TcpHeader> {
    if segment.has(Flags::RST) {
        return None;
    }
    //# If the ACK bit is off, sequence number zero is used,
    //#
    //#    <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>
    //#
    //# If the ACK bit is on,
    //#
    //#    <SEQ=SEG.ACK><CTL=RST>
    let (seq, ack, flags) = if segment.has(Flags::ACK) {
        (segment.tcp.ack, SeqNum(0), Flags::RST)
    } else {
        (
            SeqNum(0),
            segment.tcp.seq + segment.seq_len(),
            Flags::RST | Flags::ACK,
        )
    };
    Some(TcpHeader {
        src_port: segment.tcp.dst_port,
        dst_port: segment.tcp.src_port,
        seq,
        ack,
        flags,
        window: 0,
        urgent: 0,
        options: TcpOptions::NONE,
    })
}
