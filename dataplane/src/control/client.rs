//! The client of the control socket.

use core::time::Duration;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::limited::{Deadline, LimitedStream};
use super::protocol::{RESPONSE_MAX, Request, Response, STATS, Stats, VERSION};

/// Requests the counters of the instance that listens on this control socket. Connection, request
/// and answer may take 30 s together.
///
/// # Errors
/// No instance listens there, or the answer isn't of this protocol.
pub fn stats(socket: &Path) -> Result<Stats, StatsError> {
    stats_within(socket, ANSWER_LIMIT)
}

/// The same with another limit.
///
/// # Errors
/// As [`stats`].
pub fn stats_within(socket: &Path, limit: Duration) -> Result<Stats, StatsError> {
    let failed = |source: io::Error| match source.kind() {
        // connect(2) reports its limit by EAGAIN.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            StatsError::TimedOut(socket.to_path_buf(), limit)
        }
        _ => StatsError::Io {
            path: socket.to_path_buf(),
            source,
        },
    };
    let deadline = Deadline::after(limit);
    let stream = connect(socket, &deadline).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            StatsError::NotRunning(socket.to_path_buf())
        }
        _ => failed(source),
    })?;
    let mut stream = LimitedStream::new(&stream, deadline);
    let request = Request {
        version: VERSION,
        request: STATS.to_owned(),
    };
    let mut line = serde_json::to_vec(&request).map_err(|_| StatsError::Protocol)?;
    line.push(b'\n');
    stream.write_all(&line).map_err(failed)?;
    let mut answer = Vec::new();
    stream
        .take(RESPONSE_MAX)
        .read_to_end(&mut answer)
        .map_err(failed)?;
    match serde_json::from_slice(&answer) {
        Ok(Response::Stats {
            version: VERSION,
            stats,
        }) => Ok(stats),
        Ok(Response::Stats { version, .. }) => Err(StatsError::Version(version)),
        Ok(Response::Refused { error, .. }) => Err(StatsError::Refused(error)),
        Err(_) => Err(StatsError::Protocol),
    }
}

/// Connects to a Unix socket. A listener that accepts nothing holds it up until the deadline: then
/// the error is [`io::ErrorKind::WouldBlock`], or [`io::ErrorKind::TimedOut`] if it was over
/// before.
pub(super) fn connect(path: &Path, deadline: &Deadline) -> io::Result<UnixStream> {
    let (unix, stream) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = rustix::net::socket_with(unix, stream, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(deadline.left()?))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// Why a request for counters failed.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// No instance is running there.
    #[error("{}: no instance is running there", .0.display())]
    NotRunning(PathBuf),
    /// The instance refused the request.
    #[error("control socket: the instance refused the request: {0}")]
    Refused(String),
    /// The instance speaks another version.
    #[error(
        "control socket: the instance speaks version {0} of the protocol; use its own release of \
         lockgate"
    )]
    Version(u32),
    /// Something else listens there.
    #[error("control socket: the answer is not an instance's; check the path")]
    Protocol,
    /// The whole answer didn't arrive in time.
    #[error(
        "{}: no whole answer within {:?}; the instance is stuck or still starting",
        .0.display(), .1
    )]
    TimedOut(PathBuf, Duration),
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// How long connection, request and answer may take together. An instance that is starting answers
/// at the end of its start.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
