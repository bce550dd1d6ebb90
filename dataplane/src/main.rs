//! The `lockgate` binary.
#![forbid(unsafe_code)]
fn main() {}
