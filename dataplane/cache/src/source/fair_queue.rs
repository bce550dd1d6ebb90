//! A queue of queues, one for each client, which are served in turn.

use std::collections::VecDeque;

/// Queues of items, one for each client. Each client with an item gets the same share of the
/// service, however many items another one has queued.
pub(super) struct FairQueue<T> {
    /// By client, as far as one has ever had an item.
    clients: Vec<VecDeque<T>>,
    /// The client that is served next, if it has an item.
    turn: usize,
    len: usize,
}

impl<T> FairQueue<T> {
    pub(super) fn push_back(&mut self, client: u16, item: T) {
        self.queue(client).push_back(item);
        self.len += 1;
    }

    pub(super) fn push_front(&mut self, client: u16, item: T) {
        self.queue(client).push_front(item);
        self.len += 1;
    }

    /// The item that is served next. It stays the next one, unless another is pushed in front.
    pub(super) fn peek(&mut self) -> Option<&T> {
        self.find_turn();
        self.clients.get(self.turn)?.front()
    }

    /// Takes the item that is served next, and moves on to the next client.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.find_turn();
        let item = self.clients.get_mut(self.turn)?.pop_front()?;
        self.turn += 1;
        self.len -= 1;
        Some(item)
    }

    /// Takes the item that is served next without service: its client's next item is in turn.
    pub(super) fn pass_over(&mut self) -> Option<T> {
        self.find_turn();
        let item = self.clients.get_mut(self.turn)?.pop_front()?;
        self.len -= 1;
        Some(item)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Moves on to the first client that has an item.
    fn find_turn(&mut self) {
        let clients = self.clients.len();
        let has_item = |client: &usize| !self.clients[*client].is_empty();
        let mut order = (self.turn..clients).chain(0..self.turn.min(clients));
        self.turn = order.find(has_item).unwrap_or(0);
    }

    fn queue(&mut self, client: u16) -> &mut VecDeque<T> {
        let at = usize::from(client);
        if self.clients.len() <= at {
            self.clients.resize_with(at + 1, VecDeque::new);
        }
        &mut self.clients[at]
    }
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            clients: Vec::new(),
            turn: 0,
            len: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_served_in_turn() {
        let mut queue = FairQueue::default();
        for item in 0..100 {
            queue.push_back(0, (0, item));
        }
        queue.push_back(5, (5, 0));
        queue.push_back(2, (2, 0));
        queue.push_back(2, (2, 1));
        assert_eq!(queue.len(), 103);
        let first: Vec<_> = (0..6).filter_map(|_| queue.pop()).collect();
        assert_eq!(first, [(0, 0), (2, 0), (5, 0), (0, 1), (2, 1), (0, 2)]);
        // A client that joins is served next but one, not last.
        queue.push_back(1, (1, 0));
        assert_eq!(queue.peek(), Some(&(1, 0)));
        queue.push_front(1, (1, 9));
        assert_eq!(queue.pass_over(), Some((1, 9)));
        assert_eq!((queue.pop(), queue.pop()), (Some((1, 0)), Some((0, 3))));
        while queue.pop().is_some() {}
        assert!(queue.is_empty());
    }
}
