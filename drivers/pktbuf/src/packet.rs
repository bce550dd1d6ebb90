//! Packets to send: headers, slices of page buffers, and the output that takes them.

use std::fmt;
use std::mem::MaybeUninit;

use lockgate_wire::{IfaceId, MacAddr};

use crate::block::{Block, State};

/// Largest number of slices in one packet.
pub const MAX_SLICES: usize = 32;

/// Borrowed bytes of a page buffer: `len` bytes from `at` on. They can't change meanwhile.
#[derive(Clone, Copy)]
pub struct Slice<'a> {
    /// The page buffer.
    pub buf: &'a Block,
    /// Offset in it, in bytes; record header, body and trailer all count.
    pub at: u32,
    /// Length in bytes.
    pub len: u32,
}

impl<'a> Slice<'a> {
    /// Returns the bytes; `None` if they are the plaintext of a framed record, or not in the
    /// buffer.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        let at = self.at as usize;
        self.buf
            .bytes()?
            .get(at..at.checked_add(self.len as usize)?)
    }

    /// Returns the bytes.
    ///
    /// # Errors
    /// Why they can't be sent.
    pub(crate) fn readable(&self) -> Result<&'a [u8], NotSent> {
        self.bytes().ok_or_else(|| match self.buf.state() {
            State::Framed | State::Away => NotSent::Plaintext,
            State::Plain | State::Sealed => NotSent::Malformed,
        })
    }

    /// Returns the part from `skip` on, of at most `len` bytes.
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

/// A list of slices with fixed capacity, to build a packet's payload without an allocation.
pub struct Slices<'a> {
    list: [MaybeUninit<Slice<'a>>; MAX_SLICES],
    count: usize,
    limit: usize,
    bytes: u32,
}

impl<'a> Slices<'a> {
    /// Makes an empty list for up to `limit` slices, [`MAX_SLICES`] at most.
    pub fn new(limit: usize) -> Self {
        Self {
            list: [const { MaybeUninit::uninit() }; MAX_SLICES],
            count: 0,
            limit: limit.min(MAX_SLICES),
            bytes: 0,
        }
    }

    /// Appends a slice. Returns false if the list is full. An empty slice is skipped.
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

    /// Removes all slices.
    pub fn clear(&mut self) {
        self.count = 0;
        self.bytes = 0;
    }

    /// Returns whether the list is full.
    pub fn is_full(&self) -> bool {
        self.count == self.limit
    }

    /// Returns the sum of the slices' lengths, in bytes.
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Returns the slices.
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

/// A packet's headers, contiguous: link, network, transport.
#[derive(Clone, Copy)]
pub struct Headers {
    bytes: [u8; Self::CAPACITY],
    l2: u8,
    l3: u8,
    l4: u8,
}

impl Headers {
    /// Capacity in bytes: Ethernet with a VLAN tag, IPv6, and TCP with 40 bytes of options.
    pub const CAPACITY: usize = 128;

    /// Makes zeroed headers of these lengths, in bytes: link, network, transport.
    ///
    /// # Panics
    ///
    /// If the sum is more than [`Headers::CAPACITY`], which no headers of this stack reach.
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

    /// Returns the length of all headers, in bytes.
    pub fn len(&self) -> usize {
        usize::from(self.l2) + usize::from(self.l3) + usize::from(self.l4)
    }

    /// Returns whether there are no headers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the length of the link header, in bytes; 0 on interfaces without a link layer.
    pub fn l2_len(&self) -> u8 {
        self.l2
    }

    /// Returns the length of the network header with its extension headers, in bytes.
    pub fn l3_len(&self) -> u8 {
        self.l3
    }

    /// Returns the length of the transport header, in bytes.
    pub fn l4_len(&self) -> u8 {
        self.l4
    }

    /// Returns all headers.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }

    /// Returns all headers and the unused bytes behind them: a copy of fixed length.
    pub fn all_bytes(&self) -> &[u8; Self::CAPACITY] {
        &self.bytes
    }

    /// Returns all headers for writing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len();
        &mut self.bytes[..len]
    }

    /// Returns the link header.
    pub fn l2(&self) -> &[u8] {
        &self.bytes[..usize::from(self.l2)]
    }

    /// Returns the link header for writing.
    pub fn l2_mut(&mut self) -> &mut [u8] {
        let l2 = usize::from(self.l2);
        &mut self.bytes[..l2]
    }

    /// Returns the network header.
    pub fn l3(&self) -> &[u8] {
        let at = usize::from(self.l2);
        &self.bytes[at..at + usize::from(self.l3)]
    }

    /// Returns the network header for writing.
    pub fn l3_mut(&mut self) -> &mut [u8] {
        let at = usize::from(self.l2);
        let end = at + usize::from(self.l3);
        &mut self.bytes[at..end]
    }

    /// Returns the transport header.
    pub fn l4(&self) -> &[u8] {
        let end = self.len();
        &self.bytes[end - usize::from(self.l4)..end]
    }

    /// Returns the transport header for writing.
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

/// Kind of the transport header, as far as it matters to the layers below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum L4 {
    /// TCP. The checksum field holds the folded sum of the pseudo-header with its length, not
    /// complemented. The port or [`gso::finish_checksum`](crate::gso::finish_checksum) completes
    /// it.
    Tcp,
    /// Anything else (ICMP, ARP), complete as it is.
    #[default]
    None,
}

/// What the layers below need of a packet besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxMeta {
    /// Interface that it is sent on.
    pub iface: IfaceId,
    /// Payload bytes per frame of a packet that is to be segmented; 0: it is one frame.
    pub mss: u16,
    /// Hash of the flow, which selects the member port of a link aggregation.
    pub hash: u32,
    /// Kind of the transport header.
    pub protocol: L4,
    /// IPv6 rather than IPv4.
    pub ipv6: bool,
    /// Whether it is a retransmission.
    pub retransmit: bool,
}

/// A packet to send: headers, and payload by reference.
///
/// Checksum and lengths of the network header are complete, for the whole payload, also when the
/// packet is to be segmented.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The headers.
    pub head: &'a Headers,
    /// The payload, in order.
    pub payload: &'a [Slice<'a>],
    /// Interface, segmentation, offloads.
    pub meta: TxMeta,
}

impl Packet<'_> {
    /// Returns the bytes of payload.
    pub fn payload_len(&self) -> usize {
        self.payload.iter().map(|s| s.len as usize).sum()
    }

    /// Returns the bytes of headers and payload.
    pub fn len(&self) -> usize {
        self.head.len() + self.payload_len()
    }

    /// Returns whether there are neither headers nor payload.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies headers and payload to the front of `out`, [`Packet::len`] bytes. Returns the number
    /// of
    /// *payload* bytes.
    ///
    /// # Errors
    /// See [`NotSent`].
    pub fn copy_to(&self, out: &mut [u8]) -> Result<usize, NotSent> {
        copy_frame(self.head, self.payload, out)
    }
}

/// Copies headers and payload of a frame to the front of `out`. Returns the number of payload
/// bytes.
///
/// # Errors
/// See [`NotSent`].
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

/// Why a packet's payload can't be read or copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// A slice of a record that is framed and not sealed.
    Plaintext,
    /// A slice that reaches beyond its buffer, or headers that don't match the metadata.
    Malformed,
    /// The memory to copy to is too short.
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

/// Properties of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Longest IP packet, in bytes.
    pub mtu: u16,
    /// Its link-layer address; `None` without a link layer.
    pub mac: Option<MacAddr>,
    /// Most payload bytes in a packet that is to be segmented ([`TxMeta::mss`]), by the port or in
    /// software; 0: one frame at a time.
    pub tso_bytes_max: u32,
    /// Most slices in a packet.
    pub entries_max: u16,
    /// Whether the link is up.
    pub link_up: bool,
    /// Whether the port completes TCP checksums.
    pub tx_csum: bool,
    /// Whether the port segments packets (TSO).
    pub tso: bool,
}

/// Room in an interface's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Number of packets.
    pub packets: u32,
    /// Number of scatter entries over all of them; the headers of a packet count one.
    pub entries: u32,
}

/// Why an interface didn't accept a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TxError {
    /// The link is down.
    LinkDown,
    /// The queue is full, as [`Output::room`] reports.
    Full,
    /// A slice of a record that is framed and not sealed: plaintext is never sent.
    Plaintext,
    /// A frame longer than the MTU.
    TooBig,
    /// Slices or headers that contradict each other.
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

/// Destination of packets: a worker's ports, or a simulator.
///
/// The stack calls [`Output::room`] before it builds a packet with data of a connection, so
/// [`Output::tx`] seldom fails. Small frames that answer at once are sent without that: an
/// interface reserves places for them, so that they aren't lost when connections fill the queue.
pub trait Output {
    /// Returns the interface's properties.
    fn info(&self, on: IfaceId) -> Info;

    /// Returns the room in its queue, without the places reserved for small frames.
    fn room(&self, on: IfaceId) -> Room;

    /// Queues one packet. Payload that it keeps is referenced by [`Block::attach`].
    ///
    /// # Errors
    /// See [`TxError`]; the packet was dropped. A slice that can't be read ([`Slice::bytes`]) is
    /// refused with [`TxError::Plaintext`].
    fn tx(&mut self, packet: Packet<'_>) -> Result<(), TxError>;
}
