//! Who protects a direction's records.

use crate::cipher::Ciphers;
use crate::suite::Params;

/// ktls(4)'s modes: an answer to "who seals now", never a setting.
///
/// The numbers are those of FreeBSD's `TCP_TLS_MODE_*`; the modes in which a NIC seals come with
/// the NICs that can.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mode {
    /// The record layer isn't enabled: bytes pass as they are.
    None = 0,
    /// The host seals and opens.
    Sw = 1,
}

/// Why no mode but [`Mode::None`] is possible.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The configuration says so.
    #[error("the record layer is switched off")]
    Disabled,
    /// No backend takes the suite.
    #[error("no cipher backend takes this suite")]
    NoBackend,
}

/// The ladder: the best mode for a session of these parameters, or why there's none.
pub fn choose_mode(enabled: bool, params: Params, ciphers: &Ciphers) -> Result<Mode, Refusal> {
    if !enabled {
        return Err(Refusal::Disabled);
    }
    if !ciphers.supports(params) {
        return Err(Refusal::NoBackend);
    }
    Ok(Mode::Sw)
}
