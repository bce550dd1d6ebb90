//! The receive budget: what received and unread bytes of all sockets may pin together.

use core::time::Duration;

use lockgate_wire::Instant;

use crate::arrival_order::{ArrivalLinks, ArrivalList};
use crate::handshakes::RECORD_BYTES_MAX;

/// The receive budget of one worker.
///
/// Invariant: `pinned_bytes` is the sum of what every socket reported last by
/// [`ReceiveBudget::update`].
///
/// With `max` the budget, a payload of a socket that pins `own` bytes, in order or out of order as
/// the payload is, is accepted while `pinned` bytes are pinned by all, if
///
/// | | in order | out of order |
/// |---|---|---|
/// | `pinned < max` | `own < max(least, max - pinned)` | `own < max(packet, spare / 4)` |
/// | `pinned < max * 3 / 2` | `own < least` | no |
/// | above | `own < packet` | no |
///
/// where `packet` is [`PACKET_BYTES`] and `spare` is `max * 3 / 4 - pinned`, or 0.
///
/// Bytes out of order can't be read yet, so a quarter of the budget is left to bytes in order.
///
/// So a socket that pins little can always receive, and a socket that pins much leaves as much to
/// the others (dynamic thresholds, Choudhury and Hahne 1998). `least` is [`LEAST_BYTES`], or an
/// eighth of a small budget.
///
/// A handshake copies a payload in order out of its packet buffers at once. What it holds then
/// counts in the memory for handshakes. A handshake that has [`FLIGHT_BYTES_MAX`] takes no more.
///
/// While more than `max` is pinned at the end of a turn, sockets are reset. Sockets that pin the
/// most, by powers of two, come first, and among these the socket that has pinned as much for
/// longest:
///
/// - The first socket is reset if its bytes have been unread for [`HOLD_TIME`], because a request
///   in several segments has to wait for the others.
/// - Above `max * 3 / 2`, the first socket for which that holds is reset.
/// - Above `max * 7 / 4`, the first socket is reset in any case, or there would be no packet
///   buffers left.
///
/// To have a client's half request reset, a flood of peers must pin as much as it for longer, and
/// the whole budget, or fill the budget and more within [`HOLD_TIME`].
#[derive(Debug)]
pub(crate) struct ReceiveBudget {
    pinned_bytes: u64,
    bytes_max: u64,
    /// The time of the last call of the stack.
    now: Instant,
    /// Sockets by the logarithm of what they pin, each class in order of arrival.
    classes: [ArrivalList; CLASSES],
    links: ArrivalLinks,
    /// Since when a socket's bytes are unread: milliseconds modulo 2^32.
    since_millis: Vec<u32>,
    retry_at: Option<Instant>,
}

/// Whether a socket may take a received payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PayloadAdmission {
    /// It may.
    Accept,
    /// The segment is dropped. TCP at the peer retransmits it.
    Refuse,
}

impl ReceiveBudget {
    /// What a connection takes of memory.
    pub(crate) const ENTRY_BYTES: usize = ArrivalLinks::ENTRY_BYTES + size_of::<u32>();

    /// A budget of so many bytes, of `sockets_max` sockets at most.
    pub(crate) fn new(bytes_max: u64, sockets_max: u32) -> Self {
        Self {
            pinned_bytes: 0,
            bytes_max,
            now: Instant::ZERO,
            classes: [ArrivalList::new(); CLASSES],
            links: ArrivalLinks::new(sockets_max),
            since_millis: Vec::new(),
            retry_at: None,
        }
    }

    /// Sets the time.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.now = now;
    }

    /// Replaces the share of socket `index` in the sum.
    pub(crate) fn update(&mut self, index: u32, before: u32, after: u32) {
        self.pinned_bytes = self.pinned_bytes - u64::from(before) + u64::from(after);
        if before == 0 && after > 0 {
            let at = index as usize;
            if at >= self.since_millis.len() {
                self.since_millis.resize(at + 1, 0);
            }
            if let Some(since) = self.since_millis.get_mut(at) {
                *since = self.now.low_millis();
            }
        }
        let (old, new) = (class_of(before), class_of(after));
        if old == new {
            return;
        }
        if let Some(list) = old.and_then(|class| self.classes.get_mut(class)) {
            self.links.remove(list, index);
        }
        if let Some(list) = new.and_then(|class| self.classes.get_mut(class)) {
            self.links.push(list, index);
        }
    }

    /// Whether the budget covers one more payload in order of any socket.
    pub(crate) fn is_covered(&self) -> bool {
        self.pinned_bytes < self.bytes_max
    }

    /// What a socket may pin now, beside what the others do.
    pub(crate) fn share(&self) -> u64 {
        self.free().max(self.least())
    }

    /// Applies the budget to a payload of a handshake that has `buffered` bytes in order, and pins
    /// `own` bytes.
    pub(crate) fn admit_handshake(
        &self,
        is_in_order: bool,
        own: u32,
        buffered: u64,
    ) -> PayloadAdmission {
        if is_in_order {
            admission(buffered < FLIGHT_BYTES_MAX)
        } else {
            self.admit(false, own)
        }
    }

    /// Applies the budget to a payload of an established socket that pins `own` bytes.
    pub(crate) fn admit(&self, is_in_order: bool, own: u32) -> PayloadAdmission {
        let (pinned, max, own) = (self.pinned_bytes, self.bytes_max, u64::from(own));
        let is_accepted = if !is_in_order {
            let free = (max / 4 * 3).saturating_sub(pinned);
            pinned < max && own < PACKET_BYTES.max(free / 4)
        } else if pinned < max {
            own < self.share()
        } else if pinned < max.saturating_add(max / 2) {
            own < self.least()
        } else {
            own < PACKET_BYTES
        };
        admission(is_accepted)
    }

    /// Whether a run of payloads in order, which pin `bytes` together, would be accepted one by one
    /// from a socket that pins `own` bytes.
    pub(crate) fn admits_run(&self, own: u32, bytes: u32) -> bool {
        let pinned = self.pinned_bytes + u64::from(bytes);
        let own = u64::from(own) + u64::from(bytes);
        pinned < self.bytes_max && own < self.least().max(self.bytes_max - pinned)
    }

    /// Returns a socket to be reset, because more is pinned than the budget. Sockets for which
    /// `is_exempt` are passed over, if there are few.
    pub(crate) fn next_reset(&mut self, is_exempt: impl Fn(u32) -> bool) -> Option<u32> {
        self.retry_at = None;
        if self.pinned_bytes <= self.bytes_max {
            return None;
        }
        let (pinned, max) = (self.pinned_bytes, self.bytes_max);
        let is_due = |index: u32| {
            let since = self.since_millis.get(index as usize);
            let unread = since.map(|since| self.now.low_millis().wrapping_sub(*since));
            pinned > max.saturating_mul(7) / 4
                || unread.is_some_and(|millis| u128::from(millis) >= HOLD_TIME.as_millis())
        };
        let largest = self.classes.iter().rev();
        let mut candidates = largest
            .flat_map(|class| self.links.iter(class))
            .take(EXAMINED_MAX)
            .filter(|index| !is_exempt(*index));
        let found = if pinned > max.saturating_add(max / 2) {
            candidates.find(|index| is_due(*index))
        } else {
            candidates.next().filter(|index| is_due(*index))
        };
        if found.is_none() {
            self.retry_at = Some(self.now + RETRY_INTERVAL);
        }
        found
    }

    /// When sockets may have to be reset.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// What all sockets pin together.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        self.pinned_bytes
    }

    fn free(&self) -> u64 {
        self.bytes_max.saturating_sub(self.pinned_bytes)
    }

    fn least(&self) -> u64 {
        LEAST_BYTES.min(self.bytes_max / 8)
    }
}

fn admission(is_accepted: bool) -> PayloadAdmission {
    if is_accepted {
        PayloadAdmission::Accept
    } else {
        PayloadAdmission::Refuse
    }
}

/// The class of a socket that pins so many bytes: none, if it pins nothing.
fn class_of(bytes: u32) -> Option<usize> {
    let log = bytes.checked_ilog2()?.saturating_sub(SMALLEST_LOG);
    Some((log as usize).min(CLASSES - 1))
}

/// What a socket may pin whatever the others do: a record in packet buffers that are half empty,
/// and a request behind it.
const LEAST_BYTES: u64 = 64 * 1024;
/// What a socket may pin even if few packet buffers are left: a packet and another.
const PACKET_BYTES: u64 = 4096;
/// Received bytes that a handshake may hold, whose next step is due: a record is complete long
/// before.
const FLIGHT_BYTES_MAX: u64 = 2 * RECORD_BYTES_MAX as u64;
/// How long bytes may be unread before their socket is reset for them.
const HOLD_TIME: Duration = Duration::from_millis(250);
/// When sockets are examined again, if none could be reset.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);
/// How many of the largest sockets are examined for one reset.
const EXAMINED_MAX: usize = 16;
/// Up to 4 KiB, to 8 KiB, and so on; above 2 MiB.
const CLASSES: usize = 11;
const SMALLEST_LOG: u32 = 11;

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(pinned: u32) -> ReceiveBudget {
        let mut budget = ReceiveBudget::new(80_000, 8);
        budget.update(0, 0, pinned);
        budget
    }

    /// The table of [`ReceiveBudget`], each rule at its border.
    #[test]
    fn the_receive_budget_is_applied_at_its_borders() {
        use PayloadAdmission::{Accept, Refuse};
        // (pinned, in order, own) -> an established socket's admission.
        for (pinned, in_order, own, expected) in [
            (20_000, false, 9999, Accept),
            (20_000, false, 10_000, Refuse),
            (79_999, false, 4095, Accept),
            (79_999, false, 4096, Refuse),
            (80_000, false, 0, Refuse),
            (40_000, true, 39_999, Accept),
            (40_000, true, 40_000, Refuse),
            (79_999, true, 9999, Accept),
            (79_999, true, 10_000, Refuse),
            (119_999, true, 9999, Accept),
            (119_999, true, 10_000, Refuse),
            (120_000, true, 4095, Accept),
            (120_000, true, 4096, Refuse),
        ] {
            let found = budget(pinned).admit(in_order, own);
            assert_eq!(found, expected, "{pinned} {in_order} {own}");
        }
        // (pinned, in order, buffered) -> a handshake's admission.
        for (pinned, in_order, buffered, expected) in [
            (999_999, true, FLIGHT_BYTES_MAX - 1, Accept),
            (0, true, FLIGHT_BYTES_MAX, Refuse),
            (79_999, false, FLIGHT_BYTES_MAX, Accept),
            (80_000, false, 0, Refuse),
        ] {
            let found = budget(pinned).admit_handshake(in_order, 0, buffered);
            assert_eq!(found, expected, "{pinned} {in_order} {buffered}");
        }
    }

    #[test]
    fn the_oldest_of_the_largest_is_reset_after_the_hold_time() {
        let ms = Instant::from_millis;
        let mut budget = ReceiveBudget::new(20_000, 8);
        let mut now = [2100, 3000, 9000, 2100, 2100, 0];
        for (index, bytes) in (0..).zip(now) {
            budget.advance(ms(u64::from(index)));
            budget.update(index, 0, bytes);
        }
        let mut set = |budget: &mut ReceiveBudget, index: u32, bytes| {
            budget.update(index, now[index as usize], bytes);
            now[index as usize] = bytes;
        };
        let all = |_| false;
        assert_eq!(budget.next_reset(all), None, "within the budget");
        set(&mut budget, 3, 4200);
        assert_eq!(budget.next_reset(all), None);
        assert_eq!(budget.deadline(), Some(ms(15)));
        budget.advance(ms(251));
        assert_eq!(budget.next_reset(all), None, "the largest has its time");
        budget.advance(ms(252));
        assert_eq!(budget.next_reset(all), Some(2));
        assert_eq!(budget.next_reset(|index| index == 2), None);
        budget.advance(ms(254));
        assert_eq!(budget.next_reset(|index| index == 2), Some(3));
        assert_eq!(budget.next_reset(|index| index >= 2), Some(0));
        set(&mut budget, 2, 0);
        assert_eq!((budget.next_reset(all), budget.deadline()), (None, None));

        // A new one pins more than all others.
        set(&mut budget, 5, 10_000);
        assert_eq!(budget.next_reset(all), None);
        set(&mut budget, 5, 20_000);
        assert_eq!(budget.next_reset(all), Some(3));
        set(&mut budget, 5, 24_000);
        assert_eq!(budget.next_reset(all), Some(5));
        for index in 0..6 {
            set(&mut budget, index, 0);
        }
        assert_eq!(budget.pinned_bytes(), 0);
        assert!(budget.is_covered() && budget.classes.iter().all(ArrivalList::is_empty));
    }
}
