//! What the cases share.

pub(crate) mod appliance;
mod archive;
pub(crate) mod card;
pub(crate) mod machine;
