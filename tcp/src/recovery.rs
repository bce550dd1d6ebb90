//! skeleton
#[derive(Debug)]
pub(crate) struct Scoreboard;
