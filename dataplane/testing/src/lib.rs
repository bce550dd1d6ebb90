//! What the tests and benchmarks of every crate share. A dev-dependency, except that the cache's
//! feature for fault tests uses it optionally.
//!
//! It owns
//!
//! - [`Random`], the only generator of random numbers in tests: one seed, one sequence, for ever;
//! - [`ScratchDir`], a temporary directory that is removed when it is dropped;
//! - [`wait_until`], the only way to wait for an event of another thread or process;
//! - [`skip`], which reports a test that can't run on this machine;
//! - [`process`], commands whose output is collected;
//! - `proptest_config` (feature `proptest`), a property test's number of cases and fixed seed,
//!   which every property test uses;
//! - `certificates` (feature `certificates`), keys and certificates;
//! - `cases` (feature `cases`), a harness that runs each test case in a process of its own;
//! - `network` (feature `network`), network namespaces joined by veth pairs, and programs in them.
//!
//! # Invariants
//!
//! - A test's outcome doesn't depend on the machine's speed or load: nothing here reads a clock,
//!   and waits are limited only to catch hangs.
//! - Nothing random depends on anything but a seed.
//! - It uses no other crate of the workspace, so each of them can use it. What needs large
//!   dependencies is behind a feature.
//!
//! # Example
//!
//! ```
//! use lockgate_testing::{Random, ScratchDir};
//!
//! let mut random = Random::new(7);
//! let scratch = ScratchDir::new();
//! let content = random.bytes(1000);
//! let file = scratch.write("www/noise", &content);
//! assert_eq!(std::fs::read(file).expect("the file was just written"), content);
//! assert_eq!(Random::new(7).bytes(1000), content);
//! ```
#![forbid(unsafe_code)]

#[cfg(feature = "cases")]
pub mod cases;
#[cfg(feature = "certificates")]
pub mod certificates;
#[cfg(feature = "network")]
pub mod network;
pub mod process;
#[cfg(feature = "proptest")]
mod property;
mod random;
mod scratch;
mod skip;
mod stale;
mod wait;

#[cfg(feature = "proptest")]
pub use property::proptest_config;
pub use random::Random;
pub use scratch::ScratchDir;
pub use skip::skip;
pub use wait::{HANG_LIMIT, wait_for, wait_until};
