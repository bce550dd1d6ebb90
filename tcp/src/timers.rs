//! skeleton
#[derive(Debug)]
pub(crate) struct Timers;
