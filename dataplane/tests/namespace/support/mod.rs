//! What the cases share.

pub(crate) mod case;
pub(crate) mod client;
pub(crate) mod launch;
pub(crate) mod material;
pub(crate) mod net;
pub(crate) mod run;
pub(crate) mod scene;
pub(crate) mod server;
