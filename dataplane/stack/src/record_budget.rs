//! The limit on received records that are opened in one turn.

/// The received records that all sockets of a worker may still open in this turn, whatever they
/// hold.
///
/// A peer can fill a receive window with thousands of records that are empty, hold a byte, or a
/// piece of a handshake message. Opening a short one takes about a microsecond. A socket may open
/// an eighth of what is left, between [`SHARE_MIN`] and [`SHARE_MAX`]. So one socket keeps received
/// packets and other sockets waiting for less than 0.1 ms, and thousands of them for 1 ms and what
/// [`SHARE_MIN`] records of each take. It is no limit for throughput: a receive window holds fewer
/// full records.
#[derive(Debug)]
pub(crate) struct RecordBudget {
    left: u16,
}

impl RecordBudget {
    pub(crate) const fn new() -> Self {
        Self { left: PER_TURN }
    }

    /// Begins a turn.
    pub(crate) fn begin_turn(&mut self) {
        *self = Self::new();
    }

    /// The number of records that one socket may open in this turn.
    pub(crate) fn share(&self) -> u8 {
        let share = u8::try_from(self.left / SHARE_DIVISOR).unwrap_or(SHARE_MAX);
        share.clamp(SHARE_MIN, SHARE_MAX)
    }

    /// Counts a record that was opened.
    pub(crate) fn take_one(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

const PER_TURN: u16 = 1024;
const SHARE_DIVISOR: u16 = 8;
const SHARE_MIN: u8 = 4;
const SHARE_MAX: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens records of a socket that has more than it may open. Returns how many.
    fn read(budget: &mut RecordBudget) -> u8 {
        let mut opened = 0;
        while opened < budget.share() {
            budget.take_one();
            opened += 1;
        }
        opened
    }

    #[test]
    fn a_turn_opens_a_bounded_number_of_records() {
        let mut budget = RecordBudget::new();
        let opened: Vec<u8> = (0..1000).map(|_| read(&mut budget)).collect();
        assert_eq!(opened[..6], [64; 6]);
        assert!(opened.is_sorted_by(|more, less| more >= less));
        assert_eq!(opened.last(), Some(&4));
        let sum: u32 = opened.into_iter().map(u32::from).sum();
        assert!(sum <= 1024 + 4 * 1000, "{sum}");
        budget.begin_turn();
        assert_eq!(read(&mut budget), 64);
    }
}
