//! The TLS record layer that lives inside the stack: framing, sealing, opening, key changes.

#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]

mod alert;
mod cipher;
mod codec;
mod counters;
mod deframer;
mod error;
mod mode;
mod pages;
mod queue;
pub mod schedule;
mod session;
mod suite;
#[cfg(test)]
mod testing;

pub use alert::{Alert, AlertDescription, AlertLevel};
pub use cipher::{BackendChoice, Ciphers, OpenJob, RecordCipher, SealJob, UnknownBackend};
pub use codec::{Aad, Head, LEGACY_VERSION, RecordHeader, inner_type, nonce};
pub use counters::{Counter, Counters};
pub use deframer::{Deframer, Received, RecordMeta, Role, RxRecord};
pub use error::{CryptoError, Errno, RxError, TxError};
pub use mode::{Mode, Refusal, choose_mode};
pub use queue::{KeyUse, Limits, RecordQueue};
pub use session::{Keys, Session, SessionId};
pub use suite::{
    ContentType, EXPLICIT_NONCE_LEN, HEAD_MAX, HEADER_LEN, NONCE_LEN, PLAINTEXT_MAX, Params, Suite,
    TAG_LEN, Version,
};
