//! Why there is no ring.

use std::io;

/// Why a ring can't be had.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A system call failed: `ENOSYS` without io_uring in the kernel, `EPERM` by the seccomp filter
    /// of a container or the sysctl `kernel.io_uring_disabled`, `ENOMEM` by a limit on memory.
    #[error("{call}: {error}")]
    Call {
        /// Which one.
        call: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The kernel is older than 5.6.
    #[error("the kernel's io_uring has no operation to read a file (5.6 has it)")]
    NoRead,
}

impl Refused {
    pub(crate) fn call(call: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Call { call, error }
    }
}
