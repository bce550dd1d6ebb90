//! A reader with many reads in flight, which ends them as no kernel would in a test: in any order,
//! late, short, with errors, and never while a gate is closed.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use lockgate_testing::Random;
use lockgate_uring::{Completion, Read};
use rustix::io::Errno;

use super::{FileSystem as _, Gate, Kernel};
use crate::source::reader::{NewReader, PendingRead, Reader, Wake};

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) seed: u64,
    /// Reads are shorter than requested.
    pub(crate) is_short: bool,
    /// One of so many reads fails; none if 0.
    pub(crate) fails_one_in: usize,
    /// Reads that a loader may have in flight.
    pub(crate) depth: usize,
}

/// Readers with these faults.
pub(crate) fn faulty_readers(gate: &Gate, faults: Faults) -> NewReader {
    let gate = gate.clone();
    Arc::new(move || {
        Ok(Box::new(FaultyReader {
            gate: gate.clone(),
            faults,
            random: Random::new(faults.seed),
            in_flight: Vec::new(),
            done: VecDeque::new(),
            seen: 0,
        }))
    })
}

/// A reader that reads nothing.
pub(crate) fn idle_reader() -> impl Reader {
    FaultyReader {
        gate: Gate::new(true),
        faults: Faults {
            seed: 0,
            is_short: false,
            fails_one_in: 0,
            depth: 1,
        },
        random: Random::new(0),
        in_flight: Vec::new(),
        done: VecDeque::new(),
        seen: 0,
    }
}

struct FaultyReader {
    gate: Gate,
    faults: Faults,
    random: Random,
    in_flight: Vec<Read<PendingRead>>,
    done: VecDeque<Completion<PendingRead>>,
    /// Changes of the gate that were seen.
    seen: u64,
}

impl FaultyReader {
    /// Ends a random read among the reads that don't hang. Returns false if all hang.
    fn end_any(&mut self) -> bool {
        let gate = &self.gate;
        let held = |read: &Read<PendingRead>| {
            let file = read.file.file();
            file.is_some_and(|file| gate.holds_read(file))
        };
        let free = (0..self.in_flight.len()).filter(|at| !held(&self.in_flight[*at]));
        let free: Vec<_> = free.collect();
        if free.is_empty() {
            return false;
        }
        let at = free[self.random.index(free.len())];
        let mut read = self.in_flight.swap_remove(at);
        self.gate.add_held(-1);
        let result = self.read(&mut read);
        self.done.push_back(Completion { read, result });
        true
    }

    fn read(&mut self, read: &mut Read<PendingRead>) -> io::Result<usize> {
        let Faults {
            is_short,
            fails_one_in,
            ..
        } = self.faults;
        if fails_one_in > 0 && self.random.index(fails_one_in) == 0 {
            return Err(io::Error::from(Errno::IO));
        }
        if is_short && self.random.index(4) == 0 {
            return Err(io::Error::from(
                self.random.pick(&[Errno::INTR, Errno::AGAIN]),
            ));
        }
        let len = if is_short {
            1 + self.random.index(read.len)
        } else {
            read.len
        };
        let (file, offset) = (read.file.file(), read.offset);
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        let filled = read
            .page
            .fill_with(len, |spare| Kernel.read_new(file, spare, offset));
        Ok(filled?)
    }
}

impl Reader for FaultyReader {
    fn has_room(&self) -> bool {
        self.in_flight.len() < self.faults.depth
    }

    fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn begin(&mut self, read: Box<Read<PendingRead>>) {
        assert!(self.has_room(), "a read without room");
        self.in_flight.push(*read);
        self.gate.add_held(1);
    }

    fn next(&mut self) -> Option<Completion<PendingRead>> {
        if self.done.is_empty() && self.random.index(3) == 0 {
            self.end_any();
        }
        self.done.pop_front()
    }

    fn wait(&mut self) {
        if !self.done.is_empty() || self.end_any() {
            return;
        }
        self.seen = self.gate.wait_for_change(self.seen);
    }

    fn wake(&self) -> Wake {
        let gate = self.gate.clone();
        Arc::new(move || gate.wake())
    }
}

impl Drop for FaultyReader {
    /// As that of a ring: it waits for what can't be cancelled.
    fn drop(&mut self) {
        while !self.in_flight.is_empty() {
            if !self.end_any() {
                self.seen = self.gate.wait_for_change(self.seen);
            }
        }
    }
}
