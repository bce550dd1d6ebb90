//! Sealing of queued records: by the worker when TCP sends them, or elsewhere ahead of time.
//!
//! | state of a record | owner of its bytes | can be cut | can be sent |
//! |---|---|---|---|
//! | framed | the queue | yes, its number is used again | when the worker has sealed it |
//! | away | its [`SealJob`] | no | no, nor anything behind it |
//! | sealed | the queue, and ports that send it | no | yes |

use core::ops::Range;

use pktbuf::{PageBuf, PagePool, Placement, State, Unsealable};

use super::RecordQueue;
use crate::cipher::Ciphers;
use crate::counters::Counter;
use crate::error::{CryptoError, TxError};
use crate::job::SealJob;
use crate::session::Session;
use crate::shape::SealOrder;

/// How far [`RecordQueue::jobs`] got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// Every record that the range touches is sealed or away.
    All,
    /// So many jobs are made in one call. Call again, in TLS 1.0 when the job is back: its record's
    /// end is the IV of the next.
    More,
    /// The pool has no span for the next record.
    Exhausted,
}

impl RecordQueue {
    /// Seals the records that `range` touches, each as a whole, in order. Returns the offset up to
    /// which the range can be sent: less than its end if the pool is exhausted, or a record is
    /// away.
    ///
    /// # Errors
    ///
    /// [`CryptoError`] if the backend fails or a record [is lost](Self::is_lost); the connection
    /// has to be closed (EIO).
    pub fn prepare(
        &mut self,
        range: &Range<u64>,
        ciphers: &mut Ciphers,
        pool: &mut PagePool,
    ) -> Result<u64, CryptoError> {
        if range.end <= self.sealed_to() {
            return Ok(range.end);
        }
        if self.keys.is_some() {
            // Its memory is kept: nothing is allocated for a burst.
            let mut run = ciphers.take_run();
            let result = self.seal_here(range, &mut run, ciphers, pool);
            ciphers.put_run(run);
            self.drop_previous_keys(ciphers);
            if let Err(error) = result.and_then(|()| self.check_lost()) {
                ciphers.counters.add(Counter::FailedCrypto, 1);
                return Err(error);
            }
        }
        Ok(self.sealed_to().clamp(range.start, range.end))
    }

    /// Makes jobs of framed records that `range` touches, in order, of `records_max` at most, and
    /// appends them to `out`. The records are away until [`sealed`](Self::sealed) gets their jobs.
    ///
    /// A record whose ciphertext was dropped gets no job: it may have been sent, and what was sent
    /// stays ready. [`prepare`](Self::prepare) seals it again.
    ///
    /// With [`Placement::Separate`] a record can be sealed again whatever the backend does to the
    /// memory of its ciphertext, see [`take_back`](Self::take_back).
    ///
    /// # Errors
    ///
    /// [`CryptoError::Backend`] for a record whose epoch has no key, which is a fault of the queue.
    /// Jobs of the records before it are in `out`.
    pub fn jobs(
        &mut self,
        range: &Range<u64>,
        placement: Placement,
        records_max: usize,
        pool: &mut PagePool,
        out: &mut Vec<SealJob>,
    ) -> Result<Taken, CryptoError> {
        self.take_jobs(range, placement, records_max, false, pool, out)
    }

    /// As [`jobs`](Self::jobs), with `again` also of records that were sealed before.
    fn take_jobs(
        &mut self,
        range: &Range<u64>,
        placement: Placement,
        records_max: usize,
        again: bool,
        pool: &mut PagePool,
        out: &mut Vec<SealJob>,
    ) -> Result<Taken, CryptoError> {
        let Some(keys) = self.keys.as_mut() else {
            return Ok(Taken::All);
        };
        let order = keys.params().shape().order;
        let jobs_max = jobs_max(order, keys.away != NONE_AWAY).min(records_max);
        let (mut taken, mut first, mut count) = (Ok(Taken::All), NONE_AWAY, 0);
        let mut skipped = None;
        let reached = self
            .stream
            .visit_framed(self.unsubmitted..range.end, |record| {
                let offset = record.offset();
                if record.was_sealed() && !again {
                    skipped.get_or_insert(offset);
                    return true;
                }
                if count == jobs_max {
                    taken = Ok(Taken::More);
                    return false;
                }
                let Some(session) = keys.session_of(record.record().epoch) else {
                    taken = Err(CryptoError::Backend);
                    return false;
                };
                match record.begin_seal(placement, pool) {
                    Ok(memory) => {
                        let job = SealJob::new(memory, session.clone());
                        out.push(match keys.chained_iv() {
                            Some(iv) => job.with_chained_iv(iv),
                            None => job,
                        });
                        first = first.min(offset);
                        count += 1;
                        true
                    }
                    Err(Unsealable::Exhausted) => {
                        taken = Ok(Taken::Exhausted);
                        false
                    }
                    Err(Unsealable::NotFramed | Unsealable::Attached) => {
                        taken = Err(CryptoError::Backend);
                        false
                    }
                }
            });
        self.unsubmitted = skipped.unwrap_or(reached);
        keys.submitted = keys.submitted.max(reached);
        keys.away = keys.away.min(first);
        self.debug_check();
        taken
    }

    /// Returns the offset, `to` at most, up to which bytes can be sent once
    /// [`prepare`](Self::prepare) has sealed records again whose ciphertext was dropped. It ends at
    /// the first record that is away, or that was never sealed.
    pub fn sendable_end(&self, to: u64) -> u64 {
        let to = to.min(self.ready_end());
        self.first_unsealed().map_or(to, |offset| to.min(offset))
    }

    /// Returns the offset of the first record that was never sealed and isn't away.
    pub fn first_unsealed(&self) -> Option<u64> {
        let from_framed = self.stream.iter_from(self.unsubmitted);
        let mut unsealed = from_framed.filter(|(_, block)| block.is_unsealed());
        unsealed.next().map(|(offset, _)| offset)
    }

    /// Takes jobs back, in any order. A record that wasn't sealed is framed again, and can be
    /// sealed by another backend. Jobs of other queues, or of records that were cut or
    /// [taken back](Self::take_back), only free their memory.
    ///
    /// Pass [`ready_end`](Self::ready_end) to TCP afterwards: it may have moved forward, as it may
    /// have moved backward with the jobs, though never behind what was sent.
    ///
    /// # Errors
    ///
    /// The first job's [`CryptoError`]; its record is framed again, unless
    /// [`is_lost`](Self::is_lost).
    pub fn sealed(
        &mut self,
        jobs: impl IntoIterator<Item = SealJob>,
        ciphers: &mut Ciphers,
        pool: &mut PagePool,
    ) -> Result<(), CryptoError> {
        let mut result = Ok(());
        for job in jobs {
            let ended = job.end();
            if ended.is_err() {
                ciphers.counters.add(Counter::FailedCrypto, 1);
            }
            result = result.and(ended);
        }
        self.end_seals(pool)?;
        self.drop_previous_keys(ciphers);
        result
    }

    /// Takes back all records that are away, for a backend that doesn't return their jobs. Each
    /// gets a new page buffer with the same number and content, so it can be sealed again while the
    /// backend may still write to the old one. A job that comes back later is only freed.
    ///
    /// # Errors
    ///
    /// [`TxError::Exhausted`] without a free page buffer: retry. [`TxError::Crypto`] if a record is
    /// sealed in place: the connection has to be reset.
    pub fn take_back(&mut self, pool: &mut PagePool) -> Result<(), TxError> {
        self.end_seals(pool)?;
        let Some(keys) = self.keys.as_mut().filter(|keys| keys.away != NONE_AWAY) else {
            return Ok(());
        };
        let renewed = self.stream.renew_away(keys.away..keys.submitted, pool);
        self.unsubmitted = self.unsubmitted.min(keys.away);
        self.end_seals(pool)?;
        renewed.map_err(|error| match error {
            Unsealable::Exhausted => TxError::Exhausted,
            Unsealable::NotFramed | Unsealable::Attached => TxError::Crypto(CryptoError::Backend),
        })
    }

    /// Returns the offset up to which bytes can be sent now: TCP's `ready`. It ends at the first
    /// record that is away, in whatever order the jobs come back. Records that the worker seals
    /// when they are sent count.
    pub fn ready_end(&self) -> u64 {
        self.away().min(self.stream.end())
    }

    /// Returns whether the content of a record is gone: its job ended half-way, in place. Nothing
    /// behind it can ever be sent, so the connection has to be reset.
    pub fn is_lost(&self) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.is_lost)
    }

    /// Returns whether a record is away.
    pub fn has_away(&self) -> bool {
        self.away() != NONE_AWAY
    }

    /// Returns the offset up to which everything is sealed or plain.
    pub(super) fn sealed_to(&self) -> u64 {
        self.unsubmitted.min(self.away())
    }

    /// Checks, in debug builds, what every operation keeps.
    pub(super) fn debug_check(&self) {
        let (start, end) = (self.stream.first_offset(), self.stream.end());
        debug_assert!(
            start <= self.unsubmitted && self.unsubmitted <= end,
            "the first record to be sealed is in the queue"
        );
        if let Some(keys) = &self.keys {
            debug_assert!(
                self.unsubmitted <= keys.submitted && keys.submitted <= end.max(start),
                "what can't be cut is in the queue"
            );
            debug_assert!(
                keys.away == NONE_AWAY || (start..keys.submitted).contains(&keys.away),
                "a record that is away was submitted"
            );
        }
    }

    /// Seals on this thread, a run of records at a time.
    fn seal_here(
        &mut self,
        range: &Range<u64>,
        run: &mut Vec<SealJob>,
        ciphers: &mut Ciphers,
        pool: &mut PagePool,
    ) -> Result<(), CryptoError> {
        loop {
            let taken = self.take_jobs(range, Placement::InPlace, RUN_MAX, true, pool, run);
            if run.is_empty() && taken != Ok(Taken::Exhausted) {
                return taken.map(drop);
            }
            let sealed = ciphers.seal(run);
            for job in run.drain(..) {
                // The first job that failed has the same error as `sealed`.
                let _ = job.end();
            }
            self.end_seals(pool)?;
            sealed?;
            match taken? {
                Taken::All => return Ok(()),
                Taken::More => {}
                Taken::Exhausted => {
                    ciphers.counters.add(Counter::WaitedForPages, 1);
                    return Ok(());
                }
            }
        }
    }

    /// Takes over how jobs ended, up to the first record that is still away.
    fn end_seals(&mut self, pool: &mut PagePool) -> Result<(), CryptoError> {
        let Some(keys) = self.keys.as_mut().filter(|keys| keys.away != NONE_AWAY) else {
            return Ok(());
        };
        let first = keys.away;
        let ended = self.stream.end_seal(first..keys.submitted, pool);
        if keys.chained_iv().is_some() {
            // One record is away at a time.
            let record = self.stream.iter_from(first).next();
            let sealed = record.filter(|(_, block)| block.state() == State::Sealed);
            if let Some(wire) = sealed.and_then(|(_, block)| block.bytes()) {
                keys.chain(wire);
            }
        }
        keys.away = ended.away.unwrap_or(NONE_AWAY);
        if let Some(framed) = ended.framed {
            self.unsubmitted = self.unsubmitted.min(framed);
        }
        keys.is_lost = ended.is_lost;
        self.debug_check();
        self.check_lost()
    }

    fn check_lost(&self) -> Result<(), CryptoError> {
        if self.is_lost() {
            Err(CryptoError::Backend)
        } else {
            Ok(())
        }
    }

    fn drop_previous_keys(&mut self, ciphers: &mut Ciphers) {
        let sealed_to = self.sealed_to();
        if let Some(keys) = self.keys.as_mut() {
            keys.drop_previous(sealed_to, ciphers);
        }
    }

    fn away(&self) -> u64 {
        self.keys.as_ref().map_or(NONE_AWAY, |keys| keys.away)
    }
}

/// Seals one framed record that isn't in a queue.
pub(super) fn seal_alone(
    buf: &mut PageBuf,
    session: &Session,
    ciphers: &mut Ciphers,
    pool: &mut PagePool,
) -> Result<(), CryptoError> {
    let memory = buf.begin_seal(Placement::InPlace, pool);
    let memory = memory.map_err(|_| CryptoError::Backend)?;
    let mut job = SealJob::new(memory, session.clone());
    let sealed = ciphers.seal(core::slice::from_mut(&mut job));
    let ended = job.end();
    buf.end_seal(pool);
    sealed.and(ended)
}

/// How many jobs one call makes.
fn jobs_max(order: SealOrder, is_away: bool) -> usize {
    match order {
        // A record's IV is the end of the record before, which has to be back.
        SealOrder::Sequence if is_away => 0,
        SealOrder::Sequence => 1,
        SealOrder::Any => RUN_MAX,
    }
}

/// The offset of the first record that is away, if none is.
pub(super) const NONE_AWAY: u64 = u64::MAX;
/// Records that are sealed at a time: a few more than one burst has. Lookups between two records
/// would keep the processor from prefetching the content.
const RUN_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chained_records_wait_for_those_before_them() {
        assert_eq!(jobs_max(SealOrder::Any, true), RUN_MAX);
        assert_eq!(jobs_max(SealOrder::Sequence, false), 1);
        assert_eq!(jobs_max(SealOrder::Sequence, true), 0);
    }
}
