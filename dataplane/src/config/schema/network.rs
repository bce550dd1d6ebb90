//! Keys of the machine, its ports and networks, and TCP.

use super::build::{GIB, H, KIB, M, MIB, MS, S, choice, count, key, required, size, time};
use super::key::{Key, Kind};

pub(super) const EAL: &[Key] = &[
    key(
        "hugepages",
        choice(&["auto", "require", "off"], "auto"),
        "Where packet memory comes from. `auto`: hugepages as far as there are any, else ordinary \
         pages, with a warning. `require`: hugepages, or it doesn't start. `off`: ordinary pages.",
    ),
    key(
        "iova",
        choice(&["auto", "va", "pa"], "auto"),
        "The addresses that devices use. `va`: virtual, which PCI cards need an IOMMU for. `pa`: \
         physical, for which all packet memory must be on hugepages. `auto`: `pa` if a card is \
         bound to a driver without an IOMMU, such as uio_pci_generic, else `va`.",
    ),
    key(
        "memory",
        Kind::Size {
            min: 64 * MIB,
            max: 1024 * GIB,
            default: None,
        },
        "Packet memory. It must hold all pools and the file cache; the default is their sum.",
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
        "The cores that workers run on, one on each. Every port needs a queue for each worker.",
    ),
    key(
        "idle",
        choice(&["spin", "yield", "sleep"], "yield"),
        "What an idle worker does. `spin`: polls again, which has the lowest latency and keeps the \
         core at 100 %. `yield`: yields the core to other threads. `sleep`: sleeps for 20 to 640 \
         µs.",
    ),
];

pub(super) const PORT: &[Key] = &[
    key(
        "name",
        required("1 to 15 of a-z, 0-9, - and _"),
        "The port's name, which `[[interface]]` refers to.",
    ),
    key(
        "device",
        required("a DPDK device string"),
        "The device: a PCI address (`0000:03:00.0` or `03:00.0`) or a virtual device, with its \
         arguments. Arguments for the MTU and the queues of virtual devices are added.",
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
        "Offloads to assume instead of doing them in software. Only for net_ring and net_memif, \
         where nothing corrupts a byte. Figures measured with it have to say so.",
    ),
    key(
        "disable",
        Kind::Choices {
            of: &["tso", "txcsum", "rxcsum"],
            default: &[],
            may_be_empty: true,
        },
        "Offloads that the port offers and that are done in software all the same, for a driver \
         that does them wrong. `txcsum` includes `tso`, which needs it.",
    ),
    key(
        "rx_descriptors",
        count(64, 4096, 1024, "descriptors"),
        "Descriptors of each receive queue. The device may round the number.",
    ),
    key(
        "tx_descriptors",
        count(64, 4096, 1024, "descriptors"),
        "Descriptors of each transmit queue. The device may round the number.",
    ),
    key(
        "link_wait",
        time(0, M, 5 * S),
        "How long the start waits for the link to come up. Serving starts after it in any case; \
         `0s`: at once.",
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
        "The destination network; `0.0.0.0/0` and `::/0` match every address. The longest prefix \
         wins.",
    ),
    key(
        "via",
        required("an address"),
        "The gateway: an address in the network of one of the interfaces.",
    ),
];

pub(super) const TCP: &[Key] = &[
    key(
        "congestion",
        choice(&["cubic", "newreno"], "cubic"),
        "The congestion controller: CUBIC (RFC 9438) or NewReno (RFC 6582).",
    ),
    key(
        "initial_window",
        count(1, 64, 10, "segments"),
        "Segments that may be sent before the first acknowledgment (RFC 6928).",
    ),
    key(
        "window_max",
        size(16 * KIB, 64 * MIB, MIB),
        "The largest receive window: bytes that a peer may have in flight or unread.",
    ),
    key(
        "nagle",
        Kind::Switch { default: false },
        "Nagle's algorithm: a small segment waits for the acknowledgment of the one before it \
         (RFC 9293, 3.7.4).",
    ),
    key(
        "delayed_ack",
        time(0, 500 * MS, 40 * MS),
        "How long an acknowledgment may wait for data to go with it (RFC 9293, 3.8.6.3).",
    ),
    key(
        "rto_min",
        time(10 * MS, 3 * S, 200 * MS),
        "The shortest retransmission time-out. RFC 6298 says a second; Linux uses 200 ms, too.",
    ),
    key(
        "syn_retries",
        count(1, 15, 5, "times"),
        "Retransmissions of a SYN-ACK before the half-open connection is dropped.",
    ),
    key(
        "user_timeout",
        time(S, 24 * H, 5 * M),
        "A connection whose data isn't acknowledged for this long times out (RFC 9293, 3.8.3).",
    ),
    key(
        "time_wait",
        time(S, 4 * M, 60 * S),
        "How long a closed connection's addresses stay in TIME-WAIT (RFC 9293, 3.3.2: four \
         minutes).",
    ),
    key(
        "fin_wait_timeout",
        time(S, 10 * M, 60 * S),
        "How long a connection that was closed here waits in FIN-WAIT-2 for the peer's FIN.",
    ),
    key(
        "keepalive",
        Kind::Switch { default: true },
        "Whether idle connections are probed (RFC 9293, 3.8.4).",
    ),
    key(
        "keepalive_idle",
        time(S, 24 * H, 2 * H),
        "Idle time before the first keepalive probe.",
    ),
    key(
        "keepalive_interval",
        time(S, H, 75 * S),
        "Time between keepalive probes.",
    ),
    key(
        "keepalive_count",
        count(1, 32, 9, "probes"),
        "Unanswered keepalive probes before the connection times out.",
    ),
    key(
        "half_open_max",
        count(16, 1_000_000, 4096, "per worker"),
        "Half-open connections; TLS handshakes, 1024 at least. One more evicts the oldest.",
    ),
    key(
        "connections_max",
        count(16, 10_000_000, 65_536, "per worker"),
        "Connections, those in TIME-WAIT not counted. More are refused.",
    ),
];
