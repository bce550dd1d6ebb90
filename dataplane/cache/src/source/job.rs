//! Jobs: tasks on their way through the loaders.

use lockgate_uring::Read;
use pktbuf::PageFill;

use super::handle::{ReadSpan, Verification};
use super::reader::PendingRead;
use super::root::Settling;
use crate::key::RootId;
use crate::request::Task;
use crate::store::Admitted;

/// A task with what is known of it so far. Between two steps it waits in the [`Scheduler`].
///
/// [`Scheduler`]: super::scheduler::Scheduler
pub(crate) struct Job {
    pub(crate) task: Task,
    /// The client in whose queue it waits.
    pub(crate) client: u16,
    /// No client waits for it: it may be dropped.
    pub(crate) is_background: bool,
    /// A loader was at it before.
    pub(crate) is_started: bool,
    /// Memory that it waited for.
    pub(crate) page: Option<PageFill>,
    /// It was granted memory before.
    pub(crate) was_granted: bool,
    /// Attempts at a file that was changed while it was read.
    pub(crate) attempts: u8,
    pub(crate) settling: Option<Box<Settling>>,
    pub(crate) reading: Option<Box<Reading>>,
}

/// A span that was read, and is still checked.
pub(crate) struct Reading {
    pub(crate) page: PageFill,
    pub(crate) span: ReadSpan,
    pub(crate) verification: Verification,
}

/// How a step of a job ended.
pub(crate) enum JobEnd {
    Done,
    /// A file has to be read first.
    Read(Box<Read<PendingRead>>),
    /// So many bytes of memory have to be free first.
    NoMemory(Job, usize),
    /// A file has to be closed first.
    NoFile(Job),
    /// The next step has to be some milliseconds later.
    Later(Job),
    /// There is more to do, but the loader does other jobs in between.
    Yield(Job),
}

impl Job {
    pub(crate) fn new(client: u16, admitted: Admitted) -> Self {
        Self {
            task: admitted.task,
            client,
            is_background: admitted.is_background,
            is_started: false,
            page: None,
            was_granted: false,
            attempts: 0,
            settling: None,
            reading: None,
        }
    }

    pub(crate) fn root(&self) -> RootId {
        self.task.root()
    }
}
