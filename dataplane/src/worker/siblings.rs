//! The channels between workers.

use crossbeam_channel::{Receiver, Sender};
use lockgate_drivers::WorkerPorts;
use lockgate_stack::{Env, MisdirectedPacket, SiblingFrame, Stack};
use lockgate_wire::Instant;

/// A worker's channels to and from the others. Frames that concern every worker and packets of one
/// worker's connections have channels of their own, so that neither displaces the other. A channel
/// has its memory from the start.
#[derive(Debug)]
pub struct Siblings {
    /// To each of the others.
    frames_to: Vec<Sender<SiblingFrame>>,
    frames: Receiver<SiblingFrame>,
    /// To each worker, by its number.
    packets_to: Vec<Sender<MisdirectedPacket>>,
    packets: Receiver<MisdirectedPacket>,
}

/// The outcome of [`Siblings::exchange`].
pub(super) struct SiblingExchange {
    pub(super) received_any: bool,
    pub(super) dropped: u64,
}

impl Siblings {
    /// No other workers.
    pub fn none() -> Self {
        Self {
            frames_to: Vec::new(),
            frames: crossbeam_channel::never(),
            packets_to: Vec::new(),
            packets: crossbeam_channel::never(),
        }
    }

    /// Connects each of `count` workers to all others. Returns one end for each worker.
    pub fn full_mesh(count: usize) -> Vec<Self> {
        if count < 2 {
            return (0..count).map(|_| Self::none()).collect();
        }
        let (frames_to, frames): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| crossbeam_channel::bounded(CHANNEL_LEN))
            .unzip();
        let (packets_to, packets): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| crossbeam_channel::bounded(CHANNEL_LEN))
            .unzip();
        let others = |me: usize| {
            let all = frames_to.iter().enumerate();
            let others = all.filter(move |(other, _)| *other != me);
            others.map(|(_, sender)| Sender::clone(sender)).collect()
        };
        let each = frames.into_iter().zip(packets).enumerate();
        each.map(|(me, (frames, packets))| Self {
            frames_to: others(me),
            frames,
            packets_to: packets_to.clone(),
            packets,
        })
        .collect()
    }

    /// Exchanges frames and packets with the other workers, a bounded number of each.
    pub(super) fn exchange(
        &self,
        now: Instant,
        stack: &mut Stack,
        env: &mut Env<'_, WorkerPorts>,
    ) -> SiblingExchange {
        let mut done = SiblingExchange {
            received_any: false,
            dropped: 0,
        };
        // A full channel drops what it is given. The sender repeats what matters: ARP, neighbour
        // discovery, a segment.
        while let Some(frame) = stack.poll_sibling_frame() {
            for sibling in &self.frames_to {
                done.dropped += u64::from(sibling.try_send(frame.clone()).is_err());
            }
        }
        while let Some(packet) = stack.poll_misdirected_packet() {
            let sibling = self.packets_to.get(usize::from(packet.recipient()));
            let is_sent = sibling.is_some_and(|sibling| sibling.try_send(packet).is_ok());
            done.dropped += u64::from(!is_sent);
        }
        for frame in self.frames.try_iter().take(RECEIVED_PER_TURN) {
            done.received_any = true;
            stack.on_sibling_frame(now, &frame, env);
        }
        for packet in self.packets.try_iter().take(RECEIVED_PER_TURN) {
            done.received_any = true;
            stack.on_misdirected_packet(now, packet, env);
        }
        done
    }
}

/// Frames, and packets, of other workers that a turn takes.
const RECEIVED_PER_TURN: usize = 64;

/// Frames, and packets, of other workers that may wait for a worker.
const CHANNEL_LEN: usize = 256;
