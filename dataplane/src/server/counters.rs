//! What HTTP counts: one worker's, read by snapshot.

use lockgate_http::Status;

/// A worker's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpCounters {
    /// Connections that were begun.
    pub connections: u64,
    /// Requests that were answered, errors included.
    pub requests: u64,
    /// Bytes of responses that were handed to the connection by copying: heads, and small objects.
    pub bytes_copied: u64,
    /// Bytes of responses that were handed over by reference.
    pub bytes_referenced: u64,
    /// Answers that had to wait for a loader to find their object.
    pub waited: u64,
    /// Connections that were closed because they were at rest for too long.
    pub idle_closed: u64,
    /// Connections that were cut off because the client took nothing for too long.
    pub stalled: u64,
    /// Responses that were cut off because the file changed or couldn't be read.
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
