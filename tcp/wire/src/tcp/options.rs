//! TCP options: maximum segment size, window scale, SACK and timestamps.

use crate::SeqNum;

/// The options of a segment that this stack knows. Unknown ones are skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Maximum segment size in bytes (on SYNs), never zero when parsed.
    pub mss: Option<u16>,
    /// Window scale (on SYNs), at most 14 when parsed.
    pub window_scale: Option<u8>,
    /// SACK-permitted (on SYNs).
    pub sack_permitted: bool,
    /// Timestamps (RFC 7323).
    pub timestamps: Option<Timestamps>,
    /// SACK blocks. `emit` writes the first [`Self::sack_room`].
    pub sack: SackList,
}

/// The timestamps option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub val: u32,
    /// TSecr: the echoed value; significant only with ACK.
    pub ecr: u32,
}

/// A received range of sequence numbers. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SackBlock {
    /// The first sequence number.
    pub start: SeqNum,
    /// The sequence number after the last.
    pub end: SeqNum,
}

impl SackBlock {
    /// Makes a block; `None` unless `start` is before `end`.
    pub const fn new(start: SeqNum, end: SeqNum) -> Option<Self> {
        if start.before(end) {
            Some(Self { start, end })
        } else {
            None
        }
    }
}

/// Up to four SACK blocks, the most that fit in a header.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct SackList {
    blocks: [Option<SackBlock>; 4],
}

impl SackList {
    /// No blocks.
    pub const EMPTY: Self = Self { blocks: [None; 4] };

    /// Appends a block. Returns false if there are four already.
    pub fn push(&mut self, block: SackBlock) -> bool {
        match self.blocks.iter_mut().find(|b| b.is_none()) {
            Some(place) => {
                *place = Some(block);
                true
            }
            None => false,
        }
    }

    /// Returns the blocks in order.
    pub fn iter(&self) -> impl Iterator<Item = SackBlock> + '_ {
        self.blocks.iter().flatten().copied()
    }

    /// Returns the number of blocks.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Returns whether there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.blocks[0].is_none()
    }
}

impl core::fmt::Debug for SackList {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl FromIterator<SackBlock> for SackList {
    /// Collects the first four blocks.
    fn from_iter<I: IntoIterator<Item = SackBlock>>(blocks: I) -> Self {
        let mut list = Self::EMPTY;
        for block in blocks.into_iter().take(4) {
            list.push(block);
        }
        list
    }
}

impl TcpOptions {
    /// No options.
    pub const NONE: Self = Self {
        mss: None,
        window_scale: None,
        sack_permitted: false,
        timestamps: None,
        sack: SackList::EMPTY,
    };

    /// Returns the bytes that the options take in a header: at most 40, a multiple of 4.
    pub fn emitted_len(&self) -> usize {
        let blocks = self.sack_room();
        let sack = |header: usize| if blocks == 0 { 0 } else { header + 8 * blocks };
        if self.is_aligned() {
            self.aligned_len_without_sack() + sack(4)
        } else {
            (self.packed_len_without_sack() + sack(2)).next_multiple_of(4)
        }
    }

    /// Returns the number of SACK blocks that `emit` writes: those of [`Self::sack`] that fit in a
    /// header with the other options. All blocks of parsed options fit.
    pub fn sack_room(&self) -> usize {
        if self.sack.is_empty() {
            return 0;
        }
        let free = MAX_LEN - self.packed_len_without_sack();
        self.sack.len().min(free.saturating_sub(2) / 8)
    }

    /// Returns whether `emit` aligns each option to four bytes. It packs them instead if alignment
    /// would cost a SACK block.
    fn is_aligned(&self) -> bool {
        self.sack.is_empty()
            || self.aligned_len_without_sack() + 4 + 8 * self.sack_room() <= MAX_LEN
    }

    fn aligned_len_without_sack(&self) -> usize {
        let timestamps = if self.timestamps.is_some() { 12 } else { 0 };
        // With timestamps, SACK-permitted replaces the two NOPs in front of them.
        let permitted = if self.sack_permitted && self.timestamps.is_none() {
            4
        } else {
            0
        };
        let mss = if self.mss.is_some() { 4 } else { 0 };
        let scale = if self.window_scale.is_some() { 4 } else { 0 };
        mss + timestamps + permitted + scale
    }

    fn packed_len_without_sack(&self) -> usize {
        let timestamps = if self.timestamps.is_some() { 10 } else { 0 };
        let permitted = if self.sack_permitted { 2 } else { 0 };
        let mss = if self.mss.is_some() { 4 } else { 0 };
        let scale = if self.window_scale.is_some() { 3 } else { 0 };
        mss + timestamps + permitted + scale
    }

    /// Writes the options to `out`, which is [`Self::emitted_len`] bytes long.
    ///
    /// The order is Linux's. NOPs in front align each option to four bytes, if there is room.
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.1
    //# Note that the list of options may be shorter than the Data Offset field might imply.
    //# The content of the header beyond the End of Option List Option MUST be header padding
    //# of zeros (MUST-69).
    pub(super) fn emit(&self, out: &mut [u8]) {
        let aligned = self.is_aligned();
        let mut w = Writer { out, at: 0 };
        if let Some(mss) = self.mss {
            w.put(&[kind::MSS, 4]);
            w.put(&mss.to_be_bytes());
        }
        if self.sack_permitted {
            if aligned && self.timestamps.is_none() {
                w.put(&[kind::NOP, kind::NOP]);
            }
            w.put(&[kind::SACK_PERMITTED, 2]);
        }
        if let Some(ts) = self.timestamps {
            if aligned && !self.sack_permitted {
                w.put(&[kind::NOP, kind::NOP]);
            }
            w.put(&[kind::TIMESTAMPS, 10]);
            w.put(&ts.val.to_be_bytes());
            w.put(&ts.ecr.to_be_bytes());
        }
        if let Some(shift) = self.window_scale {
            if aligned {
                w.put(&[kind::NOP]);
            }
            w.put(&[kind::WINDOW_SCALE, 3, shift.min(MAX_WINDOW_SCALE)]);
        }
        let blocks = self.sack_room();
        if blocks > 0 {
            if aligned {
                w.put(&[kind::NOP, kind::NOP]);
            }
            let len = u8::try_from(2 + 8 * blocks).unwrap_or(u8::MAX);
            w.put(&[kind::SACK, len]);
            for block in self.sack.iter().take(blocks) {
                w.put(&block.start.0.to_be_bytes());
                w.put(&block.end.0.to_be_bytes());
            }
        }
        let Writer { out, at } = w;
        out[at..].fill(kind::END);
    }

    /// Parses a header's option bytes.
    ///
    /// A known kind of a wrong length is skipped like an unknown kind. Of a repeated kind the last
    /// counts.
    //= https://www.rfc-editor.org/rfc/rfc9293#section-3.1
    //# TCP implementations MUST be prepared to handle an illegal option
    //# length (e.g., zero); a suggested procedure is to reset the
    //# connection and log the error cause (MUST-7).
    // Nothing behind an illegal length can be found, so parsing stops there and the options before
    // it count. Linux and FreeBSD do the same instead of resetting.
    pub(super) fn parse(mut bytes: &[u8]) -> Self {
        let mut options = Self::NONE;
        // Nearly all segments carry this layout, which RFC 7323, appendix A, recommends.
        if let &[kind::NOP, kind::NOP, kind::TIMESTAMPS, 10, ref body @ ..] = bytes
            && body.len() == 8
        {
            options.read(kind::TIMESTAMPS, body);
            return options;
        }
        while let Some((&kind, rest)) = bytes.split_first() {
            match kind {
                kind::END => break,
                kind::NOP => bytes = rest,
                _ => {
                    let Some((&len, _)) = rest.split_first() else {
                        break;
                    };
                    let Some((option, next)) = bytes.split_at_checked(usize::from(len)) else {
                        break;
                    };
                    let [_, _, body @ ..] = option else { break };
                    options.read(kind, body);
                    bytes = next;
                }
            }
        }
        options
    }

    fn read(&mut self, kind: u8, body: &[u8]) {
        match (kind, body) {
            // A segment size of zero is invalid: it would allow no data.
            (kind::MSS, &[a, b]) if [a, b] != [0, 0] => self.mss = Some(u16::from_be_bytes([a, b])),
            //= https://www.rfc-editor.org/rfc/rfc7323#section-2.3
            //# If a Window Scale option is received with a shift.cnt
            //# value larger than 14, the TCP SHOULD log the error but MUST use 14
            //# instead of the specified value.
            (kind::WINDOW_SCALE, &[shift]) => self.window_scale = Some(shift.min(MAX_WINDOW_SCALE)),
            (kind::SACK_PERMITTED, []) => self.sack_permitted = true,
            (kind::TIMESTAMPS, body) => {
                if let ([val, ecr], []) = body.as_chunks::<4>() {
                    self.timestamps = Some(Timestamps {
                        val: u32::from_be_bytes(*val),
                        ecr: u32::from_be_bytes(*ecr),
                    });
                }
            }
            (kind::SACK, body) => {
                if let (blocks, []) = body.as_chunks::<8>() {
                    self.sack = blocks
                        .iter()
                        .filter_map(|&[a, b, c, d, e, f, g, h]| {
                            SackBlock::new(
                                SeqNum(u32::from_be_bytes([a, b, c, d])),
                                SeqNum(u32::from_be_bytes([e, f, g, h])),
                            )
                        })
                        .collect();
                }
            }
            _ => {}
        }
    }
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        self.out[self.at..end].copy_from_slice(bytes);
        self.at = end;
    }
}

/// Largest window scale.
pub(crate) const MAX_WINDOW_SCALE: u8 = 14;
const MAX_LEN: usize = 40;

mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const NOP: u8 = 1;
    pub(super) const MSS: u8 = 2;
    pub(super) const WINDOW_SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 4;
    pub(super) const SACK: u8 = 5;
    pub(super) const TIMESTAMPS: u8 = 8;
}
