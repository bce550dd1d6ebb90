//! Parses the sections that refer to no other, into the types that the components take.

use core::num::NonZeroUsize;
use core::time::Duration;

use lockgate_cache::{CacheConfig, FileIo};
#[cfg(feature = "fault-injection")]
use lockgate_drivers::SentRelease;
use lockgate_drivers::{Device, EalConfig, Hugepages, Iova, RX_ROOM_MIN};
use lockgate_http::{Bounded, Limits as HttpLimits, Timeout};
use lockgate_ktls::BackendChoice;
use lockgate_stack::tls::{CipherSuite, TlsOptions, TlsVersions};
use lockgate_stack::{DynamicRecords, Limits};
use lockgate_tcp::congestion::Algorithm;
use lockgate_tcp::{Keepalive, TcpConfig};
use pktbuf::PoolConfig;
use tracing::Level;

use super::document::Document;
use super::memory::MemorySum;
use super::reader::{Located, Reader};
use super::{Host, Ktls, Port, Tls};
use crate::ktls_workers::KtlsWorkersConfig;
use crate::worker::IdlePolicy;

pub(super) fn eal(document: &Document<'_>, needed: MemorySum, ports: &[Port]) -> EalConfig {
    let eal = document.one("eal");
    let hugepages = eal.choice(
        "hugepages",
        [
            ("auto", Hugepages::Auto),
            ("require", Hugepages::Require),
            ("off", Hugepages::Off),
        ],
    );
    let iova = eal.choice(
        "iova",
        [
            ("auto", Iova::Auto),
            ("va", Iova::Virtual),
            ("pa", Iova::Physical),
        ],
    );
    if (hugepages, iova) == (Hugepages::Off, Iova::Physical) {
        let message = "physical addresses need all packet memory on huge pages, and hugepages is \
                       \"off\"";
        eal.fault("iova", message);
    }
    let memory = eal.size("memory").unwrap_or_else(|| needed.total());
    if memory < needed.total() {
        let mib = needed.total().div_ceil(1 << 20);
        eal.fault(
            "memory",
            format!("too small: the pools and the cache need {mib}MiB"),
        );
    }
    // Regions aren't the EAL's own: they are counted apart.
    let own = memory.saturating_sub(needed.regions);
    let devices = ports.iter().map(|port| &port.settings.device);
    let cards = devices.flat_map(Device::allow_list);
    EalConfig {
        hugepages,
        iova,
        memory_mib: u32::try_from(own.div_ceil(1 << 20)).unwrap_or(u32::MAX),
        pci: cards.collect(),
        ..EalConfig::default()
    }
}

pub(super) fn idle(workers: &Reader<'_, '_>) -> IdlePolicy {
    workers.choice(
        "idle",
        [
            ("spin", IdlePolicy::Spin),
            ("yield", IdlePolicy::Yield),
            ("sleep", IdlePolicy::Sleep),
        ],
    )
}

pub(super) fn tcp(document: &Document<'_>) -> TcpConfig {
    let tcp = document.one("tcp");
    let keepalive = Keepalive {
        idle: tcp.time("keepalive_idle"),
        interval: tcp.time("keepalive_interval"),
        count: tcp.count("keepalive_count"),
    };
    TcpConfig {
        congestion: tcp.choice(
            "congestion",
            [("cubic", Algorithm::Cubic), ("newreno", Algorithm::NewReno)],
        ),
        initial_window: tcp.count("initial_window"),
        window_max: tcp.size("window_max").unwrap_or_default(),
        nodelay: !tcp.switch("nagle"),
        delayed_ack: tcp.time("delayed_ack"),
        rto_min: tcp.time("rto_min"),
        syn_ack_retries: tcp.count("syn_retries"),
        user_timeout: tcp.time("user_timeout"),
        time_wait: tcp.time("time_wait"),
        fin_wait2_timeout: tcp.time("fin_wait_timeout"),
        keepalive: tcp.switch("keepalive").then_some(keepalive),
        ..TcpConfig::default()
    }
}

/// Parses the limits of a worker's stack.
pub(super) fn limits(document: &Document<'_>) -> Limits {
    let (tcp, limits) = (document.one("tcp"), document.one("limits"));
    let connections_max = tcp.count("connections_max");
    let half_open_max: u32 = tcp.count("half_open_max");
    // A handshake's memory is bounded. The more, the higher the rate of a flood has to be.
    let handshakes_max = half_open_max.max(HANDSHAKES_MIN).min(connections_max);
    let window_max: u32 = tcp.size("window_max").unwrap_or_default();
    let send_queue_max: u32 = limits.size("send_queue_max").unwrap_or_default();
    Limits {
        connections_max,
        half_open_max,
        // Each connection leaves one TIME-WAIT entry at most.
        time_wait_max: connections_max,
        handshakes_max,
        handshake_bytes_max: (u64::from(handshakes_max) * HANDSHAKE_BYTES).max(1 << 20),
        ranges_max: limits.count("sent_ranges"),
        send_buffer_bytes: send_queue_max,
        send_low_water_bytes: send_queue_max / 2,
        recv_buffer_bytes: window_max.min(RECV_BUFFER_MAX),
        // Half of the packet buffers may be pinned by unread bytes; the other half receives.
        recv_total_bytes: u64::from(mbufs(document)) * u64::from(RX_ROOM_MIN) / 2,
        send_rate_min: document.one("http").count("send_rate_min"),
        // The limit that HTTP applies while it still has the response.
        orphan_timeout: document.one("http").time("send_timeout"),
        ..Limits::default()
    }
}

/// Parses the size of a worker's page pool.
pub(super) fn pool(document: &Document<'_>) -> PoolConfig {
    let limits = document.one("limits");
    PoolConfig {
        blocks: limits.count("page_buffers"),
        small_spans: limits.count("spans_small"),
        large_spans: limits.count("spans_large"),
    }
}

/// Returns the packet buffers that a worker's stack may hold, for each port.
pub(super) fn mbufs(document: &Document<'_>) -> u32 {
    document.one("limits").count("mbufs")
}

pub(super) fn ktls(document: &Document<'_>, host: &Host, worker_cores: &[u16]) -> Ktls {
    let ktls = document.one("ktls");
    let listed = cores(document, &ktls, "worker_cores", host);
    let left = || {
        let all = host.cores.iter().copied();
        all.filter(|core| !worker_cores.contains(core)).collect()
    };
    let workers = NonZeroUsize::new(ktls.count("workers"));
    let workers = workers.map(|workers| KtlsWorkersConfig {
        workers,
        cores: if listed.is_empty() { left() } else { listed },
    });
    Ktls {
        enable: ktls.switch("enable"),
        cbc_enable: ktls.switch("cbc_enable"),
        backend: ktls.choice(
            "backend",
            [
                ("auto", BackendChoice::Auto),
                ("aws-lc", BackendChoice::AwsLcRs),
                ("rustcrypto", BackendChoice::RustCrypto),
            ],
        ),
        record_max: ktls.size("record_max").unwrap_or_default(),
        dynamic_records: DynamicRecords {
            small_records: ktls.count("dyn_rec_threshold"),
            idle: ktls.time("dyn_rec_timeout"),
        },
        workers,
    }
}

/// Parses a list of cores that may be used on this host.
pub(super) fn cores(
    document: &Document<'_>,
    section: &Reader<'_, '_>,
    name: &str,
    host: &Host,
) -> Vec<u16> {
    let mut cores: Vec<u16> = Vec::new();
    for Located { value, place } in section.counts(name) {
        let core = u16::try_from(value).unwrap_or(u16::MAX);
        if cores.contains(&core) {
            document.fault(place, format!("core {core} comes twice"));
        } else if host.cores.contains(&core) {
            cores.push(core);
        } else {
            let there: Vec<String> = host.cores.iter().map(u16::to_string).collect();
            let there = there.join(", ");
            let message = format!("the process may not use core {core}; it may use: {there}");
            document.fault(place, message);
        }
    }
    cores
}

pub(super) fn tls(document: &Document<'_>) -> Tls {
    let tls = document.one("tls");
    let versions = tls.choices(
        "versions",
        [("1.2", TlsVersions::Tls12), ("1.3", TlsVersions::Tls13)],
    );
    let suites = tls.choices(
        "suites",
        [
            ("aes-128-gcm", AES_128_GCM),
            ("aes-256-gcm", AES_256_GCM),
            ("chacha20-poly1305", CHACHA20_POLY1305),
        ],
    );
    Tls {
        options: TlsOptions {
            versions: match versions.as_slice() {
                [one] => *one,
                _ => TlsVersions::Both,
            },
            suites: suites.concat(),
            // `curl --http1.0` offers the second one only.
            alpn: vec![b"http/1.1".to_vec(), b"http/1.0".to_vec()],
            tickets: if tls.switch("tickets") { TICKETS } else { 0 },
        },
        handshake_timeout: tls.time("handshake_timeout"),
    }
}

pub(super) fn http(document: &Document<'_>) -> HttpLimits {
    let http = document.one("http");
    let connections_max: u32 = document.one("tcp").count("connections_max");
    HttpLimits {
        long_heads_bytes_max: (u64::from(connections_max) * LONG_HEAD_BYTES).max(1 << 20),
        head_bytes_max: Bounded::clamped(http.size("request_max").unwrap_or_default()),
        headers_max: Bounded::clamped(http.count("headers_max")),
        header_timeout: timeout(http.time("header_timeout")),
        idle_timeout: timeout(http.time("idle_timeout")),
        send_timeout: timeout(http.time("send_timeout")),
        send_rate_min: Bounded::clamped(http.count("send_rate_min")),
        requests_max: Bounded::clamped(http.count("requests_max")),
        ..HttpLimits::default()
    }
}

/// Parses the cache's settings and the bytes of its memory.
pub(super) fn cache(document: &Document<'_>) -> (CacheConfig, u64) {
    let cache = document.one("cache");
    let config = CacheConfig {
        revalidate: cache.time("revalidate"),
        stale_max: cache.time("stale_max"),
        objects_max: cache.count("files_max"),
        loaders: cache.count("readers"),
        io: cache.choice(
            "io",
            [
                ("auto", FileIo::Auto),
                ("io_uring", FileIo::Uring),
                ("pread", FileIo::Pread),
            ],
        ),
        is_direct: cache.switch("direct"),
        ..CacheConfig::default()
    };
    (config, cache.size("memory_max").unwrap_or_default())
}

pub(super) fn log_level(document: &Document<'_>) -> Level {
    document.one("log").choice(
        "level",
        [
            ("info", Level::INFO),
            ("error", Level::ERROR),
            ("warn", Level::WARN),
            ("debug", Level::DEBUG),
            ("trace", Level::TRACE),
        ],
    )
}

#[cfg(feature = "fault-injection")]
pub(super) fn test(document: &Document<'_>) -> super::Test {
    let test = document.one("test");
    super::Test {
        fail_one_in: test.count("fail_one_in"),
        fail_seed: test.count("fail_seed"),
        hold_sent: test.choice(
            "hold_sent",
            [
                ("off", None),
                ("until-cleaned", Some(SentRelease::OnRequest)),
                ("until-reused", Some(SentRelease::OnReuse)),
            ],
        ),
        leak_pages: test.count("leak_pages"),
    }
}

fn timeout(duration: Duration) -> Timeout {
    Timeout::clamped(u32::try_from(duration.as_millis()).unwrap_or(u32::MAX))
}

/// Memory for request heads beyond an ordinary one, for each connection.
const LONG_HEAD_BYTES: u64 = 512;

/// The suites of a record cipher: TLS 1.3, and TLS 1.2 with ECDSA and RSA certificates.
type Suites = [CipherSuite; 3];

const AES_128_GCM: Suites = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

const AES_256_GCM: Suites = [
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
];

const CHACHA20_POLY1305: Suites = [
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// Session tickets after a full handshake; two, as most servers send.
const TICKETS: u8 = 2;

/// TLS handshakes under way, unless there may be fewer connections.
const HANDSHAKES_MIN: u32 = 1024;

/// Received bytes of records and messages that aren't complete, for each handshake: several times a
/// usual ClientHello.
const HANDSHAKE_BYTES: u64 = 8 << 10;

/// Bytes that one connection's unread data may pin. Requests are short.
const RECV_BUFFER_MAX: u32 = 512 << 10;
