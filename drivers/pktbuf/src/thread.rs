//! Which thread this is: a pool knows its owner by it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that no other thread of this process has or had. (A thread-local's address would do
/// but for threads that end and leave theirs to the next.)
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
