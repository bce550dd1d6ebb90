//! A stream whose reads and writes together have one time limit.

use core::time::Duration;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use lockgate_wire::Instant;

use crate::clock::Clock;

/// A stream that is read and written until a point in time. Then the error is
/// [`io::ErrorKind::TimedOut`], also if the peer sends or takes a byte now and then.
#[derive(Debug)]
pub(super) struct LimitedStream<'a> {
    stream: &'a UnixStream,
    clock: Clock,
    until: Instant,
}

impl<'a> LimitedStream<'a> {
    /// Limits what is read and written from now on to `limit` altogether.
    pub(super) fn new(stream: &'a UnixStream, limit: Duration) -> Self {
        let clock = Clock::new();
        let until = clock.now() + limit;
        Self {
            stream,
            clock,
            until,
        }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_since(self.clock.now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Some(left))
    }
}

impl Read for LimitedStream<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        let mut stream = self.stream;
        stream.read(to).map_err(timed_out)
    }
}

impl Write for LimitedStream<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        let mut stream = self.stream;
        stream.write(from).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// SO_RCVTIMEO and SO_SNDTIMEO end a call with EAGAIN (socket(7)).
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}
