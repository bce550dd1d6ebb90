//! Raw bindings to the installed libdpdk, and to a C shim for its static inline functions.
//!
//! # What it owns
//!
//! - Functions and structures of DPDK under their own names (`rte_*`), as `build.rs` lists them.
//! - The shim's functions and structures (`lg_*`, `LG_*`), which `shim/shim.h` declares and
//!   explains.
//!
//! Nothing here is safe; `lockgate-drivers` wraps it.
//!
//! # Invariants
//!
//! - Packets cross the border to C a burst at a time: [`lg_rx_burst`] fills the fragments of a
//!   whole burst in place, [`lg_tx_burst`] builds and sends one from flat descriptions.
//! - Fields of an mbuf are only accessed by the shim, because later LTS releases of DPDK move them.
//! - The build fails, naming the Debian packages to install, where DPDK 22.11 or newer is missing.
//!
//! # Example
//!
//! ```
//! use std::ffi::CStr;
//!
//! // SAFETY: rte_version returns a static, NUL-terminated string, without a started EAL, too.
//! let version = unsafe { CStr::from_ptr(dpdk_sys::rte_version()) };
//! assert!(version.to_string_lossy().starts_with("DPDK "));
//! ```

#[expect(
    missing_docs,
    non_camel_case_types,
    clippy::allow_attributes_without_reason,
    clippy::use_self,
    reason = "generated from C headers, which carry the documentation"
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;
