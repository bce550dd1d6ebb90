//! Fragments of received records, until a record is complete.

use pktbuf::{Buffer, PageBuf, PagePool, Stream};

use crate::codec::RecordHeader;
use crate::job::{ReceivedHead, RecordMemory};
use crate::pages;
use crate::suite::HEADER_LEN;

/// Collects the fragments of received records, and puts each record in one piece.
///
/// It decides alone how fragments are kept. Today they are kept by reference, and copied when their
/// record is complete. What is copied as it arrives, or opened piece by piece, would be in here,
/// too: nothing else knows where the bytes of an incomplete record are.
pub(super) struct Assembler {
    /// Encrypted bytes, from the header of the next record on.
    chain: Stream<Buffer>,
}

/// A complete record.
pub(super) struct Assembled {
    pub(super) head: ReceivedHead,
    /// Ciphertext and tag, in one piece.
    pub(super) memory: RecordMemory,
    /// Bytes that were copied for that.
    pub(super) copied: u32,
}

impl Assembler {
    /// Starts with the bytes that have arrived, from the header of a record on.
    pub(super) fn new(chain: Stream<Buffer>) -> Self {
        Self { chain }
    }

    /// Appends encrypted bytes, in stream order.
    pub(super) fn push(&mut self, buffer: Buffer) {
        self.chain.push_compact(buffer);
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.chain.release(self.chain.end());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    /// Returns the number of bytes.
    pub(super) fn len(&self) -> u64 {
        self.chain.len()
    }

    /// Returns the bytes of memory that they pin.
    pub(super) fn true_size(&self) -> u32 {
        self.chain.true_size()
    }

    /// Returns the header of the next record, if it is complete.
    pub(super) fn header(&self) -> Option<RecordHeader> {
        let mut bytes = [0; HEADER_LEN];
        let copied = self.chain.copy_to(self.chain.start(), &mut bytes);
        (copied == HEADER_LEN).then(|| RecordHeader::parse(bytes))
    }

    /// Removes the next record, which is complete: `total` bytes, of which `head_len` are header
    /// and explicit part. If no page buffer is free, neither in the pool nor in `reserve`, it stays
    /// and the result is `None`.
    pub(super) fn detach(
        &mut self,
        head_len: u8,
        total: u32,
        pool: &mut PagePool,
        reserve: &mut Option<PageBuf>,
    ) -> Option<Assembled> {
        let start = self.chain.start();
        let head = ReceivedHead::filled(head_len, |out| self.chain.copy_to(start, out));
        let head_len = u32::from(head_len);
        if self.is_in_one_piece(total) {
            let (mut buffer, released) = self.chain.pop_front()?;
            buffer.trim_front(released + head_len);
            return Some(Assembled {
                head,
                memory: RecordMemory::Buffer(buffer),
                copied: 0,
            });
        }
        let page = self.gather(head_len, total, pool, reserve)?;
        Some(Assembled {
            head,
            memory: RecordMemory::Page(page),
            copied: total - head_len,
        })
    }

    /// Whether the record at the front can be opened in place: it lies in one writable buffer and
    /// ends where that buffer ends.
    fn is_in_one_piece(&self, total: u32) -> bool {
        self.chain
            .find(self.chain.start())
            .is_some_and(|(buffer, at)| {
                buffer.len() - at == total && buffer.is_contiguous() && buffer.is_writable()
            })
    }

    /// Copies the record at the front, without its head, into one page buffer.
    fn gather(
        &mut self,
        head_len: u32,
        total: u32,
        pool: &mut PagePool,
        reserve: &mut Option<PageBuf>,
    ) -> Option<PageBuf> {
        let len = total - head_len;
        let start = self.chain.start();
        let reserved = || reserve.take_if(|page| page.room() >= len);
        let mut page = pages::alloc_for_copy(len, pool).or_else(reserved)?;
        let chain = &self.chain;
        page.append_with(len, |out| chain.copy_to(start + u64::from(head_len), out));
        self.chain.release(start + u64::from(total));
        Some(page)
    }
}
