//! A bounded table of expanded keys that evicts the least recently used.

use std::collections::HashMap;

use zeroize::Zeroizing;

use crate::error::CryptoError;
use crate::session::{Keys, Session, SessionId};
use crate::suite::NONCE_LEN;

/// An expanded key and the IV that goes with it, both wiped when dropped: the key by its type.
///
/// Both are behind pointers, so that a table that grows or closes a gap leaves no copy of them in
/// memory.
pub(super) struct Expanded<K> {
    pub(super) key: K,
    pub(super) iv: Box<Zeroizing<[u8; NONCE_LEN]>>,
}

impl<K> Expanded<K> {
    pub(super) fn new(key: K, keys: &Keys) -> Self {
        let mut iv = Box::new(Zeroizing::new([0; NONCE_LEN]));
        iv.copy_from_slice(keys.iv());
        Self { key, iv }
    }
}

/// Expanded keys by session id, with LRU eviction.
///
/// An expanded AES-GCM key takes hundreds of bytes and an idle session 64, so only recently used
/// sessions have an expanded key.
pub(super) struct KeyTable<K> {
    /// Slots in use, linked from most to least recently used.
    slots: Vec<Slot<K>>,
    by_id: HashMap<SessionId, usize>,
    newest: Option<usize>,
    oldest: Option<usize>,
    keys_max: usize,
}

struct Slot<K> {
    id: SessionId,
    newer: Option<usize>,
    older: Option<usize>,
    expanded: Expanded<K>,
}

impl<K> KeyTable<K> {
    /// Creates a table for at most `keys_max` keys, and at least one.
    pub(super) fn new(keys_max: usize) -> Self {
        Self {
            slots: Vec::new(),
            by_id: HashMap::new(),
            newest: None,
            oldest: None,
            keys_max: keys_max.max(1),
        }
    }

    /// Returns the session's expanded key; `expand` creates a missing one.
    pub(super) fn get(
        &mut self,
        session: &Session,
        expand: impl FnOnce(&Keys) -> Result<K, CryptoError>,
    ) -> Result<&mut Expanded<K>, CryptoError> {
        let id = session.id();
        let at = match self.newest {
            // The records of a burst share a key.
            Some(newest) if self.slots[newest].id == id => newest,
            _ => match self.by_id.get(&id) {
                Some(&at) => {
                    self.unlink(at);
                    self.link(at);
                    at
                }
                None => {
                    let keys = session.keys();
                    let key = expand(&keys)?;
                    self.insert(id, Expanded::new(key, &keys))
                }
            },
        };
        Ok(&mut self.slots[at].expanded)
    }

    /// Removes the session's expanded key, if there is one.
    pub(super) fn forget(&mut self, id: SessionId) {
        if let Some(at) = self.by_id.remove(&id) {
            self.remove(at);
        }
    }

    fn insert(&mut self, id: SessionId, expanded: Expanded<K>) -> usize {
        if self.slots.len() >= self.keys_max
            && let Some(oldest) = self.oldest
        {
            self.by_id.remove(&self.slots[oldest].id);
            self.remove(oldest);
        }
        let at = self.slots.len();
        self.slots.push(Slot {
            id,
            newer: None,
            older: None,
            expanded,
        });
        self.by_id.insert(id, at);
        self.link(at);
        at
    }

    /// Removes a slot and moves the last one into its place.
    fn remove(&mut self, at: usize) {
        self.unlink(at);
        self.slots.swap_remove(at);
        let Some(moved) = self.slots.get(at) else {
            return;
        };
        let (id, newer, older) = (moved.id, moved.newer, moved.older);
        self.by_id.insert(id, at);
        match newer {
            Some(newer) => self.slots[newer].older = Some(at),
            None => self.newest = Some(at),
        }
        match older {
            Some(older) => self.slots[older].newer = Some(at),
            None => self.oldest = Some(at),
        }
    }

    /// Makes a slot the most recently used.
    fn link(&mut self, at: usize) {
        self.slots[at].newer = None;
        self.slots[at].older = self.newest;
        match self.newest {
            Some(newest) => self.slots[newest].newer = Some(at),
            None => self.oldest = Some(at),
        }
        self.newest = Some(at);
    }

    fn unlink(&mut self, at: usize) {
        let (newer, older) = (self.slots[at].newer, self.slots[at].older);
        match newer {
            Some(newer) => self.slots[newer].older = older,
            None => self.newest = older,
        }
        match older {
            Some(older) => self.slots[older].newer = newer,
            None => self.oldest = newer,
        }
    }

    /// Session ids, most recently used first.
    #[cfg(test)]
    fn ids(&self) -> Vec<SessionId> {
        let mut ids = Vec::new();
        let mut at = self.newest;
        while let Some(slot) = at.map(|at| &self.slots[at]) {
            ids.push(slot.id);
            at = slot.older;
        }
        assert_eq!(ids.len(), self.by_id.len());
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::{Params, Suite, Version};

    fn sessions<const N: usize>() -> [Session; N] {
        let params = Params::new(Suite::Aes128Gcm, Version::Tls12);
        core::array::from_fn(|n| {
            let byte = u8::try_from(n).unwrap();
            Session::from_key(params, &[byte; 16], &[byte; NONCE_LEN]).unwrap()
        })
    }

    #[test]
    fn the_least_recently_used_key_goes_first() {
        let [a, b, c, d] = sessions();
        let mut table = KeyTable::new(3);
        let mut made = 0;
        for session in [&a, &b, &c, &a, &a, &d, &b, &b] {
            let expanded = table
                .get(session, |keys| {
                    made += 1;
                    Ok(keys.key()[0])
                })
                .unwrap();
            assert_eq!(expanded.key, session.keys().key()[0]);
            assert_eq!(&**expanded.iv, session.keys().iv());
        }
        // a, b, c were made; d put out b; b, made again, put out c.
        assert_eq!(made, 5);
        assert_eq!(table.ids(), [b.id(), d.id(), a.id()]);
    }

    #[test]
    fn a_forgotten_key_is_gone_whatever_its_place() {
        for victim in 0..3 {
            let all: [Session; 4] = sessions();
            let mut table = KeyTable::new(3);
            for session in &all[..3] {
                table.get(session, |_| Ok(())).unwrap();
            }
            table.forget(all[victim].id());
            table.forget(all[victim].id());
            let mut left: Vec<_> = all[..3].iter().rev().map(Session::id).collect();
            left.retain(|&id| id != all[victim].id());
            assert_eq!(table.ids(), left);
            table.get(&all[3], |_| Ok(())).unwrap();
            assert_eq!(table.ids()[0], all[3].id());
            assert_eq!(table.ids()[1..], left);
        }
    }

    #[test]
    fn a_key_that_cannot_be_made_leaves_no_trace() {
        let [a, b] = sessions();
        let mut table = KeyTable::new(1);
        table.get(&a, |_| Ok(())).unwrap();
        assert!(table.get(&b, |_| Err(CryptoError::Backend)).is_err());
        assert_eq!(table.ids(), [a.id()]);
    }
}
