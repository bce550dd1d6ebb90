//! The record layer's socket interface for applications that bring their own keys: ktls(4)'s
//! options, with those of Linux's `tls.rst` that are useful here.

use core::ops::Range;
use std::sync::Arc;

use lockgate_ktls::{Ciphers, Direction, KeyInfo, Mode, TlsEnable};
use pktbuf::PagePool;

use super::Stack;
use crate::file_source::FileSource;
use crate::notice::{Chunk, ListenerId, RecvRecord, SendError, SocketId};
use crate::socket::{Socket, check_listener};
use crate::socket_error::SocketError;

/// What keys can be set on: a connection. A listener is refused as ktls(4) refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyTarget {
    /// A connection.
    Socket(SocketId),
    /// A listener.
    Listener(ListenerId),
}

impl From<SocketId> for KeyTarget {
    fn from(socket: SocketId) -> Self {
        Self::Socket(socket)
    }
}

impl From<ListenerId> for KeyTarget {
    fn from(listener: ListenerId) -> Self {
        Self::Listener(listener)
    }
}

impl Stack {
    /// Sets the keys with which a connection sends (`TCP_TXTLS_ENABLE`). Everything sent from now
    /// on is framed into records. Bytes that are queued already stay plain and precede the first
    /// one.
    ///
    /// Set a second time in TLS 1.3, the keys are changed: records that are queued keep theirs. The
    /// application has sent a KeyUpdate before, by [`Stack::send_record`].
    ///
    /// The application sends alerts and KeyUpdates itself. [`Stack::shutdown`] sends no
    /// close_notify.
    ///
    /// # Errors
    /// In this order:
    /// - [`SocketError::NoSocket`] (EBADF);
    /// - [`SocketError::Enable`], see [`TlsEnable::check`];
    /// - [`SocketError::NotConnected`] (ENOTCONN) before the connection is established, after it is
    ///   over, and for listeners; [`SocketError::NotReady`] (EAGAIN) while the stack runs a TLS
    ///   handshake;
    /// - [`SocketError::Closed`] (EPIPE) after [`Stack::shutdown`];
    /// - EBUSY while records of the key before the last one aren't sealed.
    pub fn set_txtls(
        &mut self,
        on: impl Into<KeyTarget>,
        enable: &TlsEnable<'_>,
        ciphers: &mut Ciphers,
    ) -> Result<(), SocketError> {
        let explicit = self.random.next();
        match on.into() {
            KeyTarget::Socket(socket) => {
                let (socket, cx) = self.socket_mut(socket).ok_or(SocketError::NoSocket)?;
                socket.set_tx_keys(enable, explicit, cx, ciphers)
            }
            KeyTarget::Listener(_) => self.refuse_listener(enable, Direction::Tx, ciphers),
        }
    }

    /// Sets the keys with which a connection receives (`TCP_RXTLS_ENABLE`). Bytes that were
    /// received and not read are the first records. [`Stack::recv_record`] returns every record,
    /// alerts and handshake messages among them.
    ///
    /// After a KeyUpdate there is nothing to read (EKEYEXPIRED) until keys are set again.
    ///
    /// # Errors
    /// As [`Stack::set_txtls`]; a listener is [`SocketError::Listening`] (EINVAL).
    pub fn set_rxtls(
        &mut self,
        on: impl Into<KeyTarget>,
        enable: &TlsEnable<'_>,
        ciphers: &mut Ciphers,
    ) -> Result<(), SocketError> {
        match on.into() {
            KeyTarget::Socket(socket) => {
                let (socket, cx) = self.socket_mut(socket).ok_or(SocketError::NoSocket)?;
                socket.set_rx_keys(enable, cx, ciphers)
            }
            KeyTarget::Listener(_) => self.refuse_listener(enable, Direction::Rx, ciphers),
        }
    }

    fn refuse_listener(
        &self,
        enable: &TlsEnable<'_>,
        direction: Direction,
        ciphers: &mut Ciphers,
    ) -> Result<(), SocketError> {
        let settings = self.cx.record_layer.enable_settings();
        check_listener(enable, direction, settings, ciphers)
    }

    /// Returns what seals a connection's records (`TCP_TXTLS_MODE`).
    ///
    /// # Errors
    /// [`SocketError::NoSocket`].
    pub fn txtls_mode(&self, socket: SocketId) -> Result<Mode, SocketError> {
        self.socket(socket)
            .map(Socket::tx_mode)
            .ok_or(SocketError::NoSocket)
    }

    /// Returns what opens a connection's records (`TCP_RXTLS_MODE`).
    ///
    /// # Errors
    /// [`SocketError::NoSocket`].
    pub fn rxtls_mode(&self, socket: SocketId) -> Result<Mode, SocketError> {
        self.socket(socket)
            .map(Socket::rx_mode)
            .ok_or(SocketError::NoSocket)
    }

    /// Requests what seals a connection's records: [`Mode::Sw`] or [`Mode::Ifnet`]. Without keys it
    /// changes nothing, as in FreeBSD.
    ///
    /// # Errors
    /// [`SocketError::Mode`] (EINVAL) for other modes; [`SocketError::NoOffload`] (EOPNOTSUPP)
    /// because no interface seals records; [`SocketError::NoSocket`].
    pub fn set_txtls_mode(&mut self, socket: SocketId, mode: Mode) -> Result<(), SocketError> {
        let (socket, _) = self.socket_mut(socket).ok_or(SocketError::NoSocket)?;
        socket.set_tx_mode(mode)
    }

    /// Returns the state of the sending keys, as `getsockopt` of Linux's `TLS_TX`.
    ///
    /// # Errors
    /// [`SocketError::NoKeys`] without keys, [`SocketError::NoSocket`].
    pub fn txtls_info(&self, socket: SocketId) -> Result<KeyInfo, SocketError> {
        let socket = self.socket(socket).ok_or(SocketError::NoSocket)?;
        socket.tx_key_info().ok_or(SocketError::NoKeys)
    }

    /// Returns the state of the receiving keys, as `getsockopt` of Linux's `TLS_RX`.
    ///
    /// # Errors
    /// As [`Stack::txtls_info`].
    pub fn rxtls_info(&self, socket: SocketId) -> Result<KeyInfo, SocketError> {
        let socket = self.socket(socket).ok_or(SocketError::NoSocket)?;
        socket.rx_key_info().ok_or(SocketError::NoKeys)
    }

    /// Limits the content of sent records, in bytes: 64 to 2^14 in TLS 1.2, 63 to 2^14 in TLS 1.3
    /// (Linux's `TLS_TX_MAX_PAYLOAD_LEN`).
    ///
    /// # Errors
    /// EINVAL for other values and without keys, EBUSY while a record is open.
    pub fn set_tx_max_payload(&mut self, socket: SocketId, bytes: u16) -> Result<(), SocketError> {
        let (socket, _) = self.socket_mut(socket).ok_or(SocketError::NoSocket)?;
        socket.set_tx_max_payload(bytes)
    }

    /// Returns the limit of the content of sent records, in bytes.
    ///
    /// # Errors
    /// [`SocketError::NoKeys`] without keys, [`SocketError::NoSocket`].
    pub fn tx_max_payload(&self, socket: SocketId) -> Result<u16, SocketError> {
        let socket = self.socket(socket).ok_or(SocketError::NoSocket)?;
        socket.tx_max_payload().ok_or(SocketError::NoKeys)
    }

    /// Lets the connection begin with small records, now and after a pause, or ends that; see
    /// [`DynamicRecords`](crate::DynamicRecords), whose numbers the stack's configuration has.
    /// Connections of the stack's own handshakes have them, those with keys of an application
    /// don't.
    ///
    /// # Errors
    /// [`SocketError::NoKeys`] without keys, [`SocketError::NoSocket`].
    pub fn set_tx_dynamic_records(
        &mut self,
        socket: SocketId,
        on: bool,
    ) -> Result<(), SocketError> {
        let (socket, cx) = self.socket_mut(socket).ok_or(SocketError::NoSocket)?;
        socket.set_tx_dynamic_records(on, cx)
    }

    /// Returns whether the connection has small records at times.
    ///
    /// # Errors
    /// [`SocketError::NoKeys`] without keys, [`SocketError::NoSocket`].
    pub fn tx_dynamic_records(&self, socket: SocketId) -> Result<bool, SocketError> {
        let socket = self.socket(socket).ok_or(SocketError::NoSocket)?;
        socket.has_tx_dynamic_records().ok_or(SocketError::NoKeys)
    }

    /// Expects that the peer pads no record (Linux's `TLS_RX_EXPECT_NO_PAD`). Padded records are
    /// counted then, and delivered all the same.
    ///
    /// # Errors
    /// EINVAL without receiving keys and in TLS 1.2.
    pub fn set_rx_expect_no_pad(
        &mut self,
        socket: SocketId,
        expected: bool,
    ) -> Result<(), SocketError> {
        let (socket, _) = self.socket_mut(socket).ok_or(SocketError::NoSocket)?;
        socket.set_rx_expect_no_pad(expected)
    }

    /// Returns whether records without padding are expected.
    ///
    /// # Errors
    /// [`SocketError::NoKeys`] without receiving keys, [`SocketError::NoSocket`].
    pub fn rx_expect_no_pad(&self, socket: SocketId) -> Result<bool, SocketError> {
        let socket = self.socket(socket).ok_or(SocketError::NoSocket)?;
        socket.rx_expect_no_pad().ok_or(SocketError::NoKeys)
    }

    /// Sends a range of a file by reference, after what is queued. Returns false if an earlier
    /// range isn't queued yet: a [`Notice::Writable`](crate::Notice::Writable) follows.
    ///
    /// The socket keeps the range and queues it as there is room, so that acknowledgments continue
    /// it. Until all of it is queued, [`Stack::send`] takes nothing. A FIN follows it.
    ///
    /// It closes a record that is open. With `more` its own last record stays open, for which the
    /// bytes of that record are copied. A range that the source can't read resets the connection
    /// ([`CloseReason::File`](crate::CloseReason::File), EIO).
    ///
    /// # Errors
    /// As [`Stack::send`].
    pub fn sendfile(
        &mut self,
        socket: SocketId,
        source: Arc<dyn FileSource>,
        range: Range<u64>,
        more: bool,
        pages: &mut PagePool,
    ) -> Result<bool, SendError> {
        let (socket, cx) = self.socket_mut(socket).ok_or(SendError::NoSocket)?;
        socket.sendfile(source, range, more, cx, pages)
    }

    /// Continues a range whose source reported [`FileSpan::Pending`](crate::FileSpan::Pending): it
    /// can be read now, or never.
    pub fn resume_sendfile(&mut self, socket: SocketId) {
        if let Some((socket, cx)) = self.socket_mut(socket) {
            socket.make_ready(&mut cx.schedule);
        }
    }

    /// Receives one record. With keys that the application set, every record is returned, of
    /// whatever type; with those of the stack's handshake, application data.
    ///
    /// # Errors
    /// - EBADMSG for a record that isn't authentic, or has no type: once, in order. The next call
    ///   returns the next record.
    /// - EKEYEXPIRED between a KeyUpdate and the next keys.
    /// - EMSGSIZE once for a stream that ended inside a record. [`RecvRecord::End`] follows.
    /// - EINVAL, EMSGSIZE, EBADMSG and EIO otherwise for a stream that can't be read any more: the
    ///   connection is reset, and [`Notice::Closed`](crate::Notice::Closed) follows.
    /// - [`SocketError::NoKeys`] (EINVAL) on a plain connection, [`SocketError::NoSocket`].
    pub fn recv_record(
        &mut self,
        socket: SocketId,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Result<RecvRecord, SocketError> {
        let (socket, cx) = self.socket_mut(socket).ok_or(SocketError::NoSocket)?;
        socket.recv_record(cx, ciphers, pages)
    }

    /// Returns the next record, and leaves it to be received (`MSG_PEEK`). A record that was
    /// received in part is returned without the bytes that were used.
    ///
    /// # Errors
    /// As [`Stack::recv_record`], which doesn't return the same error again.
    pub fn peek(
        &mut self,
        socket: SocketId,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> Result<RecvRecord<&Chunk>, SocketError> {
        let (socket, cx) = self.socket_mut(socket).ok_or(SocketError::NoSocket)?;
        socket.peek_record(cx, ciphers, pages)
    }
}
