//! One direction of a path, with its impairments.

use core::time::Duration;
use std::ops::Range;

use lockgate_testing::Random;
use lockgate_wire::Instant;
use lockgate_wire::tcp::TcpHeader;

/// A segment in flight, without payload. `tag` is the range of the sender's stream that it carries.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) tcp: TcpHeader,
    pub(crate) len: u32,
    pub(crate) tag: u64,
    pub(crate) again: bool,
}

impl Packet {
    /// Length on the wire in bytes.
    pub(crate) fn wire_len(&self) -> u64 {
        40 + u64::from(self.len)
    }
}

/// The properties of a direction.
#[derive(Clone, Debug)]
pub(crate) struct LinkConfig {
    pub(crate) delay: Duration,
    /// Random extra delay per packet, at most this: causes reordering.
    pub(crate) jitter: Duration,
    /// Bytes per second; 0: unlimited.
    pub(crate) rate: u64,
    /// Queue limit in bytes.
    pub(crate) queue: u64,
    /// Losses per million packets.
    pub(crate) loss_ppm: u32,
    /// Outages per million packets, and their longest duration.
    pub(crate) burst_ppm: u32,
    pub(crate) burst_max: Duration,
    /// Per million packets: sent twice.
    pub(crate) duplicate_ppm: u32,
    /// Per million packets: delayed by `reorder_by` more.
    pub(crate) reorder_ppm: u32,
    pub(crate) reorder_by: Duration,
    /// Which packets are lost, by number from 0.
    pub(crate) drop: Vec<u64>,
    /// When the path is down.
    pub(crate) dead: Vec<Range<Instant>>,
}

impl LinkConfig {
    pub(crate) fn clean(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            rate: 0,
            queue: u64::MAX,
            loss_ppm: 0,
            burst_ppm: 0,
            burst_max: Duration::ZERO,
            duplicate_ppm: 0,
            reorder_ppm: 0,
            reorder_by: Duration::ZERO,
            drop: Vec::new(),
            dead: Vec::new(),
        }
    }

    /// The longest that a packet can take, without queueing.
    pub(crate) fn delay_max(&self) -> Duration {
        let reorder = if self.reorder_ppm > 0 {
            self.reorder_by
        } else {
            Duration::ZERO
        };
        self.delay + self.jitter + reorder
    }

    /// Whether packets can overtake each other.
    pub(crate) fn reorders(&self) -> bool {
        !self.jitter.is_zero() || self.reorder_ppm > 0
    }
}

/// Counters of a direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkCounts {
    pub(crate) packets: u64,
    pub(crate) dropped: u64,
    pub(crate) dropped_payload: u64,
    pub(crate) dropped_again: u64,
    pub(crate) duplicated: u64,
    /// Payload of packets that were delayed beyond the normal.
    pub(crate) delayed_payload: u64,
}

/// A direction's state.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) config: LinkConfig,
    pub(crate) counts: LinkCounts,
    random: Random,
    burst_until: Instant,
    free_at: Instant,
}

impl Link {
    pub(crate) fn new(config: LinkConfig, seed: u64) -> Self {
        Self {
            config,
            counts: LinkCounts::default(),
            random: Random::new(seed),
            burst_until: Instant::ZERO,
            free_at: Instant::ZERO,
        }
    }

    /// When copies of the packet arrive: none, one or two times.
    pub(crate) fn send(&mut self, now: Instant, packet: &Packet) -> [Option<Instant>; 2] {
        self.counts.packets += 1;
        let c = &self.config;
        let r = &mut self.random;
        if now >= self.burst_until && r.chance(c.burst_ppm.into(), 1_000_000) {
            let longest = nanos(c.burst_max);
            self.burst_until = now + Duration::from_nanos(r.between(1, longest));
        }
        let start = self.free_at.max(now);
        let waiting = nanos(start.saturating_since(now));
        let full = c.rate > 0 && waiting.saturating_mul(c.rate) / 1_000_000_000 > c.queue;
        let chosen = c.drop.contains(&(self.counts.packets - 1));
        let dead = c.dead.iter().any(|d| d.contains(&now));
        if chosen
            || dead
            || full
            || now < self.burst_until
            || r.chance(c.loss_ppm.into(), 1_000_000)
        {
            self.counts.dropped += 1;
            self.counts.dropped_payload += u64::from(packet.len);
            self.counts.dropped_again += u64::from(packet.again);
            return [None, None];
        }
        let on_wire = (packet.wire_len() * 1_000_000_000)
            .checked_div(c.rate)
            .unwrap_or(0);
        self.free_at = start + Duration::from_nanos(on_wire);
        let mut arrive = || {
            let mut at = self.free_at + c.delay;
            let jitter = nanos(c.jitter);
            if jitter > 0 {
                at += Duration::from_nanos(r.below(jitter + 1));
                self.counts.delayed_payload += u64::from(packet.len);
            }
            if r.chance(c.reorder_ppm.into(), 1_000_000) {
                at += c.reorder_by;
                self.counts.delayed_payload += u64::from(packet.len);
            }
            at
        };
        let first = arrive();
        let second = if self
            .random
            .chance(self.config.duplicate_ppm.into(), 1_000_000)
        {
            self.counts.duplicated += 1;
            Some(first + Duration::from_micros(10))
        } else {
            None
        };
        [Some(first), second]
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}
