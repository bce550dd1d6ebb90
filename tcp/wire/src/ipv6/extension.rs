//! The walk over extension headers to the upper-layer header.

use crate::ip::IpProtocol;

/// The upper-layer header that the walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpperLayer {
    /// Its protocol.
    pub protocol: IpProtocol,
    /// Its offset in bytes from the end of the fixed header.
    pub at: usize,
    /// The offset of the Next Header field that names it, from the beginning of the fixed header:
    /// the pointer of an error about it.
    pub next_header_at: usize,
    /// The fragment header in front of it, if any. One that isn't [atomic](Fragment::is_atomic)
    /// ends the walk: what follows may be the middle of the datagram.
    pub fragment: Option<Fragment>,
}

/// A fragment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification of the datagram.
    pub id: u32,
    /// Offset of the fragment in the datagram, in units of eight bytes.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
}

impl Fragment {
    /// Returns whether the fragment is the whole datagram (RFC 6946).
    //= https://www.rfc-editor.org/rfc/rfc8200#section-4.5
    //# If the fragment is a whole datagram (that is, both the Fragment
    //# Offset field and the M flag are zero), then it does not need
    //# any further reassembly and should be processed as a fully
    //# reassembled packet
    pub const fn is_atomic(self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// Why the walk found no upper-layer header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionError {
    /// The bytes end before the headers do.
    Truncated,
    /// More than 8 extension headers, or more than 32 options in one: against packets that are made
    /// to cost time.
    TooMany,
    /// A header or option that is answered by an ICMPv6 Parameter Problem.
    ParameterProblem(ParameterProblem),
    /// An unknown option whose type asks to discard the packet silently (RFC 8200, 4.2).
    Discard,
}

/// The content of a Parameter Problem message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterProblem {
    /// ICMPv6 code.
    pub code: u8,
    /// Offset of the offending byte from the beginning of the IPv6 header.
    pub pointer: u32,
    /// Whether it is sent even if the packet's destination was multicast.
    pub even_if_multicast: bool,
}

/// Walks over extension headers to the first header that isn't one.
///
/// `next_header` is the fixed header's, `bytes` follow the fixed header.
///
/// # Errors
/// An [`ExtensionError`] says whether the packet is dropped or answered by an ICMPv6 error.
pub fn walk(next_header: IpProtocol, bytes: &[u8]) -> Result<UpperLayer, ExtensionError> {
    let mut upper = UpperLayer {
        protocol: next_header,
        at: 0,
        next_header_at: NEXT_HEADER_AT,
        fragment: None,
    };
    for nth in 0..=HEADERS_MAX {
        let is_known = match upper.protocol {
            //= https://www.rfc-editor.org/rfc/rfc8200#section-4.1
            //# IPv6 nodes must accept and attempt to process extension headers in
            //# any order and occurring any number of times in the same packet,
            //# except for the Hop-by-Hop Options header, which is restricted to
            //# appear immediately after an IPv6 header only.
            IpProtocol::HOP_BY_HOP if nth > 0 => {
                return Err(problem(
                    code::UNRECOGNISED_NEXT_HEADER,
                    upper.next_header_at,
                    false,
                ));
            }
            IpProtocol::HOP_BY_HOP
            | IpProtocol::DEST_OPTIONS
            | IpProtocol::ROUTING
            | IpProtocol::FRAGMENT => true,
            _ => false,
        };
        if !is_known {
            return Ok(upper);
        }
        if nth == HEADERS_MAX {
            break;
        }
        let rest = bytes.get(upper.at..).ok_or(ExtensionError::Truncated)?;
        let (header, next) = one_header(upper.protocol, rest)?;
        match upper.protocol {
            IpProtocol::ROUTING => check_routing(header, upper.at)?,
            IpProtocol::FRAGMENT => {
                let fragment = read_fragment(header);
                upper.fragment = Some(fragment);
                if !fragment.is_atomic() {
                    return Ok(upper);
                }
            }
            _ => check_options(header, upper.at)?,
        }
        upper = UpperLayer {
            protocol: next,
            at: upper.at + header.len(),
            next_header_at: FIXED_LEN + upper.at,
            fragment: upper.fragment,
        };
    }
    Err(ExtensionError::TooMany)
}

/// Splits off the extension header that `bytes` begin with. Returns it and its next header.
fn one_header(kind: IpProtocol, bytes: &[u8]) -> Result<(&[u8], IpProtocol), ExtensionError> {
    let &[next, len, ..] = bytes else {
        return Err(ExtensionError::Truncated);
    };
    let len = if kind == IpProtocol::FRAGMENT {
        8
    } else {
        8 + usize::from(len) * 8
    };
    let header = bytes.get(..len).ok_or(ExtensionError::Truncated)?;
    Ok((header, IpProtocol(next)))
}

/// Checks a routing header. No routing type is supported; type 0 is deprecated (RFC 5095).
//= https://www.rfc-editor.org/rfc/rfc8200#section-4.4
//# If Segments Left is non-zero, the node must discard the packet and
//# send an ICMP Parameter Problem, Code 0, message to the packet's
//# Source Address, pointing to the unrecognized Routing Type.
fn check_routing(header: &[u8], at: usize) -> Result<(), ExtensionError> {
    match header.get(3) {
        Some(0) => Ok(()),
        Some(_) => Err(problem(code::ERRONEOUS_FIELD, FIXED_LEN + at + 2, false)),
        None => Err(ExtensionError::Truncated),
    }
}

fn read_fragment(header: &[u8]) -> Fragment {
    let (mut offset_flags, mut id) = ([0; 2], [0; 4]);
    if let [_, _, o0, o1, i0, i1, i2, i3, ..] = *header {
        offset_flags = [o0, o1];
        id = [i0, i1, i2, i3];
    }
    let offset_flags = u16::from_be_bytes(offset_flags);
    Fragment {
        id: u32::from_be_bytes(id),
        offset: offset_flags >> 3,
        more: offset_flags & 1 != 0,
    }
}

/// Checks the options of a hop-by-hop or destination options header. All but padding and router
/// alert are unknown.
fn check_options(header: &[u8], at: usize) -> Result<(), ExtensionError> {
    let mut offset = 2;
    for _ in 0..OPTIONS_MAX {
        let Some(&kind) = header.get(offset) else {
            return Ok(());
        };
        if kind == PAD1 {
            offset += 1;
            continue;
        }
        let Some(&len) = header.get(offset + 1) else {
            return Err(problem(
                code::ERRONEOUS_FIELD,
                FIXED_LEN + at + offset,
                false,
            ));
        };
        let next = offset + 2 + usize::from(len);
        if next > header.len() {
            return Err(problem(
                code::ERRONEOUS_FIELD,
                FIXED_LEN + at + offset + 1,
                false,
            ));
        }
        //= https://www.rfc-editor.org/rfc/rfc8200#section-4.2
        //# The Option Type identifiers are internally encoded such that their
        //# highest-order 2 bits specify the action that must be taken if the
        //# processing IPv6 node does not recognize the Option Type
        match kind >> 6 {
            0b00 => {}
            0b01 => return Err(ExtensionError::Discard),
            action => {
                let pointer = FIXED_LEN + at + offset;
                return Err(problem(code::UNRECOGNISED_OPTION, pointer, action == 0b10));
            }
        }
        offset = next;
    }
    Err(ExtensionError::TooMany)
}

fn problem(code: u8, pointer: usize, even_if_multicast: bool) -> ExtensionError {
    let pointer = u32::try_from(pointer).unwrap_or(u32::MAX);
    ExtensionError::ParameterProblem(ParameterProblem {
        code,
        pointer,
        even_if_multicast,
    })
}

/// Parameter Problem codes (RFC 4443, 3.4).
mod code {
    pub(super) const ERRONEOUS_FIELD: u8 = 0;
    pub(super) const UNRECOGNISED_NEXT_HEADER: u8 = 1;
    pub(super) const UNRECOGNISED_OPTION: u8 = 2;
}

const FIXED_LEN: usize = super::HEADER_LEN;
const NEXT_HEADER_AT: usize = 6;
const PAD1: u8 = 0;
/// Extension headers in one packet. RFC 8200's recommended order (4.1) has six; Linux's default
/// limits are of this size.
const HEADERS_MAX: usize = 8;
/// Options in one header, padding included.
const OPTIONS_MAX: usize = 32;
