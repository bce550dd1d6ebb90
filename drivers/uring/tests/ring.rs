//! A ring on files and pipes of the kernel.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread;

use lockgate_testing::{Random, ScratchDir, skip};
use lockgate_uring::{Completion, Limits, Read, Refused, Ring};
use pktbuf::{PageArena, Region};

const PAGE: usize = 4096;

fn arena() -> PageArena {
    PageArena::new(&mut Region::heap(1 << 20).unwrap(), 1 << 20).unwrap()
}

fn limits(reads: u16) -> Limits {
    Limits {
        reads,
        ..Limits::default()
    }
}

/// None where the kernel refuses a ring.
fn ring(reads: u16) -> Option<Ring<OwnedFd>> {
    match Ring::new(limits(reads)) {
        Ok(ring) => Some(ring),
        Err(refused) => {
            skip("a ring", refused);
            None
        }
    }
}

fn read(arena: &PageArena, file: impl Into<OwnedFd>, offset: u64) -> Read<OwnedFd> {
    Read {
        file: file.into(),
        page: arena.alloc_unfilled(PAGE).unwrap(),
        offset,
        len: PAGE,
    }
}

fn next(ring: &mut Ring<OwnedFd>) -> Completion<OwnedFd> {
    loop {
        match ring.next() {
            Some(done) => return done,
            None => ring.wait().unwrap(),
        }
    }
}

#[test]
fn each_read_has_its_own_bytes() {
    let Some(mut ring) = ring(32) else { return };
    let (scratch, arena) = (ScratchDir::new(), arena());
    let content = Random::new(1).bytes(32 * PAGE);
    let path = scratch.write("file", &content);
    for round in 0..4 {
        for at in 0..32 {
            let file = File::open(&path).unwrap();
            ring.push(read(&arena, file, (at * PAGE) as u64)).unwrap();
        }
        let refused = ring.push(read(&arena, File::open(&path).unwrap(), 7));
        assert_eq!(refused.unwrap_err().offset, 7, "as many as may be");
        ring.submit().unwrap();
        let mut seen = [false; 32];
        for _ in 0..32 {
            let Completion { read, result } = next(&mut ring);
            let at = usize::try_from(read.offset).unwrap() / PAGE;
            assert_eq!(result.unwrap(), PAGE);
            assert_eq!(read.page.filled(), &content[at * PAGE..][..PAGE]);
            assert!(!std::mem::replace(&mut seen[at], true), "{round}: {at}");
        }
        assert_eq!((ring.in_flight(), arena.usage().bytes_used), (0, 0));
    }
}

#[test]
fn reads_at_the_end_are_short_and_errors_are_reported() {
    let Some(mut ring) = ring(4) else { return };
    let (scratch, arena) = (ScratchDir::new(), arena());
    let path = scratch.write("file", b"0123456789");
    let open = || File::open(&path).unwrap();
    ring.push(read(&arena, open(), 4)).unwrap();
    let done = next(&mut ring);
    assert_eq!(
        (done.result.unwrap(), done.read.page.filled()),
        (6, &b"456789"[..])
    );
    // Reading continues behind what the page has.
    let again = Read {
        offset: 0,
        len: 3,
        ..done.read
    };
    ring.push(again).unwrap();
    let done = next(&mut ring);
    assert_eq!(
        (done.result.unwrap(), done.read.page.filled()),
        (3, &b"456789012"[..])
    );
    ring.push(read(&arena, open(), 10)).unwrap();
    let done = next(&mut ring);
    assert_eq!(
        (done.result.unwrap(), done.read.page.filled()),
        (0, &b""[..])
    );
    let write_only = OpenOptions::new().write(true).open(&path).unwrap();
    ring.push(read(&arena, write_only, 0)).unwrap();
    let done = next(&mut ring);
    let code = done.result.unwrap_err().raw_os_error();
    assert_eq!(
        (code, done.read.page.filled()),
        (Some(libc::EBADF), &b""[..])
    );
    // More than the page has room for.
    let long = Read {
        len: usize::MAX,
        ..read(&arena, open(), 0)
    };
    ring.push(long).unwrap();
    assert_eq!(next(&mut ring).result.unwrap(), 10);
}

/// What was just written is in the page cache, and what isn't there is left to the ring.
#[test]
fn what_the_kernel_has_in_memory_is_read_at_once() {
    let (scratch, arena) = (ScratchDir::new(), arena());
    let path = scratch.write("file", b"0123456789");
    let mut first = read(&arena, File::open(&path).unwrap(), 2);
    first.len = 3;
    let count = first.try_now();
    // A file system may be unable to tell.
    if count > 0 {
        assert_eq!((count, first.page.filled()), (3, &b"234"[..]));
        assert_eq!((first.offset, first.len), (5, 0));
        first.len = PAGE;
        assert_eq!(
            (first.try_now(), first.page.filled()),
            (5, &b"23456789"[..])
        );
        assert_eq!(first.try_now(), 0, "the end");
    }
    let (hung, _writer) = io::pipe().unwrap();
    let mut nothing = read(&arena, hung, 0);
    assert_eq!((nothing.try_now(), nothing.page.filled().len()), (0, 0));
    let write_only = OpenOptions::new().write(true).open(&path).unwrap();
    assert_eq!(read(&arena, write_only, 0).try_now(), 0);
}

/// A pipe without a byte in it is a file whose read hangs.
#[test]
fn a_read_that_hangs_delays_no_other_and_the_thread_can_be_woken() {
    let Some(mut ring) = ring(8) else { return };
    let (scratch, arena) = (ScratchDir::new(), arena());
    let (hung, mut writer) = io::pipe().unwrap();
    ring.push(read(&arena, hung, 0)).unwrap();
    ring.submit().unwrap();
    assert!(ring.next().is_none());
    let path = scratch.write("file", b"fine");
    for _ in 0..20 {
        ring.push(read(&arena, File::open(&path).unwrap(), 0))
            .unwrap();
        let done = next(&mut ring);
        assert_eq!((done.result.unwrap(), ring.in_flight()), (4, 1));
    }
    let waker = ring.waker().clone();
    let (send, woken) = mpsc::channel();
    let thread = thread::spawn(move || {
        for () in woken {
            waker.wake();
        }
    });
    for _ in 0..20 {
        send.send(()).unwrap();
        ring.wait().unwrap();
        assert!(ring.next().is_none(), "it was woken");
    }
    drop(send);
    thread.join().unwrap();
    ring.waker().wake();
    ring.wait().unwrap();
    assert!(ring.next().is_none(), "it was woken before");
    writer.write_all(b"late").unwrap();
    let done = next(&mut ring);
    assert_eq!(
        (done.result.unwrap(), done.read.page.filled()),
        (4, &b"late"[..])
    );
}

#[test]
fn cancelled_reads_end_and_their_pages_come_back() {
    let Some(mut ring) = ring(8) else { return };
    let arena = arena();
    let pipes: Vec<_> = (0..8).map(|_| io::pipe().unwrap()).collect();
    let mut writers = Vec::new();
    for (reader, writer) in pipes {
        ring.push(read(&arena, reader, 0)).unwrap();
        writers.push(writer);
    }
    ring.submit().unwrap();
    assert_eq!(arena.usage().bytes_used, 8 * PAGE);
    ring.cancel();
    for _ in 0..8 {
        let done = next(&mut ring);
        let code = done.result.unwrap_err().raw_os_error();
        assert_eq!(code, Some(libc::ECANCELED));
        assert!(done.read.page.filled().is_empty());
    }
    assert_eq!((ring.in_flight(), arena.usage().bytes_used), (0, 0));
}

/// At the end of the thread, too: no page is free while the kernel could write to it, and none is
/// lost.
#[test]
fn dropping_a_ring_takes_its_reads_back() {
    let arena = arena();
    let inner = arena.clone();
    let thread = thread::spawn(move || {
        let mut ring = ring(8)?;
        let mut writers = Vec::new();
        for _ in 0..8 {
            let (reader, writer) = io::pipe().unwrap();
            ring.push(read(&inner, reader, 0)).unwrap();
            writers.push(writer);
        }
        ring.submit().unwrap();
        // One has ended, and wasn't taken; one wasn't submitted.
        writers[0].write_all(b"x").unwrap();
        assert_eq!(inner.usage().bytes_used, 8 * PAGE);
        while ring.in_flight() == 8 {
            ring.submit().unwrap();
            ring.waker().wake();
            ring.wait().unwrap();
        }
        let (reader, writer) = io::pipe().unwrap();
        ring.push(read(&inner, reader, 0)).unwrap();
        writers.push(writer);
        Some(writers)
    });
    let Some(mut writers) = thread.join().unwrap() else {
        return;
    };
    assert_eq!(arena.usage().bytes_used, 0);
    // The files were closed: nothing reads what is written now.
    for writer in &mut writers {
        let error = writer.write_all(b"late").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}

/// What a container's seccomp filter does. It is installed for one thread.
#[test]
fn a_kernel_that_refuses_rings_is_named() {
    for (code, text) in [
        (libc::EPERM, "permitted"),
        (libc::ENOSYS, "not implemented"),
    ] {
        let thread = thread::spawn(move || {
            deny_io_uring(code);
            Ring::<OwnedFd>::new(limits(1)).map(|_| ())
        });
        let refused = thread.join().unwrap().unwrap_err();
        let is_setup = matches!(&refused, Refused::Call { call: "io_uring_setup", error }
            if error.raw_os_error() == Some(code));
        assert!(is_setup, "{refused:?}");
        assert!(refused.to_string().contains(text), "{refused}");
    }
}

/// Has `io_uring_setup` fail with `code` in this thread.
fn deny_io_uring(code: i32) {
    let statement = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt,
        jf,
        k,
    };
    let call = u32::try_from(libc::SYS_io_uring_setup).unwrap();
    let errno = libc::SECCOMP_RET_ERRNO | u32::try_from(code).unwrap();
    let mut filter = [
        // The number of the call is the first word of seccomp_data.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, errno),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap(),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the arguments are numbers.
    let set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(set, 0);
    // SAFETY: the filter lives until the call returns; the kernel copies it.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}
