//! Keys are gone from the process's memory when they aren't needed any more.
//!
//! A child process sets keys that are known, uses and changes them, closes its connections, and
//! searches its own memory (`/proc/self/mem`) for them. The search patterns are masked, so the
//! search doesn't match them. A search while the keys are in use proves that it would find them.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::env;
use std::fs::{self, File};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use lockgate_ktls::{
    BackendChoice, Ciphers, ContentType, Deframer, Direction, Received, RecordQueue, Role, Session,
    Suite, TlsEnable,
};
use lockgate_stack::{Notice, RecvRecord, SocketId};
use lockgate_testing::Random;
use pktbuf::{HeapBuffers, PagePool, PoolConfig, Region, Slices, Stream};
use support::link::Link;
use support::records::{
    CBC_SUITES, CCM_128_13, CHACHA_12, CHACHA_13, GCM_128_12, GCM_256_13, TestSuite, suites,
};
use support::{Host, HostSpec, World};
use zeroize::Zeroizing;

fn main() -> ExitCode {
    if let Some(name) = env::var_os(CHILD) {
        let name = name.into_string().unwrap();
        scenario(&name);
        return ExitCode::SUCCESS;
    }
    let trials = scenarios().map(|name| Trial::test(name.clone(), move || in_child(&name)));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// Names the child's scenario.
const CHILD: &str = "LOCKGATE_KEY_WIPE";

/// What seals and opens records, and a suite.
fn scenarios() -> impl Iterator<Item = String> {
    let here = suites().map(|suite| format!("aws-lc-rs.{}", suite.name));
    let away = [GCM_128_12, GCM_256_13, CHACHA_13, CCM_128_13, CBC_SUITES[7]];
    let away = away.map(|suite| format!("workers.{}", suite.name));
    let other = [GCM_128_12, GCM_256_13, CHACHA_12];
    let other = other.map(|suite| format!("rustcrypto.{}", suite.name));
    let secrets = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::Chacha20Poly1305];
    let secrets = secrets.map(|suite| format!("secrets.{suite:?}"));
    here.chain(away).chain(other).chain(secrets)
}

fn in_child(name: &str) -> Result<(), Failed> {
    let child = Command::new(env::current_exe()?)
        .env(CHILD, name)
        .output()?;
    if child.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&child.stderr).into_owned();
    Err(Failed::from(text))
}

/// Secrets of one direction, and how its sockets get them.
struct Keys {
    suite: TestSuite,
    key: Masked,
    iv: Masked,
    auth_key: Masked,
    seq: u64,
}

/// A secret that this process's memory holds only XOR [`MASK`].
struct Masked(Vec<u8>);

const MASK: u8 = 0xa7;

impl Masked {
    fn new(len: usize, random: &mut Random) -> Self {
        // Byte by byte, so that no register has more of it.
        let bytes = (0..len).map(|_| u8::try_from(random.next() >> 56).unwrap() ^ MASK);
        Self(bytes.collect())
    }

    /// For the call that sets it. Wiped when dropped.
    fn unmask(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.0.len()));
        bytes.extend(self.0.iter().map(|byte| black_box(*byte) ^ MASK));
        bytes
    }

    fn is_at(&self, memory: &[u8]) -> bool {
        memory.len() >= self.0.len()
            && (self.0.iter().zip(memory)).all(|(own, byte)| *own == *byte ^ MASK)
    }
}

impl Keys {
    fn new(suite: TestSuite, random: &mut Random) -> Self {
        Self {
            suite,
            key: Masked::new(suite.key_len, random),
            // All of an AEAD's nonce is given, so that it is long enough to search for.
            iv: Masked::new(if suite.is_cbc() { 16 } else { 12 }, random),
            auth_key: Masked::new(suite.auth_key_len(), random),
            seq: random.next() >> 1,
        }
    }

    fn set(&self, host: &mut Host, socket: SocketId, direction: Direction) {
        let (key, iv) = (self.key.unmask(), self.iv.unmask());
        let auth_key = self.auth_key.unmask();
        let enable = TlsEnable {
            cipher: self.suite.cipher,
            cipher_key: &key,
            iv: &iv,
            auth: self.suite.auth,
            auth_key: &auth_key,
            flags: 0,
            version: [3, self.suite.minor],
            rec_seq: self.seq,
        };
        match direction {
            Direction::Tx => host.stack.set_txtls(socket, &enable, &mut host.ciphers),
            Direction::Rx => host.stack.set_rxtls(socket, &enable, &mut host.ciphers),
        }
        .unwrap();
    }

    /// What must not be found, with names. CBC's IV is public after TLS 1.0, where it is the first
    /// record's; the MAC's key is as secret as the cipher's.
    fn secrets(&self) -> impl Iterator<Item = (&'static str, &Masked)> {
        let iv = (!self.suite.is_cbc()).then_some(("IV", &self.iv));
        let auth_key = self.suite.is_cbc().then_some(("MAC key", &self.auth_key));
        [("key", &self.key)].into_iter().chain(iv).chain(auth_key)
    }
}

/// How often each secret is in this process's memory.
fn search(secrets: &[(&'static str, &Masked)]) -> Vec<usize> {
    let mut found = vec![0; secrets.len()];
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let longest = secrets
        .iter()
        .map(|(_, secret)| secret.0.len())
        .max()
        .unwrap();
    let mut buffer = vec![0; CHUNK + longest];
    let mut first_bytes = [false; 256];
    for (_, secret) in secrets {
        first_bytes[usize::from(secret.0[0] ^ MASK)] = true;
    }
    // What the search itself has copied isn't searched.
    let own = buffer.as_ptr() as u64..buffer.as_ptr() as u64 + buffer.len() as u64;
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        if !rest.starts_with('r') || rest.ends_with("[vvar]") || rest.ends_with("[vsyscall]") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let mut at = u64::from_str_radix(start, 16).unwrap();
        let end = u64::from_str_radix(end, 16).unwrap();
        while at < end {
            let want = usize::try_from(end - at).unwrap().min(buffer.len());
            let read = memory.read_at(&mut buffer[..want], at);
            // A page that can't be read ends a read: it is behind the end of a mapped file.
            let len = read.unwrap_or(0);
            for place in 0..len.min(CHUNK) {
                if !first_bytes[usize::from(buffer[place])] {
                    continue;
                }
                if own.contains(&(at + place as u64)) {
                    continue;
                }
                for (n, (_, secret)) in secrets.iter().enumerate() {
                    if secret.is_at(&buffer[place..len]) {
                        found[n] += 1;
                        if env::var_os("LOCKGATE_KEY_WIPE_TELL").is_some() {
                            eprintln!("{} at {:#x} in {line}", secrets[n].0, at + place as u64);
                        }
                    }
                }
            }
            at += match len {
                0 => PAGE,
                short if short < want => short as u64,
                _ => CHUNK as u64,
            };
        }
    }
    found
}

const CHUNK: usize = 1 << 20;
const PAGE: u64 = 4096;

fn assert_gone(what: &str, keys: &[Keys]) {
    let secrets: Vec<_> = keys.iter().flat_map(Keys::secrets).collect();
    let found = search(&secrets);
    let found: Vec<_> = secrets
        .iter()
        .zip(found)
        .filter(|(_, count)| *count > 0)
        .collect();
    let found: Vec<_> = found
        .iter()
        .map(|((name, _), count)| (name, count))
        .collect();
    assert!(found.is_empty(), "{what}: {found:?}");
}

fn assert_there(what: &str, keys: &[Keys]) {
    let secrets: Vec<_> = keys.iter().flat_map(Keys::secrets).collect();
    for ((name, _), count) in secrets.iter().zip(search(&secrets)) {
        assert!(count > 0, "{what}: the search doesn't find the {name}");
    }
}

/// Sets the keys of each direction at both ends.
fn set_all(world: &mut World, sockets: [SocketId; 2], keys: &[Keys; 2]) {
    let [a, b] = sockets;
    for (sender, keys) in keys.iter().enumerate() {
        // TLS 1.0 has no receiver.
        let has_receiver = keys.suite.minor > 1;
        let directions = if sender == 0 {
            [Direction::Tx, Direction::Rx]
        } else {
            [Direction::Rx, Direction::Tx]
        };
        for (host, socket, direction) in [
            (&mut world.a, a, directions[0]),
            (&mut world.b, b, directions[1]),
        ] {
            if direction == Direction::Tx || has_receiver {
                keys.set(host, socket, direction);
            }
        }
    }
}

/// Sends records both ways, and receives them.
fn exchange(world: &mut World, sockets: [SocketId; 2], receives: bool) {
    for round in 0..3 {
        for (host, socket) in [(&mut world.a, sockets[0]), (&mut world.b, sockets[1])] {
            let sent = host.send(socket, &[round; 3000]);
            assert_eq!(sent, 3000);
        }
        world.run(Duration::from_millis(50));
        for _ in 0..8 {
            for (host, socket) in [(&mut world.a, sockets[0]), (&mut world.b, sockets[1])] {
                if receives {
                    let got = host
                        .stack
                        .recv_record(socket, &mut host.ciphers, &mut host.pages);
                    let is_fine = matches!(got, Ok(RecvRecord::Record(..) | RecvRecord::Nothing));
                    assert!(is_fine, "{got:?}");
                } else {
                    drop(host.drain(socket));
                }
            }
            world.run(Duration::from_millis(10));
        }
    }
}

/// Sends a KeyUpdate each way and receives it.
fn send_key_updates(world: &mut World, sockets: [SocketId; 2]) {
    for (host, socket) in [(&mut world.a, sockets[0]), (&mut world.b, sockets[1])] {
        let update = [24, 0, 0, 1, 0];
        let kind = ContentType::HANDSHAKE;
        let sent = host
            .stack
            .send_record(socket, kind, &update, &mut host.pages);
        assert_eq!(sent, Ok(true));
    }
    world.run(Duration::from_millis(50));
    for _ in 0..8 {
        for (host, socket) in [(&mut world.a, sockets[0]), (&mut world.b, sockets[1])] {
            drop(
                host.stack
                    .recv_record(socket, &mut host.ciphers, &mut host.pages),
            );
        }
        world.run(Duration::from_millis(10));
    }
}

fn scenario(name: &str) {
    let (place, suite) = name.split_once('.').unwrap();
    if place == "secrets" {
        return traffic_secrets(suite);
    }
    let suite = suites().find(|known| known.name == suite).unwrap();
    let host = |number| {
        let mut host = HostSpec::new(number);
        host.config.cbc = true;
        // Little memory to search.
        host.config.limits.connections_max = 8;
        host.pool = PoolConfig {
            blocks: 256,
            small_spans: 64,
            large_spans: 32,
        };
        host.away = (place == "workers").then_some(8);
        host
    };
    let mut world = World::new(host(1), host(2), Link::perfect());
    if place != "workers" {
        for host in [&mut world.a, &mut world.b] {
            host.ciphers = Ciphers::new(place.parse().unwrap(), 64);
        }
    }
    world.listen(443, None);
    let a = world.connect(None);
    let b = world.expect(1, "Accepted", |n| match n {
        Notice::Accepted { socket, .. } => Some(*socket),
        _ => None,
    });
    let mut random = Random::new(u64::from(std::process::id()));
    let mut pair = || [Keys::new(suite, &mut random), Keys::new(suite, &mut random)];
    let (first, second) = (pair(), pair());
    let receives = suite.minor > 1;

    assert_gone("before they were set", &first);
    set_all(&mut world, [a, b], &first);
    exchange(&mut world, [a, b], receives);
    assert_there("in use", &first);
    if suite.is_tls13() {
        send_key_updates(&mut world, [a, b]);
        set_all(&mut world, [a, b], &second);
        exchange(&mut world, [a, b], receives);
        assert_there("in use after the change", &second);
        assert_gone("after the change", &first);
    }
    world.a.stack.close(a);
    world.b.stack.close(b);
    world.run(Duration::from_secs(300));
    assert_eq!(
        (world.a.stack.connections(), world.b.stack.connections()),
        (0, 0)
    );
    assert_gone("after the end", &first);
    assert_gone("after the end, changed", &second);
    black_box(&world);
}

/// Traffic secrets, from which the record layer derives keys, and the secrets behind a KeyUpdate.
fn traffic_secrets(suite: &str) {
    let suite = Suite::ALL
        .into_iter()
        .find(|known| format!("{known:?}") == suite);
    let suite = suite.unwrap();
    let config = PoolConfig {
        blocks: 64,
        small_spans: 16,
        large_spans: 16,
    };
    let mut region = Region::heap(PagePool::bytes_needed(config)).unwrap();
    let mut pool = PagePool::new(&mut region, config).unwrap();
    let mut ciphers = Ciphers::new(BackendChoice::Auto, 8);
    let mut random = Random::new(u64::from(std::process::id()));
    for updates in [false, true] {
        let secret = Masked::new(suite.secret_len(), &mut random);
        let count = || search(&[("secret", &secret)])[0];
        assert_eq!(count(), 0);
        let session = || Session::from_secret(suite, &secret.unmask()).unwrap();
        let mut queue = RecordQueue::new();
        queue.enable(session(), 0, &mut ciphers).unwrap();
        let mut deframer = Deframer::new(session(), 0, Role::Client, Stream::new(), &mut ciphers);
        for round in 0..2 {
            queue.push_bytes(&[b"hello"], false, &mut pool).unwrap();
            if updates && round == 0 {
                queue.update_keys(false, &mut ciphers, &mut pool).unwrap();
            }
            let range = queue.start()..queue.end();
            queue.prepare(&range, &mut ciphers, &mut pool).unwrap();
            let mut slices = Slices::new(32);
            queue.slices(&range, &mut slices);
            let pieces = slices.as_slice().iter().filter_map(|slice| slice.bytes());
            let wire: Vec<u8> = pieces.flatten().copied().collect();
            deframer.push(HeapBuffers::new(1).alloc(&wire).unwrap());
            while !matches!(
                deframer.next(&mut ciphers, &mut pool),
                Ok(Received::NeedBytes)
            ) {}
            queue.release(range.end);
            let left = count();
            assert_eq!(left == 0, updates, "{left} in round {round}, {updates}");
        }
        queue.retire(&mut ciphers);
        deframer.retire(&mut ciphers);
        assert_eq!(count(), 0, "after the end");
    }
}
