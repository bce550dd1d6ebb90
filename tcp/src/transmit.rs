//! skeleton
#[derive(Debug)]
pub(crate) struct Send;
