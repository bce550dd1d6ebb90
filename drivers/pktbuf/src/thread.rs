//! Thread numbers, by which a pool recognises its owner.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Returns the calling thread's number, which no other thread of this process has or had. (The
/// address of a thread-local isn't enough: a later thread may get the same one.)
pub(crate) fn current() -> u64 {
    ID.with(|id| {
        if id.get() == 0 {
            id.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        id.get()
    })
}

thread_local! {
    static ID: Cell<u64> = const { Cell::new(0) };
}

static NEXT: AtomicU64 = AtomicU64::new(1);
