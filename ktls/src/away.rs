//! Records that are sealed and opened elsewhere than on the worker's thread.

use core::fmt;

use crate::cipher::Ciphers;
use crate::error::CryptoError;
use crate::job::{OpenJob, SealJob};
use crate::session::SessionId;

/// Queues of records to be sealed and opened elsewhere: by a pool of threads, or by an asynchronous
/// device. It belongs to one worker.
///
/// A connection's records all go through the queue of its flow, and come back in the order in which
/// they were submitted. Records of different flows come back in any order. What is submitted is
/// bounded by [`room`](Self::room), so that no queue grows while a thread or device is slow.
pub trait Away: Send {
    /// Returns the number of records that the flow's queue takes now.
    fn room(&self, flow: u32) -> usize;

    /// Submits work of a flow, of at most as many records as there is [`room`](Self::room) for.
    ///
    /// # Errors
    ///
    /// The work, if the queue has ended or has no room.
    fn submit(&mut self, flow: u32, work: Work) -> Result<(), Work>;

    /// Returns work that has been done, or given up: a job that wasn't run is to be run again.
    fn poll(&mut self) -> Option<Work>;

    /// Returns the number of records that were submitted and haven't come back.
    fn in_flight(&self) -> usize;

    /// Removes the expanded keys of a session that has ended.
    fn forget(&mut self, id: SessionId);
}

/// Records of one connection to be sealed or opened, or that were.
#[derive(Debug)]
pub struct Work {
    /// Names the connection to the worker that submitted it.
    pub owner: u64,
    /// The records.
    pub jobs: Jobs,
}

/// The records of a [`Work`].
#[derive(Debug)]
pub enum Jobs {
    /// Records of one queue to be sealed, in order.
    Seal(Vec<SealJob>),
    /// A received record to be opened.
    Open(OpenJob),
}

impl Work {
    /// Returns the number of records.
    pub fn records(&self) -> usize {
        match &self.jobs {
            Jobs::Seal(jobs) => jobs.len(),
            Jobs::Open(_) => 1,
        }
    }

    /// Whether they are to be opened.
    fn is_received(&self) -> bool {
        matches!(self.jobs, Jobs::Open(_))
    }

    /// Returns the number of records that came back without a result: the thread or device that had
    /// them gave them up.
    fn given_up(&self) -> usize {
        match &self.jobs {
            Jobs::Seal(jobs) => jobs.iter().filter(|job| job.is_waiting()).count(),
            Jobs::Open(job) => usize::from(job.is_given_up()),
        }
    }

    /// Ends the records that have no result with an error: a cipher has a fault at one of them, and
    /// could have it again. Records that are sealed in place are lost: their content may be
    /// overwritten.
    pub fn fail(&mut self) {
        let error = CryptoError::Backend;
        match &mut self.jobs {
            Jobs::Seal(jobs) => {
                for job in jobs.iter_mut().filter(|job| job.is_waiting()) {
                    if job.is_in_place() {
                        job.parts();
                    } else {
                        // The job has the error.
                        let _ = job.set_result(Err(error));
                    }
                }
            }
            Jobs::Open(job) if job.is_given_up() => {
                // As above.
                let _ = job.set_result(Err(error));
            }
            Jobs::Open(_) => {}
        }
    }

    /// Seals or opens the records on the calling thread. Each job gets its result.
    pub fn run(&mut self, ciphers: &mut Ciphers) {
        // The jobs have the errors as well.
        let _ = match &mut self.jobs {
            Jobs::Seal(jobs) => ciphers.seal(jobs),
            Jobs::Open(job) => ciphers.open(job),
        };
    }
}

impl Ciphers {
    /// Has records sealed and opened elsewhere.
    #[must_use]
    pub fn with_away(mut self, away: Box<dyn Away>) -> Self {
        self.away = Some(away);
        self
    }

    /// Returns where records are sealed and opened, if that isn't here.
    pub fn away(&mut self) -> Option<&mut (dyn Away + 'static)> {
        self.away.as_deref_mut()
    }

    /// Whether records are sealed and opened elsewhere.
    pub fn has_away(&self) -> bool {
        self.away.is_some()
    }

    /// Returns the number of records that are being sealed or opened elsewhere.
    pub fn in_flight(&self) -> usize {
        self.away.as_ref().map_or(0, |away| away.in_flight())
    }

    /// Submits work of a flow to be done elsewhere, and counts its records.
    ///
    /// # Errors
    ///
    /// The work, if there is no such place, its queue has ended or has no room.
    pub fn submit_away(&mut self, flow: u32, work: Work) -> Result<(), Work> {
        let Some(away) = &mut self.away else {
            return Err(work);
        };
        let (is_received, records) = (work.is_received(), work.records() as u64);
        away.submit(flow, work)?;
        self.count_submitted(is_received, records);
        Ok(())
    }

    /// Returns work that has been done elsewhere, and counts its records.
    pub fn poll_away(&mut self) -> Option<Work> {
        let work = self.away.as_mut()?.poll()?;
        let given_up = work.given_up() as u64;
        self.count_returned(work.is_received(), work.records() as u64, given_up);
        match &work.jobs {
            Jobs::Seal(jobs) => self.count_sealed(jobs),
            Jobs::Open(job) if job.is_opened() => self.count_opened(job),
            Jobs::Open(_) => {}
        }
        Some(work)
    }
}

impl fmt::Debug for dyn Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Away({} records)", self.in_flight())
    }
}
