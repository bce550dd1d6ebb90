//! Frames that wait for a neighbour's resolution: slots of one size in one block of memory.

use std::collections::VecDeque;

use lockgate_wire::{IfaceId, MacAddr};

#[derive(Debug)]
pub(super) struct WaitingFrames {
    memory: Box<[u8]>,
    bytes_max: usize,
    slots: Vec<Slot>,
    free: Vec<u16>,
    ready: VecDeque<u16>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    iface: IfaceId,
    len: usize,
    link: bool,
}

impl WaitingFrames {
    pub(super) fn new(slots: u16, bytes_max: u16) -> Self {
        let (count, bytes_max) = (usize::from(slots), usize::from(bytes_max));
        Self {
            memory: vec![0; count * bytes_max].into_boxed_slice(),
            bytes_max,
            slots: vec![Slot::default(); count],
            free: (0..slots).rev().collect(),
            ready: VecDeque::with_capacity(count),
        }
    }

    pub(super) const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Returns whether there is no free slot for a frame. Half of the slots are kept for known
    /// neighbours.
    pub(super) fn is_full(&self, is_known: bool) -> bool {
        let kept = if is_known { 0 } else { self.slots.len() / 2 };
        self.free.len() <= kept
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Copies a frame into a free slot. Returns `None` if there is none or the frame is too large.
    pub(super) fn put(&mut self, iface: IfaceId, frame: &[u8], link: bool) -> Option<u16> {
        if frame.len() > self.bytes_max {
            return None;
        }
        let slot = self.free.pop()?;
        self.slots[usize::from(slot)] = Slot {
            iface,
            len: frame.len(),
            link,
        };
        self.bytes_mut(slot).copy_from_slice(frame);
        Some(slot)
    }

    pub(super) fn free(&mut self, slot: u16) {
        self.free.push(slot);
    }

    /// Writes the link-layer destination of a waiting frame and marks it as ready.
    pub(super) fn make_ready(&mut self, slot: u16, mac: MacAddr) {
        let link = self.slots[usize::from(slot)].link;
        if let Some(dst) = self.bytes_mut(slot).first_chunk_mut::<6>().filter(|_| link) {
            *dst = mac.0;
        }
        self.ready.push_back(slot);
    }

    /// Copies the oldest ready frame into `out` and frees its slot, even if it doesn't fit.
    pub(super) fn take_ready(&mut self, out: &mut [u8]) -> Option<(IfaceId, usize)> {
        let slot = self.ready.pop_front()?;
        self.free.push(slot);
        let Slot { iface, len, .. } = self.slots[usize::from(slot)];
        out.get_mut(..len)?.copy_from_slice(self.bytes_mut(slot));
        Some((iface, len))
    }

    fn bytes_mut(&mut self, slot: u16) -> &mut [u8] {
        let start = usize::from(slot) * self.bytes_max;
        let len = self.slots[usize::from(slot)].len;
        &mut self.memory[start..start + len]
    }

    #[cfg(test)]
    pub(super) fn free_count(&self) -> usize {
        self.free.len()
    }
}
