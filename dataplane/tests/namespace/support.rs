//! What the cases share.

pub(crate) mod client;
pub(crate) mod material;
pub(crate) mod scene;
pub(crate) mod server;
