//! Generic segmentation offload: segmentation and TCP checksums in software, on headers and slices.

use lockgate_wire::checksum::Sum;

use crate::packet::{Headers, L4, MAX_SLICES, NotSent, Packet, Slice, Slices};

/// Segments a packet into frames of at most [`TxMeta::mss`](crate::TxMeta::mss) payload bytes.
/// Returns the number of frames.
///
/// Calls `frame` for each, with its headers and slices; payload isn't copied. A packet that need
/// not be segmented is one frame. Each frame has its own lengths, IPv4 identification and checksum,
/// sequence number and flags, and the sum of its pseudo-header in the TCP checksum field.
///
/// `frame` may write the TCP checksum. Other changes to the headers may or may not last to the next
/// frame.
///
/// # Errors
/// The first error of `frame`, or [`NotSent`] for a malformed packet.
pub fn segment<E: From<NotSent>>(
    packet: &Packet<'_>,
    mut frame: impl FnMut(&mut Headers, &[Slice<'_>]) -> Result<(), E>,
) -> Result<u32, E> {
    let total = packet.payload_len();
    let mss = usize::from(packet.meta.mss);
    if frames(packet) == 1 {
        frame(&mut packet.head.clone(), packet.payload)?;
        return Ok(1);
    }
    let mut cutter = Cutter::new(packet, total)?;
    let mut count = 0;
    let mut at = 0;
    let mut rest = UnsentSlices {
        slices: packet.payload,
        skip: 0,
    };
    while at < total {
        let len = mss.min(total - at);
        let mut payload = Slices::new(MAX_SLICES);
        if !rest.take(len, &mut payload) {
            return Err(NotSent::Malformed.into());
        }
        frame(cutter.headers(count, at, len)?, payload.as_slice())?;
        at += len;
        count += 1;
    }
    Ok(count)
}

/// Returns the number of frames that [`segment`] makes of a packet; at least 1.
pub fn frames(packet: &Packet<'_>) -> u32 {
    let mss = usize::from(packet.meta.mss);
    if mss == 0 || packet.meta.protocol != L4::Tcp {
        return 1;
    }
    u32::try_from(packet.payload_len().div_ceil(mss).max(1)).unwrap_or(u32::MAX)
}

/// Completes the checksum of one TCP frame, whose checksum field holds the sum of the
/// pseudo-header. Packets of [`L4::None`] are complete already.
///
/// # Errors
/// [`NotSent`] if the TCP header is too short or the payload can't be read.
pub fn finish_checksum(head: &mut Headers, payload: &[Slice<'_>]) -> Result<(), NotSent> {
    let tcp = head.l4_mut();
    if tcp.len() < TCP_MIN {
        return Err(NotSent::Malformed);
    }
    let mut sum = Sum::from_folded(read_u16(tcp, TCP_CHECKSUM));
    write_u16(tcp, TCP_CHECKSUM, 0);
    sum.add(tcp);
    for slice in payload {
        sum.add(slice.readable()?);
    }
    write_u16(tcp, TCP_CHECKSUM, sum.finish());
    Ok(())
}

/// The slices that aren't in a frame yet.
struct UnsentSlices<'p, 'a> {
    slices: &'p [Slice<'a>],
    /// Bytes of the first slice that are in a frame.
    skip: u32,
}

impl<'a> UnsentSlices<'_, 'a> {
    /// Moves `len` bytes to `out`. Returns false if there are fewer, or `out` is full.
    fn take(&mut self, len: usize, out: &mut Slices<'a>) -> bool {
        let Ok(mut len) = u32::try_from(len) else {
            return false;
        };
        while len > 0 {
            let Some((first, after)) = self.slices.split_first() else {
                return false;
            };
            let part = first.part(self.skip, len);
            if !out.push(part) {
                return false;
            }
            len -= part.len;
            self.skip += part.len;
            if self.skip == first.len {
                self.slices = after;
                self.skip = 0;
            }
        }
        true
    }
}

/// Derives each frame's headers from the packet's, in place: only a few fields differ from frame to
/// frame.
struct Cutter {
    head: Headers,
    ipv6: bool,
    total: usize,
    /// Identification, sequence number and flags of the packet.
    id: u16,
    seq: u32,
    flags: u8,
    /// Sum of the pseudo-header without its length.
    pseudo: Sum,
    /// Sum of the IPv4 header without length, identification and checksum.
    ip: Sum,
}

impl Cutter {
    fn new(packet: &Packet<'_>, total: usize) -> Result<Self, NotSent> {
        let mut head = *packet.head;
        let ipv6 = packet.meta.ipv6;
        let ip_min = if ipv6 { IPV6_LEN } else { IPV4_MIN };
        if head.l3().len() < ip_min || head.l4().len() < TCP_MIN {
            return Err(NotSent::Malformed);
        }
        let len = u32::try_from(head.l4().len() + total).map_err(|_| NotSent::Malformed)?;
        let mut pseudo = Sum::from_folded(read_u16(head.l4(), TCP_CHECKSUM));
        // One's complement: adding the complement subtracts.
        pseudo.add_u32(!len);
        let (mut id, mut ip) = (0, Sum::new());
        if !ipv6 {
            let header = head.l3_mut();
            id = read_u16(header, IPV4_ID);
            for varying in [IPV4_TOTAL_LEN, IPV4_ID, IPV4_CHECKSUM] {
                write_u16(header, varying, 0);
            }
            ip.add(header);
        }
        Ok(Self {
            ipv6,
            total,
            id,
            seq: read_u32(head.l4(), TCP_SEQ),
            flags: head.l4()[TCP_FLAGS],
            head,
            pseudo,
            ip,
        })
    }

    /// Returns the headers of frame `index`, which has `len` payload bytes from `at` on.
    fn headers(&mut self, index: u32, at: usize, len: usize) -> Result<&mut Headers, NotSent> {
        self.fix_ip(index, len)?;
        let mut flags = self.flags;
        if at + len < self.total {
            flags &= !(FIN | PSH);
        }
        //= https://www.rfc-editor.org/rfc/rfc3168#section-6.1.2
        //# When an ECN-capable TCP sender reduces its congestion window for any
        //# reason (because of a retransmit timeout, a Fast Retransmit, or in
        //# response to an ECN Notification), the TCP sender sets the CWR flag in
        //# the TCP header of the first new data packet sent after the window
        //# reduction.
        if at > 0 {
            flags &= !CWR;
        }
        let sent = u32::try_from(at).map_err(|_| NotSent::Malformed)?;
        let seq = self.seq.wrapping_add(sent);
        let tcp = self.head.l4_mut();
        let tcp_len = u32::try_from(tcp.len() + len).map_err(|_| NotSent::Malformed)?;
        tcp[TCP_SEQ..TCP_SEQ + 4].copy_from_slice(&seq.to_be_bytes());
        tcp[TCP_FLAGS] = flags;
        let mut pseudo = self.pseudo;
        pseudo.add_u32(tcp_len);
        write_u16(tcp, TCP_CHECKSUM, pseudo.fold());
        Ok(&mut self.head)
    }

    fn fix_ip(&mut self, index: u32, len: usize) -> Result<(), NotSent> {
        let ip_payload = self.head.len() - self.head.l2().len() + len;
        let ip = self.head.l3_mut();
        if self.ipv6 {
            let len = u16::try_from(ip_payload - IPV6_LEN).map_err(|_| NotSent::Malformed)?;
            write_u16(ip, IPV6_PAYLOAD_LEN, len);
            return Ok(());
        }
        let len = u16::try_from(ip_payload).map_err(|_| NotSent::Malformed)?;
        #[expect(clippy::cast_possible_truncation, reason = "identifications wrap")]
        let id = self.id.wrapping_add(index as u16);
        let mut sum = self.ip;
        sum.add_u16(len);
        sum.add_u16(id);
        write_u16(ip, IPV4_TOTAL_LEN, len);
        write_u16(ip, IPV4_ID, id);
        write_u16(ip, IPV4_CHECKSUM, sum.finish());
        Ok(())
    }
}

fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from(read_u16(bytes, at)) << 16 | u32::from(read_u16(bytes, at + 2))
}

fn write_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

// RFC 791, 3.1
const IPV4_MIN: usize = 20;
const IPV4_TOTAL_LEN: usize = 2;
const IPV4_ID: usize = 4;
const IPV4_CHECKSUM: usize = 10;
// RFC 8200, 3
const IPV6_LEN: usize = 40;
const IPV6_PAYLOAD_LEN: usize = 4;
// RFC 9293, 3.1
const TCP_MIN: usize = 20;
const TCP_SEQ: usize = 4;
const TCP_FLAGS: usize = 13;
const TCP_CHECKSUM: usize = 16;
const FIN: u8 = 1 << 0;
const PSH: u8 = 1 << 3;
const CWR: u8 = 1 << 7;

#[cfg(test)]
mod tests;
