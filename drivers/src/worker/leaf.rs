//! One queue pair: the receiving half, and frames on their way out.

use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;

use dpdk_sys::{
    LG_BURST, LG_TX_IP_CSUM, LG_TX_IPV4, LG_TX_IPV6, LG_TX_TCP_CSUM, LG_TX_TSO, lg_frag, lg_frame,
    lg_piece, lg_rxq, lg_txq,
};
use pktbuf::{
    AttachError, Buffer, Frag, FragOps, Headers, IfaceId, Info, L4, Packet, Room, Slice, TxError,
    flags, gso,
};

use crate::counters::QueueCells;
use crate::port::{Capabilities, Queue};

/// A queue pair with what the C side needs to know of it.
pub(super) struct Leaf {
    queue: Queue,
    /// Whose packets the received ones are; none: they're dropped.
    iface: Option<IfaceId>,
    rx: lg_rxq,
    tx: lg_txq,
    /// Described, not yet built into packet buffers. Each piece holds a count.
    frames: Vec<lg_frame>,
    pieces: Vec<lg_piece>,
}

// SAFETY: the pointers are to pools (usable by any thread), a static, and counts on page buffers
// that may be given back by any thread.
unsafe impl Send for Leaf {}

impl Leaf {
    pub(super) fn new(queue: Queue, iface: Option<IfaceId>) -> Self {
        let shared = &queue.shared;
        let number = usize::from(queue.number);
        let assumed = if shared.caps.assumed.rx_csum {
            flags::IP_CSUM_GOOD | flags::L4_CSUM_GOOD
        } else {
            0
        };
        let rx = lg_rxq {
            pool: shared.rx_pools[number].as_ptr(),
            ops: (&raw const OPS).cast(),
            port: shared.id,
            queue: queue.number,
            label: shared.id,
            assumed,
            packets: 0,
            bytes: 0,
            copied: 0,
            copy_failed: 0,
        };
        let tx = lg_txq {
            pool: shared.tx_pools[number].as_ptr(),
            port: shared.id,
            queue: queue.number,
            linear: u8::from(!shared.caps.multi_segs),
            prepare: u8::from(shared.caps.tx_csum),
            count: 0,
            packets: 0,
            bytes: 0,
            refused: 0,
            ring_full: 0,
            no_mbuf: 0,
            pending: [ptr::null_mut(); LG_BURST as usize],
        };
        Self {
            queue,
            iface,
            rx,
            tx,
            frames: Vec::with_capacity(FRAMES),
            pieces: Vec::with_capacity(PIECES),
        }
    }

    pub(super) fn rx_burst(&mut self, each: &mut impl FnMut(IfaceId, Buffer)) -> usize {
        let mut frags: [*mut lg_frag; LG_BURST as usize] = [ptr::null_mut(); LG_BURST as usize];
        // SAFETY: a started port, a queue that this worker alone uses, and room for a burst.
        let n =
            unsafe { dpdk_sys::lg_rx_burst(&raw mut self.rx, frags.as_mut_ptr(), LG_BURST as u16) };
        for &frag in &frags[..usize::from(n)] {
            let Some(frag) = NonNull::new(frag.cast::<Frag>()) else {
                continue;
            };
            // SAFETY: the shim has just written the chain; it's ours, and lives in mbufs that
            // any thread may free.
            let buffer = unsafe { Buffer::from_raw(frag) };
            if let Some(iface) = self.iface {
                each(iface, buffer);
            }
        }
        if n > 0 || self.rx.copy_failed > 0 {
            let cells = self.cells();
            cells.rx_packets.set(self.rx.packets);
            cells.rx_bytes.set(self.rx.bytes);
            cells.rx_copied.set(self.rx.copied);
            cells.rx_copy_failed.set(self.rx.copy_failed);
        }
        usize::from(n)
    }

    pub(super) fn tx(&mut self, packet: &Packet<'_>) -> Result<(), TxError> {
        let result = self.take(packet);
        if let Err(error) = result {
            let cells = self.cells();
            match error {
                TxError::LinkDown => cells.tx_dropped_link.add(1),
                TxError::Full => cells.tx_dropped_full.add(1),
                TxError::Plaintext => cells.tx_dropped_plaintext.add(1),
                TxError::TooBig => cells.tx_dropped_too_big.add(1),
                TxError::Malformed | TxError::NoInterface => cells.tx_dropped_malformed.add(1),
            }
        }
        if self.frames.len() >= LG_BURST as usize {
            self.flush();
        }
        result
    }

    /// Sends; returns whether nothing is left.
    pub(super) fn flush(&mut self) -> bool {
        if self.backlog() == 0 {
            return true;
        }
        if !self.link_up() {
            let dropped = self.discard();
            self.cells().tx_dropped_link.add(dropped);
            return true;
        }
        loop {
            let n = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
            // SAFETY: a started port and a queue that this worker alone uses; `n` frames, whose
            // pieces are in the list and hold a count each.
            let built = unsafe {
                dpdk_sys::lg_tx_burst(
                    &raw mut self.tx,
                    self.frames.as_ptr(),
                    n,
                    self.pieces.as_ptr(),
                )
            };
            self.forget_built(built as usize);
            // More than a burst may be waiting; go on while the port takes everything.
            if built == 0 || self.frames.is_empty() || self.tx.count > 0 {
                break;
            }
        }
        let cells = self.cells();
        cells.tx_packets.set(self.tx.packets);
        cells.tx_bytes.set(self.tx.bytes);
        cells.tx_ring_full.set(self.tx.ring_full);
        cells.tx_no_mbuf.set(self.tx.no_mbuf);
        cells.tx_dropped_driver.set(self.tx.refused);
        self.backlog() == 0
    }

    pub(super) fn backlog(&self) -> usize {
        self.frames.len() + usize::from(self.tx.count)
    }

    pub(super) fn info(&self) -> Info {
        let shared = &self.queue.shared;
        Info {
            mtu: shared.mtu,
            mac: Some(shared.mac),
            tso_bytes_max: if shared.caps.tso {
                TSO_BYTES_MAX
            } else {
                GSO_BYTES_MAX
            },
            entries_max: shared.caps.tx_pieces_max,
            link_up: self.link_up(),
            tx_csum: shared.caps.tx_csum,
            tso: shared.caps.tso,
        }
    }

    pub(super) fn room(&self) -> Room {
        let frames = FRAMES - self.frames.len();
        // Cutting a packet makes more pieces: one for each frame at most.
        let entries = (PIECES - self.pieces.len()).saturating_sub(FRAMES);
        let packets = if self.queue.shared.caps.tso {
            frames
        } else {
            frames / GSO_FRAMES
        };
        Room {
            packets: u32::try_from(packets).unwrap_or(u32::MAX),
            entries: u32::try_from(entries).unwrap_or(u32::MAX),
        }
    }

    fn take(&mut self, packet: &Packet<'_>) -> Result<(), TxError> {
        let shared = &self.queue.shared;
        if !self.link_up() {
            return Err(TxError::LinkDown);
        }
        let (head, meta) = (packet.head, packet.meta);
        let payload = packet.payload_len();
        let to_cut = meta.mss > 0 && payload > usize::from(meta.mss) && meta.protocol == L4::Tcp;
        let longest = if to_cut {
            usize::from(meta.mss)
        } else {
            payload
        };
        let headers = head.len() - usize::from(head.l2_len());
        let caps = shared.caps;
        if headers + longest > usize::from(shared.mtu)
            || headers + payload > usize::from(u16::MAX)
            || packet.payload.len() > usize::from(caps.tx_pieces_max)
        {
            return Err(TxError::TooBig);
        }
        if !to_cut {
            self.reserve(1, packet.payload.len())?;
            return self.frame(head, packet.payload, packet, 0);
        }
        let frames = gso::frames(packet) as usize;
        let by_port = caps.tso
            && frames <= usize::from(caps.tso_frames_max)
            && port_sums(&caps, packet.payload, meta.mss)
            && head.len() + longest <= usize::from(caps.tso_frame_len_max);
        if by_port {
            self.reserve(1, packet.payload.len())?;
            self.frame(head, packet.payload, packet, meta.mss)?;
            self.cells().tx_tso.add(1);
        } else {
            self.reserve(frames, packet.payload.len() + frames)?;
            let before = self.frames.len();
            let cut = gso::segment(packet, |head, slices| self.frame(head, slices, packet, 0));
            if let Err(error) = cut {
                self.withdraw(before);
                return Err(error);
            }
            self.cells().tx_gso.add(1);
        }
        Ok(())
    }

    /// Makes sure of places for frames and pieces.
    fn reserve(&mut self, frames: usize, pieces: usize) -> Result<(), TxError> {
        if frames > FRAMES || pieces > PIECES {
            return Err(TxError::TooBig);
        }
        let fits = |leaf: &Self| {
            leaf.frames.len() + frames <= FRAMES && leaf.pieces.len() + pieces <= PIECES
        };
        if !fits(self) {
            self.flush();
        }
        if fits(self) {
            Ok(())
        } else {
            Err(TxError::Full)
        }
    }

    /// Describes one frame (or, with `mss`, one packet that the port cuts), taking a count on
    /// each buffer it refers to. There must be places.
    fn frame(
        &mut self,
        head: &Headers,
        payload: &[Slice<'_>],
        packet: &Packet<'_>,
        mss: u16,
    ) -> Result<(), TxError> {
        let caps = self.queue.shared.caps;
        let tcp = packet.meta.protocol == L4::Tcp;
        let by_port = tcp && port_sums(&caps, payload, mss);
        let finished;
        let head = if tcp && !by_port {
            let mut copy = *head;
            gso::finish_checksum(&mut copy, payload)?;
            finished = copy;
            &finished
        } else {
            head
        };
        let first_piece = self.pieces.len();
        let mut payload_len = 0;
        for slice in payload {
            match attach(slice) {
                Ok(piece) => self.pieces.push(piece),
                Err(error) => {
                    self.release_pieces(first_piece);
                    return Err(error);
                }
            }
            payload_len += slice.len;
        }
        let mut frame = lg_frame {
            head: [0; Headers::CAPACITY],
            head_len: small(head.len()),
            mss,
            pieces: small(payload.len()),
            l2_len: head.l2_len(),
            l4_len: head.l4_len(),
            l3_len: u16::from(head.l3_len()),
            flags: 0,
            first_piece: u32::try_from(first_piece).unwrap_or(u32::MAX),
            payload_len,
        };
        frame.head[..head.len()].copy_from_slice(head.bytes());
        if by_port {
            let family = if packet.meta.ipv6 {
                LG_TX_IPV6
            } else {
                LG_TX_IPV4
            };
            frame.flags = small((family | LG_TX_TCP_CSUM) as usize);
        }
        if mss > 0 {
            ask_for_segmentation(&mut frame, packet.meta.ipv6, caps.assumed.tso);
        }
        self.frames.push(frame);
        if !caps.multi_segs {
            self.cells().tx_payload_copied.add(u64::from(payload_len));
        }
        Ok(())
    }

    /// Takes back the frames from `from` on, which haven't been built.
    fn withdraw(&mut self, from: usize) {
        if let Some(frame) = self.frames.get(from) {
            self.release_pieces(frame.first_piece as usize);
            self.frames.truncate(from);
        }
    }

    fn release_pieces(&mut self, from: usize) {
        let list = &self.pieces[from..];
        let n = u32::try_from(list.len()).unwrap_or(u32::MAX);
        // SAFETY: each piece holds a count and is forgotten now.
        unsafe { dpdk_sys::lg_pieces_release(list.as_ptr(), n) };
        self.pieces.truncate(from);
    }

    /// Forgets the first frames: their counts have gone into packet buffers.
    fn forget_built(&mut self, built: usize) {
        if built == self.frames.len() {
            self.frames.clear();
            self.pieces.clear();
        } else if built > 0 {
            let gone = self.frames[built].first_piece;
            self.frames.drain(..built);
            self.pieces.drain(..gone as usize);
            for frame in &mut self.frames {
                frame.first_piece -= gone;
            }
        }
    }

    /// Drops everything that waits; returns how much that was.
    fn discard(&mut self) -> u64 {
        let described = self.frames.len();
        self.withdraw(0);
        // SAFETY: the queue is this worker's alone.
        let built = unsafe { dpdk_sys::lg_tx_drop(&raw mut self.tx) };
        described as u64 + u64::from(built)
    }

    fn link_up(&self) -> bool {
        self.queue.shared.link_up.load(Ordering::Relaxed)
    }

    fn cells(&self) -> &QueueCells {
        &self.queue.shared.cells[usize::from(self.queue.number)]
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        let dropped = self.discard();
        self.cells().tx_dropped_closed.add(dropped);
    }
}

/// Whether the port completes the checksum of this frame, or of these frames of `mss` each.
fn port_sums(caps: &Capabilities, payload: &[Slice<'_>], mss: u16) -> bool {
    let even = || {
        let but_last = payload.split_last().map_or(payload, |(_, rest)| rest);
        mss.is_multiple_of(2) && but_last.iter().all(|s| s.len.is_multiple_of(2))
    };
    caps.tx_csum && (!caps.tx_csum_even_only || even())
}

/// One count more on the slice's buffer, and where its bytes are.
fn attach(slice: &Slice<'_>) -> Result<lg_piece, TxError> {
    let attachment = slice.buf.attach(slice.at, slice.len).map_err(|e| match e {
        AttachError::Plaintext => TxError::Plaintext,
        AttachError::OutOfRange | AttachError::NotOwner => TxError::Malformed,
        // So many packets refer to it already that the count is full: wait for some to leave.
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

/// Marks a frame as one that the port cuts. Its headers are complete for the whole length;
/// devices want the length left out of the pseudo-header's sum, and an empty IPv4 checksum.
/// A port that only hands the packet on leaves them as they are.
fn ask_for_segmentation(frame: &mut lg_frame, ipv6: bool, handed_on: bool) {
    frame.flags |= small(LG_TX_TSO as usize);
    if handed_on {
        return;
    }
    let l3 = usize::from(frame.l2_len);
    let l4 = l3 + usize::from(frame.l3_len);
    let len = u32::from(frame.l4_len) + frame.payload_len;
    if !ipv6 {
        frame.flags |= small(LG_TX_IP_CSUM as usize);
        frame.head[l3 + 10..l3 + 12].fill(0);
    }
    if let Some([a, b]) = frame.head.get_mut(l4 + 16..l4 + 18) {
        let sum = without(u16::from_be_bytes([*a, *b]), len);
        [*a, *b] = sum.to_be_bytes();
    }
}

/// Takes a summand out of a folded one's complement sum.
fn without(sum: u16, summand: u32) -> u16 {
    let summand = (summand & 0xffff) + (summand >> 16);
    let mut rest = u32::from(sum) + (0xffff - ((summand & 0xffff) + (summand >> 16)) % 0xffff);
    while rest > 0xffff {
        rest = (rest & 0xffff) + (rest >> 16);
    }
    u16::try_from(rest).unwrap_or(u16::MAX)
}

/// A number that a limit elsewhere keeps small.
fn small(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

static OPS: FragOps = FragOps { release, tailroom };

/// # Safety
///
/// `frag` was written by the shim and isn't used any more.
unsafe extern "C" fn release(frag: *mut Frag) {
    // SAFETY: the caller's promise.
    unsafe { dpdk_sys::lg_frag_free(frag.cast()) }
}

/// # Safety
///
/// `frag` was written by the shim and is still held.
unsafe extern "C" fn tailroom(frag: *const Frag) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { dpdk_sys::lg_frag_tailroom(frag.cast()) }
}

/// Frames that may wait before they are built into packet buffers.
pub(crate) const FRAMES: usize = 256;
/// Pieces of payload in them.
const PIECES: usize = 1024;
/// A packet that the port cuts: what 16 bits of length leave after the longest headers.
const TSO_BYTES_MAX: u32 = 65_535 - 120;
/// A packet that is cut in software: as long as saves work, and few enough frames.
const GSO_BYTES_MAX: u32 = 32 * 1024;
/// Frames that it's cut into at the smallest default segment size (RFC 9293, 3.7.1).
const GSO_FRAMES: usize = (GSO_BYTES_MAX as usize).div_ceil(536);

const _: () = assert!(Headers::CAPACITY == dpdk_sys::LG_HEAD_MAX as usize);
const _: () = assert!(FRAMES / GSO_FRAMES >= 1);

#[cfg(test)]
mod tests {
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
        #[test]
        fn a_summand_can_be_taken_out(rest in prop::collection::vec(any::<u32>(), 1..5), len in 0u32..70_000) {
            let without_len = sum(&rest);
            let mut all = rest;
            all.push(len);
            let got = without(sum(&all), len);
            // One's complement has two zeroes.
            prop_assert_eq!(got % 0xffff, without_len % 0xffff);
        }
    }
}
