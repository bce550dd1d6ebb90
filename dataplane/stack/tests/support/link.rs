//! A wire with faults, all of them drawn from one seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use lockgate_testing::Random;
use lockgate_wire::Instant;

/// What a link does to frames.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) delay: Duration,
    /// Added to the delay of each frame at random: frames overtake each other.
    pub(crate) jitter: Duration,
    pub(crate) loss_per_mille: u64,
    pub(crate) duplicate_per_mille: u64,
    pub(crate) corrupt_per_mille: u64,
    /// Bytes a second; 0 is no limit. Frames that would wait longer than 250 ms are dropped.
    pub(crate) rate: u64,
    /// Nothing passes from this moment on.
    pub(crate) dead_from: Option<Instant>,
}

/// What became of frames.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) frames: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) corrupted: u64,
    pub(crate) queue_drops: u64,
}

/// When it arrives, its number (so that equals keep their order), for whom, and the frame.
type InFlight = (Instant, u64, usize, Vec<u8>);
type Filter = Box<dyn FnMut(usize, &mut Vec<u8>) -> bool>;

/// Both directions of a wire.
pub(crate) struct Link {
    pub(crate) faults: Faults,
    pub(crate) tally: Tally,
    pub(crate) random: Random,
    queue: BinaryHeap<Reverse<InFlight>>,
    sent: u64,
    /// When each direction is free again.
    free_at: [Instant; 2],
    /// Called with each frame and its direction before anything else; true drops it.
    pub(crate) filter: Option<Filter>,
}

impl Link {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            faults,
            tally: Tally::default(),
            random: Random::new(seed),
            queue: BinaryHeap::new(),
            sent: 0,
            free_at: [Instant::ZERO; 2],
            filter: None,
        }
    }

    pub(crate) fn perfect() -> Self {
        Self::new(
            1,
            Faults {
                delay: Duration::from_micros(50),
                ..Faults::default()
            },
        )
    }

    /// A frame from host `from`.
    pub(crate) fn put(&mut self, now: Instant, from: usize, mut frame: Vec<u8>) {
        self.tally.frames += 1;
        if self.faults.dead_from.is_some_and(|at| now >= at) {
            return;
        }
        if self
            .filter
            .as_mut()
            .is_some_and(|filter| filter(from, &mut frame))
        {
            self.tally.lost += 1;
            return;
        }
        if self.random.chance(self.faults.loss_per_mille, 1000) {
            self.tally.lost += 1;
            return;
        }
        let mut start = now;
        if let Some(time) = (frame.len() as u64 * 1_000_000_000).checked_div(self.faults.rate) {
            start = now.max(self.free_at[from]);
            if start.saturating_since(now) > QUEUE_TIME_MAX {
                self.tally.queue_drops += 1;
                return;
            }
            start += Duration::from_nanos(time);
            self.free_at[from] = start;
        }
        if self.random.chance(self.faults.corrupt_per_mille, 1000)
            && corrupt(&mut frame, &mut self.random)
        {
            self.tally.corrupted += 1;
        }
        if self.random.chance(self.faults.duplicate_per_mille, 1000) {
            self.tally.duplicated += 1;
            self.deliver(start, from, frame.clone());
        }
        self.deliver(start, from, frame);
    }

    fn deliver(&mut self, start: Instant, from: usize, frame: Vec<u8>) {
        let jitter = u64::try_from(self.faults.jitter.as_nanos()).unwrap();
        let at = start + self.faults.delay + Duration::from_nanos(self.random.below(jitter + 1));
        self.sent += 1;
        self.queue.push(Reverse((at, self.sent, 1 - from, frame)));
    }

    /// When the next frame arrives.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse(item)| item.0)
    }

    /// A frame that has arrived, and for which host.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(usize, Vec<u8>)> {
        if self.next()? > now {
            return None;
        }
        self.queue
            .pop()
            .map(|Reverse((_, _, to, frame))| (to, frame))
    }
}

/// The payload of a TCP segment in an IPv4 frame; nothing of any other frame.
pub(crate) fn payload(frame: &[u8]) -> &[u8] {
    if frame[12..14] != [8, 0] || frame[23] != 6 {
        return &[];
    }
    let total = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    &frame[34 + usize::from(frame[46] >> 4) * 4..total]
}

/// Sets a word of the TCP header in an IPv4 frame, and mends the checksum (RFC 1624).
pub(crate) fn set_word(frame: &mut [u8], at: usize, word: u16) {
    assert!(at.is_multiple_of(2), "a word of the sum");
    let old = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    // HC' = ~(~HC + ~m + m').
    let sum = u32::from(!old(CHECKSUM_AT)) + u32::from(!old(at)) + u32::from(word);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    frame[at..at + 2].copy_from_slice(&word.to_be_bytes());
    frame[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The acknowledgment that a TCP segment in an IPv4 frame is, without its payload, which counts as
/// sent.
pub(crate) fn pure_ack(frame: &[u8]) -> Vec<u8> {
    let sent = u32::try_from(payload(frame).len()).unwrap();
    let tcp_len = usize::from(frame[46] >> 4) * 4;
    let mut ack = frame[..34 + tcp_len].to_vec();
    ack[16..18].copy_from_slice(&u16::try_from(20 + tcp_len).unwrap().to_be_bytes());
    ack[47] = 0x10;
    let seq = u32::from_be_bytes([ack[38], ack[39], ack[40], ack[41]]).wrapping_add(sent);
    ack[38..42].copy_from_slice(&seq.to_be_bytes());
    for (at, words) in [(24, 14..34), (CHECKSUM_AT, 34..ack.len())] {
        ack[at..at + 2].fill(0);
        let mut sum: u32 = ack[words]
            .chunks(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        if at == CHECKSUM_AT {
            let pseudo = ack[26..34].chunks(2);
            sum += pseudo
                .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
                .sum::<u32>();
            sum += 6 + u32::try_from(tcp_len).unwrap();
        }
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        ack[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    ack
}

/// Replaces the segment size that a SYN offers.
pub(crate) fn set_mss(frame: &mut [u8], mss: u16) {
    let option = (54..frame.len()).find(|at| frame[*at..].starts_with(&[2, 4]));
    set_word(frame, option.unwrap() + 2, mss);
}

/// The ports of a TCP segment: source, destination.
pub(crate) fn tcp_ports(frame: &[u8]) -> Option<(u16, u16)> {
    let is_tcp = frame[12..14] == [8, 0] && frame[23] == 6;
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    is_tcp.then(|| (port(34), port(36)))
}

/// Flips bits within one run of at most 15, somewhere behind the Ethernet header of an IP packet.
/// A 16-bit sum in one's complement finds every such error; it can't find all others (two flips of
/// opposite direction in the same column), which only the AEAD does: that has a test of its own.
fn corrupt(frame: &mut [u8], random: &mut Random) -> bool {
    let is_ip = matches!(frame.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd]));
    let bits = frame.len().saturating_sub(14) as u64 * 8;
    if !is_ip || bits < 16 {
        return false;
    }
    let run = random.between(1, 15);
    let first = 14 * 8 + random.below(bits - run);
    let mut pattern = random.next() | 1;
    for bit in first..first + run {
        if pattern & 1 == 1 {
            frame[usize::try_from(bit / 8).unwrap()] ^= 0x80 >> (bit % 8);
        }
        pattern >>= 1;
    }
    true
}

const CHECKSUM_AT: usize = 50;
const QUEUE_TIME_MAX: Duration = Duration::from_millis(250);
