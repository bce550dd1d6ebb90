//! What the cases share.

pub(crate) mod appliance;
mod archive;
pub(crate) mod capture;
pub(crate) mod card;
mod guest;
pub(crate) mod machine;
pub(crate) mod spec;
