//! Explores the target `stack` with libFuzzer.
#![forbid(unsafe_code)]
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| lockgate_fuzz::stack::run(input));
