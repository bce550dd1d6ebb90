//! What ciphers leave on a thread's stack.

use core::hint::black_box;

/// Overwrites the stack below the caller, where the ciphers' calls had their frames.
///
/// aws-lc's ChaCha20 has the key in its frame, and RustCrypto's crates have it in several while
/// they expand it. None of them wipes that. The frames of later calls overwrite it sooner or later;
/// a thread that has nothing to do calls none.
#[inline(never)]
pub(super) fn wipe() {
    let mut frame = [0_u8; FRAME_BYTES];
    // Its bytes count as used, so that they are written.
    black_box(&mut frame);
}

/// More than the calls of any backend need, and less than a core's first cache.
const FRAME_BYTES: usize = 16 * 1024;
