//! KTLS modes: what protects a direction's records.

use crate::cipher::Ciphers;
use crate::suite::Params;

/// Mode of a direction, as in ktls(4): what seals and opens its records.
///
/// The numbers are FreeBSD's `TCP_TLS_MODE_*`. The modes of NIC offload can be requested, and no
/// interface has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Mode {
    /// The record layer is not enabled; bytes pass unchanged.
    None = 0,
    /// Software seals and opens.
    Sw = 1,
    /// The network card seals and opens.
    Ifnet = 2,
    /// The network card has TCP and the record layer.
    Toe = 3,
}

/// Reason why [`Mode::None`] is the only possible mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// The configuration switches the record layer off.
    #[error("the record layer is switched off")]
    Disabled,
    /// No backend supports the suite.
    #[error("no cipher backend takes this suite")]
    NoBackend,
}

/// Chooses the best mode for a session with these parameters.
///
/// # Errors
///
/// [`Refusal`] if the record layer is off or no backend supports the parameters.
pub fn choose_mode(enabled: bool, params: Params, ciphers: &Ciphers) -> Result<Mode, Refusal> {
    if !enabled {
        return Err(Refusal::Disabled);
    }
    if !ciphers.supports(params) {
        return Err(Refusal::NoBackend);
    }
    Ok(Mode::Sw)
}
