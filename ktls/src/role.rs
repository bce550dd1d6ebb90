//! The roles of a handshake.

/// Role in the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The end that sent the ClientHello.
    Client,
    /// The end that answered it.
    Server,
}
