//! The ring: submission, completion, and what is in flight.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::{AsFd, AsRawFd as _};
use std::thread;
use std::time::Duration;

use io_uring::{IoUring, Probe, cqueue, opcode, squeue, types};

use crate::read::{Completion, Read};
use crate::refused::Refused;
use crate::waker::Waker;

/// What a ring may have at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Reads in flight, 1 to 1 024.
    pub reads: u16,
    /// Threads of the kernel, for file systems that can't read asynchronously. Reads beyond that
    /// wait in the kernel.
    pub kernel_threads: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reads: 32,
            kernel_threads: 8,
        }
    }
}

/// An io_uring of the thread that made it.
///
/// Dropping it waits until the kernel has ended all reads; see [the crate](crate).
pub struct Ring<T: AsFd> {
    ring: IoUring,
    /// The reads in flight, by the user data of their entries.
    slots: Box<[Option<Read<T>>]>,
    free: Vec<usize>,
    done: VecDeque<Completion<T>>,
    waker: Waker,
    /// The ring polls the waker.
    is_polling: bool,
    was_woken: bool,
    /// The kernel accepts entries of one thread only.
    one_thread: PhantomData<*const ()>,
}

impl<T: AsFd> Ring<T> {
    /// Makes a ring for the calling thread.
    ///
    /// # Errors
    /// If the kernel, or a limit of the process, refuses it.
    pub fn new(limits: Limits) -> Result<Self, Refused> {
        let reads = usize::from(limits.reads.clamp(1, 1_024));
        // A read and its cancellation each, and the poll of the waker.
        let entries = u32::try_from(2 * reads + 1).unwrap_or(u32::MAX);
        let ring = build(entries).map_err(Refused::call("io_uring_setup"))?;
        let mut probe = Probe::new();
        // A kernel without probes (before 5.6) has no reads either.
        if ring.submitter().register_probe(&mut probe).is_err()
            || !probe.is_supported(opcode::Read::CODE)
        {
            return Err(Refused::NoRead);
        }
        // Kernels before 5.15 have the limit min(entries, 4 for each core).
        let mut threads = [u32::from(limits.kernel_threads.max(1)), 0];
        let _ = ring.submitter().register_iowq_max_workers(&mut threads);
        Ok(Self {
            ring,
            slots: (0..reads).map(|_| None).collect(),
            free: (0..reads).rev().collect(),
            done: VecDeque::with_capacity(reads),
            waker: Waker::new().map_err(Refused::call("eventfd"))?,
            is_polling: false,
            was_woken: false,
            one_thread: PhantomData,
        })
    }

    /// Returns what wakes the thread from [`Ring::wait`].
    pub fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Returns the number of reads that aren't complete.
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether another read can be pushed.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Queues a read. The kernel sees it with [`Ring::submit`] or [`Ring::wait`].
    ///
    /// # Errors
    /// The read, if as many are in flight as may be.
    pub fn push(&mut self, mut read: Read<T>) -> Result<(), Read<T>> {
        let file = types::Fd(read.file.as_fd().as_raw_fd());
        let Some(slot) = self.free.pop() else {
            return Err(read);
        };
        let (address, room) = read.page.spare_parts();
        let len = u32::try_from(read.len.min(room)).unwrap_or(u32::MAX);
        let entry = opcode::Read::new(file, address.as_ptr(), len)
            .offset(read.offset)
            .build()
            .user_data(slot as u64);
        // The slot keeps page and file until the entry's completion.
        self.slots[slot] = Some(read);
        self.push_entry(&entry);
        Ok(())
    }

    /// Hands what was queued to the kernel, and takes what is complete. Doesn't wait.
    ///
    /// # Errors
    /// If the kernel takes nothing now. What was queued stays queued.
    pub fn submit(&mut self) -> io::Result<()> {
        let submitted = self.ring.submit();
        self.reap();
        submitted.map(|_| ())
    }

    /// Returns the next read that has ended, in the order in which they ended.
    #[expect(
        clippy::should_implement_trait,
        reason = "more may come after the last one"
    )]
    pub fn next(&mut self) -> Option<Completion<T>> {
        self.done.pop_front()
    }

    /// Hands what was queued to the kernel, and waits until a read has ended or the waker was used.
    ///
    /// # Errors
    /// If the kernel refuses to wait. Short of memory it doesn't: then this tries again.
    pub fn wait(&mut self) -> io::Result<()> {
        while self.done.is_empty() && !mem::take(&mut self.was_woken) {
            self.poll_waker();
            self.enter_and_wait()?;
        }
        Ok(())
    }

    /// Has the kernel cancel all reads. They end all the same: with `ECANCELED`, or with a result.
    pub fn cancel(&mut self) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].is_some() {
                let entry = opcode::AsyncCancel::new(slot as u64).build();
                self.push_entry(&entry.user_data(CANCEL));
            }
        }
    }

    fn poll_waker(&mut self) {
        if !mem::replace(&mut self.is_polling, true) {
            let file = types::Fd(self.waker.as_fd().as_raw_fd());
            let entry = opcode::PollAdd::new(file, POLLIN).build();
            self.push_entry(&entry.user_data(WAKE));
        }
    }

    /// Waits for a completion of any kind.
    fn enter_and_wait(&mut self) -> io::Result<()> {
        let entered = self.ring.submit_and_wait(1);
        self.reap();
        match entered {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            // Short of memory, or of room for completions, which there is now.
            Err(error) if RETRIED.contains(&error.raw_os_error().unwrap_or(0)) => {
                thread::sleep(RETRY_AFTER);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn push_entry(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: of a read, the slot keeps page and file until its completion, and the drop
            // waits for that. Other entries have the waker's file, which the ring has, too.
            let pushed = unsafe { self.ring.submission().push(entry) };
            if pushed.is_ok() {
                return;
            }
            // Cancellations that weren't taken yet fill the queue.
            if self.ring.submit().is_err() {
                thread::sleep(RETRY_AFTER);
            }
            self.reap();
        }
    }

    fn reap(&mut self) {
        let Self {
            ring,
            slots,
            free,
            done,
            waker,
            is_polling,
            was_woken,
            ..
        } = self;
        for entry in ring.completion() {
            match entry.user_data() {
                WAKE => {
                    waker.clear();
                    *is_polling = false;
                    *was_woken = true;
                }
                CANCEL => {}
                slot => {
                    let at = usize::try_from(slot).unwrap_or(usize::MAX);
                    let read = slots.get_mut(at).and_then(Option::take);
                    let Some(read) = read else {
                        debug_assert!(false, "a completion of nothing");
                        continue;
                    };
                    free.push(at);
                    done.push_back(complete(read, &entry));
                }
            }
        }
    }
}

/// Makes a ring whose completions wait for the thread, without interrupting it, if the kernel has
/// that (6.1).
fn build(entries: u32) -> io::Result<IoUring> {
    let deferred = IoUring::builder()
        .dontfork()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(entries);
    match deferred {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            IoUring::builder().dontfork().build(entries)
        }
        built => built,
    }
}

fn complete<T>(mut read: Read<T>, entry: &cqueue::Entry) -> Completion<T> {
    let result = match usize::try_from(entry.result()) {
        Ok(count) => {
            // SAFETY: the kernel has written so many bytes to where the page was filled up to when
            // the read was pushed, and it is done with them.
            unsafe { read.page.add_filled(count) };
            Ok(count)
        }
        Err(_) => Err(io::Error::from_raw_os_error(-entry.result())),
    };
    Completion { read, result }
}

impl<T: AsFd> Drop for Ring<T> {
    fn drop(&mut self) {
        self.cancel();
        while self.in_flight() > 0 {
            if self.enter_and_wait().is_err() {
                // The kernel may write to these for as long as the process lives.
                mem::forget(mem::take(&mut self.slots));
                return;
            }
        }
    }
}

impl<T: AsFd> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("in_flight", &self.in_flight())
            .field("done", &self.done.len())
            .finish_non_exhaustive()
    }
}

/// User data of what isn't a read.
const WAKE: u64 = u64::MAX;
const CANCEL: u64 = u64::MAX - 1;

/// poll(2)'s.
const POLLIN: u32 = 1;

/// `EAGAIN`, `ENOMEM` and `EBUSY` of `io_uring_enter`.
const RETRIED: [i32; 3] = [11, 12, 16];
const RETRY_AFTER: Duration = Duration::from_millis(1);
