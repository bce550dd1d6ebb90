//! The name that every crate has for a logical interface.

/// A logical interface, by its place in the configuration.
///
/// Frames are received on one and sent on one; which port carries them is the drivers' business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfaceId(pub u16);
