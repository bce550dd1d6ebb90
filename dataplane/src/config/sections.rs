//! The sections whose keys stand for themselves.

use pktbuf::{LARGE_SPAN, SMALL_SPAN};

use super::devices::DeviceLimits;
use super::reader::{Document, Reader};
use super::{
    Backend, Cache, Congestion, Drain, Eal, Http, Hugepages, Idle, Keepalive, Ktls, Limits, Log,
    LogLevel, Port, Suite, Tcp, Tls, TlsVersion,
};

pub(super) fn eal(document: &Document<'_>, needed: u64) -> Eal {
    let eal = document.one("eal");
    let hugepages = match eal.choice("hugepages") {
        "require" => Hugepages::Require,
        "off" => Hugepages::Off,
        _ => Hugepages::Auto,
    };
    let memory = eal.size("memory").unwrap_or(needed);
    if memory < needed {
        let mib = needed.div_ceil(1 << 20);
        eal.fault(
            "memory",
            format!("too small: the pools and the cache need {mib}MiB"),
        );
    }
    Eal { hugepages, memory }
}

pub(super) fn idle(workers: &Reader<'_, '_>) -> Idle {
    match workers.choice("idle") {
        "spin" => Idle::Spin,
        "sleep" => Idle::Sleep,
        _ => Idle::Yield,
    }
}

pub(super) fn tcp(document: &Document<'_>) -> Tcp {
    let tcp = document.one("tcp");
    let keepalive = Keepalive {
        idle: tcp.time("keepalive_idle"),
        interval: tcp.time("keepalive_interval"),
        count: tcp.count("keepalive_count"),
    };
    Tcp {
        congestion: match tcp.choice("congestion") {
            "newreno" => Congestion::NewReno,
            _ => Congestion::Cubic,
        },
        initial_window: tcp.count("initial_window"),
        window_max: tcp.size("window_max").unwrap_or_default(),
        nagle: tcp.switch("nagle"),
        delayed_ack: tcp.time("delayed_ack"),
        rto_min: tcp.time("rto_min"),
        syn_retries: tcp.count("syn_retries"),
        user_timeout: tcp.time("user_timeout"),
        time_wait: tcp.time("time_wait"),
        fin_wait_timeout: tcp.time("fin_wait_timeout"),
        keepalive: tcp.switch("keepalive").then_some(keepalive),
        half_open_max: tcp.count("half_open_max"),
        connections_max: tcp.count("connections_max"),
    }
}

pub(super) fn ktls(document: &Document<'_>) -> Ktls {
    let ktls = document.one("ktls");
    Ktls {
        enable: ktls.switch("enable"),
        backend: match ktls.choice("backend") {
            "aws-lc" => Backend::AwsLc,
            "rustcrypto" => Backend::RustCrypto,
            _ => Backend::Auto,
        },
        record_max: ktls.size("record_max").unwrap_or_default(),
    }
}

pub(super) fn tls(document: &Document<'_>) -> Tls {
    let tls = document.one("tls");
    let version = |name: &str| match name {
        "1.2" => TlsVersion::V1_2,
        _ => TlsVersion::V1_3,
    };
    let suite = |name: &str| match name {
        "aes-128-gcm" => Suite::Aes128Gcm,
        "aes-256-gcm" => Suite::Aes256Gcm,
        _ => Suite::Chacha20Poly1305,
    };
    Tls {
        versions: tls.choices("versions").into_iter().map(version).collect(),
        suites: tls.choices("suites").into_iter().map(suite).collect(),
        tickets: tls.switch("tickets"),
        handshake_timeout: tls.time("handshake_timeout"),
    }
}

pub(super) fn http(document: &Document<'_>) -> Http {
    let http = document.one("http");
    Http {
        header_timeout: http.time("header_timeout"),
        idle_timeout: http.time("idle_timeout"),
        send_timeout: http.time("send_timeout"),
        request_max: http.size("request_max").unwrap_or_default(),
        headers_max: http.count("headers_max"),
        requests_max: http.count("requests_max"),
    }
}

pub(super) fn cache(document: &Document<'_>) -> Cache {
    let cache = document.one("cache");
    Cache {
        memory_max: cache.size("memory_max").unwrap_or_default(),
        files_max: cache.count("files_max"),
        revalidate: cache.time("revalidate"),
        readers: cache.count("readers"),
    }
}

pub(super) fn limits(document: &Document<'_>) -> Limits {
    let limits = document.one("limits");
    Limits {
        mbufs: limits.count("mbufs"),
        page_buffers: limits.count("page_buffers"),
        spans_small: limits.count("spans_small"),
        spans_large: limits.count("spans_large"),
        sent_ranges: limits.count("sent_ranges"),
        send_queue_max: limits.size("send_queue_max").unwrap_or_default(),
    }
}

pub(super) fn drain(document: &Document<'_>) -> Drain {
    Drain {
        deadline: document.one("drain").time("deadline"),
    }
}

pub(super) fn log(document: &Document<'_>) -> Log {
    let level = match document.one("log").choice("level") {
        "error" => LogLevel::Error,
        "warn" => LogLevel::Warn,
        "debug" => LogLevel::Debug,
        "trace" => LogLevel::Trace,
        _ => LogLevel::Info,
    };
    Log { level }
}

#[cfg(feature = "fault-injection")]
pub(super) fn test(document: &Document<'_>) -> super::Test {
    let test = document.one("test");
    super::Test {
        fail_one_in: test.count("fail_one_in"),
        fail_seed: test.count("fail_seed"),
    }
}

/// The sum of all pools, and an eighth more for what lies between them.
pub(super) fn memory_needed(workers: usize, ports: &[Port], limits: &Limits, cache: &Cache) -> u64 {
    let workers = u64::try_from(workers).unwrap_or(u64::MAX);
    let mbufs = ports.iter().map(|port| {
        let held = u64::from(limits.mbufs);
        let receive = held + u64::from(port.rx_descriptors) + PORT_OWN;
        // On a ring the other end holds what was sent.
        let in_memory = port
            .device
            .parse()
            .is_ok_and(|d| DeviceLimits::of(&d).in_memory);
        let lent = if in_memory { held } else { 0 };
        let send = lent + u64::from(port.tx_descriptors) * MBUFS_PER_FRAME + PORT_OWN;
        let room = u64::from(port.mtu).max(2048) + MBUF_OVERHEAD;
        (receive + send).saturating_mul(room)
    });
    let pages = u64::from(limits.page_buffers) * PAGE_BUFFER
        + u64::from(limits.spans_small) * u64::from(SMALL_SPAN)
        + u64::from(limits.spans_large) * u64::from(LARGE_SPAN);
    let each = mbufs.fold(pages, u64::saturating_add);
    let sum = workers
        .saturating_mul(each)
        .saturating_add(cache.memory_max)
        .saturating_add(EAL_OWN);
    sum.saturating_add(sum / 8).next_multiple_of(2 << 20)
}

/// Mbufs of a queue that are neither in its ring nor counted by a limit: in caches, in the hands
/// of the worker or of the device.
const PORT_OWN: u64 = 3072;

/// Mbufs that a sent frame takes: its headers, and the pieces that it refers to.
const MBUFS_PER_FRAME: u64 = 4;

/// Descriptor, private area, head room and the pool's own header of an mbuf, rounded up.
const MBUF_OVERHEAD: u64 = 512;

/// A page buffer's block.
const PAGE_BUFFER: u64 = 192;

/// What DPDK takes for itself.
const EAL_OWN: u64 = 16 << 20;
