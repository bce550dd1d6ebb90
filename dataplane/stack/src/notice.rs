//! Notices to the application, and the results of its calls.

use core::net::SocketAddr;
use std::collections::VecDeque;

use lockgate_ktls::{ContentType, Params, RecordMeta, RxError, RxRecord};
use pktbuf::Buffer;
use thiserror::Error;

use crate::memory::ReserveLoan;
use crate::tls::Failure;

/// Names a socket. The id of a removed socket is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    pub(crate) index: u32,
    /// The number of the connection, modulo 2^32.
    pub(crate) serial: u32,
}

impl SocketId {
    /// The socket's index, for tables beside the stack's: below
    /// [`Limits::connections_max`](crate::Limits::connections_max), and unique among live sockets.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// The id as one number.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.serial) << 32 | u64::from(self.index)
    }

    /// The inverse of [`SocketId::to_bits`].
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self {
            index: bits as u32,
            serial: (bits >> 32) as u32,
        }
    }
}

/// Names a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub(crate) u32);

/// Something that happened to a socket; from [`Stack::poll_notice`](crate::Stack::poll_notice).
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
    /// The TCP handshake of a connection opened from here is complete.
    Connected(SocketId),
    /// The TLS handshake is complete.
    HandshakeDone(SocketId, Box<TlsInfo>),
    /// There is something to receive, which may be the end of the stream. Of records that is a
    /// complete one, or an invalid header. Comes again only after
    /// [`Stack::recv`](crate::Stack::recv) returned [`Recv::Nothing`].
    Readable(SocketId),
    /// A send that took less than it was given can be retried.
    Writable(SocketId),
    /// The peer has closed its sending side, and everything before that was received.
    PeerClosed {
        /// The socket.
        socket: SocketId,
        /// With TLS, whether close_notify came before the FIN. With keys that the application set,
        /// whether the FIN came between two records. Without TLS always true.
        clean: bool,
    },
    /// The socket was removed. Always the last notice.
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

/// What a TLS handshake negotiated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// Version and cipher.
    pub params: Params,
    /// The application protocol (ALPN).
    pub alpn: Option<Box<[u8]>>,
    /// The server name that the client sent (servers only).
    pub sni: Option<Box<str>>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

/// How a socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Both sides closed and everything was acknowledged. With TLS both sent close_notify, or this
    /// side closed first and didn't wait for the peer's.
    Clean,
    /// Both sides closed, but the peer's TLS stream ended without close_notify.
    Truncated,
    /// The peer reset the connection.
    Reset,
    /// The peer refused the connection.
    Refused,
    /// The peer doesn't answer.
    TimedOut,
    /// Reset by this side: the application aborted the connection, or data came after its close.
    Aborted,
    /// Reset or closed by this side because others needed its memory or its place, and it was idle
    /// or its peer took less than [`Limits::send_rate_min`](crate::Limits::send_rate_min).
    Reclaimed,
    /// The worker stopped before the connection ended.
    Drained,
    /// The TLS handshake failed.
    Handshake(Failure),
    /// The record layer failed.
    Tls(RxError),
    /// Sealing failed, or the key is used up. Nothing more can be sent.
    Crypto,
    /// Reset by this side: a file that [`Stack::sendfile`](crate::Stack::sendfile) sends can't be
    /// read.
    File,
}

/// The result of [`Stack::recv`](crate::Stack::recv).
#[derive(Debug)]
pub enum Recv {
    /// Bytes.
    Data(Chunk),
    /// Nothing now. A [`Notice::Readable`] follows.
    Nothing,
    /// The end of the peer's stream. The socket can still send.
    End {
        /// As in [`Notice::PeerClosed`].
        clean: bool,
    },
}

/// The result of [`Stack::recv_record`](crate::Stack::recv_record), and with `&Chunk` of
/// [`Stack::peek`](crate::Stack::peek).
#[derive(Debug)]
pub enum RecvRecord<C = Chunk> {
    /// A record: type, version and length as in ktls(4)'s `TLS_GET_RECORD`, and its content.
    Record(RecordMeta, C),
    /// Nothing now. A [`Notice::Readable`] follows.
    Nothing,
    /// The end of the peer's stream. The socket can still send.
    End {
        /// As in [`Notice::PeerClosed`].
        clean: bool,
    },
}

/// Received bytes. Their memory is freed when the chunk is dropped.
///
/// [`Stack::unread`](crate::Stack::unread) returns what the application can't use yet to the
/// socket.
pub struct Chunk(pub(crate) ChunkKind);

pub(crate) enum ChunkKind {
    /// Bytes of a plain connection.
    Plain(Buffer),
    /// One record's content.
    Record {
        record: RxRecord,
        /// Bytes at its front that the application has used.
        used: usize,
        /// Held while the record has the page buffer that is kept back for receiving.
        _loan: Option<ReserveLoan>,
    },
}

impl Chunk {
    /// The bytes, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (plain, record) = match &self.0 {
            ChunkKind::Plain(buffer) => (Some(buffer.fragments()), None),
            ChunkKind::Record { record, used, .. } => (None, record.as_slice().get(*used..)),
        };
        plain.into_iter().flatten().chain(record)
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            ChunkKind::Plain(buffer) => buffer.len() as usize,
            ChunkKind::Record { record, used, .. } => record.as_slice().len() - used,
        }
    }

    /// Removes so many bytes from the front, or all, if there are fewer. The chunk's memory stays
    /// as it is.
    pub fn advance(&mut self, bytes: usize) {
        let bytes = bytes.min(self.len());
        match &mut self.0 {
            // A buffer's length has 32 bits.
            ChunkKind::Plain(buffer) => buffer.trim_front(u32::try_from(bytes).unwrap_or(u32::MAX)),
            ChunkKind::Record { used, .. } => *used += bytes,
        }
    }

    /// The bytes of memory that it pins.
    pub(crate) fn true_size(&self) -> u32 {
        match &self.0 {
            ChunkKind::Plain(buffer) => buffer.true_size(),
            ChunkKind::Record { record, .. } => record.true_size(),
        }
    }

    /// The record's type, version and length, if it's one. The length is that of all its content.
    pub fn meta(&self) -> Option<RecordMeta> {
        match &self.0 {
            ChunkKind::Plain(_) => None,
            ChunkKind::Record { record, .. } => Some(record.meta()),
        }
    }

    /// Whether it's a record other than application data.
    pub(crate) fn is_control(&self) -> bool {
        self.meta()
            .is_some_and(|meta| meta.kind != ContentType::APPLICATION_DATA)
    }

    /// Whether there are no bytes: a record may be empty.
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
    /// The next record isn't application data, and the application set the keys.
    /// [`Stack::recv_record`](crate::Stack::recv_record) returns it with its type.
    #[error("the next record isn't application data")]
    ControlRecord,
    /// The record layer failed. With keys of the stack's handshake the socket closes by an alert;
    /// with keys of the application see [`Stack::recv_record`](crate::Stack::recv_record).
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
