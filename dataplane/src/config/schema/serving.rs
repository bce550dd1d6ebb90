//! Keys of what is served, and of how the appliance is run.

use super::build::{GIB, H, KIB, M, MIB, MS, S, choice, count, key, required, size, time};
use super::key::{Key, Kind, TextDefault};

pub(super) const KTLS: &[Key] = &[
    key(
        "enable",
        Kind::Switch { default: true },
        "Whether the record layer takes sessions. Without it no listener can have TLS.",
    ),
    key(
        "cbc_enable",
        Kind::Switch { default: false },
        "Whether applications in the process may set keys for AES-CBC (TLS 1.0 to 1.2). Listeners \
         never offer it.",
    ),
    key(
        "backend",
        choice(&["auto", "aws-lc", "rustcrypto"], "auto"),
        "The software backend that seals and opens records. `auto`: every backend, the fastest \
         first.",
    ),
    key(
        "record_max",
        size(512, 16 * KIB, 16 * KIB),
        "Plaintext bytes of a sent record (RFC 8446, 5.1: 16 KiB).",
    ),
    key(
        "dyn_rec_threshold",
        count(0, 255, 40, "records"),
        "How many records are small where a connection begins to send: each ends with a TCP \
         segment, so that a client on a slow link reads it as soon as that has come. Later ones \
         are full, for throughput. 0: all are full.",
    ),
    key(
        "dyn_rec_timeout",
        time(10 * MS, H, S),
        "A connection that has sent nothing for so long begins with small records again.",
    ),
    key(
        "workers",
        count(0, 64, 0, "threads"),
        "Threads that seal and open records. With 0 the workers do that themselves, when a record \
         is sent or read: the fastest way while the workers' cores have time for it.",
    ),
    key(
        "worker_cores",
        Kind::Counts {
            max: 1023,
            len_max: 64,
            default: &[],
        },
        "The cores that those threads run on, in turns. The default is the cores that the process \
         may use and that `workers.cores` leaves; without any they run wherever the process may.",
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
        "The TLS versions that are offered. The newest one that the client supports is used.",
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
        "Whether clients get session tickets for resumption.",
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
        "The host names of the site. An exact name takes precedence over the longest `*.domain`, \
         and that over `*`.",
    ),
    key(
        "root",
        required("a directory"),
        "The directory of the files. Nothing outside it is ever served.",
    ),
    key(
        "index",
        Kind::Text {
            what: "a file name, or empty for none",
            default: TextDefault::Text("index.html"),
        },
        "The file that is served for a directory.",
    ),
];

pub(super) const HTTP: &[Key] = &[
    key(
        "header_timeout",
        time(100 * MS, 10 * M, 10 * S),
        "Time from a request's first byte to the end of its head. After it 408 is the answer.",
    ),
    key(
        "idle_timeout",
        time(100 * MS, H, 60 * S),
        "How long a kept-alive connection may be idle between two requests.",
    ),
    key(
        "send_timeout",
        time(100 * MS, H, 60 * S),
        "A connection is reset if the client takes less than `send_rate_min` for this long while a \
         response is sent to it.",
    ),
    key(
        "send_rate_min",
        count(1, 1_000_000, 512, "bytes a second"),
        "The least rate at which a client has to take responses. When memory is short, slower \
         connections are reset first, without waiting for `send_timeout`.",
    ),
    key(
        "request_max",
        size(512, 64 * KIB, 16 * KIB),
        "The largest request head. A larger one is answered with 431, a long target with 414.",
    ),
    key(
        "headers_max",
        count(8, 128, 64, "fields"),
        "The most header fields of a request. More are answered with 431.",
    ),
    key(
        "requests_max",
        count(1, 1_000_000_000, 1_000_000, "per connection"),
        "The most requests of a connection. It's closed after the last one's response.",
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
        "The most files in the cache.",
    ),
    key(
        "revalidate",
        time(0, H, S),
        "Age at which a file is checked again: the first request that comes later starts a check.",
    ),
    key(
        "stale_max",
        time(0, H, 10 * S),
        "How much older than `revalidate` a file may be that is served while its check isn't done. \
         After that, requests wait for the check. With `0s` they wait for every check.",
    ),
    key(
        "readers",
        count(1, 32, 2, "threads per site"),
        "Threads that read files of one site at a time. They are started as sites need them: a \
         site whose file system hangs keeps its own, and the others go on.",
    ),
    key(
        "io",
        choice(&["auto", "io_uring", "pread"], "auto"),
        "How files are read. `io_uring` has 32 reads in flight for each reader, `pread` one. \
         `auto` is `io_uring`, or `pread` with a warning where the kernel refuses that.",
    ),
    key(
        "direct",
        Kind::Switch { default: false },
        "Read files above 64 KiB past the kernel's page cache (`O_DIRECT`), where their file \
         system tells how (`STATX_DIOALIGN`).",
    ),
];

pub(super) const LIMITS: &[Key] = &[
    key(
        "mbufs",
        count(512, 1 << 20, 8192, "per worker and port"),
        "Packet buffers that the stack may hold: received packets, and headers in flight.",
    ),
    key(
        "page_buffers",
        count(256, 1 << 24, 32_768, "per worker"),
        "Page buffers: each is a record, or a part of one, that is queued for sending.",
    ),
    key(
        "spans_small",
        count(64, 1 << 22, 8192, "per worker"),
        "Spans of 2 KiB: handshakes, response heads, small files.",
    ),
    key(
        "spans_large",
        count(16, 1 << 20, 4096, "per worker"),
        "Spans of 20 KiB: whole records.",
    ),
    key(
        "sent_ranges",
        count(256, 1 << 24, 65_536, "per worker"),
        "Ranges of unacknowledged bytes that connections share, beside one for each.",
    ),
    key(
        "send_queue_max",
        size(32 * KIB, 64 * MIB, MIB),
        "The most bytes that one connection may have queued and unacknowledged.",
    ),
];

pub(super) const PROCESS: &[Key] = &[
    key(
        "user",
        Kind::Text {
            what: "a user name or number",
            default: TextDefault::None,
        },
        "The user that the process becomes, in all its threads, once devices, sockets and keys are \
         open. Needs a start as root, or as this user. Without it the process keeps the user that \
         it was started as.",
    ),
    key(
        "group",
        Kind::Text {
            what: "a group name or number",
            default: TextDefault::None,
        },
        "Its group, beside the supplementary groups of the user. Without it the user's own group. \
         None of these groups may be root.",
    ),
];

pub(super) const CONTROL: &[Key] = &[key(
    "socket",
    Kind::Text {
        what: "a path of 107 bytes at most",
        default: TextDefault::None,
    },
    "The Unix socket of `lockgate stats`. Its owner is `process.user`, its mode 0600: only this \
     user and root can use it.",
)];

pub(super) const DRAIN: &[Key] = &[key(
    "deadline",
    time(0, H, 30 * S),
    "How long connections may drain after SIGTERM or SIGINT. A second signal resets them at once.",
)];

pub(super) const LOG: &[Key] = &[key(
    "level",
    choice(&["error", "warn", "info", "debug", "trace"], "info"),
    "The least severe level that is written to standard error. The environment variable \
     `LOCKGATE_LOG` overrides it.",
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
    key(
        "hold_sent",
        choice(&["off", "until-cleaned", "until-reused"], "off"),
        "Makes TX rings hold what is sent, as network cards' drivers do. `until-cleaned`: until \
         the driver is asked to free it. `until-reused`: until the descriptor is reused.",
    ),
    key(
        "leak_pages",
        count(0, 1000, 0, "page buffers"),
        "Page buffers that each worker loses at its start.",
    ),
];

const SUITES: &[&str] = &["aes-128-gcm", "aes-256-gcm", "chacha20-poly1305"];
