//! Every section and key of the configuration file: kind, range, default and what it's for.
//!
//! This is the one place. The parser reads a key only through its entry here, and the tables of
//! `configs/README.md` are [`section_table`]'s.

use core::fmt::Write as _;
use core::time::Duration;

use super::values::{show_duration, show_size};

/// A table of the file.
#[derive(Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// Whether it may come several times: `[[name]]`.
    pub repeats: bool,
    /// Its keys.
    pub keys: &'static [Key],
}

/// A key of a section.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What it's for, in Markdown.
    pub about: &'static str,
}

/// What a key's value is.
#[derive(Debug)]
pub enum Kind {
    /// A whole number.
    Count {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
        /// If the key is absent.
        default: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// A number of bytes: `"64MiB"`, or a whole number.
    Size {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
        /// If the key is absent; none: computed.
        default: Option<u64>,
    },
    /// `"30s"`.
    Time {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
        /// If the key is absent.
        default: Duration,
    },
    /// `true` or `false`.
    Switch {
        /// If the key is absent.
        default: bool,
    },
    /// One of some names.
    Choice {
        /// The names.
        of: &'static [&'static str],
        /// If the key is absent.
        default: &'static str,
    },
    /// A list of some names, none twice.
    Choices {
        /// The names.
        of: &'static [&'static str],
        /// If the key is absent.
        default: &'static [&'static str],
        /// Whether the list may be empty.
        may_be_empty: bool,
    },
    /// Text.
    Text {
        /// What it has to be.
        what: &'static str,
        /// If the key is absent.
        default: Default,
    },
    /// A list of whole numbers.
    Counts {
        /// Largest.
        max: u64,
        /// How many there may be, at least one.
        len_max: usize,
        /// If the key is absent.
        default: &'static [u64],
    },
    /// A list of texts.
    Texts {
        /// What each has to be.
        what: &'static str,
        /// How many there may be, at least one.
        len_max: usize,
    },
}

/// What stands for an absent text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Nothing: the key is required.
    Required,
    /// Nothing, and that is a value.
    None,
    /// This text.
    Text(&'static str),
}

impl Section {
    /// The section of that name.
    pub fn of(name: &str) -> Option<&'static Self> {
        SECTIONS.iter().find(|s| s.name == name)
    }

    /// The key of that name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }
}

impl Kind {
    /// The values that are allowed.
    pub fn range(&self) -> String {
        match self {
            Self::Count { min, max, unit, .. } => format!("{min} to {max}{}", after(unit)),
            Self::Size { min, max, .. } => format!("{} to {}", show_size(*min), show_size(*max)),
            Self::Time { min, max, .. } => {
                format!("{} to {}", show_duration(*min), show_duration(*max))
            }
            Self::Switch { .. } => "true, false".to_owned(),
            Self::Choice { of, .. } | Self::Choices { of, .. } => of.join(", "),
            Self::Text { what, .. } => (*what).to_owned(),
            Self::Counts { max, len_max, .. } => format!("1 to {len_max} of 0 to {max}"),
            Self::Texts { what, len_max } => format!("1 to {len_max} of {what}"),
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::Count { .. } => "number",
            Self::Size { .. } => "size",
            Self::Time { .. } => "duration",
            Self::Switch { .. } => "switch",
            Self::Choice { .. } => "name",
            Self::Choices { .. } => "list of names",
            Self::Text { .. } => "text",
            Self::Counts { .. } => "list of numbers",
            Self::Texts { .. } => "list of texts",
        }
    }

    fn default_text(&self) -> String {
        match self {
            Self::Count { default, .. } => format!("`{default}`"),
            Self::Size {
                default: Some(size),
                ..
            } => format!("`\"{}\"`", show_size(*size)),
            Self::Size { default: None, .. } => "what the pools need".to_owned(),
            Self::Time { default, .. } => format!("`\"{}\"`", show_duration(*default)),
            Self::Switch { default } => format!("`{default}`"),
            Self::Choice { default, .. } => format!("`\"{default}\"`"),
            Self::Choices { default, .. } => format!("`{default:?}`"),
            Self::Text {
                default: Default::Required,
                ..
            }
            | Self::Texts { .. } => "required".to_owned(),
            Self::Text {
                default: Default::None,
                ..
            } => "none".to_owned(),
            Self::Text {
                default: Default::Text(text),
                ..
            } => format!("`\"{text}\"`"),
            Self::Counts { default, .. } => format!("`{default:?}`"),
        }
    }
}

/// The section's table, in Markdown.
pub fn section_table(section: &Section) -> String {
    let mut out = String::from("| key | type | allowed | default | what it is |\n");
    out.push_str("|---|---|---|---|---|\n");
    for Key { name, kind, about } in section.keys {
        let (of, allowed, default) = (kind.type_name(), kind.range(), kind.default_text());
        // Writing to a string can't fail.
        let _ = writeln!(out, "| `{name}` | {of} | {allowed} | {default} | {about} |");
    }
    out
}

/// Every section, in the order of the documentation.
pub const SECTIONS: &[Section] = &[
    one("eal", EAL),
    one("workers", WORKERS),
    many("port", PORT),
    many("interface", INTERFACE),
    many("route", ROUTE),
    one("tcp", TCP),
    one("ktls", KTLS),
    one("tls", TLS),
    many("certificate", CERTIFICATE),
    many("listener", LISTENER),
    many("site", SITE),
    one("http", HTTP),
    one("cache", CACHE),
    one("limits", LIMITS),
    one("control", CONTROL),
    one("drain", DRAIN),
    one("log", LOG),
];

/// Sections of one kind that a file may have.
pub const REPEATS_MAX: usize = 1024;

const EAL: &[Key] = &[
    key(
        "hugepages",
        choice(&["auto", "require", "off"], "auto"),
        "Where packet memory comes from: hugepages if enough are free, hugepages or nothing, \
         ordinary pages.",
    ),
    key(
        "memory",
        Kind::Size {
            min: 64 * MIB,
            max: 1024 * GIB,
            default: None,
        },
        "Packet memory. It must hold all pools; the default is their sum.",
    ),
];

const WORKERS: &[Key] = &[
    key(
        "cores",
        Kind::Counts {
            max: 1023,
            len_max: 64,
            default: &[0],
        },
        "One worker runs on each of these cores. A port needs a queue for each worker.",
    ),
    key(
        "idle",
        choice(&["spin", "yield", "sleep"], "yield"),
        "What a worker without work does: poll again, give the core away for a moment, sleep for \
         a moment. The first answers soonest and keeps the core at 100 %.",
    ),
];

const PORT: &[Key] = &[
    key(
        "name",
        required("1 to 15 of a-z, 0-9, - and _"),
        "What `[[interface]]` calls it.",
    ),
    key(
        "device",
        required("a DPDK device string"),
        "The device: a PCI address or a virtual device with its arguments. What it needs for the \
         MTU and for its queues is added.",
    ),
    key(
        "mtu",
        count(576, 9000, 1500, "bytes"),
        "The largest IP packet. IPv6 needs 1280.",
    ),
    key(
        "assume",
        Kind::Choices {
            of: &["tso", "txcsum", "rxcsum"],
            default: &[],
            may_be_empty: true,
        },
        "Offloads to take for granted. Only on net_ring and net_memif, where nothing can corrupt \
         a byte; figures measured so have to say so.",
    ),
    key(
        "rx_descriptors",
        count(64, 4096, 1024, "packets"),
        "Received packets that a queue holds. The device may round it.",
    ),
    key(
        "tx_descriptors",
        count(64, 4096, 1024, "packets"),
        "Packets that a queue holds for sending. The device may round it.",
    ),
];

const INTERFACE: &[Key] = &[
    key(
        "on",
        required("the name of a port"),
        "The port. Each port has one interface at most.",
    ),
    key(
        "addresses",
        Kind::Texts {
            what: "address/length",
            len_max: 16,
        },
        "Its addresses, IPv4 or IPv6, each with the length of its network's prefix.",
    ),
];

const ROUTE: &[Key] = &[
    key(
        "to",
        required("network/length"),
        "The destination; `0.0.0.0/0` and `::/0` are everything. The longest prefix wins.",
    ),
    key(
        "via",
        required("an address"),
        "The gateway, in the network of one of the interfaces.",
    ),
];

const TCP: &[Key] = &[
    key(
        "congestion",
        choice(&["cubic", "newreno"], "cubic"),
        "RFC 9438 or RFC 6582.",
    ),
    key(
        "initial_window",
        count(1, 64, 10, "segments"),
        "What may be sent before the first acknowledgement (RFC 6928).",
    ),
    key(
        "window_max",
        size(16 * KIB, 64 * MIB, MIB),
        "The largest window that is offered to a peer: bytes that wait to be read.",
    ),
    key(
        "nagle",
        Kind::Switch { default: false },
        "Whether a small segment waits until the one before it is acknowledged (RFC 9293, 3.7.4).",
    ),
    key(
        "delayed_ack",
        time(0, 500 * MS, 40 * MS),
        "How long an acknowledgement may wait for data to go with (RFC 9293, 3.8.6.3).",
    ),
    key(
        "rto_min",
        time(10 * MS, 3 * S, 200 * MS),
        "The shortest retransmission time-out. RFC 6298 says a second; everybody uses less.",
    ),
    key(
        "syn_retries",
        count(1, 15, 5, "times"),
        "How often a SYN or SYN-ACK is sent again before the connection is given up.",
    ),
    key(
        "user_timeout",
        time(S, 24 * H, 5 * M),
        "A connection whose data isn't acknowledged for this long is given up (RFC 9293, 3.8.3).",
    ),
    key(
        "time_wait",
        time(S, 4 * M, 60 * S),
        "How long a closed connection's addresses stay reserved (RFC 9293, 3.3.2: four minutes).",
    ),
    key(
        "fin_wait_timeout",
        time(S, 10 * M, 60 * S),
        "How long a connection that we closed waits for its peer to close.",
    ),
    key(
        "keepalive",
        Kind::Switch { default: true },
        "Whether a silent connection is probed (RFC 9293, 3.8.4).",
    ),
    key(
        "keepalive_idle",
        time(S, 24 * H, 2 * H),
        "Silence before the first probe.",
    ),
    key(
        "keepalive_interval",
        time(S, H, 75 * S),
        "Time between probes.",
    ),
    key(
        "keepalive_count",
        count(1, 32, 9, "probes"),
        "Probes without an answer before the connection is given up.",
    ),
    key(
        "half_open_max",
        count(16, 1_000_000, 4096, "per worker"),
        "Connections whose handshake isn't complete. More SYNs are dropped.",
    ),
    key(
        "connections_max",
        count(16, 10_000_000, 65_536, "per worker"),
        "Connections, those in TIME-WAIT not counted. More are refused.",
    ),
];

const KTLS: &[Key] = &[
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

const TLS: &[Key] = &[
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

const CERTIFICATE: &[Key] = &[
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

const LISTENER: &[Key] = &[
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

const SITE: &[Key] = &[
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

const HTTP: &[Key] = &[
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

const CACHE: &[Key] = &[
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

const LIMITS: &[Key] = &[
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
        "Memory of 16.5 KiB each for whole records.",
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

const CONTROL: &[Key] = &[key(
    "socket",
    Kind::Text {
        what: "a path of 107 bytes at most",
        default: Default::None,
    },
    "The Unix socket that `lockgate stats` asks. Only its owner can.",
)];

const DRAIN: &[Key] = &[key(
    "deadline",
    time(0, H, 30 * S),
    "How long connections have to end after SIGTERM or SIGINT. A second signal ends them at once.",
)];

const LOG: &[Key] = &[key(
    "level",
    choice(&["error", "warn", "info", "debug", "trace"], "info"),
    "What is written to standard error. The environment's `LOCKGATE_LOG` goes before it.",
)];

const SUITES: &[&str] = &["aes-128-gcm", "aes-256-gcm", "chacha20-poly1305"];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MS: u64 = 1;
const S: u64 = 1000 * MS;
const M: u64 = 60 * S;
const H: u64 = 60 * M;

const fn one(name: &'static str, keys: &'static [Key]) -> Section {
    Section {
        name,
        repeats: false,
        keys,
    }
}

const fn many(name: &'static str, keys: &'static [Key]) -> Section {
    Section {
        name,
        repeats: true,
        keys,
    }
}

const fn key(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, about }
}

const fn choice(of: &'static [&'static str], default: &'static str) -> Kind {
    Kind::Choice { of, default }
}

const fn required(what: &'static str) -> Kind {
    Kind::Text {
        what,
        default: Default::Required,
    }
}

const fn count(min: u64, max: u64, default: u64, unit: &'static str) -> Kind {
    Kind::Count {
        min,
        max,
        default,
        unit,
    }
}

const fn size(min: u64, max: u64, default: u64) -> Kind {
    Kind::Size {
        min,
        max,
        default: Some(default),
    }
}

/// In milliseconds.
const fn time(min: u64, max: u64, default: u64) -> Kind {
    Kind::Time {
        min: Duration::from_millis(min),
        max: Duration::from_millis(max),
        default: Duration::from_millis(default),
    }
}

fn after(unit: &str) -> String {
    if unit.is_empty() {
        String::new()
    } else {
        format!(" {unit}")
    }
}
