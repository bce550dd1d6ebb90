//! Counters of a worker's record layer. Counters of FreeBSD have FreeBSD's names,
//! `kern.ipc.tls.*`. Counters of Linux's `/proc/net/tls_stat` are exported under Linux's names as
//! well, `tls_stat.*`.

use crate::enable::Direction;
use crate::error::RxError;
use crate::suite::{CipherKind, Params, Version};

/// A counter, or a gauge where that is noted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Counter {
    /// Attempts to enable a direction.
    EnableCalls,
    /// Directions enabled.
    OffloadTotal,
    /// Directions active now (gauge).
    Active,
    /// AES-GCM directions active in software (gauge).
    SwGcm,
    /// ChaCha20-Poly1305 directions active in software (gauge).
    SwChacha20,
    /// AES-CCM directions active in software (gauge).
    SwCcm,
    /// AES-CBC directions active in software (gauge).
    SwCbc,
    /// Sending directions active in software (gauge).
    SwTx,
    /// Receiving directions active in software (gauge).
    SwRx,
    /// Sending directions enabled in software.
    TxSessions,
    /// Receiving directions enabled in software.
    RxSessions,
    /// Records that KTLS workers are sealing, or that wait for them (gauge).
    SwTxInqueue,
    /// Received records that KTLS workers are opening, or that wait for them (gauge).
    SwRxInqueue,
    /// Received records with an invalid header.
    CorruptedRecords,
    /// Records that a cipher failed to seal or open.
    FailedCrypto,
    /// TLS 1.2 AES-GCM records sealed.
    OcfTls12GcmEncrypts,
    /// TLS 1.2 AES-GCM records opened.
    OcfTls12GcmDecrypts,
    /// TLS 1.2 ChaCha20-Poly1305 records sealed.
    OcfTls12Chacha20Encrypts,
    /// TLS 1.2 ChaCha20-Poly1305 records opened.
    OcfTls12Chacha20Decrypts,
    /// TLS 1.3 AES-GCM records sealed.
    OcfTls13GcmEncrypts,
    /// TLS 1.3 AES-GCM records opened.
    OcfTls13GcmDecrypts,
    /// TLS 1.3 ChaCha20-Poly1305 records sealed.
    OcfTls13Chacha20Encrypts,
    /// TLS 1.3 ChaCha20-Poly1305 records opened.
    OcfTls13Chacha20Decrypts,
    /// TLS 1.2 AES-CCM records sealed.
    OcfTls12CcmEncrypts,
    /// TLS 1.2 AES-CCM records opened.
    OcfTls12CcmDecrypts,
    /// TLS 1.3 AES-CCM records sealed.
    OcfTls13CcmEncrypts,
    /// TLS 1.3 AES-CCM records opened.
    OcfTls13CcmDecrypts,
    /// TLS 1.0 AES-CBC records sealed.
    OcfTls10CbcEncrypts,
    /// TLS 1.1 and TLS 1.2 AES-CBC records sealed.
    OcfTls11CbcEncrypts,
    /// TLS 1.1 and TLS 1.2 AES-CBC records opened.
    OcfTls11CbcDecrypts,
    /// Records sealed in place.
    OcfInplace,
    /// Records sealed from read-only pages into a separate buffer.
    OcfSeparateOutput,
    /// Records that came back from a KTLS worker or device without a result, and were sealed or
    /// opened by the connection's own worker.
    OcfRetries,
    /// Received records opened in place, without a copy.
    RxInplace,
    /// Received records copied into one buffer before they were opened.
    RxGathered,
    /// Bytes copied to gather received records.
    RxGatheredBytes,
    /// Times that receiving or sealing waited for a page buffer.
    WaitedForPages,
    /// KeyUpdates received.
    RxRekeyReceived,
    /// Key changes on the receive side.
    RxRekeyOk,
    /// Receiving keys that were refused while there were others.
    RxRekeyError,
    /// Key changes on the send side.
    TxRekeyOk,
    /// Sending keys that were refused while there were others.
    TxRekeyError,
    /// Padded records of directions for which none were expected.
    RxNoPadViolation,
    /// Connections that failed on a record's tag, type or padding.
    RxBadRecord,
    /// Connections that failed on a record without content type.
    RxNoContentType,
    /// Connections that failed on a header's version.
    RxBadVersion,
    /// Connections that failed on an unprotected record.
    RxUnprotected,
    /// Connections that failed on a record too long.
    RxRecordTooLong,
    /// Connections that failed on a record too short.
    RxRecordTooShort,
    /// Connections that failed on a record of no whole blocks.
    RxRecordNotBlocks,
    /// Connections that ended inside a record.
    RxTruncated,
    /// Connections that failed on too many records that are not authentic.
    RxForgeries,
    /// Connections whose peer used up its sequence numbers.
    RxSequenceExhausted,
    /// Reads that were refused between a KeyUpdate and the next keys.
    RxKeyExpired,
    /// Connections that failed on a flood of records without data.
    RxFlood,
    /// Connections that failed on an unexpected message.
    RxUnexpected,
    /// Connections that failed on a malformed message.
    RxMalformed,
    /// Connections that failed on a message too long.
    RxMessageTooLong,
    /// Connections that failed on an illegal value.
    RxIllegalValue,
    /// Connections that the peer ended by a fatal alert.
    RxPeerAlert,
    /// Connections that failed because no backend could open a record.
    RxBackend,
}

impl Counter {
    /// Every counter, in order.
    pub const ALL: [Self; COUNT] = [
        Self::EnableCalls,
        Self::OffloadTotal,
        Self::Active,
        Self::SwGcm,
        Self::SwChacha20,
        Self::SwCcm,
        Self::SwCbc,
        Self::SwTx,
        Self::SwRx,
        Self::TxSessions,
        Self::RxSessions,
        Self::SwTxInqueue,
        Self::SwRxInqueue,
        Self::CorruptedRecords,
        Self::FailedCrypto,
        Self::OcfTls12GcmEncrypts,
        Self::OcfTls12GcmDecrypts,
        Self::OcfTls12Chacha20Encrypts,
        Self::OcfTls12Chacha20Decrypts,
        Self::OcfTls13GcmEncrypts,
        Self::OcfTls13GcmDecrypts,
        Self::OcfTls13Chacha20Encrypts,
        Self::OcfTls13Chacha20Decrypts,
        Self::OcfTls12CcmEncrypts,
        Self::OcfTls12CcmDecrypts,
        Self::OcfTls13CcmEncrypts,
        Self::OcfTls13CcmDecrypts,
        Self::OcfTls10CbcEncrypts,
        Self::OcfTls11CbcEncrypts,
        Self::OcfTls11CbcDecrypts,
        Self::OcfInplace,
        Self::OcfSeparateOutput,
        Self::OcfRetries,
        Self::RxInplace,
        Self::RxGathered,
        Self::RxGatheredBytes,
        Self::WaitedForPages,
        Self::RxRekeyReceived,
        Self::RxRekeyOk,
        Self::RxRekeyError,
        Self::TxRekeyOk,
        Self::TxRekeyError,
        Self::RxNoPadViolation,
        Self::RxBadRecord,
        Self::RxNoContentType,
        Self::RxBadVersion,
        Self::RxUnprotected,
        Self::RxRecordTooLong,
        Self::RxRecordTooShort,
        Self::RxRecordNotBlocks,
        Self::RxTruncated,
        Self::RxForgeries,
        Self::RxSequenceExhausted,
        Self::RxKeyExpired,
        Self::RxFlood,
        Self::RxUnexpected,
        Self::RxMalformed,
        Self::RxMessageTooLong,
        Self::RxIllegalValue,
        Self::RxPeerAlert,
        Self::RxBackend,
    ];

    /// Returns the name in the statistics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EnableCalls => "kern.ipc.tls.stats.enable_calls",
            Self::OffloadTotal => "kern.ipc.tls.stats.offload_total",
            Self::Active => "kern.ipc.tls.stats.active",
            Self::SwGcm => "kern.ipc.tls.sw.gcm",
            Self::SwChacha20 => "kern.ipc.tls.sw.chacha20",
            Self::SwCcm => "kern.ipc.tls.sw.ccm",
            Self::SwCbc => "kern.ipc.tls.sw.cbc",
            Self::SwTx => "kern.ipc.tls.sw.tx",
            Self::SwRx => "kern.ipc.tls.sw.rx",
            Self::TxSessions => "kern.ipc.tls.stats.tx_sessions",
            Self::RxSessions => "kern.ipc.tls.stats.rx_sessions",
            Self::SwTxInqueue => "kern.ipc.tls.stats.sw_tx_inqueue",
            Self::SwRxInqueue => "kern.ipc.tls.stats.sw_rx_inqueue",
            Self::CorruptedRecords => "kern.ipc.tls.stats.corrupted_records",
            Self::FailedCrypto => "kern.ipc.tls.stats.failed_crypto",
            Self::OcfTls12GcmEncrypts => "kern.ipc.tls.stats.ocf.tls12_gcm_encrypts",
            Self::OcfTls12GcmDecrypts => "kern.ipc.tls.stats.ocf.tls12_gcm_decrypts",
            Self::OcfTls12Chacha20Encrypts => "kern.ipc.tls.stats.ocf.tls12_chacha20_encrypts",
            Self::OcfTls12Chacha20Decrypts => "kern.ipc.tls.stats.ocf.tls12_chacha20_decrypts",
            Self::OcfTls13GcmEncrypts => "kern.ipc.tls.stats.ocf.tls13_gcm_encrypts",
            Self::OcfTls13GcmDecrypts => "kern.ipc.tls.stats.ocf.tls13_gcm_decrypts",
            Self::OcfTls13Chacha20Encrypts => "kern.ipc.tls.stats.ocf.tls13_chacha20_encrypts",
            Self::OcfTls13Chacha20Decrypts => "kern.ipc.tls.stats.ocf.tls13_chacha20_decrypts",
            Self::OcfTls12CcmEncrypts => "kern.ipc.tls.stats.ocf.tls12_ccm_encrypts",
            Self::OcfTls12CcmDecrypts => "kern.ipc.tls.stats.ocf.tls12_ccm_decrypts",
            Self::OcfTls13CcmEncrypts => "kern.ipc.tls.stats.ocf.tls13_ccm_encrypts",
            Self::OcfTls13CcmDecrypts => "kern.ipc.tls.stats.ocf.tls13_ccm_decrypts",
            Self::OcfTls10CbcEncrypts => "kern.ipc.tls.stats.ocf.tls10_cbc_encrypts",
            Self::OcfTls11CbcEncrypts => "kern.ipc.tls.stats.ocf.tls11_cbc_encrypts",
            Self::OcfTls11CbcDecrypts => "kern.ipc.tls.stats.ocf.tls11_cbc_decrypts",
            Self::OcfInplace => "kern.ipc.tls.stats.ocf.inplace",
            Self::OcfSeparateOutput => "kern.ipc.tls.stats.ocf.separate_output",
            Self::OcfRetries => "kern.ipc.tls.stats.ocf.retries",
            Self::RxInplace => "kern.ipc.tls.stats.rx_inplace",
            Self::RxGathered => "kern.ipc.tls.stats.rx_gathered",
            Self::RxGatheredBytes => "kern.ipc.tls.stats.rx_gathered_bytes",
            Self::WaitedForPages => "kern.ipc.tls.stats.waited_for_pages",
            Self::RxRekeyReceived => "kern.ipc.tls.stats.rx_rekey_received",
            Self::RxRekeyOk => "kern.ipc.tls.stats.rx_rekey_ok",
            Self::RxRekeyError => "kern.ipc.tls.stats.rx_rekey_error",
            Self::TxRekeyOk => "kern.ipc.tls.stats.tx_rekey_ok",
            Self::TxRekeyError => "kern.ipc.tls.stats.tx_rekey_error",
            Self::RxNoPadViolation => "kern.ipc.tls.stats.rx_no_pad_violation",
            Self::RxBadRecord => "kern.ipc.tls.rx_error.bad_record",
            Self::RxNoContentType => "kern.ipc.tls.rx_error.no_content_type",
            Self::RxBadVersion => "kern.ipc.tls.rx_error.bad_version",
            Self::RxUnprotected => "kern.ipc.tls.rx_error.unprotected",
            Self::RxRecordTooLong => "kern.ipc.tls.rx_error.record_too_long",
            Self::RxRecordTooShort => "kern.ipc.tls.rx_error.record_too_short",
            Self::RxRecordNotBlocks => "kern.ipc.tls.rx_error.record_not_blocks",
            Self::RxTruncated => "kern.ipc.tls.rx_error.truncated",
            Self::RxForgeries => "kern.ipc.tls.rx_error.forgeries",
            Self::RxSequenceExhausted => "kern.ipc.tls.rx_error.sequence_exhausted",
            Self::RxKeyExpired => "kern.ipc.tls.rx_error.key_expired",
            Self::RxFlood => "kern.ipc.tls.rx_error.flood",
            Self::RxUnexpected => "kern.ipc.tls.rx_error.unexpected",
            Self::RxMalformed => "kern.ipc.tls.rx_error.malformed",
            Self::RxMessageTooLong => "kern.ipc.tls.rx_error.message_too_long",
            Self::RxIllegalValue => "kern.ipc.tls.rx_error.illegal_value",
            Self::RxPeerAlert => "kern.ipc.tls.rx_error.peer_alert",
            Self::RxBackend => "kern.ipc.tls.rx_error.backend",
        }
    }

    /// Whether it goes down as well: how many there are now.
    pub const fn is_gauge(self) -> bool {
        matches!(
            self,
            Self::Active
                | Self::SwGcm
                | Self::SwChacha20
                | Self::SwCcm
                | Self::SwCbc
                | Self::SwTx
                | Self::SwRx
                | Self::SwTxInqueue
                | Self::SwRxInqueue
        )
    }

    /// The counter of records sealed with these parameters. As in FreeBSD, CBC in TLS 1.2 counts as
    /// TLS 1.1.
    pub const fn encrypts(params: Params) -> Self {
        match (params.suite.kind(), params.version) {
            (CipherKind::Gcm, Version::Tls13) => Self::OcfTls13GcmEncrypts,
            (CipherKind::Gcm, _) => Self::OcfTls12GcmEncrypts,
            (CipherKind::Chacha20, Version::Tls13) => Self::OcfTls13Chacha20Encrypts,
            (CipherKind::Chacha20, _) => Self::OcfTls12Chacha20Encrypts,
            (CipherKind::Ccm, Version::Tls13) => Self::OcfTls13CcmEncrypts,
            (CipherKind::Ccm, _) => Self::OcfTls12CcmEncrypts,
            (CipherKind::Cbc, Version::Tls10) => Self::OcfTls10CbcEncrypts,
            (CipherKind::Cbc, _) => Self::OcfTls11CbcEncrypts,
        }
    }

    /// The counter of records opened with these parameters.
    pub const fn decrypts(params: Params) -> Self {
        match (params.suite.kind(), params.version) {
            (CipherKind::Gcm, Version::Tls13) => Self::OcfTls13GcmDecrypts,
            (CipherKind::Gcm, _) => Self::OcfTls12GcmDecrypts,
            (CipherKind::Chacha20, Version::Tls13) => Self::OcfTls13Chacha20Decrypts,
            (CipherKind::Chacha20, _) => Self::OcfTls12Chacha20Decrypts,
            (CipherKind::Ccm, Version::Tls13) => Self::OcfTls13CcmDecrypts,
            (CipherKind::Ccm, _) => Self::OcfTls12CcmDecrypts,
            (CipherKind::Cbc, _) => Self::OcfTls11CbcDecrypts,
        }
    }

    /// The counter of keys that were refused while there were others.
    pub(crate) const fn rekey_error(direction: Direction) -> Self {
        match direction {
            Direction::Tx => Self::TxRekeyError,
            Direction::Rx => Self::RxRekeyError,
        }
    }

    /// The gauge of software sessions with these parameters.
    pub const fn sw(params: Params) -> Self {
        match params.suite.kind() {
            CipherKind::Gcm => Self::SwGcm,
            CipherKind::Chacha20 => Self::SwChacha20,
            CipherKind::Ccm => Self::SwCcm,
            CipherKind::Cbc => Self::SwCbc,
        }
    }

    /// The counter of an error on the receive side.
    pub const fn of(error: RxError) -> Self {
        match error {
            RxError::BadRecord => Self::RxBadRecord,
            RxError::NoContentType => Self::RxNoContentType,
            RxError::BadVersion => Self::RxBadVersion,
            RxError::Unprotected => Self::RxUnprotected,
            RxError::RecordTooLong => Self::RxRecordTooLong,
            RxError::RecordTooShort => Self::RxRecordTooShort,
            RxError::RecordNotBlocks => Self::RxRecordNotBlocks,
            RxError::Truncated => Self::RxTruncated,
            RxError::Forgeries => Self::RxForgeries,
            RxError::SequenceExhausted => Self::RxSequenceExhausted,
            RxError::KeyExpired => Self::RxKeyExpired,
            RxError::Flood => Self::RxFlood,
            RxError::Unexpected => Self::RxUnexpected,
            RxError::Malformed => Self::RxMalformed,
            RxError::MessageTooLong => Self::RxMessageTooLong,
            RxError::IllegalValue => Self::RxIllegalValue,
            RxError::PeerAlert(_) => Self::RxPeerAlert,
            RxError::Backend => Self::RxBackend,
        }
    }
}

/// The counters of one worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counters {
    values: [u64; COUNT],
}

impl Counters {
    /// Counts up.
    pub fn add(&mut self, counter: Counter, n: u64) {
        let value = &mut self.values[counter as usize];
        *value = value.wrapping_add(n);
    }

    /// Lowers a gauge.
    pub(crate) fn lower(&mut self, gauge: Counter, n: u64) {
        let value = &mut self.values[gauge as usize];
        debug_assert!(
            *value >= n,
            "what ends was counted when it began: {gauge:?}"
        );
        *value = value.saturating_sub(n);
    }

    /// A session of these parameters becomes active.
    pub(crate) fn session_opened(&mut self, params: Params, direction: Direction) {
        self.add(Counter::OffloadTotal, 1);
        self.add(Counter::Active, 1);
        self.add(Counter::sw(params), 1);
        let (active, opened) = match direction {
            Direction::Tx => (Counter::SwTx, Counter::TxSessions),
            Direction::Rx => (Counter::SwRx, Counter::RxSessions),
        };
        self.add(active, 1);
        self.add(opened, 1);
    }

    /// A session of these parameters is over.
    pub(crate) fn session_closed(&mut self, params: Params, direction: Direction) {
        self.lower(Counter::Active, 1);
        self.lower(Counter::sw(params), 1);
        self.lower(
            match direction {
                Direction::Tx => Counter::SwTx,
                Direction::Rx => Counter::SwRx,
            },
            1,
        );
    }

    /// One value.
    pub fn value(&self, counter: Counter) -> u64 {
        self.values[counter as usize]
    }

    /// Every counter with its name, then those of `/proc/net/tls_stat` with Linux's names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.entries().map(|(name, _, value)| (name, value))
    }

    /// As [`iter`](Self::iter), each with whether it is a gauge.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, bool, u64)> + '_ {
        let own = Counter::ALL.into_iter();
        let own = own.map(|counter| (counter.name(), counter.is_gauge(), self.value(counter)));
        own.chain(TLS_STAT.iter().map(|(name, of)| {
            let value = of.iter().map(|&counter| self.value(counter)).sum();
            (*name, of.iter().any(|counter| counter.is_gauge()), value)
        }))
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self { values: [0; COUNT] }
    }
}

/// What Linux counts in `/proc/net/tls_stat`, as a sum of the counters here.
const TLS_STAT: [(&str, &[Counter]); 11] = [
    ("tls_stat.TlsCurrTxSw", &[Counter::SwTx]),
    ("tls_stat.TlsCurrRxSw", &[Counter::SwRx]),
    ("tls_stat.TlsTxSw", &[Counter::TxSessions]),
    ("tls_stat.TlsRxSw", &[Counter::RxSessions]),
    (
        "tls_stat.TlsDecryptError",
        &[Counter::RxBadRecord, Counter::RxForgeries],
    ),
    ("tls_stat.TlsRxNoPadViolation", &[Counter::RxNoPadViolation]),
    ("tls_stat.TlsRxRekeyOk", &[Counter::RxRekeyOk]),
    ("tls_stat.TlsRxRekeyError", &[Counter::RxRekeyError]),
    ("tls_stat.TlsTxRekeyOk", &[Counter::TxRekeyOk]),
    ("tls_stat.TlsTxRekeyError", &[Counter::TxRekeyError]),
    ("tls_stat.TlsRxRekeyReceived", &[Counter::RxRekeyReceived]),
];

const COUNT: usize = Counter::RxBackend as usize + 1;

const _: () = {
    let mut at = 0;
    while at < COUNT {
        assert!(
            Counter::ALL[at] as usize == at,
            "ALL lists every counter in order"
        );
        at += 1;
    }
};

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The table of counters in docs/ktls.md, row by row.
    #[test]
    fn the_documentation_has_every_counter() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ktls.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (_, table) = text.split_once("<!-- counters -->").unwrap();
        let (table, _) = table.split_once("<!-- end of counters -->").unwrap();
        let rows = table.lines().filter(|line| line.starts_with("| `"));
        let documented: Vec<_> = rows
            .map(|row| {
                let cells: Vec<_> = row.split('|').map(str::trim).collect();
                let [_, name, kind, meaning, _] = cells[..] else {
                    panic!("{row}");
                };
                assert!(meaning.len() > 10, "{row}");
                (name.trim_matches('`').to_owned(), kind == "gauge")
            })
            .collect();
        let counters = Counters::default();
        let exported = counters.entries().map(|(name, is_gauge, _)| {
            let short = name.strip_prefix("kern.ipc.tls.");
            (short.unwrap_or(name).to_owned(), is_gauge)
        });
        let exported: Vec<_> = exported.collect();
        for row in &exported {
            assert!(documented.contains(row), "{row:?} isn't documented");
        }
        for row in &documented {
            assert!(exported.contains(row), "{row:?} doesn't exist");
        }
        assert_eq!(documented, exported, "in the same order");
    }

    #[test]
    fn directions_are_counted_apart() {
        let mut counters = Counters::default();
        let params = Params::ALL[0];
        counters.session_opened(params, Direction::Tx);
        counters.session_opened(params, Direction::Rx);
        counters.session_opened(params, Direction::Rx);
        counters.session_closed(params, Direction::Rx);
        let value = |name: &str| counters.iter().find(|(n, _)| *n == name).unwrap().1;
        assert_eq!(value("kern.ipc.tls.stats.active"), 2);
        assert_eq!(value("kern.ipc.tls.sw.gcm"), 2);
        assert_eq!(value("tls_stat.TlsCurrTxSw"), 1);
        assert_eq!(value("tls_stat.TlsCurrRxSw"), 1);
        assert_eq!(value("tls_stat.TlsTxSw"), 1);
        assert_eq!(value("tls_stat.TlsRxSw"), 2);
    }

    /// Linux's count of decryption errors is a sum of several counters here. A record without
    /// content type was decrypted: it doesn't count.
    #[test]
    fn linux_s_counters_are_sums() {
        let mut counters = Counters::default();
        for (n, error) in [
            (1, RxError::BadRecord),
            (10, RxError::NoContentType),
            (100, RxError::Forgeries),
        ] {
            counters.add(Counter::of(error), n);
        }
        let names: Vec<_> = counters.iter().filter(|(_, value)| *value == 101).collect();
        assert_eq!(names, [("tls_stat.TlsDecryptError", 101)]);
    }
}
