//! The bodies of neighbour discovery messages and their options (RFC 4861, 4).

use core::net::Ipv6Addr;

use super::{Icmpv6Message, kind};
use crate::mac::MacAddr;
use crate::{ParseError, Result};

/// The representation of a router advertisement (RFC 4861, 4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterAdvertisement {
    /// Default hop limit; 0 if unspecified.
    pub hop_limit: u8,
    /// Flags: managed (0x80), other configuration (0x40), and later ones.
    pub flags: u8,
    /// Seconds for which this is a default router; 0 if it isn't one.
    pub lifetime_secs: u16,
    /// Milliseconds for which a neighbour is reachable after a confirmation; 0 if unspecified.
    pub reachable_ms: u32,
    /// Milliseconds between solicitations; 0 if unspecified.
    pub retransmit_ms: u32,
    /// Options.
    pub options: NdOptions,
}

impl RouterAdvertisement {
    pub(super) const fn word(&self) -> [u8; 4] {
        let [c, d] = self.lifetime_secs.to_be_bytes();
        [self.hop_limit, self.flags, c, d]
    }
}

/// The options that this stack knows. Unknown ones are skipped; of a repeated one the last counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NdOptions {
    /// The sender's link-layer address.
    pub source: Option<MacAddr>,
    /// The target's link-layer address.
    pub target: Option<MacAddr>,
    /// The link's MTU in bytes.
    pub mtu: Option<u32>,
    /// The first four prefixes.
    pub prefixes: [Option<PrefixInformation>; 4],
    /// Number of prefixes after the fourth, which the parser dropped. Not emitted.
    pub prefixes_dropped: u8,
}

/// A prefix of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixInformation {
    /// The prefix.
    pub prefix: Ipv6Addr,
    /// Its length in bits, at most 128 when parsed.
    pub len: u8,
    /// Flags: on-link (0x80), autonomous (0x40), and later ones.
    pub flags: u8,
    /// Seconds for which the prefix is valid.
    pub valid_secs: u32,
    /// Seconds for which addresses made from it are preferred.
    pub preferred_secs: u32,
}

pub(super) fn parse(kind: u8, word: u32, body: &[u8]) -> Result<Icmpv6Message<'static>> {
    match kind {
        kind::ROUTER_SOLICITATION => {
            let options = NdOptions::parse(body)?;
            Ok(Icmpv6Message::RouterSolicitation {
                source: options.source,
            })
        }
        kind::ROUTER_ADVERTISEMENT => {
            let (fixed, options) = body.split_first_chunk::<8>().ok_or(ParseError::Truncated)?;
            let [a, b, c, d, e, f, g, h] = *fixed;
            let [hop_limit, flags, l0, l1] = word.to_be_bytes();
            Ok(Icmpv6Message::RouterAdvertisement(RouterAdvertisement {
                hop_limit,
                flags,
                lifetime_secs: u16::from_be_bytes([l0, l1]),
                reachable_ms: u32::from_be_bytes([a, b, c, d]),
                retransmit_ms: u32::from_be_bytes([e, f, g, h]),
                options: NdOptions::parse(options)?,
            }))
        }
        kind::NEIGHBOR_SOLICITATION => {
            let (target, options) = target(body)?;
            Ok(Icmpv6Message::NeighborSolicitation {
                target,
                source: options.source,
            })
        }
        kind::NEIGHBOR_ADVERTISEMENT => {
            let (target, options) = target(body)?;
            Ok(Icmpv6Message::NeighborAdvertisement {
                target,
                router: word >> 31 & 1 != 0,
                solicited: word >> 30 & 1 != 0,
                replaces: word >> 29 & 1 != 0,
                mac: options.target,
            })
        }
        _ => {
            let (target, rest) = body
                .split_first_chunk::<16>()
                .ok_or(ParseError::Truncated)?;
            let (destination, rest) = rest
                .split_first_chunk::<16>()
                .ok_or(ParseError::Truncated)?;
            Ok(Icmpv6Message::Redirect {
                target: (*target).into(),
                destination: (*destination).into(),
                mac: NdOptions::parse(rest)?.target,
            })
        }
    }
}

/// Parses target and options of a neighbour solicitation or advertisement.
//= https://www.rfc-editor.org/rfc/rfc4861#section-7.1.1
//# - Target Address is not a multicast address.
fn target(body: &[u8]) -> Result<(Ipv6Addr, NdOptions)> {
    let (target, options) = body
        .split_first_chunk::<16>()
        .ok_or(ParseError::Truncated)?;
    let target = Ipv6Addr::from(*target);
    if target.is_multicast() {
        return Err(ParseError::Field);
    }
    Ok((target, NdOptions::parse(options)?))
}

/// Returns the bytes of the body of `message`, which is one of neighbour discovery.
pub(super) fn emitted_len(message: &Icmpv6Message<'_>) -> usize {
    let (fixed, options) = body_of(message);
    fixed.len() + options.emitted_len()
}

/// Writes the body of `message`, which is one of neighbour discovery.
pub(super) fn emit(message: &Icmpv6Message<'_>, out: &mut [u8]) {
    let (fixed, options) = body_of(message);
    let fixed = fixed.as_slice();
    out[..fixed.len()].copy_from_slice(fixed);
    options.emit(&mut out[fixed.len()..]);
}

/// The fixed part of a body: zero to two addresses, or two 32-bit words.
enum Fixed {
    Nothing,
    Words([u8; 8]),
    Address([u8; 16]),
    Addresses([u8; 32]),
}

impl Fixed {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Nothing => &[],
            Self::Words(bytes) => bytes,
            Self::Address(bytes) => bytes,
            Self::Addresses(bytes) => bytes,
        }
    }

    fn len(&self) -> usize {
        self.as_slice().len()
    }
}

fn body_of(message: &Icmpv6Message<'_>) -> (Fixed, NdOptions) {
    match *message {
        Icmpv6Message::RouterSolicitation { source } => (
            Fixed::Nothing,
            NdOptions {
                source,
                ..NdOptions::default()
            },
        ),
        Icmpv6Message::RouterAdvertisement(ra) => {
            let mut words = [0; 8];
            words[..4].copy_from_slice(&ra.reachable_ms.to_be_bytes());
            words[4..].copy_from_slice(&ra.retransmit_ms.to_be_bytes());
            (Fixed::Words(words), ra.options)
        }
        Icmpv6Message::NeighborSolicitation { target, source } => (
            Fixed::Address(target.octets()),
            NdOptions {
                source,
                ..NdOptions::default()
            },
        ),
        Icmpv6Message::NeighborAdvertisement { target, mac, .. } => (
            Fixed::Address(target.octets()),
            NdOptions {
                target: mac,
                ..NdOptions::default()
            },
        ),
        Icmpv6Message::Redirect {
            target,
            destination,
            mac,
        } => {
            let mut both = [0; 32];
            both[..16].copy_from_slice(&target.octets());
            both[16..].copy_from_slice(&destination.octets());
            (
                Fixed::Addresses(both),
                NdOptions {
                    target: mac,
                    ..NdOptions::default()
                },
            )
        }
        Icmpv6Message::DestinationUnreachable { .. }
        | Icmpv6Message::PacketTooBig { .. }
        | Icmpv6Message::TimeExceeded { .. }
        | Icmpv6Message::ParameterProblem { .. }
        | Icmpv6Message::EchoRequest(_)
        | Icmpv6Message::EchoReply(_) => (Fixed::Nothing, NdOptions::default()),
    }
}

impl NdOptions {
    //= https://www.rfc-editor.org/rfc/rfc4861#section-4.6
    //# Nodes MUST silently discard an ND packet that contains an option with length zero.
    fn parse(mut bytes: &[u8]) -> Result<Self> {
        let mut options = Self::default();
        let mut prefixes = 0;
        for _ in 0..OPTIONS_MAX {
            let &[kind, units, ..] = bytes else {
                return if bytes.is_empty() {
                    Ok(options)
                } else {
                    Err(ParseError::Truncated)
                };
            };
            if units == 0 {
                return Err(ParseError::Length);
            }
            let (option, rest) = bytes
                .split_at_checked(usize::from(units) * 8)
                .ok_or(ParseError::Truncated)?;
            match kind {
                option::SOURCE => options.source = Some(link_layer_address(option)?),
                option::TARGET => options.target = Some(link_layer_address(option)?),
                option::MTU => options.mtu = Some(link_mtu(option)?),
                option::PREFIX => {
                    let prefix = prefix_information(option)?;
                    if let Some(place) = options.prefixes.get_mut(prefixes) {
                        *place = Some(prefix);
                        prefixes += 1;
                    } else {
                        options.prefixes_dropped += 1;
                    }
                }
                _ => {}
            }
            bytes = rest;
        }
        if bytes.is_empty() {
            Ok(options)
        } else {
            Err(ParseError::Length)
        }
    }

    fn emitted_len(&self) -> usize {
        8 * usize::from(self.source.is_some())
            + 8 * usize::from(self.target.is_some())
            + 8 * usize::from(self.mtu.is_some())
            + 32 * self.prefixes.iter().flatten().count()
    }

    fn emit(&self, out: &mut [u8]) {
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        for (kind, mac) in [(option::SOURCE, self.source), (option::TARGET, self.target)] {
            if let Some(mac) = mac {
                put(&[kind, 1]);
                put(&mac.0);
            }
        }
        if let Some(mtu) = self.mtu {
            put(&[option::MTU, 1, 0, 0]);
            put(&mtu.to_be_bytes());
        }
        for p in self.prefixes.iter().flatten() {
            put(&[option::PREFIX, 4, p.len, p.flags]);
            put(&p.valid_secs.to_be_bytes());
            put(&p.preferred_secs.to_be_bytes());
            put(&[0; 4]);
            put(&p.prefix.octets());
        }
    }
}

fn link_layer_address(option: &[u8]) -> Result<MacAddr> {
    match *option {
        [_, _, a, b, c, d, e, f] => Ok(MacAddr([a, b, c, d, e, f])),
        _ => Err(ParseError::Length),
    }
}

fn link_mtu(option: &[u8]) -> Result<u32> {
    match *option {
        [_, _, _, _, a, b, c, d] => Ok(u32::from_be_bytes([a, b, c, d])),
        _ => Err(ParseError::Length),
    }
}

fn prefix_information(option: &[u8]) -> Result<PrefixInformation> {
    let ([head, lifetimes, a, b], []) = option.as_chunks::<8>() else {
        return Err(ParseError::Length);
    };
    let [_, _, len, flags, v0, v1, v2, v3] = *head;
    let [p0, p1, p2, p3, ..] = *lifetimes;
    if len > 128 {
        return Err(ParseError::Field);
    }
    let mut prefix = [0; 16];
    prefix[..8].copy_from_slice(a);
    prefix[8..].copy_from_slice(b);
    Ok(PrefixInformation {
        prefix: prefix.into(),
        len,
        flags,
        valid_secs: u32::from_be_bytes([v0, v1, v2, v3]),
        preferred_secs: u32::from_be_bytes([p0, p1, p2, p3]),
    })
}

/// Options in one message. A router advertisement has a handful.
const OPTIONS_MAX: usize = 32;

mod option {
    pub(super) const SOURCE: u8 = 1;
    pub(super) const TARGET: u8 = 2;
    pub(super) const PREFIX: u8 = 3;
    pub(super) const MTU: u8 = 5;
}
