//! Handshake messages that may come after the handshake.

use super::Role;
use crate::error::RxError;
use crate::suite::Version;

/// A whole message.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Message {
    KeyUpdate { answer: bool },
    Ticket(Box<[u8]>),
    Renegotiation,
}

/// Joins messages that several records carry, and parts those that share one.
///
/// What waits here is bounded: a type that has no place is refused by its first byte, a length by
/// the fourth, and a record adds at most 2^14 bytes.
#[derive(Default)]
pub(super) struct Joiner {
    bytes: Vec<u8>,
}

impl Joiner {
    pub(super) fn add(&mut self, content: &[u8]) {
        self.bytes.extend_from_slice(content);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes the first message out, if it's whole.
    pub(super) fn take(
        &mut self,
        version: Version,
        role: Role,
    ) -> Result<Option<Message>, RxError> {
        let Some(&kind) = self.bytes.first() else {
            return Ok(None);
        };
        let len_max = len_max(kind, version, role)?;
        let Some(&[_, high, mid, low]) = self.bytes.first_chunk() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes([0, high, mid, low]) as usize;
        if len > len_max {
            return Err(RxError::MessageTooLong);
        }
        let Some(body) = self.bytes.get(HEADER_LEN..HEADER_LEN + len) else {
            return Ok(None);
        };
        let message = match kind {
            KEY_UPDATE => Message::KeyUpdate {
                answer: requests_update(body)?,
            },
            NEW_SESSION_TICKET => Message::Ticket(body.into()),
            _ => Message::Renegotiation,
        };
        if self.bytes.len() == HEADER_LEN + len {
            // The usual case: nothing remains, not even memory.
            self.bytes = Vec::new();
        } else {
            self.bytes.drain(..HEADER_LEN + len);
        }
        Ok(Some(message))
    }
}

/// The longest body that a message of this type may have; an error if it may not come at all.
fn len_max(kind: u8, version: Version, role: Role) -> Result<usize, RxError> {
    match (version, role, kind) {
        (Version::Tls13, _, KEY_UPDATE) => Ok(1),
        //= https://www.rfc-editor.org/rfc/rfc8446#section-4.6.1
        //# At any time after the server has received the client Finished
        //# message, it MAY send a NewSessionTicket message.
        (Version::Tls13, Role::Client, NEW_SESSION_TICKET) => Ok(TICKET_MAX),
        (Version::Tls12, Role::Client, HELLO_REQUEST) => Ok(0),
        (Version::Tls12, Role::Server, CLIENT_HELLO) => Ok(CLIENT_HELLO_MAX),
        _ => Err(RxError::Unexpected),
    }
}

fn requests_update(body: &[u8]) -> Result<bool, RxError> {
    //= https://www.rfc-editor.org/rfc/rfc8446#section-4.6.3
    //# If an implementation receives any other value, it MUST
    //# terminate the connection with an "illegal_parameter" alert.
    match body {
        [0] => Ok(false),
        [1] => Ok(true),
        [_] => Err(RxError::IllegalValue),
        _ => Err(RxError::Malformed),
    }
}

pub(crate) const KEY_UPDATE: u8 = 24;
const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;

/// Bytes of a message's header: type and length.
const HEADER_LEN: usize = 4;
/// The longest ticket message: the ticket itself has 2^16 - 1 bytes at most, real ones a few
/// hundred.
const TICKET_MAX: usize = 1 << 16;
/// The longest hello that is read, to be turned down.
const CLIENT_HELLO_MAX: usize = 1 << 14;
