//! Records of a socket that are sealed and opened elsewhere than on the worker's thread.

use lockgate_ktls::{Ciphers, Detached, Jobs, Received, RxError, SealJob, Work};
use pktbuf::{PagePool, Placement};

use super::state::TcpPhase;
use super::{Rx, Socket};
use crate::context::SocketContext;
use crate::memory::{Missing, ReserveLoan};
use crate::notice::CloseReason;

impl Socket {
    /// Submits the records that TCP may send now, so that they are sealed when their turn comes.
    pub(super) fn submit_window(
        &mut self,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) {
        if !self.is_tcp_over() && ciphers.has_away() {
            let window = u64::from(self.tcp.usable_window());
            let end = self.tx.end().min(self.tx.start() + window);
            self.submit_records(end, cx, ciphers, pages);
        }
    }

    /// Submits records before `end` that were never sealed: as many as the connection may have
    /// elsewhere, there is memory for, and the queue takes. The worker seals the others itself, so
    /// that no connection waits for the records of another.
    pub(super) fn submit_records(
        &mut self,
        end: u64,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) {
        let mut is_submitted = false;
        while self.phase == TcpPhase::Open
            && self.tx.first_unsealed().is_some_and(|first| first < end)
        {
            let own = RECORDS_AWAY_MAX.saturating_sub(self.pending.records_away);
            let room = ciphers.away().map_or(0, |away| away.room(self.hash));
            let count = room.min(usize::from(own));
            if count == 0 {
                cx.counters.away_full += u64::from(room == 0);
                break;
            }
            let (range, _) = self.seal_room(self.tx.start()..end, cx, pages);
            let mut jobs = cx.away.take_spare();
            let taken = self
                .tx
                .jobs(&range, Placement::InPlace, count, pages, &mut jobs);
            if taken.is_err() {
                self.abort(CloseReason::Crypto, &mut cx.schedule);
            }
            if jobs.is_empty() {
                cx.away.keep_spare(jobs);
                break;
            }
            cx.memory.starved.on_taken(Missing::Spans, &mut self.lists);
            self.submit_jobs(jobs, cx, ciphers, pages);
            is_submitted = true;
        }
        if is_submitted {
            // TCP may send up to the first record that is away.
            self.update_tcp_queue();
        }
    }

    fn submit_jobs(
        &mut self,
        jobs: Vec<SealJob>,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) {
        let work = Work {
            owner: self.id.to_bits(),
            jobs: Jobs::Seal(jobs),
        };
        let count = u8::try_from(work.records()).unwrap_or(u8::MAX);
        self.pending.records_away += count;
        if let Err(mut work) = ciphers.submit_away(self.hash, work) {
            // The queue is full of other messages, or its thread has ended.
            work.run(ciphers);
            self.on_work_done(work, cx, ciphers, pages);
        }
    }

    /// Takes back records that were sealed or opened elsewhere.
    pub(crate) fn on_work_done(
        &mut self,
        work: Work,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) {
        match work.jobs {
            Jobs::Seal(mut jobs) => {
                let count = u8::try_from(jobs.len()).unwrap_or(u8::MAX);
                self.pending.records_away = self.pending.records_away.saturating_sub(count);
                let sealed = self.tx.sealed(jobs.drain(..), ciphers, pages);
                cx.away.keep_spare(jobs);
                if self.is_tcp_over() {
                    return;
                }
                if sealed.is_err() {
                    self.abort(CloseReason::Crypto, &mut cx.schedule);
                    return;
                }
                self.update_tcp_queue();
                self.make_ready(&mut cx.schedule);
            }
            Jobs::Open(mut job) => {
                // A socket that receives no more has no use for it.
                if self.awaits_record() {
                    if job.is_waiting() {
                        // Its thread has ended before it came to it. The job has the result.
                        let _ = ciphers.open(&mut job);
                    }
                    cx.away.keep_opened(self.id.index, job);
                    self.notify_readable(&mut cx.notices);
                }
            }
        }
    }

    /// Whether a received record is opened elsewhere, or is back and wasn't read yet.
    pub(crate) fn awaits_record(&self) -> bool {
        matches!(&self.rx, Rx::Tls(deframer) if deframer.has_detached())
    }

    /// Returns the next event of the received stream. If a record is opened elsewhere meanwhile,
    /// that is `NeedBytes`, and a Readable notice follows when the record is back.
    ///
    /// A record is opened here if the queue has no room, or if there is no other memory for it than
    /// the reserve.
    ///
    /// # Errors
    ///
    /// As [`Deframer::next`](lockgate_ktls::Deframer::next).
    pub(super) fn receive_away(
        &mut self,
        cx: &mut SocketContext,
        ciphers: &mut Ciphers,
        pages: &mut PagePool,
    ) -> (Result<Received, RxError>, Option<ReserveLoan>) {
        let has_room = ciphers.away().is_some_and(|away| away.room(self.hash) > 0);
        let has_memory = pages.usage().large_spans_used < pages.usage().large_spans;
        let Rx::Tls(deframer) = &mut self.rx else {
            return (Ok(Received::NeedBytes), None);
        };
        if let Some(job) = cx.away.take_opened(self.id.index) {
            return (deframer.opened(job, ciphers), None);
        }
        let can_go = has_room && has_memory;
        if !can_go && !deframer.has_detached() {
            cx.counters.away_full += u64::from(!has_room);
            return self.receive_here(cx, ciphers, pages);
        }
        let job = match deframer.detach(ciphers, pages, &mut None) {
            Ok(Detached::Job(job)) => job,
            Ok(Detached::Event(Received::NeedPages)) => {
                return self.receive_here(cx, ciphers, pages);
            }
            Ok(Detached::Event(event)) => return (Ok(event), None),
            Err(error) => return (Err(error), None),
        };
        // Gathering a record frees packet buffers, so the window may be worth an update.
        cx.schedule.add_ready(self.id, &mut self.lists);
        let work = Work {
            owner: self.id.to_bits(),
            jobs: Jobs::Open(job),
        };
        let Err(mut work) = ciphers.submit_away(self.hash, work) else {
            return (Ok(Received::NeedBytes), None);
        };
        work.run(ciphers);
        match work.jobs {
            Jobs::Open(job) => (deframer.opened(job, ciphers), None),
            Jobs::Seal(_) => (Ok(Received::NeedBytes), None),
        }
    }
}

/// Records of one socket that are being sealed elsewhere at a time: half a mebibyte.
const RECORDS_AWAY_MAX: u8 = 32;
