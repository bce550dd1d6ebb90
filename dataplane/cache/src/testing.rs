//! A cache over a scratch directory, for tests of this crate and others.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(test)]
pub(crate) mod faults;

use std::fs;
use std::mem::MaybeUninit;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
#[cfg(test)]
use std::thread;
use std::time::Duration;

use lockgate_testing::ScratchDir;
use lockgate_uring::Limits;
use pktbuf::{PageArena, Region};
use rustix::fs::Stat;
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::source::filesystem::{FileSystem, Kernel};
use super::source::reader::{NewReader, uring_readers};
use super::{CacheConfig, FileCache, FileClient, FileIo, StartError, WallClock};

/// A root directory of its own, which is removed on drop.
#[derive(Debug)]
pub struct Tree(ScratchDir);

#[expect(clippy::new_without_default, reason = "it makes a directory")]
impl Tree {
    /// Makes an empty one.
    pub fn new() -> Self {
        Self(ScratchDir::new())
    }

    /// The path of `name` in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, in place.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        self.0.write(name, bytes);
    }

    /// Replaces a file as a deployment should: by renaming.
    pub fn replace(&self, name: &str, bytes: &[u8]) {
        let new = self.0.write(format!("{name}.new"), bytes);
        fs::rename(&new, self.path(name)).unwrap();
    }
}

/// A cache of `bytes` with some clients, and the kernel's clock.
pub fn start(
    tree: &Tree,
    bytes: usize,
    config: &CacheConfig,
    workers: usize,
) -> (FileCache, Vec<FileClient>) {
    start_with_clock(tree, bytes, config, workers, kernel_clock())
}

/// A cache of `bytes` with some clients. Change times are trusted, whatever file system the scratch
/// directory is on.
pub fn start_with_clock(
    tree: &Tree,
    bytes: usize,
    config: &CacheConfig,
    workers: usize,
    clock: WallClock,
) -> (FileCache, Vec<FileClient>) {
    start_with(tree, bytes, config, workers, clock, true)
}

/// The same, with change times that are trusted or not.
pub(crate) fn start_with(
    tree: &Tree,
    bytes: usize,
    config: &CacheConfig,
    workers: usize,
    clock: WallClock,
    is_trusted: bool,
) -> (FileCache, Vec<FileClient>) {
    let gate = Gate::new(is_trusted);
    let readers = uring_readers(Limits::default());
    start_with_readers(&[tree], bytes, config, workers, clock, &gate, readers).unwrap()
}

/// A cache of several trees, whose system calls go through a gate. Reads have a thread each.
pub fn start_gated(
    trees: &[&Tree],
    bytes: usize,
    config: &CacheConfig,
    workers: usize,
    clock: WallClock,
    gate: &Gate,
) -> (FileCache, Vec<FileClient>) {
    let config = CacheConfig {
        io: FileIo::Pread,
        ..config.clone()
    };
    let readers = uring_readers(Limits::default());
    start_with_readers(trees, bytes, &config, workers, clock, gate, readers).unwrap()
}

/// The same, with readers other than `pread`.
pub(crate) fn start_with_readers(
    trees: &[&Tree],
    bytes: usize,
    config: &CacheConfig,
    workers: usize,
    clock: WallClock,
    gate: &Gate,
    readers: NewReader,
) -> Result<(FileCache, Vec<FileClient>), StartError> {
    let mut region = Region::heap(bytes).unwrap();
    let arena = PageArena::new(&mut region, bytes).unwrap();
    let roots: Vec<_> = trees.iter().map(|tree| tree.0.path().to_owned()).collect();
    let system = Arc::new(gate.clone());
    FileCache::start_with(arena, &roots, config, workers, clock, system, readers)
}

/// The kernel's file systems. A test can make each kind of call hang.
#[derive(Clone, Debug)]
pub struct Gate(Arc<GateShared>);

#[derive(Debug)]
struct GateShared {
    /// Change times are trusted, whatever file system the scratch directory is on.
    is_trusted: bool,
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    /// What hangs: a kind of call, and the directory that it is about.
    closed: Vec<(Call, PathBuf)>,
    /// The calls that hang now.
    hanging: Vec<Call>,
    /// The paths that were opened.
    opened: Vec<Vec<u8>>,
    /// Reads in flight in readers that have many.
    #[cfg(test)]
    held: usize,
    /// Times that it was opened, or a reader woken.
    changes: u64,
}

impl GateState {
    fn is_closed(&self, call: Call, path: &Path) -> bool {
        let mut closed = self.closed.iter();
        closed.any(|(kind, top)| *kind == call && path.starts_with(top))
    }
}

/// A kind of system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `open` of a root directory.
    OpenRoot,
    /// `openat2` of a file.
    Open,
    /// `fstat` of an open file.
    Status,
    /// `pread` of an open file.
    Read,
    /// `close` of an open file.
    Close,
}

impl Gate {
    /// An open gate.
    pub fn new(is_trusted: bool) -> Self {
        Self(Arc::new(GateShared {
            is_trusted,
            state: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    /// Has calls of a kind hang, if they are about a file in the tree.
    pub fn close(&self, call: Call, tree: &Tree) {
        let top = tree.0.path().canonicalize().unwrap();
        self.state().closed.push((call, top));
    }

    /// Lets all calls go.
    pub fn open(&self) {
        self.state().closed.clear();
        self.wake();
    }

    /// The calls that hang now.
    pub fn hanging(&self) -> Vec<Call> {
        self.state().hanging.clone()
    }

    /// The paths that were opened or hang, in their order.
    pub fn opened(&self) -> Vec<Vec<u8>> {
        self.state().opened.clone()
    }

    /// Whether no thread of a cache can come to it any more.
    pub fn is_unused(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Waits until that many calls hang.
    pub fn wait_for_hanging(&self, count: usize) {
        let state = self.state();
        let fewer = |state: &mut GateState| state.hanging.len() < count;
        drop(self.0.changed.wait_while(state, fewer).unwrap());
    }

    /// Whether a read of the file would hang.
    #[cfg(test)]
    pub(crate) fn holds_read(&self, file: &OwnedFd) -> bool {
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        self.state()
            .is_closed(Call::Read, &path.unwrap_or_default())
    }

    /// Waits until it is opened, or for [`Gate::wake`]. `number` is what this returned last.
    #[cfg(test)]
    pub(crate) fn wait_for_change(&self, number: u64) -> u64 {
        let state = self.state();
        let changed = &self.0.changed;
        let state = changed.wait_while(state, |state| state.changes == number);
        state.unwrap().changes
    }

    /// How many times it was opened, or a reader woken.
    #[cfg(test)]
    pub(crate) fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Ends a [`wait`](Gate::wait_for_change).
    pub(crate) fn wake(&self) {
        self.state().changes += 1;
        self.0.changed.notify_all();
    }

    /// Notes how many reads more hang in a reader that has many in flight.
    #[cfg(test)]
    pub(crate) fn add_held(&self, more: isize) {
        let mut state = self.state();
        state.held = state.held.checked_add_signed(more).unwrap();
        self.0.changed.notify_all();
    }

    /// The reads that are in flight in such readers.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.state().held
    }

    /// Waits until that many are.
    #[cfg(test)]
    pub(crate) fn wait_for_held(&self, count: usize) {
        let fewer = |state: &mut GateState| state.held < count;
        drop(self.0.changed.wait_while(self.state(), fewer).unwrap());
    }

    /// Hangs as long as the gate is closed for the call.
    fn pass(&self, call: Call, file: &OwnedFd) {
        if self.state().closed.is_empty() {
            return;
        }
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        self.pass_path(call, &path.unwrap_or_default());
    }

    fn pass_path(&self, call: Call, path: &Path) {
        let mut state = self.state();
        if !state.is_closed(call, path) {
            return;
        }
        state.hanging.push(call);
        self.0.changed.notify_all();
        state = self
            .0
            .changed
            .wait_while(state, |state| state.is_closed(call, path))
            .unwrap();
        let at = state.hanging.iter().position(|hanging| *hanging == call);
        state.hanging.remove(at.unwrap());
        self.0.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileSystem for Gate {
    fn open_directory(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.pass_path(Call::OpenRoot, &path.canonicalize().unwrap_or_default());
        Kernel.open_directory(path)
    }

    fn open_beneath(&self, directory: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.state().opened.push(path.to_vec());
        self.pass(Call::Open, directory);
        Kernel.open_beneath(directory, path)
    }

    fn status(&self, file: &OwnedFd) -> Result<Stat, Errno> {
        self.pass(Call::Status, file);
        Kernel.status(file)
    }

    fn read(&self, file: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.pass(Call::Read, file);
        Kernel.read(file, buffer, offset)
    }

    fn read_new<'a>(
        &self,
        file: &OwnedFd,
        spare: &'a mut [MaybeUninit<u8>],
        offset: u64,
    ) -> Result<&'a mut [u8], Errno> {
        self.pass(Call::Read, file);
        Kernel.read_new(file, spare, offset)
    }

    fn set_direct(&self, file: &OwnedFd) -> Option<NonZeroU32> {
        Kernel.set_direct(file)
    }

    fn has_reliable_change_time(&self, _: &OwnedFd) -> bool {
        self.0.is_trusted
    }

    fn close(&self, file: OwnedFd) {
        self.pass(Call::Close, &file);
        Kernel.close(file);
    }
}

/// The clock that the kernel stamps files with.
pub fn kernel_clock() -> WallClock {
    WallClock::new(kernel_time)
}

/// Waits until the clock that the kernel stamps files with has ticked: the next change of a file
/// has another change time than all changes before.
#[cfg(test)]
pub(crate) fn wait_for_tick() {
    let clock = || clock_gettime(ClockId::RealtimeCoarse);
    let before = clock();
    while clock() == before {
        thread::yield_now();
    }
}

/// What the clock reads that the kernel stamps files with.
pub fn kernel_time() -> Duration {
    let now = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap())
}
