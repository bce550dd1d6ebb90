//! What goes down: headers, slices of page buffers, and the interface that takes them.

use std::fmt;
use std::mem::MaybeUninit;

use lockgate_wire::{IfaceId, MacAddr};

use crate::block::{Block, State};

/// The most slices one packet can have.
pub const MAX_SLICES: usize = 32;

/// `len` bytes of a page buffer, from `at`, borrowed: nothing can change them meanwhile.
#[derive(Clone, Copy)]
pub struct Slice<'a> {
    /// The page buffer.
    pub buf: &'a Block,
    /// Offset in it; record header, body and trailer all count.
    pub at: u32,
    /// How many bytes.
    pub len: u32,
}

impl<'a> Slice<'a> {
    /// The bytes, or `None` if they are the plaintext of a record (or not in the buffer).
    pub fn bytes(&self) -> Option<&'a [u8]> {
        let at = self.at as usize;
        self.buf
            .bytes()?
            .get(at..at.checked_add(self.len as usize)?)
    }

    /// The bytes, or why they can't be sent.
    pub(crate) fn readable(&self) -> Result<&'a [u8], NotSent> {
        self.bytes().ok_or_else(|| match self.buf.state() {
            State::Framed => NotSent::Plaintext,
            State::Plain | State::Sealed => NotSent::Malformed,
        })
    }

    /// The part from `skip` on, of at most `len` bytes.
    pub fn part(&self, skip: u32, len: u32) -> Self {
        let skip = skip.min(self.len);
        Self {
            buf: self.buf,
            at: self.at.saturating_add(skip),
            len: len.min(self.len - skip),
        }
    }
}

impl fmt::Debug for Slice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({}+{} of {:?})", self.at, self.len, self.buf)
    }
}

/// A list of slices with a fixed capacity, for building a packet's payload on the stack.
pub struct Slices<'a> {
    list: [MaybeUninit<Slice<'a>>; MAX_SLICES],
    count: usize,
    limit: usize,
    bytes: u32,
}

impl<'a> Slices<'a> {
    /// An empty list that takes up to `limit` slices ([`MAX_SLICES`] at most).
    pub fn new(limit: usize) -> Self {
        Self {
            list: [const { MaybeUninit::uninit() }; MAX_SLICES],
            count: 0,
            limit: limit.min(MAX_SLICES),
            bytes: 0,
        }
    }

    /// Adds a slice; false if there's no place. An empty slice needs none.
    pub fn push(&mut self, slice: Slice<'a>) -> bool {
        if slice.len == 0 {
            return true;
        }
        if self.count == self.limit {
            return false;
        }
        self.list[self.count].write(slice);
        self.count += 1;
        self.bytes += slice.len;
        true
    }

    /// Forgets all slices.
    pub fn clear(&mut self) {
        self.count = 0;
        self.bytes = 0;
    }

    /// Whether no more slice fits.
    pub fn is_full(&self) -> bool {
        self.count == self.limit
    }

    /// The sum of the slices' lengths.
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// The slices.
    pub fn as_slice(&self) -> &[Slice<'a>] {
        let list = &self.list[..self.count];
        // SAFETY: the first `count` places were written; MaybeUninit<T> has T's layout.
        unsafe { &*(std::ptr::from_ref(list) as *const [Slice<'a>]) }
    }
}

impl fmt::Debug for Slices<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// A packet's headers, one after the other: link, network, transport.
#[derive(Clone, Copy)]
pub struct Headers {
    bytes: [u8; Self::CAPACITY],
    l2: u8,
    l3: u8,
    l4: u8,
}

impl Headers {
    /// Room for Ethernet with a tag, IPv6 and TCP with all its options.
    pub const CAPACITY: usize = 128;

    /// Zeroed headers of these lengths (bytes of link, network and transport header).
    ///
    /// # Panics
    ///
    /// If together they are longer than [`Headers::CAPACITY`], which no headers of this stack are.
    pub fn new(l2: u8, l3: u8, l4: u8) -> Self {
        let h = Self {
            bytes: [0; Self::CAPACITY],
            l2,
            l3,
            l4,
        };
        assert!(
            h.len() <= Self::CAPACITY,
            "headers longer than any of this stack"
        );
        h
    }

    /// Length of all.
    pub fn len(&self) -> usize {
        usize::from(self.l2) + usize::from(self.l3) + usize::from(self.l4)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length of the link header: 0 on interfaces without a link layer.
    pub fn l2_len(&self) -> u8 {
        self.l2
    }

    /// Length of the network header, extension headers included.
    pub fn l3_len(&self) -> u8 {
        self.l3
    }

    /// Length of the transport header.
    pub fn l4_len(&self) -> u8 {
        self.l4
    }

    /// All headers.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }

    /// All headers and the room behind them: copying that takes no look at the length.
    pub fn all_bytes(&self) -> &[u8; Self::CAPACITY] {
        &self.bytes
    }

    /// All headers, to write them.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len();
        &mut self.bytes[..len]
    }

    /// The link header.
    pub fn l2(&self) -> &[u8] {
        &self.bytes[..usize::from(self.l2)]
    }

    /// The link header, to write it.
    pub fn l2_mut(&mut self) -> &mut [u8] {
        let l2 = usize::from(self.l2);
        &mut self.bytes[..l2]
    }

    /// The network header.
    pub fn l3(&self) -> &[u8] {
        let at = usize::from(self.l2);
        &self.bytes[at..at + usize::from(self.l3)]
    }

    /// The network header, to write it.
    pub fn l3_mut(&mut self) -> &mut [u8] {
        let at = usize::from(self.l2);
        let end = at + usize::from(self.l3);
        &mut self.bytes[at..end]
    }

    /// The transport header.
    pub fn l4(&self) -> &[u8] {
        let end = self.len();
        &self.bytes[end - usize::from(self.l4)..end]
    }

    /// The transport header, to write it.
    pub fn l4_mut(&mut self) -> &mut [u8] {
        let end = self.len();
        let at = end - usize::from(self.l4);
        &mut self.bytes[at..end]
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Headers({}+{}+{} {:02x?})",
            self.l2,
            self.l3,
            self.l4,
            self.bytes()
        )
    }
}

/// What the transport header is, as far as the layers below care.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum L4 {
    /// TCP. The checksum field carries the folded, not complemented sum of the pseudo-header, its
    /// length field included; the leaf port or
    /// [`gso::finish_checksum`](crate::gso::finish_checksum) completes it.
    Tcp,
    /// Anything else, complete as it is: ICMP, ARP.
    #[default]
    None,
}

/// What the layers below need to know about a packet besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxMeta {
    /// The interface it goes out on.
    pub iface: IfaceId,
    /// Payload bytes per frame when the packet is to be cut into several; 0: it is one frame.
    pub mss: u16,
    /// The flow's hash, which picks a lagg's member.
    pub hash: u32,
    /// What the transport header is.
    pub protocol: L4,
    /// IPv6 rather than IPv4.
    pub ipv6: bool,
    /// Whether the payload was sent before.
    pub retransmit: bool,
}

/// Headers and payload by reference, going down. The network header's own checksum and lengths are
/// complete (for the whole payload, also when it's to be cut).
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The headers.
    pub head: &'a Headers,
    /// The payload, in order.
    pub payload: &'a [Slice<'a>],
    /// The rest.
    pub meta: TxMeta,
}

impl Packet<'_> {
    /// Bytes of payload.
    pub fn payload_len(&self) -> usize {
        self.payload.iter().map(|s| s.len as usize).sum()
    }

    /// Bytes of headers and payload.
    pub fn len(&self) -> usize {
        self.head.len() + self.payload_len()
    }

    /// Whether there's nothing at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies headers and payload into one piece of memory, for ports that take no chains and for
    /// simulators. Returns how many bytes of *payload* were copied (for the counter of copied
    /// bytes); [`Packet::len`] bytes of `out` were written.
    pub fn copy_to(&self, out: &mut [u8]) -> Result<usize, NotSent> {
        copy_frame(self.head, self.payload, out)
    }
}

/// Copies a frame into one piece of memory; returns how many payload bytes that were.
pub fn copy_frame(head: &Headers, payload: &[Slice<'_>], out: &mut [u8]) -> Result<usize, NotSent> {
    let (to, mut out) = out
        .split_at_mut_checked(head.len())
        .ok_or(NotSent::NoSpace)?;
    to.copy_from_slice(head.bytes());
    let mut copied = 0;
    for slice in payload {
        let bytes = slice.readable()?;
        let (to, rest) = out
            .split_at_mut_checked(bytes.len())
            .ok_or(NotSent::NoSpace)?;
        to.copy_from_slice(bytes);
        copied += bytes.len();
        out = rest;
    }
    Ok(copied)
}

/// Why a packet's payload could not be read or copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// A slice of plaintext that is framed as a record and not sealed.
    Plaintext,
    /// A slice that reaches beyond its buffer, or headers that aren't what the meta data say.
    Malformed,
    /// The memory given is too small.
    NoSpace,
}

impl From<NotSent> for TxError {
    fn from(e: NotSent) -> Self {
        match e {
            NotSent::Plaintext => Self::Plaintext,
            NotSent::Malformed => Self::Malformed,
            NotSent::NoSpace => Self::TooBig,
        }
    }
}

/// What an interface is and can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// The longest IP packet.
    pub mtu: u16,
    /// Our link-layer address; `None` where there is no link layer.
    pub mac: Option<MacAddr>,
    /// The most payload bytes in a packet that is to be cut ([`TxMeta::mss`]), done by the port or
    /// by software; 0: one frame at a time.
    pub tso_bytes_max: u32,
    /// The most slices in a packet.
    pub entries_max: u16,
    /// Whether the link is up.
    pub link_up: bool,
    /// Whether the port itself completes TCP checksums.
    pub tx_csum: bool,
    /// Whether the port itself cuts packets.
    pub tso: bool,
}

/// How much an interface takes right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Packets.
    pub packets: u32,
    /// Scatter entries (headers count one) over all of them.
    pub entries: u32,
}

/// Why an interface didn't take a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TxError {
    /// The link is down.
    LinkDown,
    /// No place; [`Output::room`] said so.
    Full,
    /// A slice of plaintext that is framed as a record and not sealed: never sent.
    Plaintext,
    /// A frame longer than the interface takes.
    TooBig,
    /// Slices or headers that contradict themselves.
    Malformed,
    /// No such interface.
    NoInterface,
}

impl fmt::Display for TxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LinkDown => "link down",
            Self::Full => "no room",
            Self::Plaintext => "record not sealed",
            Self::TooBig => "frame too big",
            Self::Malformed => "malformed packet",
            Self::NoInterface => "no such interface",
        })
    }
}

impl std::error::Error for TxError {}

/// Where packets go: a worker's ports, a simulator, a script.
///
/// The stack asks [`Output::room`] before it builds a packet with a connection's data, so
/// [`Output::tx`] fails only for reasons that room can't tell. Small frames that answer at once are
/// sent unasked: an interface keeps some places back for them, so that they aren't the ones to get
/// lost whenever connections have more to send than the interface takes.
pub trait Output {
    /// What the interface is and can do.
    fn info(&self, on: IfaceId) -> Info;

    /// How much it takes now, besides what it keeps back for small frames.
    fn room(&self, on: IfaceId) -> Room;

    /// Takes one packet. What it keeps of the payload it keeps by [`Block::attach`]. A slice that
    /// can't be read ([`Slice::bytes`]) is refused with [`TxError::Plaintext`].
    fn tx(&mut self, packet: Packet<'_>) -> Result<(), TxError>;
}
