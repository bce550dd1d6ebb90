//! Cipher backends: the trait that seals and opens records, and a worker's set of backends.

mod aws;
mod rustcrypto;
mod table;

use core::fmt;
use core::str::FromStr;

use thiserror::Error;

pub use self::aws::RecordOpener;
use crate::codec::{self, Aad};
use crate::counters::{Counter, Counters};
use crate::error::CryptoError;
use crate::session::{Session, SessionId};
use crate::suite::{ContentType, HEADER_LEN, NONCE_LEN, Params, Version};

/// A framed record to be sealed.
///
/// Sealing writes as many bytes of ciphertext to `body` as there are bytes of content, and the rest
/// to `tail`: the inner content type of TLS 1.3 and the tag.
#[derive(Debug)]
pub struct SealJob<'a> {
    /// The record's sequence number.
    pub number: u64,
    /// The content type.
    pub kind: ContentType,
    /// Header and explicit nonce, as sent.
    pub head: &'a [u8],
    /// The content, if it is not in `body`: page-cache pages, which are read-only.
    pub from: Option<&'a [u8]>,
    /// The content, to be sealed in place, or room for the ciphertext of `from`.
    pub body: &'a mut [u8],
    /// Room for inner type and tag.
    pub tail: &'a mut [u8],
}

/// A record to be opened.
#[derive(Debug)]
pub struct OpenJob<'a> {
    /// The record's sequence number.
    pub number: u64,
    /// Header and explicit nonce, as received.
    pub head: &'a [u8],
    /// Ciphertext and tag, to be opened in place.
    pub body: &'a mut [u8],
}

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

    /// Seals a run of records of one session, in order. Identical jobs give identical bytes.
    ///
    /// It stops at the first record that fails and takes no job after it.
    ///
    /// The unit is a run because lookups between two records are expensive: touching a dozen pages
    /// stops the processor from prefetching the next record's content.
    ///
    /// # Errors
    ///
    /// [`CryptoError::Backend`] if a job's lengths don't fit the session or the cipher fails.
    fn seal(
        &mut self,
        session: &Session,
        jobs: &mut dyn Iterator<Item = SealJob<'_>>,
    ) -> Result<(), CryptoError>;

    /// Opens one record in place and returns the length of the plaintext at the front of `body`.
    /// In TLS 1.3 that includes inner content type and padding.
    ///
    /// # Errors
    ///
    /// [`CryptoError::BadTag`] if the record is not authentic.
    fn open(&mut self, session: &Session, job: OpenJob<'_>) -> Result<usize, CryptoError>;

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
            counters: Counters::default(),
        }
    }

    /// Returns the backend for these parameters, to seal a run of records.
    ///
    /// Sealing a record evicts the L1 cache, so the backend is looked up and the records are
    /// counted once per run.
    pub(crate) fn sealer(&mut self, params: Params) -> Result<Sealer<'_>, CryptoError> {
        let backend = choose_backend(&mut self.backends, params)?;
        Ok(Sealer {
            backend,
            counters: &mut self.counters,
            params,
            in_place: 0,
            separate: 0,
        })
    }

    /// Opens one record with the preferred backend that supports the session; see
    /// [`RecordCipher::open`].
    ///
    /// # Errors
    ///
    /// [`CryptoError::Unsupported`] if no backend does, and what the backend reports.
    pub fn open(&mut self, session: &Session, job: OpenJob<'_>) -> Result<usize, CryptoError> {
        let plaintext = choose_backend(&mut self.backends, session.params())?.open(session, job)?;
        self.counters.add(Counter::decrypts(session.params()), 1);
        Ok(plaintext)
    }

    /// Removes the expanded key of a session that has ended.
    pub fn forget(&mut self, id: SessionId) {
        for backend in &mut self.backends {
            backend.forget(id);
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

/// A backend that seals a run of records. Dropping it adds them to the counters.
pub(crate) struct Sealer<'a> {
    backend: &'a mut dyn RecordCipher,
    counters: &'a mut Counters,
    params: Params,
    in_place: u64,
    separate: u64,
}

impl Sealer<'_> {
    /// Seals records of one session up to the first failure. Returns the number sealed.
    pub(crate) fn seal<'j>(
        &mut self,
        session: &Session,
        jobs: impl Iterator<Item = SealJob<'j>>,
    ) -> (usize, Result<(), CryptoError>) {
        debug_assert_eq!(
            session.params(),
            self.params,
            "a queue's keys are all of one suite"
        );
        let (mut sealed, mut last) = ([0_usize; 2], 0);
        let mut jobs = jobs.inspect(|job| {
            last = usize::from(job.from.is_some());
            sealed[last] += 1;
        });
        let result = self.backend.seal(session, &mut jobs);
        if result.is_err() {
            sealed[last] = sealed[last].saturating_sub(1);
        }
        let [in_place, separate] = sealed;
        self.in_place += in_place as u64;
        self.separate += separate as u64;
        (in_place + separate, result)
    }
}

impl Drop for Sealer<'_> {
    fn drop(&mut self) {
        let (in_place, separate) = (self.in_place, self.separate);
        self.counters
            .add(Counter::encrypts(self.params), in_place + separate);
        self.counters.add(Counter::OcfInplace, in_place);
        self.counters.add(Counter::OcfSeparateOutput, separate);
    }
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
    fn new(params: Params, iv: &[u8; NONCE_LEN], job: &SealJob<'_>) -> Result<Self, CryptoError> {
        let header = *job
            .head
            .first_chunk::<HEADER_LEN>()
            .ok_or(CryptoError::Backend)?;
        let content = u16::try_from(job.body.len()).map_err(|_| CryptoError::Backend)?;
        let shape = params.shape();
        let fits = job.tail.len() == usize::from(shape.tail_len(content))
            && job.from.is_none_or(|from| from.len() == job.body.len());
        if !fits {
            return Err(CryptoError::Backend);
        }
        Ok(Self {
            nonce: codec::nonce(iv, job.number),
            aad: Aad::new(params, job.number, header, content),
            kind: [job.kind.0],
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
    fn new(params: Params, iv: &[u8; NONCE_LEN], job: &OpenJob<'_>) -> Result<Self, CryptoError> {
        let header = *job
            .head
            .first_chunk::<HEADER_LEN>()
            .ok_or(CryptoError::Backend)?;
        let shape = params.shape();
        let content = job
            .body
            .len()
            .checked_sub(usize::from(shape.tag_len))
            .and_then(|content| u16::try_from(content).ok())
            .ok_or(CryptoError::BadTag)?;
        if params.version == Version::Tls12 && job.head.len() != usize::from(shape.head_len()) {
            return Err(CryptoError::Backend);
        }
        Ok(Self {
            nonce: codec::received_nonce(params, iv, job.number, job.head),
            aad: Aad::new(params, job.number, header, content),
        })
    }
}

#[cfg(test)]
mod tests;
