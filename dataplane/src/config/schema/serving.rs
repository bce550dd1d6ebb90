//! Keys of what is served, and of how the appliance is run.

use super::build::{GIB, H, KIB, M, MIB, MS, S, choice, count, key, required, size, time};
use super::{Default, Key, Kind};

pub(super) const KTLS: &[Key] = &[
    key(
        "enable",
        Kind::Switch { default: true },
        "The record layer. Off refuses every session, so no listener can have TLS.",
    ),
    key(
        "backend",
        choice(&["auto", "aws-lc", "rustcrypto"], "auto"),
        "Who seals and opens records: every backend in the order of its speed, or only this one.",
    ),
    key(
        "record_max",
        size(512, 16 * KIB, 16 * KIB),
        "Plaintext bytes of a sent record (RFC 8446, 5.1: 16 KiB).",
    ),
];

pub(super) const TLS: &[Key] = &[
    key(
        "versions",
        Kind::Choices {
            of: &["1.2", "1.3"],
            default: &["1.2", "1.3"],
            may_be_empty: false,
        },
        "What is offered. The newest that the client knows is used.",
    ),
    key(
        "suites",
        Kind::Choices {
            of: SUITES,
            default: SUITES,
            may_be_empty: false,
        },
        "Record ciphers, in the order of preference, for both versions.",
    ),
    key(
        "tickets",
        Kind::Switch { default: true },
        "Whether clients get tickets to resume their session with.",
    ),
    key(
        "handshake_timeout",
        time(S, 5 * M, 10 * S),
        "A handshake that takes longer is cut off.",
    ),
];

pub(super) const CERTIFICATE: &[Key] = &[
    key(
        "chain",
        required("a PEM file"),
        "The certificate, then those that signed it. For a TLS connection the certificates are \
         tried by the name the client asks for, then by the signatures it can check; the first \
         is used where no name fits.",
    ),
    key(
        "key",
        required("a PEM file"),
        "Its private key: PKCS #8, PKCS #1 or SEC 1.",
    ),
];

pub(super) const LISTENER: &[Key] = &[
    key(
        "address",
        required("address:port"),
        "An address of one of the interfaces. `0.0.0.0` and `[::]` are all of them.",
    ),
    key(
        "tls",
        Kind::Switch { default: false },
        "Whether clients speak TLS.",
    ),
];

pub(super) const SITE: &[Key] = &[
    key(
        "hosts",
        Kind::Texts {
            what: "host name, *.domain or *",
            len_max: 256,
        },
        "The names that it is served under. The exact name goes before the longest `*.domain`, \
         that before `*`.",
    ),
    key(
        "root",
        required("a directory"),
        "The files. Nothing outside it is ever served.",
    ),
    key(
        "index",
        Kind::Text {
            what: "a file name, or empty for none",
            default: Default::Text("index.html"),
        },
        "What is served for a directory.",
    ),
];

pub(super) const HTTP: &[Key] = &[
    key(
        "header_timeout",
        time(100 * MS, 10 * M, 10 * S),
        "A request's head must be complete this long after its first byte, or 408 is the answer.",
    ),
    key(
        "idle_timeout",
        time(100 * MS, H, 60 * S),
        "How long a connection may wait for its next request.",
    ),
    key(
        "send_timeout",
        time(100 * MS, H, 60 * S),
        "A response that makes no progress for this long is cut off.",
    ),
    key(
        "request_max",
        size(512, 64 * KIB, 16 * KIB),
        "Bytes of a request's head. A larger one is answered with 431, a long target with 414.",
    ),
    key(
        "headers_max",
        count(8, 128, 64, "fields"),
        "Fields of a request's head. More are answered with 431.",
    ),
    key(
        "requests_max",
        count(1, 1_000_000_000, 1_000_000, "per connection"),
        "Requests of a connection, after which it's closed.",
    ),
];

pub(super) const CACHE: &[Key] = &[
    key(
        "memory_max",
        size(MIB, 512 * GIB, 64 * MIB),
        "File content in memory, shared by all workers. It is part of `eal.memory`.",
    ),
    key(
        "files_max",
        count(16, 1_000_000, 4096, "files"),
        "Files that are known at a time.",
    ),
    key(
        "revalidate",
        time(0, H, S),
        "How long a file is served before a look whether it has changed.",
    ),
    key(
        "readers",
        count(1, 32, 2, "threads"),
        "Threads that read files.",
    ),
];

pub(super) const LIMITS: &[Key] = &[
    key(
        "mbufs",
        count(512, 1 << 20, 8192, "per worker and port"),
        "Received packets and sent headers in flight.",
    ),
    key(
        "page_buffers",
        count(256, 1 << 24, 32_768, "per worker"),
        "Pieces of data queued for sending, each a record at most.",
    ),
    key(
        "spans_small",
        count(64, 1 << 22, 8192, "per worker"),
        "Memory of 2 KiB each for what is short: handshakes, heads, small files.",
    ),
    key(
        "spans_large",
        count(16, 1 << 20, 4096, "per worker"),
        "Memory of 20 KiB each for whole records.",
    ),
    key(
        "sent_ranges",
        count(256, 1 << 24, 65_536, "per worker"),
        "Sent ranges that TCP remembers until they are acknowledged.",
    ),
    key(
        "send_queue_max",
        size(32 * KIB, 64 * MIB, MIB),
        "What one connection may have queued, acknowledged bytes not counted.",
    ),
];

pub(super) const CONTROL: &[Key] = &[key(
    "socket",
    Kind::Text {
        what: "a path of 107 bytes at most",
        default: Default::None,
    },
    "The Unix socket that `lockgate stats` asks. Only its owner can.",
)];

pub(super) const DRAIN: &[Key] = &[key(
    "deadline",
    time(0, H, 30 * S),
    "How long connections have to end after SIGTERM or SIGINT. A second signal ends them at once.",
)];

pub(super) const LOG: &[Key] = &[key(
    "level",
    choice(&["error", "warn", "info", "debug", "trace"], "info"),
    "What is written to standard error. The environment's `LOCKGATE_LOG` goes before it.",
)];

#[cfg(feature = "fault-injection")]
pub(super) const TEST: &[Key] = &[
    key(
        "fail_one_in",
        count(0, 1_000_000, 0, "allocations"),
        "One in so many allocations of page buffers and packet buffers fails; 0: none.",
    ),
    key(
        "fail_seed",
        count(0, 4_294_967_295, 1, ""),
        "Which ones fail: the same ones for the same seed and the same packets.",
    ),
];

const SUITES: &[&str] = &["aes-128-gcm", "aes-256-gcm", "chacha20-poly1305"];
