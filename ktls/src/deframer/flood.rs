//! Limits on records that carry no data.

use crate::error::RxError;

/// Counts of consecutive records that carried no data, by kind. Each has a limit, against a peer
/// that keeps a worker busy with records that cost it nothing.
#[derive(Clone, Copy, Default)]
pub(super) struct FloodLimits {
    pub(super) empty: u8,
    pub(super) messages: u8,
    pub(super) warnings: u8,
}

impl FloodLimits {
    pub(super) fn count(records: &mut u8, max: u8) -> Result<(), RxError> {
        *records += 1;
        if *records > max {
            Err(RxError::Flood)
        } else {
            Ok(())
        }
    }
}

/// Consecutive empty records: rustls's limit too.
pub(super) const EMPTY_MAX: u8 = 32;
/// Consecutive handshake messages: rustls's limit for key updates too.
pub(super) const MESSAGES_MAX: u8 = 32;
/// Consecutive warnings and attempts to renegotiate: rustls's limit too.
pub(super) const WARNINGS_MAX: u8 = 4;
