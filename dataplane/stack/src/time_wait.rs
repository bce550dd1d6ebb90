//! Connections in TIME-WAIT.

use lockgate_tcp::TimeWait;
use lockgate_wire::FourTuple;

/// A connection in TIME-WAIT: all that is left of a socket.
#[derive(Debug)]
pub(crate) struct TimeWaitEntry {
    pub(crate) tuple: FourTuple,
    /// The flow table's hash.
    pub(crate) hash: u32,
    pub(crate) state: TimeWait,
}

const _: () = assert!(size_of::<TimeWaitEntry>() <= 112);
