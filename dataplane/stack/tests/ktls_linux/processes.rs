//! Fixture `tls`, cases of several processes. They take turns here, in a random order: a process
//! whose call would block has no turn until the socket is ready.

use crate::support::file::File;
use crate::support::linux::{End, MSG_DONTWAIT, Pair};
use crate::{Case, tls};
use lockgate_ktls::Errno;
use std::sync::Arc;

const FD: End = End::Fd;
const CFD: End = End::Cfd;

pub(crate) const CASES: &[Case] = &[
    tls(
        "tls.blocking",
        "100 000 bytes each way, calls that block",
        blocking,
    ),
    tls(
        "tls.nonblocking",
        "100 000 bytes, calls that don't: both ends see EAGAIN",
        nonblocking,
    ),
    tls(
        "tls.mutliproc_even",
        "6 readers and 6 writers of a socket, 6 MB: every byte",
        |pair| mutliproc(pair, 6, 6, false),
    ),
    tls(
        "tls.mutliproc_readers",
        "4 readers and 12 writers",
        |pair| mutliproc(pair, 4, 12, false),
    ),
    tls(
        "tls.mutliproc_writers",
        "10 readers and 2 writers",
        |pair| mutliproc(pair, 10, 2, false),
    ),
    tls(
        "tls.mutliproc_sendpage_even",
        "the same with `sendfile`",
        |pair| mutliproc(pair, 6, 6, true),
    ),
    tls("tls.mutliproc_sendpage_readers", "4 and 12", |pair| {
        mutliproc(pair, 4, 12, true);
    }),
    tls("tls.mutliproc_sendpage_writers", "10 and 2", |pair| {
        mutliproc(pair, 10, 2, true);
    }),
];

/// A process with one task.
enum Process {
    Writer {
        end: End,
        left: usize,
        /// The byte that it writes.
        byte: u8,
        file: Option<Arc<File>>,
    },
    Reader {
        end: End,
        left: usize,
        len: usize,
    },
}

impl Process {
    fn writer(end: End, left: usize, byte: u8) -> Self {
        let file = None;
        Self::Writer {
            end,
            left,
            byte,
            file,
        }
    }

    fn reader(end: End, left: usize) -> Self {
        let len = CHUNK;
        Self::Reader { end, left, len }
    }
}

/// What all processes saw.
#[derive(Default)]
struct Tally {
    /// Received bytes by their value.
    bytes: Vec<usize>,
    eagain_send: u32,
    eagain_recv: u32,
}

/// Runs processes until each has done its task.
fn run(pair: &mut Pair, mut processes: Vec<Process>) -> Tally {
    let mut tally = Tally {
        bytes: vec![0; 256],
        ..Tally::default()
    };
    let mut blocked = 0;
    while !processes.is_empty() {
        let count = processes.len() as u64;
        let turn = usize::try_from(pair.random.below(count)).unwrap();
        let (progress, left) = turn_of(pair, &mut processes[turn], &mut tally);
        if left == 0 {
            processes.swap_remove(turn);
        }
        blocked = if progress { 0 } else { blocked + 1 };
        if blocked > processes.len() {
            blocked = 0;
            assert!(pair.advance(), "every process is blocked for ever");
        }
    }
    tally
}

/// One call of a process. Returns whether it did anything, and what is left of its task.
fn turn_of(pair: &mut Pair, process: &mut Process, tally: &mut Tally) -> (bool, usize) {
    match process {
        Process::Writer {
            end,
            left,
            byte,
            file,
        } => {
            let len = CHUNK.min(*left);
            let sent = match file {
                Some(file) => pair
                    .sendfile(*end, file, 0..len as u64, MSG_DONTWAIT)
                    .map(|()| len),
                None => pair.send(*end, &vec![*byte; len], MSG_DONTWAIT),
            };
            match sent {
                Ok(sent) => *left -= sent,
                Err(errno) => {
                    assert_eq!(errno, Errno::Eagain);
                    tally.eagain_send += 1;
                }
            }
            (sent.is_ok(), *left)
        }
        Process::Reader { end, left, len } => {
            let got = pair.recv(*end, (*len).min(*left), MSG_DONTWAIT);
            match &got {
                Ok(bytes) => {
                    assert!(!bytes.is_empty(), "the stream has ended");
                    *left -= bytes.len();
                    for byte in bytes {
                        tally.bytes[usize::from(*byte)] += 1;
                    }
                }
                Err(errno) => {
                    assert_eq!(*errno, Errno::Eagain);
                    tally.eagain_recv += 1;
                }
            }
            (got.is_ok(), *left)
        }
    }
}

fn blocking(pair: &mut Pair) {
    let processes = [(FD, 1), (CFD, 2)].into_iter().flat_map(|(end, byte)| {
        [
            Process::writer(end, 100_000, byte),
            Process::reader(end.other(), 100_000),
        ]
    });
    let tally = run(pair, processes.collect());
    assert_eq!(tally.bytes[1..=2], [100_000, 100_000]);
}

fn nonblocking(pair: &mut Pair) {
    let processes = [
        Process::writer(FD, 400_000, 1),
        Process::reader(CFD, 400_000),
    ];
    let tally = run(pair, processes.into());
    assert_eq!(tally.bytes[1], 400_000);
    assert!(tally.eagain_send > 0 && tally.eagain_recv > 0);
}

fn mutliproc(pair: &mut Pair, readers: usize, writers: usize, by_reference: bool) {
    // A link with faults has its share of it.
    let total = if pair.has_faults() { TOTAL / 20 } else { TOTAL };
    let (per_reader, per_writer) = (total / readers, total / writers);
    let mut processes = Vec::new();
    for n in 0..writers {
        let byte = u8::try_from(n + 1).unwrap();
        processes.push(Process::Writer {
            end: FD,
            left: per_writer,
            byte,
            file: by_reference.then(|| File::new(&vec![byte; CHUNK])),
        });
    }
    for n in 0..readers {
        processes.push(Process::Reader {
            end: CFD,
            left: per_reader,
            len: CHUNK - 100 * n,
        });
    }
    let tally = run(pair, processes);
    for n in 1..=writers {
        assert_eq!(tally.bytes[n], per_writer, "of writer {n}");
    }
}

/// Bytes of a call.
const CHUNK: usize = 16_384;
/// 6 MB. It and a twentieth of it are multiples of every number of processes.
const TOTAL: usize = 6_000_000;
