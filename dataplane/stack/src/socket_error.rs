//! Errors of the calls for applications that bring their own keys.

use lockgate_ktls::{EnableError, Errno, RxError, TxError};
use thiserror::Error;

use crate::notice::{CloseReason, RecvError, SendError};

/// Why a call of the record layer's socket interface was refused, with the errno that ktls(4) or
/// Linux's `tls.rst` has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SocketError {
    /// There is no such socket (any more).
    #[error("there is no such socket")]
    NoSocket,
    /// A listener has no receiving side.
    #[error("a listener doesn't receive")]
    Listening,
    /// The connection isn't established yet, or is over, or this is a listener.
    #[error("the connection isn't established")]
    NotConnected,
    /// The stack's own TLS handshake isn't over.
    #[error("the connection isn't ready")]
    NotReady,
    /// The sending side was closed.
    #[error("the sending side is closed")]
    Closed,
    /// The direction has no keys.
    #[error("the direction has no keys")]
    NoKeys,
    /// A mode that can't be set.
    #[error("only the modes of software and of the network card can be set")]
    Mode,
    /// No interface can seal records.
    #[error("no interface can seal records")]
    NoOffload,
    /// The next record isn't application data, and the call can't return its type. It is the next
    /// record still.
    #[error("the next record isn't application data")]
    ControlRecord,
    /// Keys were refused.
    #[error("the keys are refused: {0}")]
    Enable(#[from] EnableError),
    /// A write was refused.
    #[error("the write is refused: {0}")]
    Write(#[from] TxError),
    /// What the peer sent can't be read.
    #[error("the record layer failed: {0}")]
    Read(#[from] RxError),
}

impl SocketError {
    /// Returns the errno.
    pub const fn errno(self) -> Errno {
        match self {
            Self::NoSocket => Errno::Ebadf,
            Self::Listening | Self::NoKeys | Self::Mode => Errno::Einval,
            Self::NotConnected => Errno::Enotconn,
            Self::NotReady => Errno::Eagain,
            Self::Closed => Errno::Epipe,
            Self::NoOffload => Errno::Enotsup,
            Self::ControlRecord => Errno::Eio,
            Self::Enable(error) => error.errno(),
            Self::Write(error) => error.errno(),
            Self::Read(error) => error.errno(),
        }
    }
}

impl From<SendError> for SocketError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::NoSocket => Self::NoSocket,
            SendError::NotReady => Self::NotReady,
            SendError::Closed => Self::Closed,
            SendError::Record(error) => Self::Write(error),
        }
    }
}

impl From<RecvError> for SocketError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::NoSocket => Self::NoSocket,
            RecvError::ControlRecord => Self::ControlRecord,
            RecvError::Tls(error) => Self::Read(error),
        }
    }
}

impl SendError {
    /// Returns the errno that a socket call would return for this error.
    pub const fn errno(self) -> Errno {
        match self {
            Self::NoSocket => Errno::Ebadf,
            Self::NotReady => Errno::Eagain,
            Self::Closed => Errno::Epipe,
            Self::Record(error) => error.errno(),
        }
    }
}

impl RecvError {
    /// Returns the errno that a socket call would return for this error.
    pub const fn errno(self) -> Errno {
        match self {
            Self::NoSocket => Errno::Ebadf,
            Self::ControlRecord => Errno::Eio,
            Self::Tls(error) => error.errno(),
        }
    }
}

impl CloseReason {
    /// Returns what `SO_ERROR` would return for a connection that ended for this reason; `None` if
    /// it ended without an error.
    pub const fn errno(self) -> Option<Errno> {
        Some(match self {
            Self::Clean | Self::Truncated => return None,
            Self::Reset => Errno::Econnreset,
            Self::Refused => Errno::Econnrefused,
            Self::TimedOut => Errno::Etimedout,
            Self::Aborted | Self::Reclaimed | Self::Drained => Errno::Econnaborted,
            Self::Handshake(_) => Errno::Eproto,
            Self::Tls(error) => error.errno(),
            Self::Crypto | Self::File => Errno::Eio,
        })
    }
}
