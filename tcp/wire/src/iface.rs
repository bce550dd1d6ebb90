//! The identifier of a logical interface.

/// Identifies a logical interface by its index in the configuration, from 0.
///
/// Every frame is received on one and sent on one. The drivers map it to a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfaceId(pub u16);
