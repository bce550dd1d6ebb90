//! What the sockets of one worker share.

use lockgate_ktls::EnableSettings;
use lockgate_tcp::{Shared, SharedParams};
use lockgate_wire::Instant;

use crate::away::AwayRecords;
use crate::config::{DynamicRecords, Limits, StackConfig};
use crate::counters::Counters;
use crate::handshakes::Handshakes;
use crate::memory::Memory;
use crate::notice::NoticeQueue;
use crate::record_budget::RecordBudget;
use crate::schedule::Schedule;
use crate::seeds::Seeds;

/// What the sockets of one worker share, a part for each purpose. Functions borrow only the parts
/// that they need; those that need several take all of it.
pub(crate) struct SocketContext {
    /// The latest time that the stack was given.
    pub(crate) now: Instant,
    /// TCP's settings, counters and ranges.
    pub(crate) tcp: Shared,
    pub(crate) limits: Limits,
    pub(crate) record_layer: RecordLayerSettings,
    pub(crate) counters: Counters,
    pub(crate) notices: NoticeQueue,
    pub(crate) schedule: Schedule,
    pub(crate) memory: Memory,
    pub(crate) handshakes: Handshakes,
    pub(crate) records: RecordBudget,
    pub(crate) away: AwayRecords,
}

/// The record layer's settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordLayerSettings {
    /// As [`StackConfig::ktls`].
    pub(crate) enabled: bool,
    /// As [`StackConfig::cbc`].
    pub(crate) cbc_enabled: bool,
    /// As [`StackConfig::record_len_max`].
    pub(crate) record_len_max: u16,
    pub(crate) dynamic_records: DynamicRecords,
}

impl RecordLayerSettings {
    /// Which keys applications may set.
    pub(crate) fn enable_settings(self) -> EnableSettings {
        EnableSettings {
            enabled: self.enabled,
            cbc_enabled: self.cbc_enabled,
        }
    }
}

impl SocketContext {
    /// `seeds` are those of TCP's random decisions.
    pub(crate) fn new(now: Instant, config: &StackConfig, seeds: &Seeds) -> Self {
        let limits = config.limits;
        let params = SharedParams {
            ranges: limits.ranges_max,
            connections: limits.connections_max,
            challenge_seed: seeds.challenges,
            ranges_seed: seeds.ranges,
        };
        Self {
            now,
            tcp: Shared::new(config.tcp.clone(), &params),
            limits,
            record_layer: RecordLayerSettings {
                enabled: config.ktls,
                cbc_enabled: config.cbc,
                record_len_max: config.record_len_max.max(RECORD_LEN_MIN),
                dynamic_records: config.dynamic_records,
            },
            counters: Counters::default(),
            notices: NoticeQueue::default(),
            schedule: Schedule::default(),
            memory: Memory::new(&limits),
            handshakes: Handshakes::new(&limits),
            records: RecordBudget::new(),
            away: AwayRecords::default(),
        }
    }
}

/// An alert must always fit.
//= https://www.rfc-editor.org/rfc/rfc8449#section-4
//# Endpoints MUST NOT send a "record_size_limit" extension with a value
//# smaller than 64.
const RECORD_LEN_MIN: u16 = 64;
