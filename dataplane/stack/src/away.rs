//! What the worker keeps of records that are sealed and opened elsewhere.

use std::collections::HashMap;

use lockgate_ktls::{OpenJob, SealJob};

/// Records that came back and weren't read yet, and memory for lists of jobs.
#[derive(Debug, Default)]
pub(crate) struct AwayRecords {
    /// By socket: a received record that came back. A socket has one at most, because the next one
    /// is submitted when it has been read.
    opened: HashMap<u32, OpenJob>,
    /// Empty lists, so that submitting hardly ever allocates.
    spare: Vec<Vec<SealJob>>,
}

impl AwayRecords {
    /// Keeps a record that came back until its socket reads it.
    pub(crate) fn keep_opened(&mut self, index: u32, job: OpenJob) {
        self.opened.insert(index, job);
    }

    /// Takes the record of a socket that came back.
    pub(crate) fn take_opened(&mut self, index: u32) -> Option<OpenJob> {
        self.opened.remove(&index)
    }

    /// Takes an empty list of jobs.
    pub(crate) fn take_spare(&mut self) -> Vec<SealJob> {
        self.spare.pop().unwrap_or_default()
    }

    /// Keeps the memory of a list of jobs, which is empty.
    pub(crate) fn keep_spare(&mut self, jobs: Vec<SealJob>) {
        debug_assert!(jobs.is_empty(), "every job went back to its queue");
        if self.spare.len() < SPARE_MAX {
            self.spare.push(jobs);
        }
    }
}

/// Lists whose memory is kept.
const SPARE_MAX: usize = 128;
