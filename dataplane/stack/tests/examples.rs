//! The examples run to their ends.
#![forbid(unsafe_code)]

#[path = "../examples/ktls.rs"]
mod ktls;

#[test]
fn the_hand_over_of_keys() -> Result<(), Box<dyn std::error::Error>> {
    ktls::run()
}
