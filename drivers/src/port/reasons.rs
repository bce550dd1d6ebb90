//! Why a port doesn't do something, in words for the log.

use std::fmt;

/// Work that a port or the stack does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    Chains,
    TxTcpChecksums,
    TxIpChecksums,
    Segmentation,
    RxTcpChecksums,
    RxIpChecksums,
}

impl Feature {
    const ALL: [Self; 6] = [
        Self::Chains,
        Self::TxTcpChecksums,
        Self::TxIpChecksums,
        Self::Segmentation,
        Self::RxTcpChecksums,
        Self::RxIpChecksums,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Chains => "chains",
            Self::TxTcpChecksums => "tx tcp checksums",
            Self::TxIpChecksums => "tx ip checksums",
            Self::Segmentation => "segmentation",
            Self::RxTcpChecksums => "rx tcp checksums",
            Self::RxIpChecksums => "rx ip checksums",
        }
    }
}

/// Why the stack does it, and not the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// `rte_eth_dev_info` doesn't have it.
    NotOffered,
    /// The configuration switches it off.
    Disabled,
    /// A frame may have one segment only.
    OneSegment,
    /// Page buffers are in memory that the device's other side can't access.
    UnsharedMemory,
    /// Several rings hold what was sent, and which of them a packet goes to isn't known: payload
    /// by reference would have no bound.
    SeveralRings,
    /// Segmentation needs scattered transmit.
    NeedsChains,
    /// Segmentation needs TCP checksums.
    NeedsTxChecksums,
    /// The stack completes this checksum anyway, except for segments.
    OnlySegments,
    /// The device's queues share one checksum context.
    OneContext,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOffered => "not offered",
            Self::Disabled => "disabled",
            Self::OneSegment => "one segment a frame",
            Self::UnsharedMemory => "page buffers aren't in shared memory",
            Self::SeveralRings => "the members' rings would hold page buffers without a bound",
            Self::NeedsChains => "needs chains",
            Self::NeedsTxChecksums => "needs tx tcp checksums",
            Self::OnlySegments => "used with segmentation only",
            Self::OneContext => "not with several queues: they share one context",
        })
    }
}

/// For each feature, why the port doesn't do it; `None`: it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reasons([Option<Reason>; Feature::ALL.len()]);

impl Reasons {
    pub(super) fn set(&mut self, feature: Feature, reason: Option<Reason>) {
        self.0[feature as usize] = reason;
    }

    /// Returns the names of what the port does.
    pub(super) fn port_does(&self) -> String {
        let list = Feature::ALL
            .into_iter()
            .filter(|&feature| self.0[feature as usize].is_none());
        join(list.map(|feature| feature.name().to_owned()))
    }

    /// Returns the names of what the stack does, each with its reason.
    pub(super) fn stack_does(&self) -> String {
        let list = Feature::ALL.into_iter().filter_map(|feature| {
            let reason = self.0[feature as usize]?;
            Some(format!("{} ({reason})", feature.name()))
        });
        join(list)
    }
}

fn join(names: impl Iterator<Item = String>) -> String {
    let list: Vec<String> = names.collect();
    if list.is_empty() {
        "nothing".into()
    } else {
        list.join(", ")
    }
}
