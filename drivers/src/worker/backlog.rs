//! Backlog of frames that aren't built into packet buffers yet.

use dpdk_sys::{LG_TX_COPY, LG_TX_IP_CSUM, LG_TX_IPV4, LG_TX_IPV6, LG_TX_TCP_CSUM, LG_TX_TSO};
use dpdk_sys::{lg_frame, lg_piece};
use pktbuf::{AttachError, Headers, Slice, TxError};

/// Offloads of a frame: what the port does to it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PortOffloads {
    /// It completes the TCP checksum.
    pub(super) checksum: bool,
    /// It completes the IPv4 header checksum of frames that it segments.
    pub(super) ip_checksum: bool,
    /// Longest piece of payload that it takes; 0: any.
    pub(super) piece_len_max: u32,
    /// It segments it into frames of so many payload bytes; 0: one frame.
    pub(super) segments: u16,
    /// It passes packets on unsegmented, so the headers must not change.
    pub(super) passes_on: bool,
    /// The payload is copied, so that the ring refers to no page buffer.
    pub(super) copies: bool,
    pub(super) ipv6: bool,
}

/// A list of frames and of their pieces of payload; each piece holds a reference to its page
/// buffer. Both have fixed capacities, so that nothing is allocated per packet.
pub(super) struct Backlog {
    frames: Box<[lg_frame]>,
    count: usize,
    pieces: Vec<lg_piece>,
}

impl Backlog {
    pub(super) fn new() -> Self {
        let empty = lg_frame {
            head: [0; Headers::CAPACITY],
            head_len: 0,
            mss: 0,
            pieces: 0,
            l2_len: 0,
            l4_len: 0,
            l3_len: 0,
            flags: 0,
            first_piece: 0,
            payload_len: 0,
        };
        let frames = vec![empty; FRAMES].into_boxed_slice();
        Self {
            frames,
            count: 0,
            pieces: Vec::with_capacity(PIECES),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn frames_left(&self) -> usize {
        FRAMES - self.count
    }

    pub(super) fn pieces_left(&self) -> usize {
        PIECES - self.pieces.len()
    }

    /// Returns the frames, and the list of pieces that their `first_piece` indexes.
    pub(super) fn described(&self) -> (&[lg_frame], &[lg_piece]) {
        (&self.frames[..self.count], &self.pieces)
    }

    /// Appends one frame, with a reference to each of its page buffers. There must be room.
    pub(super) fn push(
        &mut self,
        head: &Headers,
        payload: &[Slice<'_>],
        port: PortOffloads,
    ) -> Result<(), TxError> {
        let first_piece = self.pieces.len();
        let mut payload_len = 0;
        for slice in payload {
            if let Err(error) = self.push_pieces(slice, port.piece_len_max) {
                self.release(first_piece);
                return Err(error);
            }
            payload_len += slice.len;
        }
        let frame = &mut self.frames[self.count];
        frame.head = *head.all_bytes();
        frame.head_len = narrow(head.len());
        frame.mss = port.segments;
        frame.pieces = narrow(self.pieces.len() - first_piece);
        frame.l2_len = head.l2_len();
        frame.l3_len = u16::from(head.l3_len());
        frame.l4_len = head.l4_len();
        frame.flags = 0;
        frame.first_piece = u32::try_from(first_piece).unwrap_or(u32::MAX);
        frame.payload_len = payload_len;
        if port.checksum {
            let ip_version = if port.ipv6 { LG_TX_IPV6 } else { LG_TX_IPV4 };
            frame.flags = narrow((ip_version | LG_TX_TCP_CSUM) as usize);
        }
        if port.copies {
            frame.flags |= narrow(LG_TX_COPY as usize);
        }
        if port.segments > 0 {
            ask_for_segmentation(frame, port);
        }
        self.count += 1;
        Ok(())
    }

    /// Appends a slice, in pieces of at most `len_max` bytes, each with a reference of its own.
    fn push_pieces(&mut self, slice: &Slice<'_>, len_max: u32) -> Result<(), TxError> {
        if len_max == 0 || slice.len <= len_max {
            self.pieces.push(attach(slice)?);
            return Ok(());
        }
        let mut at = 0;
        while at < slice.len {
            self.pieces.push(attach(&slice.part(at, len_max))?);
            at += len_max;
        }
        Ok(())
    }

    /// Removes the frames from `from` on, and releases their references.
    pub(super) fn withdraw(&mut self, from: usize) {
        if from < self.count {
            self.release(self.frames[from].first_piece as usize);
            self.count = from;
        }
    }

    /// Removes the first frames: their references have moved into packet buffers.
    pub(super) fn forget_built(&mut self, built: usize) {
        if built == self.count {
            self.count = 0;
            self.pieces.clear();
        } else if built > 0 {
            let gone = self.frames[built].first_piece;
            self.frames.copy_within(built..self.count, 0);
            self.count -= built;
            self.pieces.drain(..gone as usize);
            for frame in &mut self.frames[..self.count] {
                frame.first_piece -= gone;
            }
        }
    }

    fn release(&mut self, from: usize) {
        let list = &self.pieces[from..];
        let n = u32::try_from(list.len()).unwrap_or(u32::MAX);
        // SAFETY: each piece holds a reference, and is removed now.
        unsafe { dpdk_sys::lg_pieces_release(list.as_ptr(), n) };
        self.pieces.truncate(from);
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.withdraw(0);
    }
}

/// Adds a reference to the slice's buffer. Returns it with the address of the bytes.
fn attach(slice: &Slice<'_>) -> Result<lg_piece, TxError> {
    let attachment = slice.buf.attach(slice.at, slice.len).map_err(|e| match e {
        AttachError::Plaintext => TxError::Plaintext,
        AttachError::OutOfRange | AttachError::NotOwner => TxError::Malformed,
        // The reference count is at its limit: retry when the port has sent some.
        AttachError::TooMany => TxError::Full,
    })?;
    let addr = attachment.data().as_ptr().cast();
    let len = attachment.len();
    Ok(lg_piece {
        addr,
        shinfo: attachment.into_raw().as_ptr().cast(),
        len,
    })
}

/// Marks a frame for segmentation by the port (`RTE_MBUF_F_TX_TCP_SEG`). Its headers are complete
/// for the whole length; devices expect a pseudo-header sum without the length. A port that
/// completes the IPv4 checksum expects none; another one updates the complete checksum.
fn ask_for_segmentation(frame: &mut lg_frame, port: PortOffloads) {
    frame.flags |= narrow(LG_TX_TSO as usize);
    if port.passes_on {
        return;
    }
    let l3 = usize::from(frame.l2_len);
    let l4 = l3 + usize::from(frame.l3_len);
    let len = u32::from(frame.l4_len) + frame.payload_len;
    if !port.ipv6 && port.ip_checksum {
        frame.flags |= narrow(LG_TX_IP_CSUM as usize);
        frame.head[l3 + 10..l3 + 12].fill(0);
    }
    if let Some([a, b]) = frame.head.get_mut(l4 + 16..l4 + 18) {
        [*a, *b] = without(u16::from_be_bytes([*a, *b]), len).to_be_bytes();
    }
}

/// Subtracts a summand from a folded one's complement sum.
fn without(sum: u16, summand: u32) -> u16 {
    let folded = (summand & 0xffff) + (summand >> 16);
    let mut rest = u32::from(sum) + (0xffff - folded % 0xffff);
    while rest > 0xffff {
        rest = (rest & 0xffff) + (rest >> 16);
    }
    u16::try_from(rest).unwrap_or(u16::MAX)
}

/// Narrows a number that other limits keep below 2^16.
fn narrow(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

/// Capacity of the backlog, in frames.
pub(crate) const FRAMES: usize = 256;
/// Capacity of the backlog, in pieces of payload.
pub(super) const PIECES: usize = 1024;

const _: () = assert!(Headers::CAPACITY == dpdk_sys::LG_HEAD_MAX as usize);

#[cfg(test)]
mod tests {
    use lockgate_testing::proptest_config;
    use proptest::prelude::*;

    use super::*;

    fn sum(words: &[u32]) -> u16 {
        let mut s: u32 = words.iter().map(|w| (w & 0xffff) + (w >> 16)).sum();
        while s > 0xffff {
            s = (s & 0xffff) + (s >> 16);
        }
        u16::try_from(s).unwrap()
    }

    proptest! {
        #![proptest_config(proptest_config(256))]

        #[test]
        fn a_summand_can_be_taken_out(
            rest in prop::collection::vec(any::<u32>(), 1..5),
            len in 0u32..70_000,
        ) {
            let without_len = sum(&rest);
            let mut all = rest;
            all.push(len);
            let got = without(sum(&all), len);
            // One's complement has two zeroes.
            prop_assert_eq!(got % 0xffff, without_len % 0xffff);
        }
    }
}
