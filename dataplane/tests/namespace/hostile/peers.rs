//! Hostile peers: kernel sockets that take memory of the appliance and keep it.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::TcpStream;

use rustix::net::sockopt;

use crate::support::client::{
    Conn, Tls, address4, connect, connect_narrow, connect_with, handshake, plain, request,
};
use crate::support::scene::Scene;

/// Connections of hostile peers. Dropped, they are reset or closed.
pub(super) struct Peers(Vec<TcpStream>);

impl Peers {
    /// TLS clients that send what `requests` returns for each, and read nothing. Their kernel takes
    /// in as little as it can.
    pub(super) fn that_read_nothing(
        scene: &Scene,
        count: usize,
        requests: impl Fn(usize) -> String,
    ) -> Self {
        let peer = |number| {
            let tls = handshake(connect_narrow(address4(443))?, &scene.roots)?;
            sent(tls, &requests(number))
        };
        Self::collect(count, peer)
    }

    /// TLS clients that request the endless file, with room for much of it.
    pub(super) fn with_room(scene: &Scene, count: usize) -> Self {
        let get = request("GET", ENDLESS, "");
        Self::collect(count, |_| {
            let tcp = connect_with(address4(443), |socket| {
                Ok(sockopt::set_socket_recv_buffer_size_force(socket, ROOM)?)
            })?;
            sent(handshake(tcp, &scene.roots)?, &get)
        })
    }

    /// Connections to the TLS listener, to which `send` sends something.
    pub(super) fn without_tls(count: usize, send: impl Fn(&mut TcpStream, usize)) -> Self {
        Self::collect(count, |number| {
            let mut tcp = connect(address4(443))?;
            send(&mut tcp, number);
            Ok(tcp)
        })
    }

    /// Connections without TLS that got an answer and stay open.
    pub(super) fn idle(count: usize) -> Self {
        Self::collect(count, |_| {
            let mut conn = plain()?;
            conn.get("/")?;
            conn.tcp().try_clone()
        })
    }

    /// Reads of each what has arrived, `len` bytes at most, without opening the records. Returns
    /// the sum.
    pub(super) fn read(&mut self, len: usize) -> usize {
        let mut bytes = vec![0; len];
        let mut read = |peer: &mut TcpStream| {
            peer.set_nonblocking(true)?;
            peer.read(&mut bytes)
        };
        let counts = self.0.iter_mut().map(|peer| read(peer).unwrap_or(0));
        counts.sum()
    }

    #[track_caller]
    fn collect(count: usize, peer: impl Fn(usize) -> io::Result<TcpStream>) -> Self {
        let peers: io::Result<_> = (0..count).map(peer).collect();
        Self(peers.expect("hostile peers are served while they are few"))
    }
}

/// The connection of a client that has sent this.
fn sent(tls: Tls, requests: &str) -> io::Result<TcpStream> {
    let mut conn = Conn::new(tls);
    conn.send(requests.as_bytes())?;
    conn.tcp().try_clone()
}

/// Puts a file of holes into the site, which no client reads to its end.
pub(super) fn endless_file(scene: &Scene) {
    File::create(scene.www("endless.bin"))
        .and_then(|file| file.set_len(1 << 40))
        .expect("a file of holes");
}

/// The path of that file.
pub(super) const ENDLESS: &str = "/endless.bin";
/// A receive buffer, beyond the system's limit.
const ROOM: usize = 2 << 20;
