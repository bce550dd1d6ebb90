//! The idle connections, in the order in which they may be closed.

use crate::arrival_order::{ArrivalLinks, ArrivalList};

/// Idle connections, the one that is idle for longest first.
#[derive(Debug)]
pub(crate) struct IdleOrder {
    list: ArrivalList,
    links: ArrivalLinks,
}

impl IdleOrder {
    pub(crate) fn new(connections_max: u32) -> Self {
        Self {
            list: ArrivalList::new(),
            links: ArrivalLinks::new(connections_max),
        }
    }

    /// A connection is idle from now on, or it isn't (or is removed).
    pub(crate) fn set(&mut self, index: u32, is_idle: bool) {
        self.links.remove(&mut self.list, index);
        if is_idle {
            self.links.push(&mut self.list, index);
        }
    }

    /// Lists a connection as idle from now on, unless it is listed already.
    pub(crate) fn list(&mut self, index: u32) {
        if !self.links.is_listed(index) {
            self.links.push(&mut self.list, index);
        }
    }

    /// Takes the connection that is idle for longest, of those that `may_close`. Looks at a bounded
    /// number; those that may not be closed go to the end.
    pub(crate) fn pop(&mut self, may_close: impl Fn(u32) -> bool) -> Option<u32> {
        for _ in 0..STEPS_MAX {
            let index = self.list.oldest()?;
            let may_close = may_close(index);
            self.set(index, !may_close);
            if may_close {
                return Some(index);
            }
        }
        None
    }
}

/// Connections that one call of [`IdleOrder::pop`] looks at.
const STEPS_MAX: usize = 16;

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
        let mut pop = || order.pop(|index| index != 2);
        assert_eq!([pop(), pop(), pop()], [Some(3), Some(0), None]);
        assert_eq!(order.pop(|_| true), Some(2));
        assert_eq!(order.pop(|_| true), None);
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
}
