//! Received bytes of a TLS handshake that the TLS library hasn't processed.

use lockgate_ktls::{HEADER_LEN, RecordHeader};
use pktbuf::{Buffer, LARGE_CAPACITY, PagePool, Reassembly, Stream};

/// Received bytes in order: first compacted bytes, then bytes in the buffers that they came in.
///
/// Bytes that have to wait for their peer are compacted, so that they pin no packet buffer.
#[derive(Default)]
pub(super) struct HandshakeInput {
    compacted: Vec<u8>,
    /// Ends where the received part of the stream ends.
    chain: Stream<Buffer>,
}

impl HandshakeInput {
    /// Joins an admitted payload with the stream offset `at`, by way of the reassembly.
    pub(super) fn insert(&mut self, at: u64, payload: Buffer, reassembly: &mut Reassembly) {
        reassembly.insert(at, payload, &mut self.chain);
    }

    /// The stream offset of the end.
    pub(super) fn end(&self) -> u64 {
        self.chain.end()
    }

    /// The number of bytes.
    pub(super) fn len(&self) -> u64 {
        self.compacted.len() as u64 + self.chain.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.compacted.is_empty() && self.chain.is_empty()
    }

    /// Memory of packet buffers that the bytes pin.
    pub(super) fn pinned(&self) -> u32 {
        self.chain.true_size()
    }

    /// Memory on the heap that the bytes take.
    pub(super) fn heap_bytes(&self) -> u64 {
        self.compacted.capacity() as u64
    }

    /// The header of the first record, if that is complete.
    pub(super) fn header(&self) -> Option<RecordHeader> {
        let mut header = [0; HEADER_LEN];
        (self.copy_to(&mut header) == HEADER_LEN).then(|| RecordHeader::parse(header))
    }

    /// Copies the bytes out of their packet buffers and frees those.
    pub(super) fn compact(&mut self) {
        let more = usize::try_from(self.chain.len()).unwrap_or(usize::MAX);
        if more == 0 {
            return;
        }
        let len = self.compacted.len() + more;
        // By halves at least, but not beyond the end of a record that isn't complete.
        let record = self.header().map(|h| HEADER_LEN + usize::from(h.length));
        let capacity = match record.filter(|end| *end >= len) {
            Some(end) => end.min(len + len / 2),
            None => len + len / 2,
        };
        if capacity > self.compacted.capacity() {
            self.compacted
                .reserve_exact(capacity - self.compacted.len());
        }
        for piece in self.chain.iter() {
            let skip = self.chain.start().saturating_sub(piece.0);
            let mut skip = usize::try_from(skip).unwrap_or(usize::MAX);
            for bytes in piece.1.fragments() {
                let skipped = skip.min(bytes.len());
                skip -= skipped;
                self.compacted
                    .extend_from_slice(bytes.get(skipped..).unwrap_or_default());
            }
        }
        self.chain.release(self.chain.end());
    }

    /// Moves the first bytes to `record`. There must be as many.
    pub(super) fn take(&mut self, record: &mut [u8]) {
        let taken = self.copy_to(record);
        debug_assert!(taken == record.len(), "the record is complete");
        let compacted = taken.min(self.compacted.len());
        if compacted == self.compacted.len() {
            self.compacted = Vec::new();
        } else {
            self.compacted.drain(..compacted);
        }
        let at = self.chain.start();
        self.chain.release(at + (taken - compacted) as u64);
    }

    /// Drops all bytes.
    pub(super) fn clear(&mut self) {
        self.compacted = Vec::new();
        self.chain.release(self.chain.end());
    }

    /// Moves compacted bytes to page buffers, for the record layer. Returns false if too few are
    /// free: nothing has changed then.
    pub(super) fn spread(&mut self, pages: &mut PagePool) -> bool {
        if self.compacted.is_empty() {
            return true;
        }
        let start = self.chain.start() - self.compacted.len() as u64;
        let mut spread = Stream::starting_at(start);
        for bytes in self.compacted.chunks(LARGE_CAPACITY as usize) {
            let Some(buffer) = pages.alloc_buffer(bytes) else {
                return false;
            };
            spread.push(buffer);
        }
        while let Some((mut buffer, released)) = self.chain.pop_front() {
            buffer.trim_front(released);
            spread.push(buffer);
        }
        self.compacted = Vec::new();
        self.chain = spread;
        true
    }

    /// Takes the bytes, for the record layer. None may be compacted.
    pub(super) fn take_chain(&mut self) -> Stream<Buffer> {
        debug_assert!(self.compacted.is_empty(), "spread before");
        core::mem::take(&mut self.chain)
    }

    fn copy_to(&self, out: &mut [u8]) -> usize {
        let len = self.compacted.len().min(out.len());
        let (front, rest) = out.split_at_mut(len);
        front.copy_from_slice(self.compacted.get(..len).unwrap_or_default());
        len + self.chain.copy_to(self.chain.start(), rest)
    }
}

#[cfg(test)]
mod tests {
    use pktbuf::{HeapBuffers, PoolConfig, Region};

    use super::*;

    /// Bytes come out in order, wherever they are kept. Compacted bytes pin no buffer.
    #[test]
    fn compacted_and_received_bytes_are_one_stream() {
        let mut buffers = HeapBuffers::new(16);
        let pool = PoolConfig {
            blocks: 4,
            small_spans: 4,
            large_spans: 1,
        };
        let mut region = Region::heap(PagePool::bytes_needed(pool)).unwrap();
        let mut pages = PagePool::new(&mut region, pool).unwrap();
        let mut reassembly = Reassembly::new();
        let mut input = HandshakeInput::default();
        let stream: Vec<u8> = [22, 3, 1, 0, 40].into_iter().chain(0..60).collect();
        let mut push = |input: &mut HandshakeInput, buffers: &mut HeapBuffers, from, to| {
            let payload = buffers.alloc(&stream[from..to]).unwrap();
            input.insert(from as u64, payload, &mut reassembly);
        };
        push(&mut input, &mut buffers, 0, 3);
        input.compact();
        assert_eq!((input.header(), input.len(), input.pinned()), (None, 3, 0));
        push(&mut input, &mut buffers, 3, 20);
        assert_eq!(input.header().map(|header| header.length), Some(40));
        input.compact();
        assert!(buffers.is_full(), "nothing pins a packet buffer");
        assert!((20..=45).contains(&input.heap_bytes()));
        push(&mut input, &mut buffers, 20, 65);
        let mut record = [0; 45];
        input.take(&mut record);
        assert_eq!(record, stream[..45]);
        assert_eq!((input.len(), input.heap_bytes(), input.end()), (20, 0, 65));

        // The rest is compacted, and handed over in page buffers.
        input.compact();
        let rest = pages.alloc_buffer(&[0; 10]).unwrap();
        let held: Vec<_> = core::iter::from_fn(|| pages.alloc_buffer(&[0; 10])).collect();
        assert!(!input.spread(&mut pages), "no page buffer is free");
        drop((held, rest));
        assert!(input.spread(&mut pages));
        let chain = input.take_chain();
        assert_eq!((chain.start(), chain.end()), (45, 65));
        assert_eq!(chain.front(), &stream[45..]);
        drop(chain);
        pages.reclaim();
        assert!(pages.is_full() && buffers.is_full() && input.is_empty());
    }
}
