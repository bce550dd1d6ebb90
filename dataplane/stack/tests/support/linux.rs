//! Linux's socket calls over those of the stack: what `recv`, `send`, `splice` and `poll` do on a
//! socket with `TCP_ULP` "tls" (`tls.rst`, `tls_sw.c`).
//!
//! Calls that would block run the two hosts until they can return, and panic if that never happens.
//! A socket counts as drained from a read that found nothing to the next Readable notice, so that a
//! notice that is missing shows as a call that hangs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use lockgate_ktls::{ContentType, Counter, Errno, KeyInfo};
use lockgate_stack::{CloseReason, FileSource, Notice, RecvRecord, SocketError, SocketId};
use lockgate_testing::Random;
use lockgate_wire::Instant;

use super::network::Network;
use super::records::{DATA, TestKeys, TestSuite};
use super::{Host, HostSpec, World};

/// Flags of calls.
pub(crate) type Flags = u8;
pub(crate) const MSG_PEEK: Flags = 1;
pub(crate) const MSG_DONTWAIT: Flags = 2;
pub(crate) const MSG_WAITALL: Flags = 4;
pub(crate) const MSG_MORE: Flags = 8;
pub(crate) const MSG_EOR: Flags = 16;

/// An end of the pair: the first opened the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Fd,
    Cfd,
}

impl End {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Fd => Self::Cfd,
            Self::Cfd => Self::Fd,
        }
    }
}

/// What a connection is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) suite: TestSuite,
    pub(crate) no_pad: bool,
    /// KTLS workers with queues of so many records, or none.
    pub(crate) away: Option<usize>,
    pub(crate) network: Network,
}

impl Setup {
    pub(crate) fn of(suite: TestSuite) -> Self {
        Self {
            suite,
            no_pad: false,
            away: None,
            network: Network::PERFECT,
        }
    }

    fn host(&self, number: u8) -> HostSpec {
        HostSpec {
            away: self.away,
            ..self.network.host(number)
        }
    }
}

/// One socket, with what a kernel would keep of it beside the stack's own state.
struct Side {
    id: SocketId,
    /// Records that a peek over several of them has taken from the stack.
    taken: VecDeque<(u8, Vec<u8>)>,
    /// An error behind those, which the next read returns.
    error: Option<Errno>,
    /// The last read found nothing, and there was no Readable notice since.
    drained: bool,
    /// It found a key that has expired.
    expired: bool,
    writable: bool,
    /// Keys were set: records are read instead of bytes.
    has_rx_keys: bool,
    /// SO_RCVLOWAT.
    low_water: usize,
    /// SO_RCVTIMEO.
    timeout: Duration,
    closed: Option<CloseReason>,
    readable_notices: u32,
}

impl Side {
    fn new(id: SocketId) -> Self {
        Self {
            id,
            taken: VecDeque::new(),
            error: None,
            drained: true,
            expired: false,
            writable: true,
            has_rx_keys: false,
            low_water: 1,
            timeout: PATIENCE,
            closed: None,
            readable_notices: 0,
        }
    }
}

/// What is at the front of a socket's received stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Front {
    Record(u8),
    Nothing,
    End,
    Error(Errno),
}

/// Two connected sockets.
pub(crate) struct Pair {
    pub(crate) world: World,
    sides: [Side; 2],
    pub(crate) random: Random,
    /// Keys in which each end sends.
    pub(crate) keys: [TestKeys; 2],
    /// What another process will send, and when.
    later: Option<(Instant, End, Vec<u8>)>,
    /// Long enough for everything to arrive.
    brief: Duration,
}

impl Pair {
    /// Without keys.
    pub(crate) fn plain(setup: Setup) -> Self {
        let mut world = World::new(setup.host(1), setup.host(2), setup.network.link());
        world.listen(443, None);
        let fd = world.connect(None);
        let cfd = world.expect(1, "Accepted", |n| match n {
            Notice::Accepted { socket, .. } => Some(*socket),
            _ => None,
        });
        let mut random = Random::new(7);
        let keys = [(); 2].map(|()| TestKeys::new(setup.suite, &mut random));
        Self {
            world,
            sides: [Side::new(fd), Side::new(cfd)],
            random,
            keys,
            later: None,
            brief: setup.network.brief(),
        }
    }

    /// With keys for both directions.
    pub(crate) fn new(setup: Setup) -> Self {
        let mut pair = Self::plain(setup);
        for end in [End::Fd, End::Cfd] {
            let keys = pair.keys[end as usize].clone();
            pair.set_tx(end, &keys).unwrap();
            pair.set_rx(end.other(), &keys).unwrap();
            if setup.no_pad {
                let (host, id) = pair.host(end.other());
                host.stack.set_rx_expect_no_pad(id, true).unwrap();
            }
        }
        pair
    }

    /// With receiving keys at [`End::Cfd`] alone: the test makes what [`End::Fd`] sends.
    pub(crate) fn raw(setup: Setup) -> Self {
        let mut pair = Self::plain(setup);
        let keys = pair.keys[End::Fd as usize].clone();
        pair.set_rx(End::Cfd, &keys).unwrap();
        pair
    }

    pub(crate) fn host(&mut self, end: End) -> (&mut Host, SocketId) {
        let id = self.sides[end as usize].id;
        match end {
            End::Fd => (&mut self.world.a, id),
            End::Cfd => (&mut self.world.b, id),
        }
    }

    fn side(&mut self, end: End) -> &mut Side {
        &mut self.sides[end as usize]
    }

    /// Random bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        self.random.bytes(len)
    }

    pub(crate) fn set_tx(&mut self, end: End, keys: &TestKeys) -> Result<(), Errno> {
        let (host, id) = self.host(end);
        let set = host.stack.set_txtls(id, &keys.enable(), &mut host.ciphers);
        set.map_err(SocketError::errno)
    }

    pub(crate) fn set_rx(&mut self, end: End, keys: &TestKeys) -> Result<(), Errno> {
        let (host, id) = self.host(end);
        let set = host.stack.set_rxtls(id, &keys.enable(), &mut host.ciphers);
        set.map_err(SocketError::errno)?;
        let side = self.side(end);
        side.has_rx_keys = true;
        side.expired = false;
        Ok(())
    }

    /// getsockopt of `TLS_TX`.
    pub(crate) fn tx_info(&mut self, end: End) -> Result<KeyInfo, Errno> {
        let (host, id) = self.host(end);
        host.stack.txtls_info(id).map_err(SocketError::errno)
    }

    /// getsockopt of `TLS_RX`.
    pub(crate) fn rx_info(&mut self, end: End) -> Result<KeyInfo, Errno> {
        let (host, id) = self.host(end);
        host.stack.rxtls_info(id).map_err(SocketError::errno)
    }

    /// SO_RCVLOWAT.
    pub(crate) fn set_low_water(&mut self, end: End, bytes: usize) {
        self.side(end).low_water = bytes;
    }

    /// SO_RCVTIMEO.
    pub(crate) fn set_timeout(&mut self, end: End, timeout: Duration) {
        self.side(end).timeout = timeout;
    }

    pub(crate) fn closed(&mut self, end: End) -> Option<CloseReason> {
        self.run(Duration::from_millis(1));
        self.side(end).closed
    }

    /// Makes new keys for what an end sends. They aren't set.
    pub(crate) fn new_keys(&mut self, end: End) {
        let suite = self.keys[end as usize].suite;
        self.keys[end as usize] = TestKeys::new(suite, &mut self.random);
    }

    /// Closes both sockets. Everything that they had must be free then.
    pub(crate) fn end(&mut self) {
        for side in &mut self.sides {
            side.taken.clear();
        }
        for end in [End::Fd, End::Cfd] {
            self.close(end);
        }
        self.run(Duration::from_secs(300));
        for host in [&mut self.world.a, &mut self.world.b] {
            assert_eq!(host.ciphers.counters.value(Counter::Active), 0);
            assert_eq!(host.stack.connections(), 0);
            host.assert_full();
        }
    }

    // ---- what the test makes itself, where `End::Fd` has no keys

    /// The next record of [`End::Fd`].
    pub(crate) fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        self.seal_padded(kind, content, 0)
    }

    pub(crate) fn seal_padded(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        self.keys[End::Fd as usize].seal_padded(kind, content, padding)
    }

    /// Sends raw bytes, and lets them arrive.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.send(End::Fd, bytes, 0).unwrap();
        self.run_briefly();
    }

    /// Sends raw bytes while another call waits.
    pub(crate) fn feed_later(&mut self, bytes: &[u8]) {
        self.send_later(End::Fd, bytes);
    }

    /// The raw bytes that [`End::Fd`] has received since the last call.
    pub(crate) fn wire(&mut self) -> Vec<u8> {
        self.run_briefly();
        let (host, id) = self.host(End::Fd);
        host.drain(id).0
    }

    // ---- time

    /// Lets time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        self.world.run(time);
        self.take_notices();
    }

    /// Long enough for everything to arrive.
    pub(crate) fn run_briefly(&mut self) {
        self.run(self.brief);
    }

    /// Long enough for every timer that sends.
    pub(crate) fn run_long(&mut self) {
        self.run(Duration::from_secs(30));
    }

    /// Another process sends this while a call of this one waits.
    pub(crate) fn send_later(&mut self, end: End, bytes: &[u8]) {
        let at = self.world.now + Duration::from_millis(500);
        self.later = Some((at, end, bytes.to_vec()));
        self.world.wake = Some(at);
    }

    fn run_other_process(&mut self) {
        if self
            .later
            .as_ref()
            .is_some_and(|(at, ..)| *at <= self.world.now)
            && let Some((_, end, bytes)) = self.later.take()
        {
            self.world.wake = None;
            assert_eq!(self.send(end, &bytes, MSG_DONTWAIT), Ok(bytes.len()));
        }
    }

    /// Whether the link loses, reorders or duplicates frames.
    pub(crate) fn has_faults(&self) -> bool {
        let faults = &self.world.link.faults;
        faults.loss_per_mille + faults.duplicate_per_mille > 0 || !faults.jitter.is_zero()
    }

    /// Advances to the next event. Returns whether there was one.
    pub(crate) fn advance(&mut self) -> bool {
        let until = self.world.now + PATIENCE;
        let any = self.world.step(until);
        self.take_notices();
        any
    }

    /// How many Readable notices there were since the connection began.
    pub(crate) fn readable_notices(&mut self, end: End) -> u32 {
        self.side(end).readable_notices
    }

    fn take_notices(&mut self) {
        let lists = [&mut self.world.notices_a, &mut self.world.notices_b];
        for (list, side) in lists.into_iter().zip(&mut self.sides) {
            for notice in list.drain(..) {
                match notice {
                    Notice::Readable(id) if id == side.id => {
                        side.drained = false;
                        side.readable_notices += 1;
                    }
                    Notice::Writable(id) if id == side.id => side.writable = true,
                    Notice::Closed(id, reason) if id == side.id => {
                        side.closed = Some(reason);
                        side.drained = false;
                    }
                    _ => {}
                }
            }
        }
    }

    /// Runs until `done`; false if that takes longer than `limit`.
    pub(crate) fn wait(&mut self, limit: Duration, done: impl Fn(&mut Self) -> bool) -> bool {
        let until = self.world.now + limit;
        let mut idle = 0;
        while idle < 3 {
            self.world.settle();
            self.take_notices();
            if done(self) {
                return true;
            }
            self.run_other_process();
            // Looking may have given the hosts something to do.
            idle = if self.world.step(until) { 0 } else { idle + 1 };
        }
        self.world.now = self.world.now.max(until);
        false
    }

    // ---- reading

    fn front(&mut self, end: End, at: usize) -> Front {
        let side = self.side(end);
        if let Some((kind, _)) = side.taken.get(at) {
            return Front::Record(*kind);
        }
        if let Some(errno) = side.error {
            return Front::Error(errno);
        }
        if side.drained {
            return match side.expired {
                true => Front::Error(Errno::Ekeyexpired),
                false => Front::Nothing,
            };
        }
        let front = self.look(end);
        let side = self.side(end);
        match front {
            Front::Nothing => side.drained = true,
            Front::Error(Errno::Ekeyexpired) => (side.drained, side.expired) = (true, true),
            // It is returned once, and this was a look.
            Front::Error(errno) => side.error = Some(errno),
            Front::Record(_) | Front::End => {}
        }
        front
    }

    /// What the stack has next. Waits for a record that is opened elsewhere, as `tls_sw_recvmsg`
    /// does.
    fn look(&mut self, end: End) -> Front {
        loop {
            let (host, id) = self.host(end);
            let front = match host.stack.peek(id, &mut host.ciphers, &mut host.pages) {
                Ok(RecvRecord::Record(meta, _)) => Front::Record(meta.kind.0),
                Ok(RecvRecord::Nothing) => Front::Nothing,
                Ok(RecvRecord::End { .. }) => Front::End,
                Err(error) => Front::Error(error.errno()),
            };
            if front != Front::Nothing || !host.stack.awaits_record(id) {
                return front;
            }
            self.side(end).drained = true;
            self.world.settle();
            self.take_notices();
            let is_back = !self.side(end).drained;
            assert!(is_back, "no notice of a record that is back");
        }
    }

    /// Takes, or copies, up to `want` bytes of the record at the front.
    fn piece(&mut self, end: End, at: &mut usize, want: usize, peeks: bool) -> Vec<u8> {
        let side = self.side(end);
        if let Some((_, bytes)) = side.taken.get_mut(*at) {
            let want = want.min(bytes.len());
            if peeks {
                *at += 1;
                return bytes[..want].to_vec();
            }
            let rest = bytes.split_off(want);
            let piece = core::mem::replace(bytes, rest);
            if bytes.is_empty() {
                side.taken.pop_front();
            }
            return piece;
        }
        let (host, id) = self.host(end);
        if peeks {
            let got = host.stack.peek(id, &mut host.ciphers, &mut host.pages);
            let Ok(RecvRecord::Record(_, chunk)) = got else {
                panic!("the record is gone: {got:?}");
            };
            if chunk.len() > want {
                return chunk.pieces().flatten().copied().take(want).collect();
            }
        }
        let (host, id) = self.host(end);
        let got = host
            .stack
            .recv_record(id, &mut host.ciphers, &mut host.pages);
        let Ok(RecvRecord::Record(meta, mut chunk)) = got else {
            panic!("the record is gone: {got:?}");
        };
        let bytes: Vec<u8> = chunk.pieces().flatten().copied().take(want).collect();
        if peeks {
            self.side(end).taken.push_back((meta.kind.0, bytes.clone()));
            *at += 1;
        } else {
            chunk.advance(bytes.len());
            host.stack.unread(id, chunk);
        }
        bytes
    }

    /// recvmsg with a control buffer: bytes, and the type of their records.
    pub(crate) fn recvmsg(
        &mut self,
        end: End,
        len: usize,
        flags: Flags,
    ) -> Result<(Vec<u8>, u8), Errno> {
        self.read(end, len, flags, true)
    }

    /// recv: a control record is EIO, and stays.
    pub(crate) fn recv(&mut self, end: End, len: usize, flags: Flags) -> Result<Vec<u8>, Errno> {
        self.read(end, len, flags, false).map(|(bytes, _)| bytes)
    }

    fn read(
        &mut self,
        end: End,
        len: usize,
        flags: Flags,
        has_control: bool,
    ) -> Result<(Vec<u8>, u8), Errno> {
        let peeks = flags & MSG_PEEK != 0;
        let side = self.side(end);
        let target = match flags & MSG_WAITALL {
            0 => side.low_water.clamp(1, len),
            _ => len,
        };
        let timeout = side.timeout;
        let (mut bytes, mut kind, mut at) = (Vec::new(), None, 0);
        while bytes.len() < len {
            match self.front(end, at) {
                Front::Record(next) if kind.is_some_and(|kind| kind != next) => break,
                Front::Record(next) if next != DATA && !has_control => return Err(Errno::Eio),
                Front::Record(next) => {
                    kind = Some(next);
                    bytes.extend(self.piece(end, &mut at, len - bytes.len(), peeks));
                    if next != DATA {
                        break;
                    }
                }
                Front::Error(_) if !bytes.is_empty() => break,
                Front::Error(errno) => {
                    self.side(end).error = None;
                    return Err(errno);
                }
                Front::End => break,
                Front::Nothing if bytes.len() >= target => break,
                Front::Nothing => {
                    let waits = flags & MSG_DONTWAIT == 0;
                    let front = move |pair: &mut Self| pair.front(end, at) != Front::Nothing;
                    // With DONTWAIT, what has arrived is looked at.
                    let limit = if waits { timeout } else { Duration::ZERO };
                    if self.wait(limit, front) {
                        continue;
                    }
                    assert!(!waits || timeout != PATIENCE, "nothing comes");
                    if bytes.is_empty() {
                        return Err(Errno::Eagain);
                    }
                    break;
                }
            }
        }
        Ok((bytes, kind.unwrap_or(DATA)))
    }

    /// poll for POLLIN, with a timeout in which everything can arrive.
    pub(crate) fn poll_briefly(&mut self, end: End) -> bool {
        self.poll(end, self.brief)
    }

    /// poll for POLLIN.
    pub(crate) fn poll(&mut self, end: End, timeout: Duration) -> bool {
        self.wait(timeout, |pair| match pair.front(end, 0) {
            Front::Record(_) | Front::End => true,
            Front::Error(errno) => errno != Errno::Ekeyexpired,
            Front::Nothing => false,
        })
    }

    /// splice from the socket: one record's data, or a part of it. A control record is EINVAL, and
    /// stays.
    pub(crate) fn splice_to_pipe(
        &mut self,
        end: End,
        pipe: &mut Vec<u8>,
        len: usize,
    ) -> Result<usize, Errno> {
        loop {
            match self.front(end, 0) {
                Front::Record(DATA) => {
                    let bytes = self.piece(end, &mut 0, len, false);
                    if !bytes.is_empty() {
                        pipe.extend_from_slice(&bytes);
                        return Ok(bytes.len());
                    }
                }
                Front::Record(_) => return Err(Errno::Einval),
                Front::End => return Ok(0),
                Front::Error(errno) => {
                    self.side(end).error = None;
                    return Err(errno);
                }
                Front::Nothing => {
                    let came = self.wait(PATIENCE, |pair| pair.front(end, 0) != Front::Nothing);
                    assert!(came, "nothing comes");
                }
            }
        }
    }

    // ---- writing

    pub(crate) fn send(&mut self, end: End, bytes: &[u8], flags: Flags) -> Result<usize, Errno> {
        self.sendmsg(end, &[bytes], None, flags)
    }

    /// sendmsg, with the type of a control message.
    pub(crate) fn sendmsg(
        &mut self,
        end: End,
        parts: &[&[u8]],
        control: Option<u8>,
        flags: Flags,
    ) -> Result<usize, Errno> {
        let more = flags & MSG_MORE != 0;
        if more && (control.is_some() || flags & MSG_EOR != 0) {
            return Err(Errno::Einval);
        }
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut sent = 0;
        loop {
            let (host, id) = self.host(end);
            let pushed = match control {
                Some(kind) => {
                    let (kind, all) = (ContentType(kind), parts.concat());
                    let pushed = host.stack.send_record(id, kind, &all, &mut host.pages);
                    pushed.map(|is_done| (if is_done { len } else { 0 }, is_done))
                }
                None => {
                    let rest = rest_of(parts, sent);
                    let taken = host.stack.send_parts(id, &rest, more, &mut host.pages);
                    taken.map(|taken| (taken as usize, sent + taken as usize == len))
                }
            };
            match pushed {
                Ok((taken, is_done)) => {
                    sent += taken;
                    if is_done {
                        return Ok(sent);
                    }
                }
                // Bytes before an error are returned; the next call returns the error.
                Err(_) if sent > 0 => return Ok(sent),
                Err(error) => return Err(error.errno()),
            }
            self.side(end).writable = false;
            if flags & MSG_DONTWAIT != 0 {
                return if sent > 0 {
                    Ok(sent)
                } else {
                    Err(Errno::Eagain)
                };
            }
            let can_continue = self.wait(PATIENCE, |pair| pair.is_writable(end));
            assert!(can_continue, "no room comes");
        }
    }

    /// Whether a Writable notice came since a write that took less than it was given.
    pub(crate) fn is_writable(&mut self, end: End) -> bool {
        let side = self.side(end);
        side.writable || side.closed.is_some()
    }

    /// sendfile of a whole range. It is sent while time passes.
    pub(crate) fn sendfile(
        &mut self,
        end: End,
        file: &Arc<impl FileSource + 'static>,
        range: core::ops::Range<u64>,
        flags: Flags,
    ) -> Result<(), Errno> {
        let more = flags & MSG_MORE != 0;
        loop {
            let (host, id) = self.host(end);
            let (file, range) = (file.clone(), range.clone());
            let sent = host.stack.sendfile(id, file, range, more, &mut host.pages);
            match sent {
                Ok(true) => return Ok(()),
                Ok(false) if flags & MSG_DONTWAIT != 0 => return Err(Errno::Eagain),
                Ok(false) => {
                    self.side(end).writable = false;
                    let can_continue = self.wait(PATIENCE, |pair| pair.is_writable(end));
                    assert!(can_continue, "an earlier range stays");
                }
                Err(error) => return Err(error.errno()),
            }
        }
    }

    /// splice from a pipe: its pages are sent by reference.
    pub(crate) fn splice_from_pipe(
        &mut self,
        end: End,
        pipe: &mut Vec<u8>,
        len: usize,
        flags: Flags,
    ) -> Result<usize, Errno> {
        let len = len.min(pipe.len());
        let bytes: Vec<u8> = pipe.drain(..len).collect();
        let file = super::file::File::new(&bytes);
        self.sendfile(end, &file, 0..len as u64, flags)?;
        Ok(len)
    }

    /// Sends a stream from the other end while this one reads it.
    pub(crate) fn transfer(
        &mut self,
        from: End,
        bytes: &[u8],
        send_len: usize,
        recv_len: usize,
    ) -> Vec<u8> {
        let (mut sent, mut got) = (0, Vec::new());
        while got.len() < bytes.len() {
            let piece = &bytes[sent..bytes.len().min(sent + send_len)];
            let taken = match piece.is_empty() {
                true => Err(Errno::Eagain),
                false => self.send(from, piece, MSG_DONTWAIT),
            };
            sent += taken.unwrap_or(0);
            let read = self.recv(from.other(), recv_len, MSG_DONTWAIT);
            let is_idle = taken.is_err() && read.is_err();
            got.extend(read.unwrap_or_default());
            assert!(!is_idle || self.advance(), "the stream stalls");
        }
        got
    }

    pub(crate) fn shutdown(&mut self, end: End) {
        let (host, id) = self.host(end);
        host.stack.shutdown(id);
    }

    pub(crate) fn close(&mut self, end: End) {
        let (host, id) = self.host(end);
        host.stack.close(id);
    }
}

/// Parts without their first bytes.
fn rest_of<'a>(parts: &[&'a [u8]], mut skip: usize) -> Vec<&'a [u8]> {
    let mut rest = Vec::new();
    for part in parts {
        let here = skip.min(part.len());
        skip -= here;
        rest.push(&part[here..]);
    }
    rest
}

/// How long a call blocks that has to return.
const PATIENCE: Duration = Duration::from_secs(30);
