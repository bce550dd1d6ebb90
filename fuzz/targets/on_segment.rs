//! Explores the target `on_segment` with libFuzzer.
#![forbid(unsafe_code)]
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| lockgate_fuzz::on_segment::run(input));
