//! The protocol of the control socket: one line of JSON each way.
//!
//! The request is `{"version":1,"request":"stats"}`, the answer a [`Response`]. A server answers
//! a version that it doesn't know with an error that names its own.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The counters of an instance at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The groups, in the order in which they're shown.
    pub groups: Vec<MetricGroup>,
}

/// The counters and gauges of one part of the instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricGroup {
    /// The kind of part.
    pub kind: GroupKind,
    /// Its name within its kind: a worker's number, a port's name; empty for the process.
    pub name: String,
    /// Its values.
    pub values: Vec<Metric>,
}

/// The kinds of parts. Counters of one name have one meaning within a kind, and a total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupKind {
    /// The instance as a whole.
    Process,
    /// A worker.
    Worker,
    /// A port.
    Port,
}

/// A named value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name, with dots: `tcp.segments_in`.
    pub name: Cow<'static, str>,
    /// Its value.
    pub value: u64,
    /// Whether it's a counter or a gauge.
    pub kind: MetricKind,
}

impl Metric {
    /// A counter.
    pub fn counter(name: impl Into<Cow<'static, str>>, value: u64) -> Self {
        Self {
            name: name.into(),
            value,
            kind: MetricKind::Counter,
        }
    }

    /// A gauge.
    pub fn gauge(name: impl Into<Cow<'static, str>>, value: u64) -> Self {
        Self {
            name: name.into(),
            value,
            kind: MetricKind::Gauge,
        }
    }
}

/// The kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It grows and shrinks.
    Gauge,
}

/// The answer to `stats`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The instance's process.
    pub pid: u32,
    /// The instance's release.
    pub release: String,
    /// Its counters.
    #[serde(flatten)]
    pub snapshot: Snapshot,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) version: u32,
    pub(super) request: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Response {
    Refused { version: u32, error: String },
    Stats { version: u32, stats: Stats },
}

impl Response {
    pub(super) fn to(request: &[u8], snapshot: impl FnOnce() -> Option<Snapshot>) -> Self {
        let refused = |error: &str| Self::Refused {
            version: VERSION,
            error: error.to_owned(),
        };
        let Ok(request) = serde_json::from_slice::<Request>(request) else {
            return refused("not a request");
        };
        if request.version != VERSION {
            return refused("unknown version");
        }
        if request.request != STATS {
            return refused("unknown request");
        }
        let Some(snapshot) = snapshot() else {
            return refused("it could not start");
        };
        let release = env!("CARGO_PKG_VERSION").to_owned();
        let stats = Stats {
            pid: std::process::id(),
            release,
            snapshot,
        };
        Self::Stats {
            version: VERSION,
            stats,
        }
    }
}

pub(super) const VERSION: u32 = 1;
pub(super) const STATS: &str = "stats";

/// Bytes of a request, its end of line included.
pub(super) const REQUEST_MAX: usize = 1024;

/// Bytes of an answer that a client takes.
pub(super) const RESPONSE_MAX: u64 = 16 << 20;
