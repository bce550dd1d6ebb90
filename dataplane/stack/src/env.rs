//! What the caller passes to a stack for one call.

use lockgate_ktls::Ciphers;
use pktbuf::{Output, PagePool};

/// The worker's memory, ciphers and interfaces, borrowed by a stack for one call.
pub struct Env<'a, N: Output> {
    /// The worker's pool of page buffers: everything sent and every gathered record is in it.
    pub pages: &'a mut PagePool,
    /// The worker's record ciphers with their table of expanded keys.
    pub ciphers: &'a mut Ciphers,
    /// The interfaces. Packets are handed to it by [`Output::tx`].
    pub net: &'a mut N,
}
