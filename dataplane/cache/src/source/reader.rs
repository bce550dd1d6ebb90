//! Readers: what a loader reads files with.
//!
//! A loader has one reader, which belongs to its thread. [`UringReader`] has many reads in flight
//! and takes their results in any order. [`PreadReader`] does each read at once.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lockgate_uring::{Completion, Limits, Read, Refused, Ring};
use pktbuf::PageFill;
use rustix::fs::CWD;
use rustix::io::Errno;

use super::filesystem::FileSystem;
use super::job::Job;
use super::loader::{Files, file_of};
use super::root::Opened;
use crate::request::Task;

/// Which reads a file source uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileIo {
    /// io_uring, or `pread` where the kernel refuses it.
    #[default]
    Auto,
    /// io_uring.
    Uring,
    /// `pread`, one read at a time for each thread.
    Pread,
}

/// Makes the readers of loaders, each on its loader's thread.
pub(crate) type NewReader = Arc<dyn Fn() -> Result<Box<dyn Reader>, Refused> + Send + Sync>;

/// Makes readers that read through io_uring.
pub(crate) fn uring_readers(limits: Limits) -> NewReader {
    Arc::new(move || Ok(Box::new(UringReader::new(limits)?)))
}

/// Wakes a loader from [`Reader::wait`].
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

/// What a loader reads with. It stays on the loader's thread.
pub(crate) trait Reader {
    /// Whether another read can begin.
    fn has_room(&self) -> bool;

    /// The number of reads that have begun and aren't complete.
    fn in_flight(&self) -> usize;

    /// Begins a read, for which there is room.
    fn begin(&mut self, read: Box<Read<PendingRead>>);

    /// Returns a read that is complete. Doesn't wait.
    fn next(&mut self) -> Option<Completion<PendingRead>>;

    /// Waits until a read is complete, or for a wake-up.
    fn wait(&mut self);

    /// Returns what ends a wait. It may be called from any thread.
    fn wake(&self) -> Wake;
}

/// A job whose file is being read.
pub(crate) struct PendingRead {
    pub(super) job: Job,
    /// The small file that is read as a whole, if it isn't a span of the task's object.
    pub(super) opened: Option<Opened>,
    /// What offset and length have to be a multiple of.
    pub(super) direct: Option<NonZeroU32>,
    /// The bytes that the page has to have.
    pub(super) wanted: usize,
    /// The time before it was read.
    pub(super) began: Duration,
    /// Times that the kernel had the read made again.
    pub(super) retries: u8,
}

impl PendingRead {
    /// The file that is read.
    pub(crate) fn file(&self) -> Option<&OwnedFd> {
        match (&self.opened, &self.job.task) {
            (Some(opened), _) => Some(&opened.file),
            (None, Task::ReadSpan { object, .. }) => file_of(object).file(),
            (None, Task::Lookup { .. } | Task::Close { .. }) => None,
        }
    }
}

impl PendingRead {
    /// Whether the read can continue behind so many bytes.
    pub(super) fn is_aligned(&self, count: usize) -> bool {
        let align = self.direct.map_or(1, NonZeroU32::get);
        count.is_multiple_of(align as usize)
    }
}

impl AsFd for PendingRead {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // A read of the other one fails.
        self.file().map_or(CWD, AsFd::as_fd)
    }
}

/// Reads through io_uring what isn't in the kernel's page cache.
struct UringReader {
    ring: Ring<PendingRead>,
    /// What was read at once.
    done: VecDeque<Completion<PendingRead>>,
}

impl UringReader {
    fn new(limits: Limits) -> Result<Self, Refused> {
        let done = VecDeque::new();
        Ring::new(limits).map(|ring| Self { ring, done })
    }
}

impl Reader for UringReader {
    fn has_room(&self) -> bool {
        self.ring.has_room()
    }

    fn in_flight(&self) -> usize {
        self.ring.in_flight()
    }

    fn begin(&mut self, read: Box<Read<PendingRead>>) {
        let mut read = *read;
        if read.file.direct.is_none() {
            let (offset, len) = (read.offset, read.len);
            let count = read.try_now();
            if count == len {
                // As the ring leaves it.
                (read.offset, read.len) = (offset, len);
                let result = Ok(count);
                self.done.push_back(Completion { read, result });
                return;
            }
        }
        let pushed = self.ring.push(read);
        debug_assert!(pushed.is_ok(), "there is room");
        // If the kernel is short of memory, the wait tries again.
        let _ = self.ring.submit();
    }

    fn next(&mut self) -> Option<Completion<PendingRead>> {
        if let Some(done) = self.done.pop_front().or_else(|| self.ring.next()) {
            return Some(done);
        }
        if self.ring.in_flight() > 0 {
            let _ = self.ring.submit();
        }
        self.ring.next()
    }

    fn wait(&mut self) {
        if self.ring.wait().is_err() {
            thread::sleep(WAIT_AGAIN);
        }
    }

    fn wake(&self) -> Wake {
        let waker = self.ring.waker().clone();
        Arc::new(move || waker.wake())
    }
}

/// Reads by [`FileSystem::read_new`].
pub(crate) struct PreadReader {
    system: Arc<dyn FileSystem>,
    done: VecDeque<Completion<PendingRead>>,
}

impl PreadReader {
    pub(crate) fn new(system: Arc<dyn FileSystem>) -> Self {
        let done = VecDeque::new();
        Self { system, done }
    }
}

impl Reader for PreadReader {
    fn has_room(&self) -> bool {
        true
    }

    fn in_flight(&self) -> usize {
        0
    }

    fn begin(&mut self, read: Box<Read<PendingRead>>) {
        let mut read = *read;
        let Read {
            file,
            page,
            offset,
            len,
        } = &mut read;
        let result = match file.file() {
            Some(file) => page.fill_with(*len, |spare| self.system.read_new(file, spare, *offset)),
            None => Ok(0),
        };
        let result = result.map_err(io::Error::from);
        self.done.push_back(Completion { read, result });
    }

    fn next(&mut self) -> Option<Completion<PendingRead>> {
        self.done.pop_front()
    }

    fn wait(&mut self) {}

    fn wake(&self) -> Wake {
        Arc::new(|| ())
    }
}

/// The read of `len` bytes that a job waits for.
pub(super) fn read_for(
    job: Job,
    opened: Option<Opened>,
    page: PageFill,
    offset: u64,
    len: usize,
    began: Duration,
) -> Box<Read<PendingRead>> {
    let direct = match &job.task {
        Task::ReadSpan { object, .. } => file_of(object).direct(),
        Task::Lookup { .. } | Task::Close { .. } => None,
    };
    let file = PendingRead {
        job,
        opened,
        direct,
        wanted: len,
        began,
        retries: 0,
    };
    // A page has room for that.
    let len = direct.map_or(len, |align| len.next_multiple_of(align.get() as usize));
    Box::new(Read {
        file,
        page,
        offset,
        len,
    })
}

/// Whether a read is to be made again: a signal came, or the kernel has no memory for it now.
pub(super) fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}

/// Returns a part of `buffer` for a read of `len` bytes: of an aligned length and at an aligned
/// address, if the read is direct.
pub(super) fn aligned(buffer: &mut Vec<u8>, len: usize, direct: Option<NonZeroU32>) -> &mut [u8] {
    if direct.is_none() {
        buffer.resize(len, 0);
        return buffer;
    }
    let rounded = len.next_multiple_of(PAGE_BYTES);
    buffer.resize(rounded + PAGE_BYTES, 0);
    let start = buffer.as_ptr().addr().wrapping_neg() % PAGE_BYTES;
    &mut buffer[start..start + rounded]
}

impl Files {
    /// Reads at least `len` bytes.
    pub(super) fn read(
        &self,
        file: &OwnedFd,
        buffer: &mut [u8],
        len: usize,
        offset: u64,
    ) -> Result<(), ReadError> {
        let mut done = 0;
        while done < len {
            match self
                .system
                .read(file, &mut buffer[done..], offset + done as u64)
            {
                // It is shorter now.
                Ok(0) => return Err(ReadError::Changed),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.counters.read_errors.add(1);
                    return Err(ReadError::Failed);
                }
            }
        }
        self.counters.loads.add(1);
        self.counters.bytes_read.add(len as u64);
        Ok(())
    }
}

/// Why a read has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    Changed,
    Failed,
}

/// How long a loader pauses if the kernel refuses to wait.
const WAIT_AGAIN: Duration = Duration::from_millis(1);

/// The memory of spans is aligned to this.
const PAGE_BYTES: usize = 4_096;
