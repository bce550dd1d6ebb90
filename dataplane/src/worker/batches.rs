//! How many received packets and how many notices one turn handles.

use lockgate_stack::Notice;

use super::transport::StackContext;

/// Receives bursts until one is short, or the turn has its share. `receive` handles one burst and
/// returns how many packets it had. Returns how many there were in all.
///
/// A turn sends several hundred frames. If it received fewer packets than the peers' answers to
/// that, acknowledgments would fill the port's ring, and a new client's SYN would wait behind them
/// or be dropped. A burst is handled before the next one is received: the port's packet buffers
/// are for one burst.
pub(super) fn receive_bursts(burst_len: usize, mut receive: impl FnMut() -> usize) -> usize {
    let mut received = 0;
    while received < RX_PACKETS_PER_TURN {
        let count = receive();
        received += count;
        if count < burst_len {
            break;
        }
    }
    received
}

/// Gives the stack's notices to the application, a bounded number in order. The rest waits for the
/// next turn. Returns how many there were.
pub(super) fn dispatch_notices(
    cx: &mut StackContext<'_>,
    mut dispatch: impl FnMut(Notice, &mut StackContext<'_>),
) -> usize {
    let mut count = 0;
    while count < NOTICES_PER_TURN
        && let Some(notice) = cx.stack.poll_notice()
    {
        count += 1;
        dispatch(notice, cx);
    }
    count
}

/// Packets after which a turn receives no further burst. More than the acknowledgments of what a
/// turn sends: 512 frames at most, of which every second one is acknowledged.
const RX_PACKETS_PER_TURN: usize = 512;

/// Notices that a turn dispatches. Twice what a turn's received packets of one port lead to.
const NOTICES_PER_TURN: usize = 1024;

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;

    use lockgate_ip::{Cidr, Interface};
    use lockgate_ktls::{BackendChoice, Ciphers};
    use lockgate_stack::{ConnectConfig, Env, Limits, SocketId, Stack, StackConfig};
    use lockgate_wire::{IfaceId, Instant, MacAddr};
    use pktbuf::{Info, Output, Packet, PagePool, PoolConfig, Region, Room, TxError};

    use super::*;

    /// An interface that drops what it gets.
    struct Sink;

    impl Output for Sink {
        fn info(&self, _on: IfaceId) -> Info {
            Info {
                mtu: 1500,
                entries_max: 17,
                link_up: true,
                ..Info::default()
            }
        }

        fn room(&self, _on: IfaceId) -> Room {
            Room {
                packets: 64,
                entries: 1024,
            }
        }

        fn tx(&mut self, _packet: Packet<'_>) -> Result<(), TxError> {
            Ok(())
        }
    }

    fn stack(connections_max: u32) -> Stack {
        let interface = Interface {
            id: IfaceId(0),
            mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
            mtu: 1500,
            vlan: None,
        };
        let address = Cidr::new("192.0.2.1".parse().unwrap(), 24).unwrap();
        let config = StackConfig {
            interfaces: vec![(interface, vec![address])],
            limits: Limits {
                connections_max,
                ..Limits::default()
            },
            ..StackConfig::default()
        };
        Stack::new(Instant::ZERO, config, [1, 2, 3, 4]).unwrap()
    }

    #[test]
    fn a_turn_receives_until_a_burst_is_short_or_it_has_its_share() {
        let receive = |bursts: &[usize]| {
            let mut bursts = bursts.iter();
            let received = receive_bursts(64, || *bursts.next().unwrap());
            (received, bursts.len())
        };
        assert_eq!(receive(&[0, 9]), (0, 1));
        assert_eq!(receive(&[64, 64, 63, 9]), (191, 1));
        assert_eq!(receive(&[64; 9]), (512, 1));
        // Several ports fill more than a burst.
        assert_eq!(receive(&[128, 128, 128, 128, 9]), (512, 1));
    }

    /// However many notices there are, a turn dispatches a bounded number: the ports are polled
    /// again in between. None is lost, and their order stays.
    #[test]
    fn a_turn_dispatches_a_bounded_number_of_notices() {
        const SOCKETS: usize = 2500;
        let pool = PoolConfig {
            blocks: 64,
            small_spans: 64,
            large_spans: 16,
        };
        let mut region = Region::heap(PagePool::bytes_needed(pool)).unwrap();
        let mut pages = PagePool::new(&mut region, pool).unwrap();
        let mut ciphers = Ciphers::new(BackendChoice::Auto, 16);
        let mut stack = stack(u32::try_from(SOCKETS).unwrap());
        let now = Instant::from_millis(1);
        let remote = SocketAddr::from(([192, 0, 2, 2], 443));
        let opened: Vec<SocketId> = (0..SOCKETS)
            .map(|_| {
                stack
                    .connect(now, remote, ConnectConfig::default())
                    .unwrap()
            })
            .collect();
        stack.abort_all();
        let mut net = Sink;
        let mut env = Env {
            pages: &mut pages,
            ciphers: &mut ciphers,
            net: &mut net,
        };
        while stack.connections() > 0 {
            stack.poll(now, &mut env, 64);
        }

        let mut cx = StackContext {
            stack: &mut stack,
            pages: &mut pages,
            ciphers: &mut ciphers,
        };
        let (mut closed, mut counts) = (Vec::new(), Vec::new());
        loop {
            let count = dispatch_notices(&mut cx, |notice, _| {
                if let Notice::Closed(socket, _) = notice {
                    closed.push(socket);
                }
            });
            if count == 0 {
                break;
            }
            counts.push(count);
        }
        assert_eq!(counts, [1024, 1024, 452]);
        assert_eq!(closed, opened);
    }
}
