//! Sizes of records of application data: small ones at first, so that each can be opened when its
//! segment arrives, then full ones.

use super::RecordQueue;
use crate::shape::RecordShape;
use crate::suite::CONTENT_MAX;

/// How much content the next record of application data may have.
///
/// A peer can open a record when all of it has arrived. On a slow link that takes long for a full
/// record, because its bytes are in a dozen segments, of several round trips while the congestion
/// window is small. So a stream may begin with records that end where a segment ends.
///
/// | rule | content of a small record |
/// |---|---|
/// | as a rule | what makes the record end with the segment that it begins in |
/// | less than [`SMALL_MIN`] bytes that way | it ends with the first segment that leaves so much |
/// | the write leaves an eighth of that, or less, for the next record | all of the write |
/// | always | the limit of every record at most |
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordSize {
    /// Bytes of content of any record, at most.
    len_max: u16,
    /// Records of application data that are still small.
    small_left: u8,
    /// Whether the stream has small records.
    is_dynamic: bool,
}

/// Where TCP's segments end, as far as the writer knows. Small records follow from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segments {
    begin: u64,
    mss: u16,
}

impl Segments {
    /// The writer doesn't know, so no record is small.
    pub const UNKNOWN: Self = Self { begin: 0, mss: 0 };

    /// A segment begins at the stream offset `begin`, and each has `mss` bytes of payload.
    pub const fn new(begin: u64, mss: u16) -> Self {
        Self { begin, mss }
    }

    /// The bytes from `at` to the end of its segment. `None` if that isn't known.
    fn left(self, at: u64) -> Option<u32> {
        let mss = u64::from(self.mss);
        let used = at.saturating_sub(self.begin).checked_rem(mss)?;
        u32::try_from(mss - used).ok()
    }
}

impl RecordSize {
    pub(super) const fn new() -> Self {
        Self {
            len_max: CONTENT_MAX,
            small_left: 0,
            is_dynamic: false,
        }
    }

    pub(super) const fn len_max(&self) -> u16 {
        self.len_max
    }

    pub(super) fn set_len_max(&mut self, bytes: u16) {
        self.len_max = bytes.clamp(1, CONTENT_MAX);
    }

    /// The content of a record that begins at the stream offset `at`, at most, in bytes. The write
    /// has `left` bytes for it and the records behind it; with `more` others will follow these.
    pub(super) fn content_max(
        &self,
        shape: RecordShape,
        at: u64,
        segments: Segments,
        left: usize,
        more: bool,
    ) -> u16 {
        let in_segment = match self.small_left {
            0 => None,
            _ => segments.left(at),
        };
        let Some(in_segment) = in_segment else {
            return self.len_max;
        };
        let mss = u32::from(segments.mss);
        let missing = shape.record_len(SMALL_MIN).saturating_sub(in_segment);
        let wire = in_segment + missing.div_ceil(mss) * mss;
        let small = shape.content_within(wire).min(self.len_max);
        let with_rest = (small + small / 8).min(self.len_max);
        match u16::try_from(left) {
            Ok(left) if !more && left <= with_rest => left.max(small),
            _ => small,
        }
    }

    /// A record of application data was queued.
    pub(super) fn on_data_framed(&mut self) {
        self.small_left = self.small_left.saturating_sub(1);
    }
}

impl RecordQueue {
    /// Lets the stream have small records, or ends that. None is small before
    /// [`begin_small`](Self::begin_small).
    pub fn set_dynamic_records(&mut self, on: bool) {
        if let Some(keys) = self.keys.as_mut() {
            keys.size.is_dynamic = on;
            keys.size.small_left = 0;
        }
    }

    /// Whether the stream has small records at times.
    pub fn has_dynamic_records(&self) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.size.is_dynamic)
    }

    /// Makes the next `records` records of application data small, if the stream
    /// [has such](Self::set_dynamic_records) and the writer knows the segments. Typed messages and
    /// the keys' own messages are as long as they are.
    pub fn begin_small(&mut self, records: u8) {
        if let Some(keys) = self.keys.as_mut().filter(|keys| keys.size.is_dynamic) {
            keys.size.small_left = records;
        }
    }

    /// Returns how many records of application data will still be small.
    pub fn small_left(&self) -> u8 {
        self.keys.as_ref().map_or(0, |keys| keys.size.small_left)
    }
}

/// The least content of a small record, in bytes, if there is as much. Header and tag are a
/// twentieth of that.
const SMALL_MIN: u16 = 512;

const _: () = assert!(size_of::<RecordSize>() == 4, "an idle connection has one");

#[cfg(test)]
mod tests;
