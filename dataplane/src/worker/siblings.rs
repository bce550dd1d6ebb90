//! The channels between workers.

use crossbeam_channel::{Receiver, Sender};
use lockgate_drivers::WorkerPorts;
use lockgate_stack::{Env, MisdirectedPacket, SiblingFrame, SiblingResolution, Stack};
use lockgate_wire::Instant;

/// A worker's channels to and from the others. Frames that concern every worker, reports about the
/// resolution of neighbours, and packets of one worker's connections have channels of their own, so
/// that none displaces another. A channel has its memory from the start.
#[derive(Debug)]
pub struct Siblings {
    frames: Channels<SiblingFrame>,
    packets: Channels<MisdirectedPacket>,
    resolutions: Channels<SiblingResolution>,
}

/// A worker's bounded channels of one kind: one to each worker, and the receiving end of its own.
#[derive(Debug)]
struct Channels<T> {
    own: usize,
    to: Vec<Sender<T>>,
    received: Receiver<T>,
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
            frames: Channels::none(),
            packets: Channels::none(),
            resolutions: Channels::none(),
        }
    }

    /// Connects each of `count` workers to all others. Returns one end for each worker.
    pub fn full_mesh(count: usize) -> Vec<Self> {
        let ends = Channels::full_mesh(count).into_iter();
        ends.zip(Channels::full_mesh(count))
            .zip(Channels::full_mesh(count))
            .map(|((frames, packets), resolutions)| Self {
                frames,
                packets,
                resolutions,
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
            done.dropped += self.frames.broadcast(&frame);
        }
        while let Some(resolution) = stack.poll_sibling_resolution() {
            done.dropped += self.resolutions.broadcast(&resolution);
        }
        // While a channel is full, the stack keeps packets, and drops those of the peer that has
        // the most. In the channel all peers' packets are alike.
        let has_room = |to: u16| self.packets.has_room(usize::from(to));
        while let Some(packet) = stack.poll_misdirected_packet(has_room) {
            let to = usize::from(packet.recipient());
            done.dropped += u64::from(!self.packets.send(to, packet));
        }
        // Before the frames: they may hold answers to solicitations.
        for resolution in self.resolutions.receive() {
            done.received_any = true;
            stack.on_sibling_resolution(now, &resolution, env);
        }
        for frame in self.frames.receive() {
            done.received_any = true;
            stack.on_sibling_frame(now, &frame, env);
        }
        for packet in self.packets.receive() {
            done.received_any = true;
            stack.on_misdirected_packet(now, packet, env);
        }
        done
    }
}

impl<T> Channels<T> {
    fn none() -> Self {
        Self {
            own: 0,
            to: Vec::new(),
            received: crossbeam_channel::never(),
        }
    }

    fn full_mesh(count: usize) -> Vec<Self> {
        if count < 2 {
            return (0..count).map(|_| Self::none()).collect();
        }
        let channel = |_| crossbeam_channel::bounded(CHANNEL_LEN);
        let (to, received): (Vec<_>, Vec<_>) = (0..count).map(channel).unzip();
        let ends = received.into_iter().enumerate();
        ends.map(|(own, received)| Self {
            own,
            to: to.clone(),
            received,
        })
        .collect()
    }

    /// Sends to another worker. Returns false if its channel is full, or if there is no such
    /// worker: the item is dropped.
    fn send(&self, to: usize, item: T) -> bool {
        let sender = self.to.get(to).filter(|_| to != self.own);
        sender.is_some_and(|sender| sender.try_send(item).is_ok())
    }

    /// Whether another worker's channel isn't full. If there is no such worker, sending drops.
    fn has_room(&self, to: usize) -> bool {
        self.to.get(to).is_none_or(|sender| !sender.is_full())
    }

    /// Sends to all others. Returns how many channels were full.
    fn broadcast(&self, item: &T) -> u64
    where
        T: Clone,
    {
        let others = (0..self.to.len()).filter(|to| *to != self.own);
        others
            .map(|to| u64::from(!self.send(to, item.clone())))
            .sum()
    }

    /// Takes what other workers have sent: what a turn takes of it.
    fn receive(&self) -> impl Iterator<Item = T> {
        self.received.try_iter().take(RECEIVED_PER_TURN)
    }
}

/// Frames, and packets, of other workers that a turn takes.
const RECEIVED_PER_TURN: usize = 64;

/// Frames, and packets, of other workers that may wait for a worker.
const CHANNEL_LEN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_reaches_every_other_one_and_not_itself() {
        let ends = Channels::full_mesh(3);
        for (from, end) in (0..).zip(&ends) {
            assert_eq!(end.broadcast(&(from, 9)), 0);
            for to in 0..4 {
                assert_eq!(end.send(to, (from, to)), to < 3 && to != from);
            }
        }
        for (own, end) in (0..).zip(&ends) {
            let others: Vec<usize> = (0..3).filter(|other| *other != own).collect();
            let expected: Vec<_> = others
                .iter()
                .flat_map(|from| [(*from, 9), (*from, own)])
                .collect();
            assert_eq!(end.receive().collect::<Vec<_>>(), expected);
        }
        let alone = Channels::full_mesh(1);
        assert_eq!((alone[0].broadcast(&7), alone[0].send(0, 7)), (0, false));
    }

    /// A worker that takes nothing for a while costs the others what they give to it, and a turn of
    /// that worker takes a bounded number. Its channel doesn't fill that of the third worker.
    #[test]
    fn a_full_channel_drops_and_is_emptied_in_parts() {
        let ends = Channels::full_mesh(3);
        let dropped: u64 = (0..300).map(|item| ends[0].broadcast(&item)).sum();
        assert_eq!(dropped, 2 * (300 - CHANNEL_LEN as u64));
        assert!(!ends[2].send(1, 999));
        let first: Vec<u32> = ends[1].receive().collect();
        assert!(first.into_iter().eq(0..64));
        assert!(ends[2].send(1, 999));
        let rest: Vec<u32> = (0..3).flat_map(|_| ends[1].receive()).collect();
        assert!(rest.into_iter().eq(64..256));
        assert_eq!(ends[1].receive().collect::<Vec<_>>(), [999]);
        assert_eq!(ends[2].receive().count(), RECEIVED_PER_TURN);
    }

    /// Each kind has a channel of its own.
    #[test]
    fn frames_dont_displace_packets() {
        let (frames, packets) = (Channels::full_mesh(2), Channels::full_mesh(2));
        while frames[0].send(1, 0) {}
        assert!(packets[0].send(1, 'p'), "it isn't the frames' channel");
        let ends = Siblings::full_mesh(2);
        assert_eq!(ends.len(), 2);
        assert!(ends[0].frames.to[1].is_empty() && ends[0].packets.to[1].is_empty());
        assert!(ends[0].resolutions.to[1].is_empty());
        assert_eq!(ends[0].frames.to[1].capacity(), Some(CHANNEL_LEN));
        assert_eq!(ends[0].packets.to[1].capacity(), Some(CHANNEL_LEN));
    }
}
