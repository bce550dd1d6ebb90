//! The bare cipher: the upper bound of every row.

use std::hint::black_box;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use lockgate_ktls::nonce;
use pktbuf::SharedSpan;

use crate::pages::{RECORD, ROUND};

/// Seals in a loop by the backend's own call: from the same pages, out of place, into a ring of
/// output buffers.
pub(crate) struct BareSeal {
    key: LessSafeKey,
    number: u64,
    ring: Vec<u8>,
}

impl BareSeal {
    pub(crate) fn new() -> Self {
        Self {
            key: key(),
            number: 0,
            ring: vec![1; RING * SLOT],
        }
    }

    /// Seals these pages, record by record.
    pub(crate) fn run(&mut self, pages: &[Arc<SharedSpan>]) {
        let records = pages.iter().flat_map(|span| span.chunks_exact(RECORD));
        for (slot, record) in records.enumerate() {
            let out = &mut self.ring[slot % RING * SLOT..][..RECORD + 17];
            let (body, tail) = out.split_at_mut(RECORD);
            let nonce = Nonce::assume_unique_for_key(nonce(&IV, self.number));
            self.key
                .seal_out_of_place_scatter(nonce, Aad::from(AAD), record, body, &[23], tail)
                .unwrap();
            self.number += 1;
        }
        black_box(&self.ring);
    }
}

/// Opens in a loop by the backend's own call: in place, contiguous records that aren't in cache.
pub(crate) struct BareOpen {
    key: LessSafeKey,
    sealed: Vec<u8>,
    records: Vec<u8>,
    cold: Vec<u8>,
}

impl BareOpen {
    pub(crate) fn new() -> Self {
        let key = key();
        let mut sealed = Vec::with_capacity(ROUND / RECORD * (RECORD + 17));
        for number in 0..(ROUND / RECORD) as u64 {
            let at = sealed.len();
            sealed.resize(at + RECORD, 7);
            let nonce = Nonce::assume_unique_for_key(nonce(&IV, number));
            let mut tail = [0; 17];
            key.seal_in_place_scatter(nonce, Aad::from(AAD), &mut sealed[at..], &[23], &mut tail)
                .unwrap();
            sealed.extend_from_slice(&tail);
        }
        Self {
            key,
            records: sealed.clone(),
            sealed,
            cold: vec![1; 2 * ROUND],
        }
    }

    /// Restores the sealed records and evicts them from the caches.
    pub(crate) fn prepare(&mut self) {
        self.records.copy_from_slice(&self.sealed);
        for line in self.cold.chunks_mut(64) {
            line[0] = line[0].wrapping_add(1);
        }
        black_box(&self.cold);
    }

    /// Opens a round's worth of records.
    pub(crate) fn run(&mut self) {
        for (number, record) in (0..).zip(self.records.chunks_exact_mut(RECORD + 17)) {
            let nonce = Nonce::assume_unique_for_key(nonce(&IV, number));
            self.key
                .open_in_place(nonce, Aad::from(AAD), record)
                .unwrap();
        }
        black_box(&self.records);
    }
}

fn key() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[0x42; 16]).unwrap())
}

const IV: [u8; 12] = [0x17; 12];
/// A TLS 1.3 record's header.
const AAD: [u8; 5] = [23, 3, 3, 0x40, 0x11];
/// Output buffers: a mebibyte.
const RING: usize = 64;
const SLOT: usize = 16_640;
