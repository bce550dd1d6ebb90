//! skeleton
#[derive(Debug)]
pub(crate) struct Receive;
