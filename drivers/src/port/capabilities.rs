//! What a port does, and what is done in software.

use std::fmt;

use dpdk_sys::{
    LG_CAP_MULTI_SEGS, LG_CAP_RX_HASH, LG_CAP_RX_IP_CSUM, LG_CAP_RX_SCATTER, LG_CAP_RX_TCP_CSUM,
    LG_CAP_TX_IP_CSUM, LG_CAP_TX_TCP_CSUM, LG_CAP_TX_TSO, lg_port_caps,
};

use super::quirks::Quirks;
use super::reasons::{Feature, Reason, Reasons};
use super::rss::Rss;
use super::sent::{HELD_PIECES_MAX, SentRelease};

/// Offloads to assume on a port over rings or shared memory, where no packet is corrupted or
/// truncated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Assume {
    /// Pass on packets without segmenting them.
    pub tso: bool,
    /// Leave TCP checksums incomplete.
    pub tx_csum: bool,
    /// Take received checksums as verified.
    pub rx_csum: bool,
}

impl Assume {
    /// All of them.
    pub const ALL: Self = Self {
        tso: true,
        tx_csum: true,
        rx_csum: true,
    };

    /// Returns the first assumption, by its name in the configuration.
    pub(crate) fn first(self) -> Option<&'static str> {
        match self {
            Self { tso: true, .. } => Some("tso"),
            Self { tx_csum: true, .. } => Some("txcsum"),
            Self { rx_csum: true, .. } => Some("rxcsum"),
            Self {
                tso: false,
                tx_csum: false,
                rx_csum: false,
            } => None,
        }
    }
}

impl fmt::Display for Assume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = [
            (self.tso, "tso"),
            (self.tx_csum, "txcsum"),
            (self.rx_csum, "rxcsum"),
        ];
        let names: Vec<&str> = list
            .iter()
            .filter_map(|&(assumed, name)| assumed.then_some(name))
            .collect();
        if names.is_empty() {
            f.write_str("nothing")
        } else {
            f.write_str(&names.join(","))
        }
    }
}

/// Offloads that are done in software although the port offers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Disable {
    /// Segmentation (TSO).
    pub tso: bool,
    /// TCP checksums of sent packets; segmentation needs them.
    pub tx_csum: bool,
    /// Verification of received checksums.
    pub rx_csum: bool,
}

/// What a port does (`rte_eth_dev_info`). The rest is done in software.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities {
    /// It sends chains of mbufs, so payload by reference. If not, frames are copied into one mbuf.
    pub multi_segs: bool,
    /// It completes TCP checksums.
    pub tx_csum: bool,
    /// It completes the IPv4 header checksum of packets that it segments. If not, it updates the
    /// complete one.
    pub tx_ip_csum: bool,
    /// It segments packets (TSO).
    pub tso: bool,
    /// It verifies received TCP checksums.
    pub rx_csum: bool,
    /// It verifies received IPv4 header checksums.
    pub rx_ip_csum: bool,
    /// It receives packets longer than one buffer.
    pub rx_scatter: bool,
    /// It reports the RSS hash of received packets.
    pub rx_hash: bool,
    /// It spreads flows over queues by a symmetric hash (RSS).
    pub rss: bool,
    /// Assumed offloads; they are set above, too.
    pub assumed: Assume,
    /// Most scatter entries of payload in one packet.
    pub tx_pieces_max: u16,
    /// Longest scatter entry of payload, in bytes. Longer ones are split.
    pub tx_piece_len_max: u32,
    /// Smallest MSS that the port segments with.
    pub tso_mss_min: u16,
    /// Largest MSS that the port segments with.
    pub tso_mss_max: u16,
    /// Most frames that the port segments a packet into.
    pub tso_frames_max: u16,
    /// Longest frame that the port segments a packet into, in bytes.
    pub tso_frame_len_max: u16,
    /// It segments IPv4 packets only.
    pub tso_ipv4_only: bool,
    /// Its checksums are wrong if a piece of payload other than the last has an odd length.
    pub tx_csum_even_only: bool,
    /// When it frees what it has sent.
    pub sent_release: SentRelease,
    /// Each segment of a packet takes a transmit descriptor at least.
    pub has_descriptor_per_segment: bool,
}

/// What the configuration says about offloads.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wishes {
    pub(super) assume: Assume,
    pub(super) disable: Disable,
    pub(super) queues: u16,
    /// Received frames are longer than a buffer.
    pub(super) scatter: bool,
    /// The device can access page buffers where they are.
    pub(super) reaches_pages: bool,
}

impl Capabilities {
    /// Decides what the port does, by what the driver reports, and why it doesn't do the rest.
    pub(super) fn decide(
        raw: &lg_port_caps,
        quirks: &Quirks,
        rss: &Rss,
        wishes: &Wishes,
    ) -> (Self, Reasons) {
        let assume = wishes.assume;
        let has = |bits: u32| raw.offloads & bits == bits;
        let mut reasons = Reasons::default();
        let mut decide = |feature, checks: &[(bool, Reason)]| {
            let missing = checks.iter().find(|(holds, _)| !holds);
            reasons.set(feature, missing.map(|(_, reason)| *reason));
            missing.is_none()
        };
        let segments = segments_max(raw);
        let multi_segs = decide(
            Feature::Chains,
            &[
                (has(LG_CAP_MULTI_SEGS), Reason::NotOffered),
                (segments >= 2, Reason::OneSegment),
                (wishes.reaches_pages, Reason::UnsharedMemory),
                (quirks.tx_rings < 2, Reason::SeveralRings),
            ],
        );
        let one_context = quirks.one_csum_context && wishes.queues > 1;
        let offered = has(LG_CAP_TX_TCP_CSUM) || assume.tx_csum;
        let tx_csum = decide(
            Feature::TxTcpChecksums,
            &[
                (!wishes.disable.tx_csum, Reason::Disabled),
                (offered, Reason::NotOffered),
                (!one_context, Reason::OneContext),
            ],
        );
        let offered = has(LG_CAP_TX_TSO) || assume.tso;
        let tso = decide(
            Feature::Segmentation,
            &[
                (!wishes.disable.tso, Reason::Disabled),
                (offered, Reason::NotOffered),
                (multi_segs, Reason::NeedsChains),
                (tx_csum, Reason::NeedsTxChecksums),
            ],
        );
        // The stack writes the IPv4 header's checksum in any case: only a port that segments
        // changes that header afterwards.
        let tx_ip_csum = decide(
            Feature::TxIpChecksums,
            &[
                (has(LG_CAP_TX_IP_CSUM), Reason::NotOffered),
                (tso, Reason::OnlySegments),
            ],
        );
        let mut rx = |feature, bit| {
            decide(
                feature,
                &[
                    (!wishes.disable.rx_csum, Reason::Disabled),
                    (has(bit) || assume.rx_csum, Reason::NotOffered),
                ],
            )
        };
        let rx_csum = rx(Feature::RxTcpChecksums, LG_CAP_RX_TCP_CSUM);
        let rx_ip_csum = rx(Feature::RxIpChecksums, LG_CAP_RX_IP_CSUM);
        let caps = Self {
            multi_segs,
            tx_csum,
            tx_ip_csum,
            tso,
            rx_csum,
            rx_ip_csum,
            rx_scatter: wishes.scatter && has(LG_CAP_RX_SCATTER),
            // rte_ethdev refuses it without RSS.
            rx_hash: rss.is_on() && has(LG_CAP_RX_HASH),
            rss: rss.is_on(),
            assumed: assume,
            // The headers are a segment too.
            tx_pieces_max: if multi_segs { segments - 1 } else { PIECES_MAX },
            tx_piece_len_max: quirks.tx_piece_len_max,
            tso_mss_min: quirks.tso_mss.0,
            tso_mss_max: quirks.tso_mss.1,
            tso_frames_max: quirks.tso_frames_max,
            tso_frame_len_max: quirks.tso_frame_len_max,
            tso_ipv4_only: quirks.tso_ipv4_only,
            tx_csum_even_only: quirks.tx_csum_even_only,
            sent_release: SentRelease::AtOnce,
            has_descriptor_per_segment: quirks.has_descriptor_per_segment,
        };
        (caps, reasons)
    }

    /// Takes over when the driver frees what it has sent.
    pub(super) fn set_sent_release(&mut self, release: SentRelease) {
        self.sent_release = release;
        if self.holds_page_buffers() {
            self.tx_pieces_max = self.tx_pieces_max.min(HELD_PIECES_MAX);
        }
    }

    /// Returns whether page buffers stay in the TX ring until descriptors are reused.
    pub(crate) fn holds_page_buffers(&self) -> bool {
        self.multi_segs && self.sent_release == SentRelease::OnReuse
    }

    /// Returns the offloads to enable (`LG_CAP_*`).
    pub(super) fn offloads(&self, raw: &lg_port_caps) -> u32 {
        let list = [
            (self.multi_segs, LG_CAP_MULTI_SEGS),
            (self.tx_csum, LG_CAP_TX_TCP_CSUM),
            (self.tx_ip_csum, LG_CAP_TX_IP_CSUM),
            (self.tso, LG_CAP_TX_TSO),
            (self.rx_csum, LG_CAP_RX_TCP_CSUM),
            (self.rx_ip_csum, LG_CAP_RX_IP_CSUM),
            (self.rx_scatter, LG_CAP_RX_SCATTER),
            (self.rx_hash, LG_CAP_RX_HASH),
        ];
        let wanted = list.iter().filter(|(on, _)| *on);
        wanted.fold(0, |all, (_, bit)| all | bit) & raw.offloads
    }
}

/// Returns the most segments of a packet, the headers' included. A packet that the port segments
/// obeys the limit of a frame, too: each of its frames may then lie in all of its segments.
fn segments_max(raw: &lg_port_caps) -> u16 {
    // 0 means that the driver reports no limit.
    [raw.tx_segs_max, raw.tx_mtu_segs_max]
        .into_iter()
        .filter(|&limit| limit > 0)
        .fold(PIECES_MAX + 1, u16::min)
}

/// Most pieces of payload in one frame: pktbuf's limit, so that every list of slices fits.
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
pub(super) const PIECES_MAX: u16 = pktbuf::MAX_SLICES as u16;
