//! A received segment as TCP sees it: its header and how long its payload is.

use lockgate_wire::SeqNum;
use lockgate_wire::tcp::{Flags, TcpHeader, TcpOptions};

/// A received segment, or several consecutive ones of one connection merged into one.
#[derive(Clone, Copy, Debug)]
pub struct SegmentIn<'a> {
    /// The header; of merged segments, the first one's with the last one's ACK fields and PSH/FIN.
    pub tcp: &'a TcpHeader,
    /// The two ECN bits of the IP header.
    pub ecn: u8,
    /// How many segments were merged, at least 1.
    pub segments: u16,
    /// How many of them were marked "congestion experienced".
    pub ce: u16,
    /// Payload bytes.
    pub len: u32,
}

impl<'a> SegmentIn<'a> {
    /// A segment that was not merged from several.
    pub fn new(tcp: &'a TcpHeader, len: u32) -> Self {
        Self {
            tcp,
            ecn: 0,
            segments: 1,
            ce: 0,
            len,
        }
    }

    /// SEG.LEN: the payload with SYN and FIN counted.
    pub fn seq_len(&self) -> u32 {
        let bits = u32::from(self.has(Flags::SYN)) + u32::from(self.has(Flags::FIN));
        self.len.saturating_add(bits)
    }

    pub(crate) fn has(&self, flags: Flags) -> bool {
        self.tcp.flags.contains(flags)
    }
}

/// The answer to a segment that belongs to no connection (state CLOSED).
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
