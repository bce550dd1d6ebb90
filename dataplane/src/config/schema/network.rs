//! Keys of the machine, its ports and networks, and TCP.

use super::build::{GIB, H, KIB, M, MIB, MS, S, choice, count, key, required, size, time};
use super::{Key, Kind};

pub(super) const EAL: &[Key] = &[
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

pub(super) const WORKERS: &[Key] = &[
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

pub(super) const PORT: &[Key] = &[
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

pub(super) const INTERFACE: &[Key] = &[
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

pub(super) const ROUTE: &[Key] = &[
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

pub(super) const TCP: &[Key] = &[
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
        "Connections whose handshake isn't complete. One more pushes out the oldest.",
    ),
    key(
        "connections_max",
        count(16, 10_000_000, 65_536, "per worker"),
        "Connections, those in TIME-WAIT not counted. More are refused.",
    ),
];
