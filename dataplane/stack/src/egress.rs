//! From the stack to the interfaces: the IP layer, the way to a peer, and small frames.

mod headers;

use core::net::IpAddr;

use lockgate_ip::{DispatchOutcome, FrameMeta, IpLayer, Lookup, NeighbourEvent, NextHop};
use lockgate_wire::tcp::TcpHeader;
use lockgate_wire::{FourTuple, IfaceId, Instant, MacAddr};
use pktbuf::{Buffer, Checksum, Headers, Info, Output, Packet, Slice, TxMeta};

pub(crate) use self::headers::{Path, segment_headers};
use crate::config::{ConfigError, StackConfig};
use crate::counters::Counters;
use crate::env::Env;

/// The IP layer of one worker, and the memory in which it writes frames.
pub(crate) struct Egress {
    pub(crate) ip: IpLayer,
    /// Memory for one frame of the IP layer.
    pub(crate) frame: Box<[u8]>,
}

impl Egress {
    /// An IP layer with the configured interfaces, addresses and routes.
    pub(crate) fn new(config: &StackConfig, seed: u64) -> Result<Self, ConfigError> {
        let mut ip = IpLayer::new(&config.ip, seed);
        for (interface, addresses) in &config.interfaces {
            ip.add_interface(*interface)
                .map_err(|e| ConfigError::Interface(*interface, e))?;
            for address in addresses {
                ip.add_address(interface.id, *address)
                    .map_err(|e| ConfigError::Address(*address, e))?;
            }
        }
        for route in &config.routes {
            ip.add_route(*route)
                .map_err(|e| ConfigError::Route(*route, e))?;
        }
        Ok(Self {
            ip,
            frame: vec![0; FRAME_BYTES_MAX].into_boxed_slice(),
        })
    }

    /// Drains the neighbour table's events. Returns whether sockets that wait for neighbour
    /// resolution have to look again: an entry was resolved or became unreachable, or a timer of
    /// the table is due, since the table may have had more events than it could keep.
    pub(crate) fn drain_neighbour_events(&mut self, now: Instant) -> bool {
        let mut has_news = self.ip.deadline().is_some_and(|at| at <= now);
        while let Some(NeighbourEvent::Resolved(..) | NeighbourEvent::Unreachable(_)) =
            self.ip.poll_event()
        {
            has_news = true;
        }
        has_news
    }

    /// The way to `remote`, or `None` while its next hop is being resolved. `is_confirmed` tells
    /// the neighbour table that the peer acknowledged something.
    pub(crate) fn path<N: Output>(
        &mut self,
        now: Instant,
        remote: IpAddr,
        is_confirmed: bool,
        net: &N,
    ) -> Option<Path> {
        let Some(hop) = self.ip.route(remote, None) else {
            return Some(Path::UNREACHABLE);
        };
        if is_confirmed {
            self.ip.confirm(now, hop);
        }
        let Info {
            entries_max,
            tso_bytes_max,
            link_up,
            ..
        } = net.info(hop.iface);
        let mac = match self.ip.lookup(now, hop) {
            Lookup::Resolved(mac) => mac,
            Lookup::Pending => return None,
            Lookup::Unreachable => return Some(Path::UNREACHABLE),
        };
        Some(Path {
            iface: hop.iface,
            link: self.ip.link_to(hop.iface, mac),
            entries_max: entries_max.max(2),
            tso_bytes_max,
            reachable: link_up,
        })
    }

    /// Sends a segment without payload at once. If it can't go it is lost: the peer retransmits.
    /// Returns whether it went to an interface or to neighbour resolution.
    pub(crate) fn reply<N: Output>(
        &mut self,
        now: Instant,
        tuple: &FourTuple,
        header: &TcpHeader,
        counters: &mut Counters,
        env: &mut Env<'_, N>,
    ) -> bool {
        let Some(hop) = self.ip.route(tuple.remote.addr, None) else {
            counters.answers_lost += 1;
            return false;
        };
        let path = Path {
            iface: hop.iface,
            link: self.ip.link_to(hop.iface, MacAddr::ZERO),
            ..Path::SMALL_FRAMES
        };
        let Some((mut head, _)) = segment_headers(&path, tuple, header, 0) else {
            counters.answers_lost += 1;
            return false;
        };
        if pktbuf::gso::finish_checksum(&mut head, &[]).is_err() {
            counters.answers_lost += 1;
            return false;
        }
        self.dispatch(now, hop, &mut head, counters, env.net)
    }

    /// Sends the first `len` bytes of [`Egress::frame`].
    pub(crate) fn send_frame<N: Output>(
        &self,
        iface: IfaceId,
        len: usize,
        counters: &mut Counters,
        env: &mut Env<'_, N>,
    ) {
        let frame = self.frame.get(..len).unwrap_or_default();
        let (first, tail) = frame.split_at(len.min(usize::from(HEAD_BYTES)));
        let mut head = Headers::new(u8::try_from(first.len()).unwrap_or(HEAD_BYTES), 0, 0);
        head.bytes_mut().copy_from_slice(first);
        let meta = TxMeta {
            iface,
            ..TxMeta::default()
        };
        if tail.is_empty() {
            let packet = Packet {
                head: &head,
                payload: &[],
                meta,
            };
            transmit_small(&packet, counters, env.net);
            return;
        }
        let size = u32::try_from(tail.len()).unwrap_or(u32::MAX);
        let Some(mut page) = env.pages.alloc(size) else {
            counters.answers_lost += 1;
            return;
        };
        page.append(tail);
        let payload = [Slice {
            buf: &page,
            at: 0,
            len: page.len(),
        }];
        let packet = Packet {
            head: &head,
            payload: &payload,
            meta,
        };
        transmit_small(&packet, counters, env.net);
    }

    /// Sends neighbour solicitations, and frames that waited for neighbour resolution. Calls
    /// `on_solicit` for each neighbour that is solicited, which returns false if that is lost.
    pub(crate) fn send_ip_frames<N: Output>(
        &mut self,
        now: Instant,
        counters: &mut Counters,
        env: &mut Env<'_, N>,
        mut on_solicit: impl FnMut(NextHop) -> bool,
    ) {
        while let Some(sent) = self.ip.poll_transmit(now, &mut self.frame) {
            let is_lost = sent.solicits.is_some_and(|hop| !on_solicit(hop));
            counters.sibling_frames_lost += u64::from(is_lost);
            self.send_frame(sent.iface, sent.len, counters, env);
        }
    }

    fn dispatch<N: Output>(
        &mut self,
        now: Instant,
        hop: NextHop,
        head: &mut Headers,
        counters: &mut Counters,
        net: &mut N,
    ) -> bool {
        match self.ip.dispatch(now, hop, head.bytes_mut()) {
            DispatchOutcome::Send => {
                let meta = TxMeta {
                    iface: hop.iface,
                    ..TxMeta::default()
                };
                let packet = Packet {
                    head,
                    payload: &[],
                    meta,
                };
                transmit_small(&packet, counters, net)
            }
            DispatchOutcome::Queued => true,
            DispatchOutcome::Dropped => {
                counters.answers_lost += 1;
                false
            }
        }
    }
}

/// Gives a small packet to the interface without asking for room: where connections take all room
/// there is, small packets would never find any. Returns whether the interface took it.
fn transmit_small<N: Output>(packet: &Packet<'_>, counters: &mut Counters, net: &mut N) -> bool {
    let taken = net.tx(*packet).is_ok();
    if taken {
        counters.packets_out += 1;
    } else {
        counters.answers_lost += 1;
    }
    taken
}

/// What the IP layer needs to know about a received frame.
pub(crate) fn frame_meta(packet: &Buffer) -> FrameMeta {
    FrameMeta {
        len: packet.len() as usize,
        ip_checksum_good: packet.ip_checksum() == Checksum::Good,
        vlan: packet.vlan(),
    }
}

/// The part of a small frame that goes where headers go.
const HEAD_BYTES: u8 = 128;
/// The longest frame that the IP layer writes: an echo reply to the longest jumbo frame fits.
const FRAME_BYTES_MAX: usize = 18 * 1024;
const _: () = assert!(HEAD_BYTES as usize <= Headers::CAPACITY);
