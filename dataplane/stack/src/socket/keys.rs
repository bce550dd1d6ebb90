//! Keys that an application sets on a live connection.

use lockgate_ktls::{
    Ciphers, CurrentKeys, Deframer, Direction, EnableSettings, KeyInfo, Mode, Params, Session,
    TlsEnable,
};
use lockgate_tcp::State;
use pktbuf::{Buffer, Stream};

use super::state::KeySource;
use super::{Rx, Socket};
use crate::context::SocketContext;
use crate::notice::ChunkKind;
use crate::socket_error::SocketError;

impl Socket {
    /// Sets the sending keys. Bytes that are queued stay plain, or keep the key before.
    pub(crate) fn set_tx_keys(
        &mut self,
        enable: &TlsEnable<'_>,
        explicit: u64,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
    ) -> Result<(), SocketError> {
        let has_keys = self.tx.params();
        let session = self.check_keys(enable, Direction::Tx, has_keys, explicit, cx, ciphers)?;
        if !self.is_sending() {
            return Err(SocketError::Closed);
        }
        if has_keys.is_some() {
            self.tx.replace_keys(session, enable.rec_seq, ciphers)?;
            self.update_tcp_queue();
        } else {
            self.tx.enable(session, enable.rec_seq, ciphers)?;
            self.tx.set_record_len_max(cx.record_layer.record_len_max);
            self.keys_from = KeySource::Application;
        }
        self.make_ready(&mut cx.schedule);
        Ok(())
    }

    /// Sets the receiving keys. Bytes that were received and not read are the first records. Bytes
    /// that the application has [returned](crate::Stack::unread) count as not read.
    pub(crate) fn set_rx_keys(
        &mut self,
        enable: &TlsEnable<'_>,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
    ) -> Result<(), SocketError> {
        let has_keys = match &self.rx {
            Rx::Tls(deframer) => Some(deframer.params()),
            Rx::Plain(_) | Rx::Handshake(_) | Rx::Ended(_) => None,
        };
        // A receiver takes the explicit nonce from each record.
        let session = self.check_keys(enable, Direction::Rx, has_keys, 0, cx, ciphers)?;
        match &mut self.rx {
            Rx::Plain(received) => {
                let mut chain = core::mem::replace(received, Stream::new());
                if let Some(ChunkKind::Plain(first)) = self.unread.take().map(|chunk| chunk.0) {
                    chain = prepend(first, chain);
                }
                let deframer = Deframer::for_application(session, enable.rec_seq, chain, ciphers);
                self.keys_from = KeySource::Application;
                self.start_receiving(deframer, &mut cx.notices);
            }
            Rx::Tls(deframer) => {
                deframer.replace_keys(session, enable.rec_seq, ciphers)?;
                if self.is_readable() {
                    self.notify_readable(&mut cx.notices);
                }
            }
            Rx::Handshake(_) => return Err(SocketError::NotReady),
            Rx::Ended(_) => return Err(SocketError::NotConnected),
        }
        self.update_room(&cx.limits, &mut cx.memory.receive);
        self.make_ready(&mut cx.schedule);
        Ok(())
    }

    /// Checks the parameters, then the connection's state, and makes the session.
    fn check_keys(
        &self,
        enable: &TlsEnable<'_>,
        direction: Direction,
        has_keys: Option<Params>,
        explicit: u64,
        cx: &SocketContext,
        ciphers: &mut Ciphers,
    ) -> Result<Session, SocketError> {
        let current = match (has_keys, self.keys_from) {
            (None, _) => CurrentKeys::None,
            (Some(_), KeySource::Handshake { .. }) => CurrentKeys::Stack,
            (Some(params), KeySource::Application) => CurrentKeys::Application(params),
        };
        let settings = cx.record_layer.enable_settings();
        enable.check(direction, settings, current, ciphers)?;
        if matches!(self.rx, Rx::Handshake(_)) {
            return Err(SocketError::NotReady);
        }
        let is_opening = matches!(self.tcp.state(), State::SynSent | State::SynReceived);
        if is_opening || self.is_tcp_over() || self.is_detached() {
            return Err(SocketError::NotConnected);
        }
        Ok(enable.session(direction, explicit)?)
    }

    /// The mode of the sending direction.
    pub(crate) fn tx_mode(&self) -> Mode {
        self.tx.mode()
    }

    /// The mode of the receiving direction.
    pub(crate) fn rx_mode(&self) -> Mode {
        match &self.rx {
            Rx::Tls(_) => Mode::Sw,
            Rx::Plain(_) | Rx::Handshake(_) | Rx::Ended(_) => Mode::None,
        }
    }

    /// Requests a mode of the sending direction.
    pub(crate) fn set_tx_mode(&self, mode: Mode) -> Result<(), SocketError> {
        match mode {
            Mode::Sw => Ok(()),
            // FreeBSD: success without keys, EOPNOTSUPP if the interface lacks TXTLS.
            Mode::Ifnet if self.tx.params().is_none() => Ok(()),
            Mode::Ifnet => Err(SocketError::NoOffload),
            Mode::None | Mode::Toe => Err(SocketError::Mode),
        }
    }

    /// The state of the sending keys.
    pub(crate) fn tx_key_info(&self) -> Option<KeyInfo> {
        self.tx.key_info()
    }

    /// The state of the receiving keys.
    pub(crate) fn rx_key_info(&self) -> Option<KeyInfo> {
        self.deframer().map(Deframer::key_info)
    }

    /// Limits the content of sent records.
    pub(crate) fn set_tx_max_payload(&mut self, bytes: u16) -> Result<(), SocketError> {
        if self.tx.params().is_none() {
            return Err(SocketError::NoKeys);
        }
        Ok(self.tx.set_payload_len_max(bytes)?)
    }

    /// The limit of the content of sent records.
    pub(crate) fn tx_max_payload(&self) -> Option<u16> {
        self.tx.payload_len_max()
    }

    /// Expects records without padding, or with it.
    pub(crate) fn set_rx_expect_no_pad(&mut self, expected: bool) -> Result<(), SocketError> {
        match &mut self.rx {
            Rx::Tls(deframer) => Ok(deframer.set_expect_no_pad(expected)?),
            Rx::Plain(_) | Rx::Handshake(_) | Rx::Ended(_) => Err(SocketError::NoKeys),
        }
    }

    /// Whether records without padding are expected.
    pub(crate) fn rx_expect_no_pad(&self) -> Option<bool> {
        self.deframer().map(Deframer::expects_no_pad)
    }

    fn deframer(&self) -> Option<&Deframer> {
        match &self.rx {
            Rx::Tls(deframer) => Some(deframer),
            Rx::Plain(_) | Rx::Handshake(_) | Rx::Ended(_) => None,
        }
    }
}

/// Checks keys for a listener, in the order of those for a connection.
pub(crate) fn check_listener(
    enable: &TlsEnable<'_>,
    direction: Direction,
    settings: EnableSettings,
    ciphers: &mut Ciphers,
) -> Result<(), SocketError> {
    enable.check(direction, settings, CurrentKeys::None, ciphers)?;
    Err(match direction {
        Direction::Tx => SocketError::NotConnected,
        Direction::Rx => SocketError::Listening,
    })
}

/// Puts a buffer in front of a stream.
fn prepend(first: Buffer, mut rest: Stream<Buffer>) -> Stream<Buffer> {
    let mut chain = Stream::new();
    chain.push(first);
    while let Some((mut buffer, skip)) = rest.pop_front() {
        buffer.trim_front(skip);
        chain.push(buffer);
    }
    chain
}
