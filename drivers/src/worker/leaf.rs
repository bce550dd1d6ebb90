//! One queue pair of a worker: receives bursts, and sends frames.

use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;

use dpdk_sys::{LG_BURST, lg_frag, lg_rxq, lg_txq};
use lockgate_wire::{IfaceId, Instant};
use pktbuf::{Buffer, Frag, FragOps, Headers, Info, L4, Packet, Room, Slice, TxError, flags, gso};

use super::backlog::{Backlog, FRAMES, PIECES, PortOffloads};
use super::ring_share::RingShare;
use super::stuck::StuckTimer;
use crate::counters::QueueCells;
use crate::port::{Capabilities, Queue, SentRelease};

/// A queue pair, with the state that the C shim needs.
pub(super) struct Leaf {
    queue: Queue,
    /// Interface of received packets; none: they are dropped.
    iface: Option<IfaceId>,
    rx: lg_rxq,
    tx: lg_txq,
    waiting: Backlog,
    stuck: StuckTimer,
    /// The bound on what the ring holds, if the driver doesn't free it on request.
    ring_share: Option<RingShare>,
}

// SAFETY: the pointers are to mempools (usable by any thread), a static, and references to page
// buffers that any thread may release.
unsafe impl Send for Leaf {}

impl Leaf {
    pub(super) fn new(queue: Queue, iface: Option<IfaceId>) -> Self {
        let shared = &queue.shared;
        let number = usize::from(queue.number);
        let good = flags::IP_CSUM_GOOD | flags::L4_CSUM_GOOD;
        let rx = lg_rxq {
            pool: shared.rx_pools[number].as_ptr(),
            ops: (&raw const OPS).cast(),
            port: shared.id,
            queue: queue.number,
            label: shared.id,
            assumed: if shared.caps.assumed.rx_csum { good } else { 0 },
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
            cleans: u8::from(shared.caps.sent_release == SentRelease::OnRequest),
            count: 0,
            room: shared.sizes.tx_room,
            packets: 0,
            bytes: 0,
            refused: 0,
            refused_at: 0,
            ring_full: 0,
            no_mbuf: 0,
            cleaned: 0,
            pending: [ptr::null_mut(); BURST as usize],
        };
        #[cfg(feature = "fault-injection")]
        let tx = match &queue.receiver {
            Some(receiver) => lg_txq {
                pool: receiver.rx_pools[number].as_ptr(),
                linear: 1,
                ..tx
            },
            None => tx,
        };
        let ring_share = shared.caps.holds_page_buffers().then(|| {
            RingShare::new(
                shared.sizes.tx_descriptors,
                shared.caps.has_descriptor_per_segment,
                FRAMES + usize::from(BURST),
                shared.ring_pages_max,
            )
        });
        Self {
            queue,
            iface,
            rx,
            tx,
            waiting: Backlog::new(),
            stuck: StuckTimer::default(),
            ring_share,
        }
    }

    pub(super) fn rx_burst(&mut self, each: &mut impl FnMut(IfaceId, Buffer)) -> usize {
        let mut frags: [*mut lg_frag; BURST as usize] = [ptr::null_mut(); BURST as usize];
        // SAFETY: a started port, a queue that this worker alone uses, and room for a burst.
        let n = unsafe { dpdk_sys::lg_rx_burst(&raw mut self.rx, frags.as_mut_ptr(), BURST) };
        for &frag in &frags[..usize::from(n)] {
            let Some(frag) = NonNull::new(frag.cast::<Frag>()) else {
                continue;
            };
            // SAFETY: the shim has just written the chain and passed its ownership; any thread may
            // free the mbufs.
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
        if self.waiting.len() >= usize::from(BURST) {
            self.flush();
        }
        result
    }

    /// Sends the queued frames. Returns whether nothing is left.
    pub(super) fn flush(&mut self) -> bool {
        if self.backlog() == 0 {
            return true;
        }
        if !self.link_up() {
            let dropped = self.discard();
            self.cells().tx_dropped_link.add(dropped);
            return true;
        }
        let short_before = self.tx.no_mbuf;
        loop {
            let sent_before = self.tx.packets;
            let (frames, pieces) = self.waiting.described();
            let n = u32::try_from(frames.len()).unwrap_or(u32::MAX);
            let (frames, pieces) = (frames.as_ptr(), pieces.as_ptr());
            // SAFETY: a started port and a queue that only this worker uses; `n` frames, whose
            // pieces are in the list and hold a reference each.
            let built = unsafe { dpdk_sys::lg_tx_burst(&raw mut self.tx, frames, n, pieces) };
            self.waiting.forget_built(built as usize);
            if let Some(share) = &mut self.ring_share {
                share.on_refused(self.tx.refused_at);
                let sent = self.tx.packets - sent_before;
                share.on_taken(usize::try_from(sent).unwrap_or(usize::MAX));
            }
            // More than a burst may be queued: continue while the port accepts everything.
            if built == 0 || self.waiting.len() == 0 || self.tx.count > 0 {
                break;
            }
        }
        if self.tx.no_mbuf > short_before {
            self.clean_sent(u32::from(BURST));
        }
        let cells = self.cells();
        cells.tx_packets.set(self.tx.packets);
        cells.tx_bytes.set(self.tx.bytes);
        cells.tx_ring_full.set(self.tx.ring_full);
        cells.tx_no_mbuf.set(self.tx.no_mbuf);
        if self.tx.refused > cells.tx_dropped_driver.read() {
            cells.tx_dropped_driver.set(self.tx.refused);
            self.queue.shared.warn_of_refused_packets();
        }
        self.backlog() == 0
    }

    /// See [`super::WorkerPorts::drop_stuck`].
    pub(super) fn drop_stuck(&mut self, now: Instant) {
        let dropped = self.cells().tx_dropped_stuck.read();
        let gone = self.tx.packets + self.tx.refused + dropped;
        if !self.stuck.poll(now, self.tx.count, gone) {
            return;
        }
        // SAFETY: the queue is this worker's alone.
        unsafe { dpdk_sys::lg_tx_drop_first(&raw mut self.tx) };
        if let Some(share) = &mut self.ring_share {
            // It never was in the ring.
            share.on_refused(1);
        }
        self.cells().tx_dropped_stuck.set(dropped + 1);
        self.queue.shared.warn_of_stuck_packets(now);
    }

    /// See [`super::WorkerPorts::clean_sent`].
    pub(super) fn clean_sent(&mut self, packets_max: u32) {
        match self.queue.shared.caps.sent_release {
            SentRelease::AtOnce | SentRelease::OnReuse => return,
            SentRelease::OnRequest | SentRelease::InEachCall => {}
        }
        // SAFETY: a started port and a queue that only this worker uses.
        unsafe { dpdk_sys::lg_tx_clean(&raw mut self.tx, packets_max) };
        self.cells().tx_cleaned.set(self.tx.cleaned);
    }

    pub(super) fn backlog(&self) -> usize {
        self.waiting.len() + usize::from(self.tx.count)
    }

    pub(super) fn info(&self) -> Info {
        let shared = &self.queue.shared;
        Info {
            mtu: shared.mtu,
            mac: Some(shared.mac()),
            tso_bytes_max: if self.cuts_all() {
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
        let frames = self.waiting.frames_left().saturating_sub(FRAMES_KEPT_BACK);
        // Segmentation adds at most one piece for each frame.
        let entries = self.waiting.pieces_left().saturating_sub(FRAMES);
        let packets = if self.cuts_all() {
            match self.ring_share.as_ref().map(RingShare::packets_left) {
                None => frames,
                Some(0) => frames / TSO_FRAMES,
                Some(by_reference) => frames.min(by_reference),
            }
        } else {
            frames / GSO_FRAMES
        };
        Room {
            packets: u32::try_from(packets).unwrap_or(u32::MAX),
            entries: u32::try_from(entries).unwrap_or(u32::MAX),
        }
    }

    /// See [`super::WorkerPorts::warn_of_partial_checksums`].
    pub(super) fn warn_of_partial_checksums(&self) {
        self.queue.shared.warn_of_partial_checksums();
    }

    /// Queues a packet as one frame or several: all of them or none.
    fn take(&mut self, packet: &Packet<'_>) -> Result<(), TxError> {
        if !self.link_up() {
            return Err(TxError::LinkDown);
        }
        let caps = self.queue.shared.caps;
        let (head, meta) = (packet.head, packet.meta);
        let tcp = meta.protocol == L4::Tcp;
        let payload = packet.payload_len();
        let to_cut = tcp && meta.mss > 0 && payload > usize::from(meta.mss);
        let longest = if to_cut {
            usize::from(meta.mss)
        } else {
            payload
        };
        let headers = head.len() - usize::from(head.l2_len());
        if headers + longest > usize::from(self.queue.shared.mtu)
            || headers + payload > usize::from(u16::MAX)
            || packet.payload.len() > usize::from(caps.tx_pieces_max)
            || !to_cut && pieces(&caps, packet.payload) > usize::from(caps.tx_pieces_max)
        {
            return Err(TxError::TooBig);
        }
        let mut port = PortOffloads {
            passes_on: caps.assumed.tso,
            ip_checksum: caps.tx_ip_csum,
            piece_len_max: caps.tx_piece_len_max,
            ipv6: meta.ipv6,
            ..PortOffloads::default()
        };
        let port_cuts = port_cuts(&caps, packet, head.len() + longest);
        // A copy has the length of a frame.
        if to_cut && (!port_cuts || self.has_to_copy(packet.payload)) {
            self.segment(packet, port)?;
            self.cells().tx_gso.add(1);
        } else {
            port.segments = if to_cut { meta.mss } else { 0 };
            self.reserve(1, pieces(&caps, packet.payload))?;
            let mut head = *head;
            self.frame(&mut head, packet.payload, port, tcp)?;
            self.cells().tx_tso.add(u64::from(to_cut));
        }
        if !caps.multi_segs {
            self.cells().tx_payload_copied.add(payload as u64);
        }
        Ok(())
    }

    /// Segments a packet in software, and queues the frames.
    fn segment(&mut self, packet: &Packet<'_>, port: PortOffloads) -> Result<(), TxError> {
        let frames = gso::frames(packet) as usize;
        self.reserve(frames, packet.payload.len() + frames)?;
        let before = self.waiting.len();
        let cut = gso::segment(packet, |head, payload| {
            self.frame(head, payload, port, true)
        });
        if cut.is_err() {
            let withdrawn = self.waiting.len() - before;
            self.waiting.withdraw(before);
            if let Some(share) = &mut self.ring_share {
                share.on_dropped(withdrawn);
            }
        }
        cut.map(|_| ())
    }

    /// Queues one frame; completes its checksum if the port doesn't.
    fn frame(
        &mut self,
        head: &mut Headers,
        payload: &[Slice<'_>],
        mut port: PortOffloads,
        tcp: bool,
    ) -> Result<(), TxError> {
        if tcp {
            port.checksum = port_sums(&self.queue.shared.caps, payload, port.segments);
            if !port.checksum {
                gso::finish_checksum(head, payload)?;
            }
        }
        port.copies = self.has_to_copy(payload);
        self.waiting.push(head, payload, port)?;
        if let Some(share) = &mut self.ring_share {
            if port.copies || payload.is_empty() {
                share.on_copied();
            } else {
                share.on_referenced(payload);
            }
        }
        if port.copies {
            let bytes: u64 = payload.iter().map(|slice| u64::from(slice.len)).sum();
            self.cells().tx_payload_copied.add(bytes);
            self.cells().tx_ring_share.add(1);
        }
        Ok(())
    }

    /// Returns whether a packet is to be copied: the ring holds its share of page buffers.
    fn has_to_copy(&self, payload: &[Slice<'_>]) -> bool {
        let share = self.ring_share.as_ref();
        share.is_some_and(|share| !share.admits(payload))
    }

    /// Makes room for frames and pieces.
    fn reserve(&mut self, frames: usize, pieces: usize) -> Result<(), TxError> {
        if frames > FRAMES || pieces > PIECES {
            return Err(TxError::TooBig);
        }
        let fits = |w: &Backlog| w.frames_left() >= frames && w.pieces_left() >= pieces;
        if !fits(&self.waiting) {
            self.flush();
        }
        if fits(&self.waiting) {
            Ok(())
        } else {
            Err(TxError::Full)
        }
    }

    /// Returns whether the port segments every packet, whatever the number of frames.
    fn cuts_all(&self) -> bool {
        let caps = &self.queue.shared.caps;
        caps.tso && caps.tso_frames_max == u16::MAX
    }

    /// Drops all queued frames. Returns their number.
    fn discard(&mut self) -> u64 {
        let described = self.waiting.len() as u64;
        self.waiting.withdraw(0);
        // SAFETY: the queue is this worker's alone.
        let built = unsafe { dpdk_sys::lg_tx_drop(&raw mut self.tx) };
        let dropped = described + u64::from(built);
        if let Some(share) = &mut self.ring_share {
            share.on_dropped(usize::try_from(dropped).unwrap_or(usize::MAX));
        }
        dropped
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

/// Returns whether the port segments this packet into frames of `frame_len` bytes. A driver refuses
/// a packet beyond its limits each time that TCP retransmits it.
fn port_cuts(caps: &Capabilities, packet: &Packet<'_>, frame_len: usize) -> bool {
    caps.tso
        && !(caps.tso_ipv4_only && packet.meta.ipv6)
        && (caps.tso_mss_min..=caps.tso_mss_max).contains(&packet.meta.mss)
        && pieces(caps, packet.payload) <= usize::from(caps.tx_pieces_max)
        && gso::frames(packet) <= u32::from(caps.tso_frames_max)
        && frame_len <= usize::from(caps.tso_frame_len_max)
        && port_sums(caps, packet.payload, packet.meta.mss)
}

/// Returns the number of pieces that the payload has in descriptors of the port.
fn pieces(caps: &Capabilities, payload: &[Slice<'_>]) -> usize {
    let each = |slice: &Slice<'_>| slice.len.div_ceil(caps.tx_piece_len_max).max(1) as usize;
    payload.iter().map(each).sum()
}

/// Returns whether the port completes the checksum of this frame, or of frames of `mss` bytes each.
fn port_sums(caps: &Capabilities, payload: &[Slice<'_>], mss: u16) -> bool {
    let even = || {
        let but_last = payload.split_last().map_or(payload, |(_, rest)| rest);
        mss.is_multiple_of(2) && but_last.iter().all(|s| s.len.is_multiple_of(2))
    };
    caps.tx_csum && (!caps.tx_csum_even_only || even())
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

/// Packets in a burst.
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const BURST: u16 = LG_BURST as u16;
/// Most payload bytes of a packet that the port segments: 16 bits of length, less the longest
/// headers.
const TSO_BYTES_MAX: u32 = 65_535 - 120;
/// Frames of such a packet at the smallest default segment size, when it is segmented in software.
const TSO_FRAMES: usize = (TSO_BYTES_MAX as usize).div_ceil(SEGMENT_MIN);
/// Most payload bytes of a packet that is segmented in software.
const GSO_BYTES_MAX: u32 = 32 * 1024;
/// Frames of such a packet at the smallest default segment size.
const GSO_FRAMES: usize = (GSO_BYTES_MAX as usize).div_ceil(SEGMENT_MIN);
/// The smallest default segment size (RFC 9293, 3.7.1).
const SEGMENT_MIN: usize = 536;
/// Places in the backlog that [`Leaf::room`] doesn't count: for answers outside of connections, and
/// for ARP and neighbor discovery.
const FRAMES_KEPT_BACK: usize = 32;

const _: () = assert!((FRAMES - FRAMES_KEPT_BACK) / TSO_FRAMES >= 1);

#[cfg(test)]
mod tests;
