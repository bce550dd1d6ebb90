//! The TLS deframer: any bytes in any buffers. It yields records, waits or fails, and returns every
//! buffer.

use core::cell::RefCell;

use lockgate_ktls::{
    BackendChoice, Ciphers, Deframer, Params, Received, RecordQueue, Role, Session, Suite, Version,
};
use pktbuf::{HeapBuffers, PagePool, PoolConfig, Region, Slices, Stream};

/// Runs the target on one input.
///
/// # Panics
/// If a property doesn't hold.
pub fn run(input: &[u8]) {
    let [suite, cuts, flips, content @ ..] = input else {
        return;
    };
    let params = params(*suite);
    MEMORY.with_borrow_mut(|memory| run_in(params, *cuts, *flips, content, memory));
}

fn run_in(params: Params, cuts: u8, flips: u8, content: &[u8], memory: &mut Memory) {
    let (ciphers, pages, buffers) = memory;
    // Either the bytes as they are, or records sealed from them with up to three bits flipped.
    let mut bytes = content.to_vec();
    if flips < 128 {
        bytes = sealed(params, content, ciphers, pages);
        for n in 0..usize::from(flips / 32) {
            let at = content.get(n).map_or(0, |b| usize::from(*b)) % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (n % 8);
            }
        }
    }
    let mut deframer = Deframer::new(session(params), 0, Role::Server, Stream::new(), ciphers);
    'all: for piece in bytes.chunks(usize::from(cuts).max(1)) {
        let Some(buffer) = buffers.alloc(piece) else {
            break;
        };
        deframer.push(buffer);
        loop {
            match deframer.next(ciphers, pages) {
                Ok(Received::NeedBytes | Received::NeedPages) => break,
                Ok(Received::Closed) => break 'all,
                Ok(Received::Record(record)) => {
                    assert_eq!(record.as_slice().len(), usize::from(record.meta().length));
                }
                Ok(_) => {}
                Err(error) if !error.is_recoverable() => break 'all,
                Err(_) => {}
            }
        }
    }
    let _ = deframer.finish(ciphers);
    deframer.retire(ciphers);
    pages.reclaim();
    assert!(pages.is_full(), "page buffers are missing");
    assert!(buffers.is_full(), "buffers are missing");
}

type Memory = (Ciphers, PagePool, HeapBuffers);

thread_local! {
    // Allocated once: every input returns all it took.
    static MEMORY: RefCell<Memory> = RefCell::new(memory());
}

fn memory() -> Memory {
    let config = PoolConfig {
        blocks: 256,
        small_spans: 64,
        large_spans: 16,
    };
    let mut region = Region::heap(PagePool::bytes_needed(config)).expect("memory");
    let pages = PagePool::new(&mut region, config).expect("a pool");
    (
        Ciphers::new(BackendChoice::AwsLcRs, 8),
        pages,
        HeapBuffers::new(256),
    )
}

fn params(choice: u8) -> Params {
    let suite = match choice % 3 {
        0 => Suite::Aes128Gcm,
        1 => Suite::Aes256Gcm,
        _ => Suite::Chacha20Poly1305,
    };
    let version = if choice & 0x80 == 0 {
        Version::Tls13
    } else {
        Version::Tls12
    };
    Params::new(suite, version)
}

fn session(params: Params) -> Session {
    let (key, secret) = ([7; 32], [9; 48]);
    let session = match params.version {
        Version::Tls10 | Version::Tls11 | Version::Tls12 => {
            Session::from_key(params, &key[..params.suite.key_len()], &[3; 12])
        }
        Version::Tls13 => Session::from_secret(params.suite, &secret[..params.suite.secret_len()]),
    };
    session.expect("a key of the suite's length")
}

fn sealed(params: Params, content: &[u8], ciphers: &mut Ciphers, pages: &mut PagePool) -> Vec<u8> {
    let mut queue = RecordQueue::new();
    queue.enable(session(params), 0, ciphers).expect("keys");
    let mut wire = Vec::new();
    for piece in content.chunks(1000).take(8) {
        // The first byte is the type, so that alerts and handshake messages come, too.
        let Some((kind, message)) = piece.split_first() else {
            continue;
        };
        let kind = lockgate_ktls::ContentType(20 + kind % 5);
        if queue.push_message(kind, message, pages).is_err() {
            continue;
        }
    }
    let range = queue.start()..queue.end();
    if range.is_empty() || queue.prepare(&range, ciphers, pages).is_err() {
        queue.retire(ciphers);
        return wire;
    }
    let mut slices = Slices::new(32);
    queue.slices(&range, &mut slices);
    for slice in slices.as_slice() {
        wire.extend_from_slice(slice.bytes().expect("sealed"));
    }
    queue.retire(ciphers);
    wire
}
