//! Handshakes that wait for another to end.

use std::collections::VecDeque;

use crate::notice::SocketId;

/// Sockets in the order in which they came. A socket that goes away leaves its entry behind, which
/// no later socket in the same place can be taken for. When more than half of the entries are such,
/// all of them are thrown out: the queue is never longer than twice the sockets that waited at the
/// same time, and each of them costs a few steps only.
#[derive(Debug, Default)]
pub(crate) struct Queueing {
    list: VecDeque<SocketId>,
    /// Entries whose socket is gone.
    gone: usize,
}

impl Queueing {
    pub(crate) fn is_empty(&self) -> bool {
        self.list.len() == self.gone
    }

    /// A socket waits. It must not be in the queue.
    pub(crate) fn push(&mut self, id: SocketId) {
        self.list.push_back(id);
    }

    /// The next entry; if its socket is gone, tell so by [`Queueing::was_gone`].
    pub(crate) fn pop(&mut self) -> Option<SocketId> {
        self.list.pop_front()
    }

    /// An entry that was popped had no socket.
    pub(crate) fn was_gone(&mut self) {
        self.gone = self.gone.saturating_sub(1);
    }

    /// A socket that waited is gone.
    pub(crate) fn left(&mut self, is_waiting: impl Fn(SocketId) -> bool) {
        self.gone += 1;
        if self.gone > self.list.len() / 2 {
            self.list.retain(|id| is_waiting(*id));
            self.gone = 0;
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.list.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn id(n: u32) -> SocketId {
        // Places are used again and again.
        SocketId {
            index: n % 3,
            generation: n,
        }
    }

    proptest! {
        /// As a list from which those that leave are taken out at once, and not much longer.
        #[test]
        fn order_is_kept_and_length_is_bounded(steps in proptest::collection::vec(0_u8..4, 0..300)) {
            let mut queue = Queueing::default();
            let mut model: VecDeque<SocketId> = VecDeque::new();
            let mut most = 0;
            for (n, step) in (0_u32..).zip(steps) {
                match step {
                    0 | 1 => {
                        queue.push(id(n));
                        model.push_back(id(n));
                    }
                    2 => {
                        let at = n as usize % model.len().max(1);
                        if model.remove(at).is_some() {
                            queue.left(|id| model.contains(&id));
                        }
                    }
                    _ => {
                        let popped = loop {
                            match queue.pop() {
                                Some(id) if !model.contains(&id) => queue.was_gone(),
                                other => break other,
                            }
                        };
                        prop_assert_eq!(popped, model.pop_front());
                    }
                }
                prop_assert_eq!(queue.is_empty(), model.is_empty());
                most = most.max(model.len());
                prop_assert!(queue.len() <= 2 * most);
            }
        }
    }
}
