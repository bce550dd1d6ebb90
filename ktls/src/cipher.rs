//! Cipher backends: the trait that seals and opens records, and a worker's set of backends.

mod aws;
mod rustcrypto;
mod stack;
mod table;

use core::fmt;
use core::str::FromStr;

use pktbuf::SealParts;
use thiserror::Error;

pub use self::aws::RecordOpener;
use crate::away::Away;
use crate::codec::{self, Aad};
use crate::counters::{Counter, Counters};
use crate::error::CryptoError;
use crate::job::{OpenJob, OpenParts, SealJob};
use crate::session::SessionId;
use crate::suite::{HEADER_LEN, NONCE_LEN, Params, Version};

/// A cipher backend of one worker.
///
/// It caches expanded keys by session id in a bounded table.
pub trait RecordCipher: Send {
    /// Returns the name that the configuration selects it by.
    fn name(&self) -> &'static str;

    /// Returns its priority: of the backends that support a session, the highest is used.
    fn priority(&self) -> u8;

    /// Whether it supports this suite and version.
    fn supports(&self, params: Params) -> bool;

    /// Seals a run of records of one session, in order, and notes the result in each job. Identical
    /// records give identical bytes.
    ///
    /// It stops at the first record that fails, and notes nothing in the jobs after it.
    ///
    /// The unit is a run because lookups between two records are expensive: touching a dozen pages
    /// stops the processor from prefetching the next record's content.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Backend`] if a job's lengths don't fit the session or the cipher fails.
    fn seal(&mut self, run: &mut [SealJob]) -> Result<(), CryptoError>;

    /// Opens one record in place, and notes the length of the plaintext in the job.
    ///
    /// # Errors
    ///
    /// [`CryptoError::BadTag`] if the record is not authentic.
    fn open(&mut self, job: &mut OpenJob) -> Result<(), CryptoError>;

    /// Removes the expanded key of a session that has ended.
    fn forget(&mut self, id: SessionId);
}

/// Which backends a worker uses.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum BackendChoice {
    /// All backends, the fastest preferred.
    #[default]
    Auto,
    /// Only aws-lc-rs.
    AwsLcRs,
    /// Only RustCrypto's crates.
    RustCrypto,
}

impl FromStr for BackendChoice {
    type Err = UnknownBackend;

    fn from_str(name: &str) -> Result<Self, UnknownBackend> {
        match name {
            "auto" => Ok(Self::Auto),
            aws::NAME => Ok(Self::AwsLcRs),
            rustcrypto::NAME => Ok(Self::RustCrypto),
            _ => Err(UnknownBackend(name.to_owned())),
        }
    }
}

/// The configuration names a backend that does not exist.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("unknown cipher backend \"{0}\"; there are \"auto\", \"aws-lc-rs\" and \"rustcrypto\"")]
pub struct UnknownBackend(pub String);

/// A worker's ciphers: its backends by priority, and the record layer's counters.
pub struct Ciphers {
    backends: Vec<Box<dyn RecordCipher>>,
    /// Memory of the run of jobs that a queue seals now.
    run: Vec<SealJob>,
    /// Where records are sealed and opened, if that isn't here.
    pub(crate) away: Option<Box<dyn Away>>,
    /// Counters of this worker's record layer.
    pub counters: Counters,
}

impl fmt::Debug for Ciphers {
    /// Prints the backends' names and nothing of any key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Ciphers {
    /// Creates the chosen backends, each with a table of at most `keys_max` expanded keys.
    pub fn new(choice: BackendChoice, keys_max: usize) -> Self {
        let aws = || Box::new(aws::AwsLcRs::new(keys_max)) as Box<dyn RecordCipher>;
        let rust = || Box::new(rustcrypto::RustCrypto::new(keys_max)) as Box<dyn RecordCipher>;
        Self::with_backends(match choice {
            BackendChoice::Auto => vec![aws(), rust()],
            BackendChoice::AwsLcRs => vec![aws()],
            BackendChoice::RustCrypto => vec![rust()],
        })
    }

    /// Creates a set from given backends, such as those of tests.
    pub fn with_backends(mut backends: Vec<Box<dyn RecordCipher>>) -> Self {
        backends.sort_by_key(|backend| core::cmp::Reverse(backend.priority()));
        Self {
            backends,
            run: Vec::new(),
            away: None,
            counters: Counters::default(),
        }
    }

    /// Seals records in order, up to the first failure, and notes the result in each job.
    ///
    /// Sealing a record evicts the L1 cache, so the backend is looked up and the records are
    /// counted once for a run of records of one session.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Unsupported`] if no backend supports the session, and what the backend
    /// reports.
    pub fn seal(&mut self, jobs: &mut [SealJob]) -> Result<(), CryptoError> {
        for run in jobs.chunk_by_mut(|a, b| a.session().is_same(b.session())) {
            let Some(params) = run.first().map(|job| job.session().params()) else {
                continue;
            };
            let result = choose_backend(&mut self.backends, params)?.seal(run);
            count_sealed(&mut self.counters, params, run);
            result?;
        }
        Ok(())
    }

    /// Counts records of one session that were sealed, up to the first that wasn't.
    pub(crate) fn count_sealed(&mut self, run: &[SealJob]) {
        if let Some(first) = run.first() {
            count_sealed(&mut self.counters, first.session().params(), run);
        }
    }

    /// Counts a record that was opened.
    pub(crate) fn count_opened(&mut self, job: &OpenJob) {
        let params = job.session().params();
        self.counters.add(Counter::decrypts(params), 1);
    }

    /// Counts records that were submitted to be sealed or opened elsewhere.
    pub(crate) fn count_submitted(&mut self, is_received: bool, records: u64) {
        self.counters.add(in_queue(is_received), records);
    }

    /// Counts records that came back, of which so many have no result.
    pub(crate) fn count_returned(&mut self, is_received: bool, records: u64, given_up: u64) {
        self.counters.lower(in_queue(is_received), records);
        self.counters.add(Counter::OcfRetries, given_up);
    }

    /// Lends the memory of a run of jobs, which is empty.
    pub(crate) fn take_run(&mut self) -> Vec<SealJob> {
        core::mem::take(&mut self.run)
    }

    /// Takes the memory of a run of jobs back.
    pub(crate) fn put_run(&mut self, run: Vec<SealJob>) {
        debug_assert!(run.is_empty(), "every job went back to its queue");
        self.run = run;
    }

    /// Opens one record with the preferred backend that supports the session; see
    /// [`RecordCipher::open`].
    ///
    /// # Errors
    ///
    /// [`CryptoError::Unsupported`] if no backend does, and what the backend reports.
    pub fn open(&mut self, job: &mut OpenJob) -> Result<(), CryptoError> {
        let params = job.session().params();
        match choose_backend(&mut self.backends, params) {
            Ok(backend) => backend.open(job)?,
            Err(error) => return job.set_result(Err(error)),
        }
        self.count_opened(job);
        Ok(())
    }

    /// Removes the expanded key of a session that has ended, and what its ciphers left on this
    /// thread's stack.
    pub fn forget(&mut self, id: SessionId) {
        for backend in &mut self.backends {
            backend.forget(id);
        }
        stack::wipe();
        if let Some(away) = &mut self.away {
            away.forget(id);
        }
    }

    /// Whether any backend supports this suite and version.
    pub fn supports(&self, params: Params) -> bool {
        self.backends.iter().any(|backend| backend.supports(params))
    }

    /// Returns the names of the backends, highest priority first.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.backends.iter().map(|backend| backend.name())
    }
}

/// The gauge of records that are elsewhere.
const fn in_queue(is_received: bool) -> Counter {
    if is_received {
        Counter::SwRxInqueue
    } else {
        Counter::SwTxInqueue
    }
}

fn count_sealed(counters: &mut Counters, params: Params, run: &[SealJob]) {
    let (mut in_place, mut separate) = (0, 0);
    for job in run.iter().take_while(|job| job.is_sealed()) {
        if job.is_in_place() {
            in_place += 1;
        } else {
            separate += 1;
        }
    }
    counters.add(Counter::encrypts(params), in_place + separate);
    counters.add(Counter::OcfInplace, in_place);
    counters.add(Counter::OcfSeparateOutput, separate);
}

fn choose_backend(
    backends: &mut [Box<dyn RecordCipher>],
    params: Params,
) -> Result<&mut dyn RecordCipher, CryptoError> {
    match backends.iter_mut().find(|backend| backend.supports(params)) {
        Some(backend) => Ok(backend.as_mut()),
        None => Err(CryptoError::Unsupported),
    }
}

/// AEAD inputs that seal a record, the same for every backend.
struct SealInputs {
    nonce: [u8; NONCE_LEN],
    aad: Aad,
    kind: [u8; 1],
    inner_type_len: usize,
}

impl SealInputs {
    fn new(
        params: Params,
        iv: &[u8; NONCE_LEN],
        parts: &SealParts<'_>,
    ) -> Result<Self, CryptoError> {
        let head = parts.head.as_bytes();
        let header = *head
            .first_chunk::<HEADER_LEN>()
            .ok_or(CryptoError::Backend)?;
        let content = u16::try_from(parts.body.len()).map_err(|_| CryptoError::Backend)?;
        let shape = params.shape();
        if parts.tail.len() != usize::from(shape.tail_len(content)) {
            return Err(CryptoError::Backend);
        }
        let number = parts.record.number;
        Ok(Self {
            nonce: codec::nonce(iv, number),
            aad: Aad::new(params, number, header, content),
            kind: [parts.record.kind],
            inner_type_len: usize::from(shape.inner_type_len),
        })
    }

    /// Plaintext that follows the body: the inner content type of TLS 1.3.
    fn extra(&self) -> &[u8] {
        &self.kind[..self.inner_type_len]
    }
}

/// AEAD inputs that open a record, the same for every backend.
struct OpenInputs {
    nonce: [u8; NONCE_LEN],
    aad: Aad,
}

impl OpenInputs {
    fn new(
        params: Params,
        iv: &[u8; NONCE_LEN],
        parts: &OpenParts<'_>,
    ) -> Result<Self, CryptoError> {
        let header = *parts
            .head
            .first_chunk::<HEADER_LEN>()
            .ok_or(CryptoError::Backend)?;
        let shape = params.shape();
        let content = parts
            .body
            .len()
            .checked_sub(usize::from(shape.tag_len))
            .and_then(|content| u16::try_from(content).ok())
            .ok_or(CryptoError::BadTag)?;
        if params.version == Version::Tls12 && parts.head.len() != usize::from(shape.head_len()) {
            return Err(CryptoError::Backend);
        }
        Ok(Self {
            nonce: codec::received_nonce(params, iv, parts.number, parts.head),
            aad: Aad::new(params, parts.number, header, content),
        })
    }
}

#[cfg(test)]
mod tests;
