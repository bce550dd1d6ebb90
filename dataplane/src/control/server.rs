//! The server of the control socket: answers requests one after the other, on a thread of its own.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};

use super::client::connect;
use super::limited::{Deadline, LimitedStream};
use super::protocol::{REQUEST_MAX, Response, Snapshot};

/// The server of the control socket. Dropping it removes the socket.
#[derive(Debug)]
pub struct ControlServer {
    listener: Arc<UnixListener>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
    _lock: Lock,
}

impl ControlServer {
    /// Listens on `path` and answers with what `snapshot` returns; none means that the instance
    /// couldn't start. A socket that a dead instance left behind is replaced.
    ///
    /// # Errors
    /// Another instance listens there, or the socket can't be made.
    pub fn start(
        path: &Path,
        snapshot: impl Fn() -> Option<Snapshot> + Send + 'static,
    ) -> Result<Self, ControlError> {
        let failed = |source| ControlError::Io {
            path: path.to_path_buf(),
            source,
        };
        let lock = Lock::take(path)?;
        remove_stale(path)?;
        let listener = Arc::new(bind(path).map_err(failed)?);
        let stopping = Arc::new(AtomicBool::new(false));
        let (accept, stop) = (Arc::clone(&listener), Arc::clone(&stopping));
        let serve = move || {
            while !stop.load(Ordering::Acquire) {
                match accept.accept() {
                    // A failed answer is the client's loss alone.
                    Ok((stream, _)) => drop(answer(&stream, &snapshot, &stop)),
                    Err(_) => std::thread::sleep(ACCEPT_PAUSE),
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(serve);
        let thread = Some(thread.map_err(failed)?);
        Ok(Self {
            listener,
            stopping,
            thread,
            path: path.to_path_buf(),
            _lock: lock,
        })
    }

    /// Gives the socket to this user and group, as whom `lockgate stats` may connect.
    ///
    /// # Errors
    /// The system refuses, or the path isn't the socket of this server any more: its directory is
    /// writable by another user, who could have put a link there.
    pub fn give_to(&self, uid: u32, gid: u32) -> Result<(), ControlError> {
        let failed = |source: rustix::io::Errno| ControlError::Io {
            path: self.path.clone(),
            source: source.into(),
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let socket = rustix::fs::open(&self.path, flags, Mode::empty()).map_err(failed)?;
        let found = rustix::fs::fstat(&socket).map_err(failed)?;
        let is_ours = FileType::from_raw_mode(found.st_mode) == FileType::Socket
            && found.st_nlink == 1
            && found.st_uid == rustix::process::geteuid().as_raw();
        if !is_ours {
            return Err(ControlError::NotASocket(self.path.clone()));
        }
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(&socket, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH).map_err(failed)
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the thread out of accept. It fails if the thread is past that.
        let _ = rustix::net::shutdown(&self.listener, Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // It may have been removed already.
        let _ = fs::remove_file(&self.path);
    }
}

/// Why the server of the control socket can't start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A live instance listens there.
    #[error(
        "{}: another instance has this control socket; give each its own [control] socket",
        .0.display()
    )]
    InUse(PathBuf),
    /// The path is that of another kind of file.
    #[error("{}: exists and is not a socket; remove it or change [control] socket", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A locked file beside the socket. The system releases the lock however the process ends, so a
/// socket without a locked file is stale.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    // Locked as long as it's open.
    _file: File,
}

impl Lock {
    fn take(socket: &Path) -> Result<Self, ControlError> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let failed = |source| ControlError::Io {
            path: path.clone(),
            source,
        };
        for _ in 0..LOCK_TRIES {
            let mut options = File::options();
            let file = options
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                // The directory may be another user's, who could have put a link or a FIFO there.
                .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
                .open(&path);
            let file = file.map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => {
                    return Err(ControlError::InUse(socket.to_path_buf()));
                }
                Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
            }
            // The previous owner removes the file when it ends. Then this lock is on a file without
            // a name, and another instance could lock a new one.
            let ours = file.metadata().map_err(failed)?.ino();
            if fs::metadata(&path).is_ok_and(|there| there.ino() == ours) {
                return Ok(Self { path, _file: file });
            }
        }
        Err(ControlError::InUse(socket.to_path_buf()))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it's locked, so that another instance finds it locked or not at all.
        let _ = fs::remove_file(&self.path);
    }
}

fn remove_stale(path: &Path) -> Result<(), ControlError> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            Err(ControlError::NotASocket(path.to_path_buf()))
        }
        // A live socket of a program that doesn't use the lock.
        Ok(_) if is_listening(path) => Err(ControlError::InUse(path.to_path_buf())),
        Ok(_) => fs::remove_file(path).map_err(|source| ControlError::Io {
            path: path.to_path_buf(),
            source,
        }),
        Err(_) => Ok(()),
    }
}

/// Whether a program listens on a socket, even if it accepts no connection.
fn is_listening(path: &Path) -> bool {
    match connect(path, &Deadline::after(CONNECT_LIMIT)) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let (unix, stream) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = rustix::net::socket_with(unix, stream, SocketFlags::CLOEXEC, None)?;
    // Before bind, so that the socket never has other permissions.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// Reads one request and answers it. The request has a time limit, and so has the answer. At the
/// limit the connection is closed, however many bytes the client has sent or read.
fn answer(
    stream: &UnixStream,
    snapshot: &impl Fn() -> Option<Snapshot>,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut from = LimitedStream::new(stream, Deadline::after(REQUEST_LIMIT));
    let mut request = [0; REQUEST_MAX];
    let mut filled = 0;
    while filled < request.len()
        && !request[..filled].contains(&b'\n')
        && !stop.load(Ordering::Acquire)
    {
        match from.read(&mut request[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    let line = request[..filled]
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let mut response = serde_json::to_vec(&Response::to(line, snapshot))?;
    response.push(b'\n');
    LimitedStream::new(stream, Deadline::after(RESPONSE_LIMIT)).write_all(&response)
}

const BACKLOG: i32 = 16;
const LOCK_TRIES: u32 = 16;
/// How long a client may take for the whole request.
const REQUEST_LIMIT: Duration = Duration::from_millis(500);
/// How long a client may take to read the whole answer.
const RESPONSE_LIMIT: Duration = Duration::from_millis(500);
/// How long it's tried to connect to another program's socket.
const CONNECT_LIMIT: Duration = Duration::from_millis(500);
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
