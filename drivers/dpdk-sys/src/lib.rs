//! Raw bindings to the installed libdpdk, and to a C shim for its static inline functions.
//!
//! Names are DPDK's own (`rte_*`) and the shim's (`lg_*`, declared and explained in
//! `shim/shim.h`); nothing here is safe, and nothing here has an opinion. Packets cross this
//! border a burst at a time: [`lg_rx_burst`] fills the fragments of a whole burst in place,
//! [`lg_tx_burst`] builds and sends one from flat descriptions.
//!
//! Fields of an mbuf are reached by the shim only: later LTS lines of DPDK move them.

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
