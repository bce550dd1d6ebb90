//! Segmentation and checksums in software, on headers and slices.

use crate::packet::{Headers, NotSent, Packet, Slice};

/// Cuts a packet into frames of at most [`TxMeta::mss`](crate::TxMeta::mss) payload bytes, without
/// copying any, and calls `frame` for each with its headers and slices. A packet that need not be
/// cut is one frame. Lengths, IPv4 identification and checksum, sequence number and flags are each
/// frame's own; the TCP checksum field carries each frame's pseudo-header sum.
///
/// Returns the number of frames. What `frame` says ends it.
pub fn segment<E: From<NotSent>>(
    packet: &Packet<'_>,
    mut frame: impl FnMut(&mut Headers, &[Slice<'_>]) -> Result<(), E>,
) -> Result<u32, E> {
    let _ = (packet, &mut frame);
    todo!()
}

/// How many frames [`segment`] makes of a packet.
pub fn frames(packet: &Packet<'_>) -> u32 {
    let _ = packet;
    todo!()
}

/// Completes the checksum of one TCP frame: folds the TCP header and payload into the sum of the
/// pseudo-header that the checksum field carries. (Packets of [`L4::None`](crate::L4::None) are
/// complete: don't call it.)
pub fn finish_checksum(head: &mut Headers, payload: &[Slice<'_>]) -> Result<(), NotSent> {
    let _ = (head, payload);
    todo!()
}

/// Copies a frame into one piece of memory; returns how many payload bytes that were.
pub fn copy_frame(
    head: &Headers,
    payload: &[Slice<'_>],
    out: &mut [u8],
) -> Result<usize, NotSent> {
    let _ = (head, payload, out);
    todo!()
}
