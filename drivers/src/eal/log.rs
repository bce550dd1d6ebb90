//! Sends DPDK's log to `tracing`, line by line.

use std::ffi::c_char;
use std::slice;

use tracing::{debug, error, info, trace, warn};

/// Redirects DPDK's log (`rte_openlog_stream`). On failure it stays on standard error.
pub(super) fn open() {
    // SAFETY: called before the EAL starts; the callback is a function.
    let rc = unsafe { dpdk_sys::lg_log_open(Some(on_line)) };
    if rc < 0 {
        warn!(
            errno = -rc,
            "DPDK log: can't be captured; it stays on standard error"
        );
    }
}

/// # Safety
///
/// `text` is `len` bytes long.
unsafe extern "C" fn on_line(level: u32, text: *const c_char, len: usize) {
    // SAFETY: the caller's promise.
    let text = unsafe { slice::from_raw_parts(text.cast::<u8>(), len) };
    let text = String::from_utf8_lossy(text);
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        match level {
            // RTE_LOG_EMERG to RTE_LOG_ERR
            0..=4 => error!(target: "dpdk", "{line}"),
            5 => warn!(target: "dpdk", "{line}"),
            // RTE_LOG_NOTICE
            6 => info!(target: "dpdk", "{line}"),
            7 => debug!(target: "dpdk", "{line}"),
            _ => trace!(target: "dpdk", "{line}"),
        }
    }
}
