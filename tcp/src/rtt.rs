//! skeleton
#[derive(Debug)]
pub(crate) struct Rtt;
