//! What sockets tell the application, and what it is told when it asks.

use core::net::SocketAddr;
use std::collections::VecDeque;

use lockgate_ktls::{Errno, Params, RxError, RxRecord};
use pktbuf::Buffer;
use thiserror::Error;

use crate::slab::SlabKey;
use crate::tls::Failure;

/// Names a socket. A socket that's gone never answers to its name again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl SocketId {
    /// A dense number: below [`Limits::connections_max`](crate::Limits::connections_max), and no
    /// other living socket's. For tables beside the stack's.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

impl From<SlabKey> for SocketId {
    fn from(SlabKey { index, generation }: SlabKey) -> Self {
        Self { index, generation }
    }
}

impl From<SocketId> for SlabKey {
    fn from(SocketId { index, generation }: SocketId) -> Self {
        Self { index, generation }
    }
}

/// Names a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub(crate) u32);

/// Something that happened to a socket, told by
/// [`Stack::poll_notice`](crate::Stack::poll_notice).
#[derive(Debug)]
pub enum Notice {
    /// A peer has connected to a listener. On a TLS listener nothing can be sent or received before
    /// [`Notice::HandshakeDone`].
    Accepted {
        /// The new socket.
        socket: SocketId,
        /// The listener.
        listener: ListenerId,
        /// The peer.
        remote: SocketAddr,
    },
    /// A connection that was begun here is there (TCP's part of it).
    Connected(SocketId),
    /// The TLS handshake is over.
    HandshakeDone(SocketId, Box<TlsInfo>),
    /// There is something to receive, be it the end.
    /// Comes again only after [`Stack::recv`](crate::Stack::recv) found nothing.
    Readable(SocketId),
    /// A send that took less than it was given can be tried again.
    Writable(SocketId),
    /// The peer will send no more, and everything before that was received.
    PeerClosed {
        /// The socket.
        socket: SocketId,
        /// With TLS, whether it said so (close_notify) before its FIN; without, always.
        clean: bool,
    },
    /// The socket is gone, whoever closed it. Always the last notice.
    Closed(SocketId, CloseReason),
}

/// Notices that the application hasn't fetched yet, in order.
#[derive(Debug, Default)]
pub(crate) struct NoticeQueue {
    queue: VecDeque<Notice>,
}

impl NoticeQueue {
    pub(crate) fn push(&mut self, notice: Notice) {
        self.queue.push_back(notice);
    }

    pub(crate) fn pop(&mut self) -> Option<Notice> {
        self.queue.pop_front()
    }
}

/// What was agreed on in a TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// Version and cipher.
    pub params: Params,
    /// The application protocol.
    pub alpn: Option<Box<[u8]>>,
    /// The name that the client asked for (servers).
    pub sni: Option<Box<str>>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

/// How a socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Both sides closed and everything was acknowledged. With TLS: both said so by close_notify,
    /// or this side closed first and didn't wait.
    Clean,
    /// Both sides closed, but the peer's TLS stream ended without close_notify.
    Truncated,
    /// The peer reset the connection.
    Reset,
    /// The peer refused it.
    Refused,
    /// The peer doesn't answer.
    TimedOut,
    /// The application aborted it; or had closed it, and then data came: reset either way.
    Aborted,
    /// The worker stopped before it was over.
    Drained,
    /// The TLS handshake failed.
    Handshake(Failure),
    /// The record layer failed.
    Tls(RxError),
    /// Sealing failed: no more can be sent.
    Crypto,
}

/// Something received.
#[derive(Debug)]
pub enum Recv {
    /// Bytes.
    Data(Chunk),
    /// Nothing now; a [`Notice::Readable`] will follow.
    Nothing,
    /// The peer sends no more. The socket can still send.
    End {
        /// As in [`Notice::PeerClosed`].
        clean: bool,
    },
}

/// Received bytes, given away: memory and window are free again when it's dropped.
pub struct Chunk(pub(crate) ChunkKind);

pub(crate) enum ChunkKind {
    /// Bytes of a plain connection.
    Plain(Buffer),
    /// One record's content, application data.
    Record(RxRecord),
}

impl Chunk {
    /// The bytes, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (plain, record) = match &self.0 {
            ChunkKind::Plain(buffer) => (Some(buffer.fragments()), None),
            ChunkKind::Record(record) => (None, Some(record.as_slice())),
        };
        plain.into_iter().flatten().chain(record)
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            ChunkKind::Plain(buffer) => buffer.len() as usize,
            ChunkKind::Record(record) => record.as_slice().len(),
        }
    }

    /// Whether there are none: a record may be empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl core::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}

/// Why nothing can be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecvError {
    /// There is no such socket (any more).
    #[error("there is no such socket")]
    NoSocket,
    /// The record layer failed. The peer is being told, and the socket closes.
    #[error("the record layer failed: {0}")]
    Tls(#[from] RxError),
}

/// Why nothing can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// There is no such socket (any more).
    #[error("there is no such socket")]
    NoSocket,
    /// The TLS handshake isn't over.
    #[error("the connection isn't ready")]
    NotReady,
    /// The sending side was closed.
    #[error("the sending side is closed")]
    Closed,
    /// No bytes, a message longer than a record, or a record on a plain socket.
    #[error("the record layer can't take this: {0}")]
    Record(lockgate_ktls::TxError),
}

impl RecvError {
    /// The error number.
    pub const fn errno(self) -> Option<Errno> {
        match self {
            Self::NoSocket => None,
            Self::Tls(error) => Some(error.errno()),
        }
    }
}
