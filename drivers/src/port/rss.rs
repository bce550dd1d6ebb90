//! Receive side scaling: which packets a port hashes, and how it spreads them over its queues.

use std::fmt;

use dpdk_sys::{LG_RSS_IP4, LG_RSS_IP6, LG_RSS_TCP4, LG_RSS_TCP6, lg_port_caps};

/// How a port spreads received packets over its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rss {
    /// There is one queue.
    OneQueue,
    /// The port hashes neither TCP nor IP packets: one queue receives everything.
    NotOffered,
    /// By a hash of these packets (`LG_RSS_*`).
    Hash {
        /// What is hashed.
        types: u32,
        /// Bytes of the key; 0: the driver's own key.
        key_len: u16,
    },
}

impl Rss {
    /// Decides what the port hashes: TCP packets by addresses and ports; where it can't, by
    /// addresses only.
    pub(super) fn decide(raw: &lg_port_caps, queues: u16) -> Self {
        if queues <= 1 {
            return Self::OneQueue;
        }
        let first_offered = |preferred, fallback| match raw.rss {
            offered if offered & preferred != 0 => preferred,
            offered => offered & fallback,
        };
        let types = first_offered(LG_RSS_TCP4, LG_RSS_IP4) | first_offered(LG_RSS_TCP6, LG_RSS_IP6);
        if types == 0 {
            return Self::NotOffered;
        }
        Self::Hash {
            types,
            key_len: raw.rss_key_len,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.types() != 0
    }

    /// Returns the packets to hash (`LG_RSS_*`); 0: none.
    pub(super) fn types(&self) -> u32 {
        match self {
            Self::OneQueue | Self::NotOffered => 0,
            Self::Hash { types, .. } => *types,
        }
    }
}

impl fmt::Display for Rss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (types, key_len) = match self {
            Self::OneQueue => return f.write_str("off (one queue)"),
            Self::NotOffered => return f.write_str("off (not offered): one queue receives"),
            Self::Hash { types, key_len } => (types, key_len),
        };
        let by = |tcp, ip| match types {
            types if types & tcp != 0 => "addresses and ports",
            types if types & ip != 0 => "addresses only (ports not offered)",
            _ => "nothing (not offered)",
        };
        let (ipv4, ipv6) = (by(LG_RSS_TCP4, LG_RSS_IP4), by(LG_RSS_TCP6, LG_RSS_IP6));
        if ipv4 == ipv6 {
            write!(f, "by {ipv4}")?;
        } else {
            write!(f, "IPv4 by {ipv4}, IPv6 by {ipv6}")?;
        }
        match key_len {
            0 => f.write_str(", the driver's key"),
            bytes => write!(f, ", key of {bytes} bytes"),
        }
    }
}

/// How hash values are spread over the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// There is one queue, or no hash.
    None,
    /// By a redirection table with so many entries, which was read back.
    Table(u16),
    /// By the driver: its redirection table can't be written, or there is none.
    Driver,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Table(entries) => write!(f, ", table of {entries}"),
            Self::Driver => f.write_str(", the driver's table"),
        }
    }
}
