//! A simulator without payload: two hosts, a path with every kind of impairment, one seed.
//!
//! - `seeds`: thousands of random worlds, each judged and bounded
//! - `crowd`: fair and hostile peers of one worker
//! - `efficiency`: what loss recovery costs in a steady state
//! - `grid`: throughput over loss, round-trip time and window, compared with a snapshot
//!
//! `LOCKGATE_SEEDS=100000` runs more seeds, `LOCKGATE_SEED=17` runs and prints one.
#![forbid(unsafe_code)]

mod crowd;
mod efficiency;
mod grid;
mod host;
mod link;
mod seeds;
mod world;
