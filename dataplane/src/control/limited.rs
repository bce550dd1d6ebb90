//! A stream whose reads and writes together have one time limit.

use core::time::Duration;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use lockgate_wire::Instant;

use crate::clock::Clock;

/// A point in time that several calls have to keep together.
#[derive(Clone, Debug)]
pub(super) struct Deadline {
    clock: Clock,
    until: Instant,
}

impl Deadline {
    /// The time `limit` from now.
    pub(super) fn after(limit: Duration) -> Self {
        let clock = Clock::new();
        let until = clock.now() + limit;
        Self { clock, until }
    }

    /// Returns the time that is left, which is never zero.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`]: none is left.
    pub(super) fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_since(self.clock.now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

/// A stream that is read and written until a deadline. Then the error is
/// [`io::ErrorKind::TimedOut`], also if the peer sends or takes some bytes now and then.
#[derive(Debug)]
pub(super) struct LimitedStream<'a> {
    stream: &'a UnixStream,
    deadline: Deadline,
}

impl<'a> LimitedStream<'a> {
    /// Limits what is read and written from now on.
    pub(super) fn new(stream: &'a UnixStream, deadline: Deadline) -> Self {
        Self { stream, deadline }
    }
}

impl Read for LimitedStream<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.deadline.left()?))?;
        let mut stream = self.stream;
        stream.read(to).map_err(timed_out)
    }
}

impl Write for LimitedStream<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let from = &from[..from.len().min(WRITE_MAX)];
        self.stream.set_write_timeout(Some(self.deadline.left()?))?;
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

/// Most bytes of one call of write(2). Linux cuts a longer one into socket buffers of about 36 KiB,
/// and waits for room for each of them as long as SO_SNDTIMEO says.
const WRITE_MAX: usize = 16 << 10;
