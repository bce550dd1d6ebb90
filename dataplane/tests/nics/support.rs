//! What the cases share.

pub(crate) mod appliance;
pub(crate) mod archive;
pub(crate) mod capture;
pub(crate) mod card;
pub(crate) mod guest;
pub(crate) mod machine;
pub(crate) mod spec;
