//! The HTTP counters of a worker.

use lockgate_http::Status;

/// The HTTP counters of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpCounters {
    /// Connections that were accepted.
    pub connections: u64,
    /// Responses whose first byte was sent, errors included.
    pub requests: u64,
    /// Bytes of responses that were copied into the send queue: heads, small objects, and what had
    /// no room in the share of the file cache.
    pub bytes_copied: u64,
    /// Bytes of responses that were sent by reference.
    pub bytes_referenced: u64,
    /// Lookups that had to wait for a loader.
    pub waited: u64,
    /// Connections that were closed because they were idle for too long.
    pub idle_closed: u64,
    /// Connections that were reset because the client acknowledged nothing, or didn't close, for
    /// too long.
    pub stalled: u64,
    /// Responses that were reset because the file changed or couldn't be read.
    pub cut_off: u64,
    responses: [u64; Status::ALL.len()],
}

impl HttpCounters {
    /// Responses with a status.
    pub fn responses(&self, status: Status) -> u64 {
        self.responses[status as usize]
    }

    /// All counters with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let own = [
            ("http.connections", self.connections),
            ("http.requests", self.requests),
            ("http.bytes_copied", self.bytes_copied),
            ("http.bytes_referenced", self.bytes_referenced),
            ("http.waited", self.waited),
            ("http.idle_closed", self.idle_closed),
            ("http.stalled", self.stalled),
            ("http.cut_off", self.cut_off),
        ];
        let responses = Status::ALL
            .iter()
            .map(|status| (status.counter(), self.responses(*status)));
        own.into_iter().chain(responses.collect::<Vec<_>>())
    }

    pub(super) fn add_response(&mut self, status: Status) {
        self.requests += 1;
        self.responses[status as usize] += 1;
    }
}
