//! Hand-over from the TLS library to the record layer: sessions from its keys.

use lockgate_ktls::{Params, Session, Suite, Version};
use rustls::{ConnectionTrafficSecrets, ProtocolVersion};

use super::capture::Secret;
use super::failure::Failure;
use super::handshake::{Established, Side};

/// Keys of both directions and the numbers of their next records.
pub(crate) struct Sessions {
    pub(crate) tx: Session,
    pub(crate) tx_number: u64,
    pub(crate) rx: Session,
    pub(crate) rx_number: u64,
}

impl Established {
    /// Returns the sessions that continue the handshake's keys and record numbers. In TLS 1.3 they
    /// are created from the traffic secrets.
    ///
    /// # Errors
    ///
    /// [`Failure::Internal`] if the library's keys don't derive from the captured secrets.
    pub(crate) fn sessions(&self) -> Result<Sessions, Failure> {
        let (client, server) = (self.captured.client.as_ref(), self.captured.server.as_ref());
        let (ours, theirs) = match self.side {
            Side::Server => (server, client),
            Side::Client { .. } => (client, server),
        };
        let (tx_number, tx) = &self.keys.tx;
        let (rx_number, rx) = &self.keys.rx;
        Ok(Sessions {
            tx: session(self.version, tx, ours)?,
            tx_number: *tx_number,
            rx: session(self.version, rx, theirs)?,
            rx_number: *rx_number,
        })
    }
}

fn session(
    version: ProtocolVersion,
    keys: &ConnectionTrafficSecrets,
    secret: Option<&Secret>,
) -> Result<Session, Failure> {
    use ConnectionTrafficSecrets as Keys;
    let (suite, key, iv) = match keys {
        Keys::Aes128Gcm { key, iv } => (Suite::Aes128Gcm, key, iv),
        Keys::Aes256Gcm { key, iv } => (Suite::Aes256Gcm, key, iv),
        Keys::Chacha20Poly1305 { key, iv } => (Suite::Chacha20Poly1305, key, iv),
        _ => return Err(Failure::Internal),
    };
    let iv = iv.as_ref().try_into().map_err(|_| Failure::Internal)?;
    if version == ProtocolVersion::TLSv1_3 {
        let secret = secret.ok_or(Failure::Internal)?;
        let session = Session::from_secret(suite, secret.as_bytes()).ok_or(Failure::Internal)?;
        let derived = session.keys();
        if derived.key() != key.as_ref() || derived.iv() != iv {
            return Err(Failure::Internal);
        }
        Ok(session)
    } else {
        let params = Params::new(suite, Version::Tls12);
        Session::from_key(params, key.as_ref(), iv).ok_or(Failure::Internal)
    }
}
