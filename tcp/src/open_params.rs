//! Parameters of a new connection.

use lockgate_wire::SeqNum;

/// Parameters of a new connection, active or passive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenParams {
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// Whether the connection runs over IPv6. Determines header sizes and the peer's default MSS.
    pub ipv6: bool,
    /// The MSS to announce: our MTU less the IP and TCP headers without options.
    pub mss: u16,
    /// Our initial sequence number ([`IsnSource::isn`](crate::IsnSource::isn)).
    pub isn: SeqNum,
    /// Offset of our timestamps
    /// ([`IsnSource::timestamp_offset`](crate::IsnSource::timestamp_offset)).
    pub ts_offset: u32,
}
