//! Post-handshake messages.

use core::num::NonZeroU32;

use crate::error::RxError;
use crate::role::Role;
use crate::suite::Version;

/// A complete message.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Message {
    KeyUpdate { answer: bool },
    Ticket(Box<[u8]>),
    Renegotiation,
}

/// Joins messages that span records and splits those that share one.
///
/// What it keeps is bounded. A type that is not allowed is refused by its first byte, a length by
/// the fourth. The body of a message that is only refused, a ClientHello, is dropped as it comes.
/// So between two records it holds
/// - of a server: at most 4 bytes;
/// - of a client: at most one ticket message of [`TICKET_MAX`] bytes, without its last byte.
///
/// Messages behind the first one of a record, at most 2^14 bytes, stay until the next call.
#[derive(Default)]
pub(super) struct HandshakeJoiner {
    /// None between messages, which is nearly always.
    unhandled: Option<Box<Unhandled>>,
}

#[derive(Default)]
struct Unhandled {
    bytes: Vec<u8>,
    /// What remains of a ClientHello's body: dropped when it comes.
    dropped: Option<NonZeroU32>,
    /// Whether a ClientHello has been dropped and not reported yet.
    renegotiation: bool,
}

impl HandshakeJoiner {
    /// Adds the content of a record, which isn't empty.
    pub(super) fn add(&mut self, content: &[u8]) {
        self.unhandled.get_or_insert_default().add(content);
    }

    /// Follows the messages of a record that an application handles. Returns whether a KeyUpdate
    /// begins in it: no record behind that one has the same key (RFC 8446, 5.1).
    ///
    /// Only the boundaries of messages are kept, so that a byte inside a message isn't taken for a
    /// KeyUpdate. (Linux looks at the first byte of each record.)
    pub(super) fn scan_for_key_update(&mut self, content: &[u8]) -> bool {
        let mut unhandled = self.unhandled.take().unwrap_or_default();
        let found = unhandled.scan_for_key_update(content);
        if !found && !unhandled.is_empty() {
            self.unhandled = Some(unhandled);
        }
        found
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unhandled.is_none()
    }

    /// Returns the bytes of memory that it has.
    pub(super) fn true_size(&self) -> u32 {
        let bytes = |unhandled: &Unhandled| size_of::<Unhandled>() + unhandled.bytes.capacity();
        let bytes = self.unhandled.as_deref().map_or(0, bytes);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// Removes and returns the first message, if it is complete.
    pub(super) fn take_message(
        &mut self,
        version: Version,
        role: Role,
    ) -> Result<Option<Message>, RxError> {
        let Some(unhandled) = &mut self.unhandled else {
            return Ok(None);
        };
        let message = unhandled.take_message(version, role)?;
        if unhandled.is_empty() {
            self.unhandled = None;
        }
        Ok(message)
    }
}

impl Unhandled {
    fn add(&mut self, mut content: &[u8]) {
        if let Some(left) = self.dropped {
            let len = content.len().min(left.get() as usize);
            content = &content[len..];
            self.dropped = u32::try_from(len)
                .ok()
                .and_then(|len| NonZeroU32::new(left.get() - len));
            self.renegotiation = self.dropped.is_none();
        }
        self.bytes.extend_from_slice(content);
    }

    /// `bytes` has an incomplete header, `dropped` the rest of a body.
    fn scan_for_key_update(&mut self, mut content: &[u8]) -> bool {
        while !content.is_empty() {
            if let Some(left) = self.dropped {
                let len = content.len().min(left.get() as usize);
                content = &content[len..];
                self.dropped = NonZeroU32::new(left.get().saturating_sub(length(len)));
                continue;
            }
            let len = content.len().min(HEADER_LEN - self.bytes.len());
            let (header, rest) = content.split_at(len);
            self.bytes.extend_from_slice(header);
            content = rest;
            if self.bytes.first() == Some(&KEY_UPDATE) {
                return true;
            }
            if let Some(&[_, high, mid, low]) = self.bytes.first_chunk() {
                self.dropped = NonZeroU32::new(u32::from_be_bytes([0, high, mid, low]));
                self.bytes = Vec::new();
            }
        }
        false
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.dropped.is_none() && !self.renegotiation
    }

    fn take_message(&mut self, version: Version, role: Role) -> Result<Option<Message>, RxError> {
        if core::mem::take(&mut self.renegotiation) {
            return Ok(Some(Message::Renegotiation));
        }
        let Some(&kind) = self.bytes.first() else {
            return Ok(None);
        };
        let length = Length::of(kind, version, role)?;
        let Some(&[_, high, mid, low]) = self.bytes.first_chunk() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes([0, high, mid, low]) as usize;
        length.check(len)?;
        let Some(body) = self.bytes.get(HEADER_LEN..HEADER_LEN + len) else {
            if kind == CLIENT_HELLO {
                let missing = HEADER_LEN + len - self.bytes.len();
                self.dropped = u32::try_from(missing).ok().and_then(NonZeroU32::new);
                self.bytes = Vec::new();
            }
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
            // The usual case: nothing remains, so its memory is freed.
            self.bytes = Vec::new();
        } else {
            self.bytes.drain(..HEADER_LEN + len);
            self.bytes.shrink_to_fit();
        }
        Ok(Some(message))
    }
}

/// Allowed length of a message's body, in bytes.
enum Length {
    /// The syntax allows one length only.
    Exactly(usize),
    /// The syntax allows longer bodies than are accepted.
    UpTo(usize),
}

impl Length {
    /// Returns the allowed length for a message type. Fails if the type is not allowed at all.
    fn of(kind: u8, version: Version, role: Role) -> Result<Self, RxError> {
        let is_tls13 = version == Version::Tls13;
        match (is_tls13, role, kind) {
            (true, _, KEY_UPDATE) => Ok(Self::Exactly(1)),
            //= https://www.rfc-editor.org/rfc/rfc8446#section-4.6.1
            //# At any time after the server has received the client Finished
            //# message, it MAY send a NewSessionTicket message.
            (true, Role::Client, NEW_SESSION_TICKET) => Ok(Self::UpTo(TICKET_MAX)),
            (false, Role::Client, HELLO_REQUEST) => Ok(Self::Exactly(0)),
            (false, Role::Server, CLIENT_HELLO) => Ok(Self::UpTo(CLIENT_HELLO_MAX)),
            _ => Err(RxError::Unexpected),
        }
    }

    fn check(&self, len: usize) -> Result<(), RxError> {
        match *self {
            //= https://www.rfc-editor.org/rfc/rfc8446#section-6.2
            //# decode_error:  A message could not be decoded because some field was
            //# out of the specified range or the length of the message was
            //# incorrect.
            Self::Exactly(exact) if len != exact => Err(RxError::Malformed),
            Self::UpTo(max) if len > max => Err(RxError::MessageTooLong),
            Self::Exactly(_) | Self::UpTo(_) => Ok(()),
        }
    }
}

/// Converts the length of a part of a record.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
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
/// Bytes of the longest ticket message that is accepted. A ticket has at most 2^16 - 1 bytes, and
/// real ones a few hundred.
const TICKET_MAX: usize = 1 << 16;
/// Bytes of the longest ClientHello that is read in order to be refused.
const CLIENT_HELLO_MAX: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_updates_are_found_at_the_boundaries_of_messages_only() {
        let mut ticket = vec![NEW_SESSION_TICKET, 0, 0, 6];
        ticket.extend_from_slice(&[KEY_UPDATE; 6]);
        let update = [KEY_UPDATE, 0, 0, 1, 0];
        let finds = |records: &[&[u8]]| {
            let mut joiner = HandshakeJoiner::default();
            let mut find = |record: &&[u8]| joiner.scan_for_key_update(record);
            let found = records.iter().map(&mut find).collect::<Vec<_>>();
            assert!(joiner.is_empty() || !found.contains(&true));
            found
        };
        assert_eq!(finds(&[&update]), [true]);
        // Linux's own tests send no more than that.
        assert_eq!(finds(&[&update[..1]]), [true]);
        assert_eq!(finds(&[&ticket, &[], &update]), [false, false, true]);
        assert_eq!(finds(&[&[&ticket[..], &update].concat()]), [true]);
        for at in 1..ticket.len() {
            let (first, second) = ticket.split_at(at);
            assert_eq!(
                finds(&[first, second, &update]),
                [false, false, true],
                "{at}"
            );
            let both = [second, &update].concat();
            assert_eq!(finds(&[first, &both]), [false, true], "{at}");
        }
    }
}
