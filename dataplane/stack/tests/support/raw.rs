//! An application that brings its own keys, and a peer that sends and receives raw bytes.

use std::time::Duration;

use lockgate_ktls::{ContentType, Errno};
use lockgate_stack::{Notice, RecvRecord, SocketError, SocketId};
use lockgate_testing::Random;

use super::network::Network;
use super::records::{TestKeys, TestSuite};
use super::{HostSpec, World};

/// A plain connection: the application's end on host B, the peer's on host A.
pub(crate) struct RawPair {
    pub(crate) world: World,
    pub(crate) peer: SocketId,
    pub(crate) app: SocketId,
    pub(crate) random: Random,
    /// The version that received records carry.
    version: [u8; 2],
    /// Long enough for everything to arrive.
    brief: Duration,
}

/// What a read returned, in a form that tests can compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    Record(u8, Vec<u8>),
    Nothing,
    End(bool),
    Error(Errno),
}

impl RawPair {
    pub(crate) fn new() -> Self {
        Self::with(HostSpec::new(2))
    }

    /// With this host for the application.
    pub(crate) fn with(b: HostSpec) -> Self {
        Self::over(Network::PERFECT, b)
    }

    /// Over this network, to which the host belongs.
    pub(crate) fn over(network: Network, b: HostSpec) -> Self {
        let mut world = World::new(network.host(1), b, network.link());
        world.listen(443, None);
        let peer = world.connect(None);
        let app = world.expect(1, "Accepted", |n| match n {
            Notice::Accepted { socket, .. } => Some(*socket),
            _ => None,
        });
        Self {
            world,
            peer,
            app,
            random: Random::new(7),
            version: [3, 3],
            brief: network.brief(),
        }
    }

    /// With keys for sending. Returns the peer's.
    pub(crate) fn sending(suite: TestSuite) -> (Self, TestKeys) {
        let mut pair = Self::new();
        let keys = TestKeys::new(suite, &mut pair.random);
        pair.set_tx(&keys).unwrap();
        (pair, keys)
    }

    /// With keys for receiving. Returns the peer's.
    pub(crate) fn receiving(suite: TestSuite) -> (Self, TestKeys) {
        let mut pair = Self::new();
        let keys = TestKeys::new(suite, &mut pair.random);
        pair.set_rx(&keys).unwrap();
        (pair, keys)
    }

    pub(crate) fn set_tx(&mut self, keys: &TestKeys) -> Result<(), SocketError> {
        let host = &mut self.world.b;
        host.stack
            .set_txtls(self.app, &keys.enable(), &mut host.ciphers)
    }

    pub(crate) fn set_rx(&mut self, keys: &TestKeys) -> Result<(), SocketError> {
        self.version = [3, keys.suite.minor.min(3)];
        let host = &mut self.world.b;
        host.stack
            .set_rxtls(self.app, &keys.enable(), &mut host.ciphers)
    }

    /// Lets everything that was sent arrive.
    pub(crate) fn run(&mut self) {
        self.world.run(self.brief);
    }

    /// The application sends bytes, all of them.
    pub(crate) fn send(&mut self, bytes: &[u8], more: bool) {
        let mut rest = bytes;
        let until = Duration::from_secs(30);
        let app = self.app;
        let sent = self.world.run_until(until, |world| {
            let host = &mut world.b;
            while !rest.is_empty() {
                let taken = host.stack.send(app, rest, more, &mut host.pages).unwrap();
                rest = &rest[taken as usize..];
                if taken == 0 {
                    return false;
                }
            }
            true
        });
        assert!(sent, "{} bytes are left", rest.len());
    }

    /// The application sends a record of a type.
    pub(crate) fn send_record(&mut self, kind: u8, content: &[u8]) -> Result<bool, SocketError> {
        let host = &mut self.world.b;
        let kind = ContentType(kind);
        let sent = host
            .stack
            .send_record(self.app, kind, content, &mut host.pages);
        sent.map_err(SocketError::from)
    }

    /// What the peer has received since the last call.
    pub(crate) fn wire(&mut self) -> Vec<u8> {
        self.run();
        self.world.a.drain(self.peer).0
    }

    /// The peer sends raw bytes, and they arrive.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.world.a.send(self.peer, rest);
            rest = &rest[taken as usize..];
            self.run();
        }
    }

    /// The peer closes its direction.
    pub(crate) fn finish(&mut self) {
        self.world.a.stack.shutdown(self.peer);
        self.run();
    }

    /// The application's next record. Waits for a record that is opened elsewhere.
    pub(crate) fn recv(&mut self) -> Got {
        loop {
            let got = self.try_recv();
            if got != Got::Nothing || !self.awaits_record() {
                return got;
            }
            self.world.settle();
        }
    }

    fn awaits_record(&self) -> bool {
        self.world.b.stack.awaits_record(self.app)
    }

    /// The application's next record, if it is there.
    pub(crate) fn try_recv(&mut self) -> Got {
        let host = &mut self.world.b;
        let got = host
            .stack
            .recv_record(self.app, &mut host.ciphers, &mut host.pages);
        match got {
            Ok(RecvRecord::Record(meta, chunk)) => {
                assert_eq!(meta.version, self.version);
                assert_eq!(usize::from(meta.length), chunk.len());
                Got::Record(meta.kind.0, chunk.pieces().flatten().copied().collect())
            }
            Ok(RecvRecord::Nothing) => {
                // A turn may have to begin first.
                self.world.settle();
                Got::Nothing
            }
            Ok(RecvRecord::End { clean }) => Got::End(clean),
            Err(error) => Got::Error(error.errno()),
        }
    }

    /// The application's next record, which stays.
    pub(crate) fn peek(&mut self) -> Got {
        let host = &mut self.world.b;
        let got = host
            .stack
            .peek(self.app, &mut host.ciphers, &mut host.pages);
        match got {
            Ok(RecvRecord::Record(meta, chunk)) => {
                Got::Record(meta.kind.0, chunk.pieces().flatten().copied().collect())
            }
            Ok(RecvRecord::Nothing) => Got::Nothing,
            Ok(RecvRecord::End { clean }) => Got::End(clean),
            Err(error) => Got::Error(error.errno()),
        }
    }

    /// All records that are there.
    pub(crate) fn recv_all(&mut self) -> Vec<Got> {
        let mut all = Vec::new();
        loop {
            match self.recv() {
                Got::Nothing => return all,
                end @ Got::End(_) => {
                    all.push(end);
                    return all;
                }
                got => all.push(got),
            }
        }
    }

    /// The notices of the application's socket since the last call.
    pub(crate) fn notices(&mut self) -> Vec<Notice> {
        self.world.settle();
        self.world.notices_b.drain(..).collect()
    }
}
