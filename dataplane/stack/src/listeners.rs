//! Listeners, and the limit on resets that answer segments without a connection.

use core::time::Duration;
use std::sync::Arc;

use hashbrown::HashMap;
use lockgate_wire::{Endpoint, Instant};

use crate::config::ListenConfig;
use crate::notice::ListenerId;
use crate::tls::TlsServer;

/// All listeners of a stack.
///
/// Invariant: an accepting listener is found by its address; a stopped one isn't, but keeps its
/// number for as long as half-open connections refer to it.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    list: Vec<Listener>,
    /// Those that accept.
    by_address: HashMap<Endpoint, u32>,
}

/// A listener. Its number is never reused.
#[derive(Debug)]
pub(crate) struct Listener {
    at: Endpoint,
    pub(crate) tls: Option<Arc<TlsServer>>,
    /// The most half-open connections.
    pub(crate) backlog: u32,
    pub(crate) nagle: bool,
}

impl Listeners {
    pub(crate) fn add(&mut self, at: Endpoint, config: ListenConfig) -> ListenerId {
        let index = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        let backlog = if config.backlog == 0 {
            u32::MAX
        } else {
            config.backlog
        };
        let (tls, nagle) = (config.tls, config.nagle);
        self.list.push(Listener {
            at,
            tls,
            backlog,
            nagle,
        });
        self.by_address.insert(at, index);
        ListenerId(index)
    }

    /// Stops a listener.
    pub(crate) fn stop(&mut self, ListenerId(index): ListenerId) {
        if self.is_accepting(index)
            && let Some(listener) = self.get(index)
        {
            let at = listener.at;
            self.by_address.remove(&at);
        }
    }

    /// Stops all listeners.
    pub(crate) fn stop_all(&mut self) {
        self.by_address.clear();
    }

    /// The number of the listener that accepts connections to an address.
    pub(crate) fn find(&self, at: &Endpoint) -> Option<u32> {
        self.by_address.get(at).copied()
    }

    /// Whether a listener hasn't been stopped.
    pub(crate) fn is_accepting(&self, index: u32) -> bool {
        let listener = self.get(index);
        listener.is_some_and(|listener| self.find(&listener.at) == Some(index))
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Listener> {
        self.list.get(index as usize)
    }
}

/// How many resets may answer segments without a connection: `per_second_max` a second, in bursts
/// of as many.
#[derive(Debug)]
pub(crate) struct ResetLimit {
    per_second_max: u32,
    left: u32,
    refill_at: Instant,
}

impl ResetLimit {
    pub(crate) fn new(per_second_max: u32) -> Self {
        Self {
            per_second_max,
            left: per_second_max,
            refill_at: Instant::ZERO,
        }
    }

    /// Takes one reset from the allowance. Returns false if there is none left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        if now >= self.refill_at {
            self.refill_at = now + Duration::from_secs(1);
            self.left = self.per_second_max;
        }
        let is_allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn a_stopped_listener_is_not_taken_for_the_next_one_at_its_address() {
        let at = Endpoint::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 443);
        let mut listeners = Listeners::default();
        let old = listeners.add(at, ListenConfig::default());
        assert_eq!(listeners.find(&at), Some(old.0));
        listeners.stop(old);
        assert_eq!(listeners.find(&at), None);
        let new = listeners.add(at, ListenConfig::default());
        assert!(!listeners.is_accepting(old.0) && listeners.is_accepting(new.0));
        // Stopping the old one again leaves the new one alone.
        listeners.stop(old);
        assert_eq!(listeners.find(&at), Some(new.0));
        listeners.stop_all();
        assert!(!listeners.is_accepting(new.0));
    }

    #[test]
    fn resets_come_in_bursts_of_a_seconds_allowance() {
        let mut limit = ResetLimit::new(2);
        let ms = Instant::from_millis;
        assert!(limit.take(ms(5)) && limit.take(ms(6)));
        assert!(!limit.take(ms(7)) && !limit.take(ms(1004)));
        assert!(limit.take(ms(1005)) && limit.take(ms(1005)));
        assert!(!limit.take(ms(1005)));
        assert!(!ResetLimit::new(0).take(ms(0)));
    }
}
