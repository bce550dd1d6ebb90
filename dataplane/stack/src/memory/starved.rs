//! Sockets that wait for memory, and when they are woken.

use core::time::Duration;
use std::collections::VecDeque;

use lockgate_wire::Instant;
use pktbuf::PoolUsage;

use crate::notice::SocketId;
use crate::schedule::Membership;

/// The starved sockets: those that need page buffers or ranges to continue.
///
/// All of them are woken when less memory is in use than at the last check, and every
/// [`RETRY_INTERVAL`] in any case: another worker may have freed memory since.
#[derive(Debug, Default)]
pub(crate) struct StarvedSockets {
    list: VecDeque<u32>,
    /// Memory in use at the last check.
    usage: PoolUsage,
    ranges_used: u32,
    retry_at: Option<Instant>,
}

impl StarvedSockets {
    /// Lists a starved socket. Returns true if it wasn't listed yet.
    pub(crate) fn add(&mut self, id: SocketId, lists: &mut Membership) -> bool {
        let is_new = !core::mem::replace(&mut lists.starved, true);
        if is_new {
            self.list.push_back(id.index);
        }
        is_new
    }

    /// Takes the next starved socket.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        self.list.pop_front()
    }

    /// Compares what is in use with the last check. Returns how many sockets at the front of the
    /// list the caller has to wake.
    pub(crate) fn count_to_wake(
        &mut self,
        now: Instant,
        usage: impl FnOnce() -> PoolUsage,
        ranges_used: u32,
    ) -> usize {
        if self.list.is_empty() {
            return 0;
        }
        let usage = usage();
        let before = core::mem::replace(&mut self.usage, usage);
        let is_freed = usage.blocks_used < before.blocks_used
            || usage.small_spans_used < before.small_spans_used
            || usage.large_spans_used < before.large_spans_used
            || core::mem::replace(&mut self.ranges_used, ranges_used) > ranges_used;
        let is_due = self.retry_at.is_none_or(|at| now >= at);
        if !is_freed && !is_due {
            return 0;
        }
        self.retry_at = Some(now + RETRY_INTERVAL);
        self.list.len()
    }

    /// When starved sockets are woken though nothing was freed here.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let is_waiting = !self.list.is_empty();
        is_waiting.then(|| self.retry_at.unwrap_or(Instant::ZERO))
    }
}

const RETRY_INTERVAL: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn add(starved: &mut StarvedSockets, index: u32) {
        let id = SocketId {
            index,
            generation: 0,
        };
        let mut lists = Membership::default();
        assert!(starved.add(id, &mut lists) && lists.starved);
        assert!(!starved.add(id, &mut lists), "a socket is listed once");
    }

    #[test]
    fn starved_sockets_are_woken_by_freed_memory_and_by_time() {
        let used = |large_spans_used| PoolUsage {
            large_spans_used,
            ..PoolUsage::default()
        };
        let ms = Instant::from_millis;
        let us = Instant::from_micros;
        let mut starved = StarvedSockets::default();
        assert_eq!(starved.deadline(), None);
        assert_eq!(starved.count_to_wake(ms(0), || unreachable!(), 0), 0);

        add(&mut starved, 7);
        add(&mut starved, 3);
        assert_eq!(starved.deadline(), Some(Instant::ZERO));
        // The first look has nothing to compare with.
        assert_eq!(starved.count_to_wake(ms(1), || used(9), 5), 2);
        assert_eq!(starved.deadline(), Some(ms(2)));
        assert_eq!(starved.count_to_wake(us(1100), || used(9), 5), 0);
        assert_eq!(starved.count_to_wake(us(1200), || used(8), 5), 2, "a span");
        assert_eq!(starved.count_to_wake(us(1300), || used(8), 4), 2, "a range");
        assert_eq!(starved.count_to_wake(us(2299), || used(8), 4), 0);
        assert_eq!(starved.count_to_wake(us(2300), || used(8), 4), 2, "time");
        assert_eq!([starved.pop(), starved.pop()], [Some(7), Some(3)]);
        assert_eq!(starved.deadline(), None);
    }
}
