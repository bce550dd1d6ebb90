//! What a port does, and what is done in software.

use std::fmt;

use dpdk_sys::{
    LG_CAP_MULTI_SEGS, LG_CAP_RSS_TCP, LG_CAP_RX_HASH, LG_CAP_RX_IP_CSUM, LG_CAP_RX_SCATTER,
    LG_CAP_RX_TCP_CSUM, LG_CAP_TX_IP_CSUM, LG_CAP_TX_TCP_CSUM, LG_CAP_TX_TSO, lg_port_caps,
};

use crate::device::Driver;

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

/// What a port does (`rte_eth_dev_info`). The rest is done in software.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities {
    /// It sends chains of mbufs, so payload by reference. If not, frames are copied into one mbuf.
    pub multi_segs: bool,
    /// It completes TCP checksums.
    pub tx_csum: bool,
    /// It segments packets (TSO).
    pub tso: bool,
    /// It verifies received checksums.
    pub rx_csum: bool,
    /// It receives packets longer than one buffer.
    pub rx_scatter: bool,
    /// It reports the RSS hash of received packets.
    pub rx_hash: bool,
    /// It spreads TCP flows over queues by a symmetric hash.
    pub rss: bool,
    /// Assumed offloads; they are set above, too.
    pub assumed: Assume,
    /// Most scatter entries of payload in one packet.
    pub tx_pieces_max: u16,
    /// Most frames that the port segments a packet into.
    pub tso_frames_max: u16,
    /// Longest frame that the port segments a packet into, in bytes.
    pub tso_frame_len_max: u16,
    /// Its checksums are wrong if a piece of payload other than the last has an odd length.
    pub tx_csum_even_only: bool,
}

impl Capabilities {
    /// Decides what the port does, by what the driver reports.
    pub(crate) fn decide(driver: Driver, caps: &lg_port_caps, assume: Assume, queues: u16) -> Self {
        let has = |bits: u32| caps.offloads & bits == bits;
        let multi_segs = has(LG_CAP_MULTI_SEGS);
        // The head is a segment too. 0 and the type's largest value both mean that the driver
        // names no limit.
        let segs = match caps.tx_segs_max {
            0 => PIECES_MAX,
            n => PIECES_MAX.min(n - 1).max(1),
        };
        let tx_csum = has(LG_CAP_TX_TCP_CSUM) || assume.tx_csum;
        Self {
            multi_segs,
            tx_csum,
            // Segmentation without checksums makes no sense, nor without chains.
            tso: multi_segs && tx_csum && (has(LG_CAP_TX_TSO | LG_CAP_TX_IP_CSUM) || assume.tso),
            rx_csum: has(LG_CAP_RX_IP_CSUM | LG_CAP_RX_TCP_CSUM) || assume.rx_csum,
            rx_scatter: has(LG_CAP_RX_SCATTER),
            rx_hash: has(LG_CAP_RX_HASH),
            rss: has(LG_CAP_RSS_TCP) && queues > 1,
            assumed: assume,
            tx_pieces_max: if multi_segs { segs } else { PIECES_MAX },
            tso_frames_max: match driver {
                // net_tap segments in software, into at most 64 packets from a pool of 128.
                Driver::Tap => 32,
                _ => u16::MAX,
            },
            tso_frame_len_max: match driver {
                // net_tap compares the whole frame with its MTU of 1500.
                Driver::Tap => 1500,
                _ => u16::MAX,
            },
            // net_tap sums each segment as if it were padded to an even length.
            tx_csum_even_only: driver == Driver::Tap,
        }
    }

    /// Returns the offloads to enable.
    pub(crate) fn wanted(&self, caps: &lg_port_caps) -> u32 {
        let mut on = LG_CAP_MULTI_SEGS | LG_CAP_RX_SCATTER | LG_CAP_RX_HASH;
        let when = |yes: bool, bits: u32| if yes { bits } else { 0 };
        on |= when(self.tx_csum, LG_CAP_TX_IP_CSUM | LG_CAP_TX_TCP_CSUM);
        on |= when(self.tso, LG_CAP_TX_TSO);
        on |= when(self.rx_csum, LG_CAP_RX_IP_CSUM | LG_CAP_RX_TCP_CSUM);
        on |= when(self.rss, LG_CAP_RSS_TCP);
        on & caps.offloads
    }

    /// Returns, for the log, what the port does and what is done in software.
    pub(crate) fn split(&self) -> (Names, Names) {
        let list = [
            ("chains", self.multi_segs),
            ("tx checksums", self.tx_csum),
            ("segmentation", self.tso),
            ("rx checksums", self.rx_csum),
            ("rx hash", self.rx_hash),
            ("rss", self.rss),
        ];
        let names = |does: bool| Names(list.map(|(name, on)| (on == does).then_some(name)));
        (names(true), names(false))
    }
}

/// A list of names for a log line.
pub(crate) struct Names([Option<&'static str>; 6]);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().flatten().copied().collect();
        if words.is_empty() {
            f.write_str("nothing")
        } else {
            f.write_str(&words.join(", "))
        }
    }
}

/// Most pieces of payload in one frame: pktbuf's limit, so that every list of slices fits.
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const PIECES_MAX: u16 = pktbuf::MAX_SLICES as u16;
