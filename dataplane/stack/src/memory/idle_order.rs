//! The idle connections, in the order in which they may be closed.

use lockgate_wire::Instant;

use crate::arrival_order::{ArrivalLinks, ArrivalList};

/// Idle connections in the order in which they became idle, oldest first. A connection that
/// receives the body of a request is idle, too; with each [`RECEIVED_BYTES`] its idle time begins
/// anew.
///
/// While they are a [`SHARE_DIVISOR`]th of the table at most, only those may be closed that are
/// idle for [`IDLE_MILLIS_MIN`]. Else a new connection, which is idle until its first request has
/// arrived, would make room for the next one, in a table full of connections that aren't idle.
#[derive(Debug)]
pub(crate) struct IdleOrder {
    list: ArrivalList,
    links: ArrivalLinks,
    /// Since when each is idle: milliseconds modulo 2^32.
    since_millis: Vec<u32>,
    now_millis: u32,
    share: u32,
}

impl IdleOrder {
    /// What a connection takes of memory.
    pub(crate) const ENTRY_BYTES: usize = ArrivalLinks::ENTRY_BYTES + size_of::<u32>();

    pub(crate) fn new(connections_max: u32) -> Self {
        Self {
            list: ArrivalList::new(),
            links: ArrivalLinks::new(connections_max),
            since_millis: Vec::new(),
            now_millis: 0,
            share: connections_max / SHARE_DIVISOR,
        }
    }

    /// Sets the time.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.now_millis = now.low_millis();
    }

    /// A connection is idle from now on, or it isn't (or is removed).
    pub(crate) fn set(&mut self, index: u32, is_idle: bool) {
        self.links.remove(&mut self.list, index);
        if is_idle {
            self.links.push(&mut self.list, index);
            let at = index as usize;
            if at >= self.since_millis.len() {
                self.since_millis.resize(at + 1, 0);
            }
            if let Some(since) = self.since_millis.get_mut(at) {
                *since = self.now_millis;
            }
        }
    }

    /// Lists a connection as idle from now on, unless it is listed already.
    pub(crate) fn list(&mut self, index: u32) {
        if !self.links.is_listed(index) {
            self.set(index, true);
        }
    }

    /// The idle time of a connection begins anew, if it is listed.
    pub(crate) fn renew(&mut self, index: u32) {
        if self.links.is_listed(index) {
            self.set(index, true);
        }
    }

    /// Takes the oldest idle connection for which `may_close` returns true. Examines a bounded
    /// number of connections, and moves each that may not be closed to the end.
    pub(crate) fn pop(&mut self, may_close: impl Fn(u32) -> bool) -> Option<u32> {
        for _ in 0..STEPS_MAX {
            let index = self.list.oldest()?;
            if self.list.len() <= self.share && !self.is_idle_for_long(index) {
                return None;
            }
            let may_close = may_close(index);
            self.set(index, !may_close);
            if may_close {
                return Some(index);
            }
        }
        None
    }

    fn is_idle_for_long(&self, index: u32) -> bool {
        let since = self.since_millis.get(index as usize);
        since.is_some_and(|since| self.now_millis.wrapping_sub(*since) >= IDLE_MILLIS_MIN)
    }
}

/// Received bytes with which the idle time of a connection begins anew. A slow uplink takes a
/// second for them.
pub(crate) const RECEIVED_BYTES: u64 = 4096;
/// Connections that one call of [`IdleOrder::pop`] looks at.
const STEPS_MAX: usize = 16;
/// Part of the table that idle connections may take, however short it is.
const SHARE_DIVISOR: u32 = 16;
/// A client's request takes less time after the handshake, or after the response before.
const IDLE_MILLIS_MIN: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_that_is_idle_for_longest_is_first() {
        let mut order = IdleOrder::new(8);
        for index in [0, 1, 2, 3] {
            order.set(index, true);
        }
        // 0 is used and idle again, 1 is in use, 2 may not be closed, 3 is listed.
        order.list(3);
        order.set(0, false);
        order.set(0, true);
        order.set(1, false);
        order.renew(1);
        let mut pop = || order.pop(|index| index != 2);
        assert_eq!([pop(), pop(), pop()], [Some(3), Some(0), None]);
        assert_eq!(order.pop(|_| true), Some(2));
        assert_eq!(order.pop(|_| true), None);
        // 4 receives something of a request's body.
        for index in [4, 5] {
            order.set(index, true);
        }
        order.renew(4);
        assert_eq!([4, 5].map(|_| order.pop(|_| true)), [Some(5), Some(4)]);
    }

    #[test]
    fn a_call_looks_at_a_bounded_number() {
        let mut order = IdleOrder::new(64);
        for index in 0..40 {
            order.set(index, true);
        }
        assert_eq!(order.pop(|index| index == 39), None);
        assert_eq!(order.pop(|index| index == 39), None);
        assert_eq!(order.pop(|index| index == 39), Some(39));
    }

    #[test]
    fn a_few_connections_are_idle_for_a_while_before_they_are_closed() {
        let mut order = IdleOrder::new(64);
        order.advance(Instant::from_millis(500));
        for index in 0..4 {
            order.set(index, true);
        }
        order.advance(Instant::from_millis(1499));
        assert_eq!(
            order.pop(|_| true),
            None,
            "a sixteenth of the table is idle"
        );
        order.set(4, true);
        assert_eq!(order.pop(|_| true), Some(0), "more is");
        assert_eq!(order.pop(|_| true), None);
        order.advance(Instant::from_millis(1500));
        let mut pop = || order.pop(|_| true);
        assert_eq!(
            [pop(), pop(), pop(), pop()],
            [Some(1), Some(2), Some(3), None]
        );
    }
}
