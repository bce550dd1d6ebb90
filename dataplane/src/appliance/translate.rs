//! From the configuration's types to those of the parts that work by them.

use core::time::Duration;
use std::sync::Arc;

use lockgate_cache::CacheConfig;
use lockgate_drivers::{Assume, DeviceError, EalConfig, Hugepages, Port, PortConfig};
use lockgate_ip::{Cidr, Interface, IpConfig, Route};
use lockgate_ktls::BackendChoice;
use lockgate_stack::tls::{CipherSuite, TlsConfigError, TlsOptions, TlsServer, TlsVersions};
use lockgate_stack::{Limits, StackConfig};
use lockgate_tcp::congestion::Algorithm;
use lockgate_tcp::{Keepalive, TcpConfig};
use lockgate_wire::IfaceId;
use pktbuf::PoolConfig;

use crate::config::{self, Config};

/// How the environment is started.
pub(super) fn eal(config: &Config) -> EalConfig {
    EalConfig {
        hugepages: match config.eal.hugepages {
            config::Hugepages::Auto => Hugepages::Auto,
            config::Hugepages::Require => Hugepages::Require,
            config::Hugepages::Off => Hugepages::Off,
        },
        memory_mib: u32::try_from(config.eal.memory.div_ceil(1 << 20)).unwrap_or(u32::MAX),
        pci: pci_addresses(config),
    }
}

/// How a port is opened.
pub(super) fn port(config: &Config, port: &config::Port) -> Result<PortConfig, DeviceError> {
    let queues = u16::try_from(config.workers.cores.len()).unwrap_or(u16::MAX);
    Ok(PortConfig {
        mtu: port.mtu,
        queues,
        rx_descriptors: port.rx_descriptors,
        tx_descriptors: port.tx_descriptors,
        rx_buffers: config.limits.mbufs,
        assume: Assume {
            tso: port.assume.tso,
            tx_csum: port.assume.txcsum,
            rx_csum: port.assume.rxcsum,
        },
        #[cfg(feature = "fault-injection")]
        inject: failures(config.test, 0),
        ..PortConfig::new(&port.name, port.device.parse()?)
    })
}

/// What a worker's stack is sent. The ports are those of the configuration, in its order.
pub(super) fn stack(config: &Config, ports: &[Port]) -> StackConfig {
    let interfaces = config.interfaces.iter().enumerate();
    StackConfig {
        interfaces: interfaces
            .map(|(index, interface)| {
                let port = &ports[interface.port];
                let on = Interface {
                    id: iface(index),
                    mac: Some(port.mac()),
                    mtu: port.mtu(),
                    vlan: None,
                };
                (
                    on,
                    interface
                        .addresses
                        .iter()
                        .filter_map(|prefix| cidr(*prefix))
                        .collect(),
                )
            })
            .collect(),
        routes: config
            .routes
            .iter()
            .filter_map(|route| {
                let (to, via) = (cidr(route.to)?, Some(route.via));
                Some(Route {
                    to,
                    via,
                    iface: iface(route.interface),
                })
            })
            .collect(),
        ip: IpConfig::default(),
        tcp: tcp(&config.tcp),
        limits: limits(config),
        handshake_timeout: config.tls.handshake_timeout,
        ktls: config.ktls.enable,
        siblings: u16::try_from(config.workers.cores.len() - 1).unwrap_or(u16::MAX),
        record_len_max: config.ktls.record_max,
    }
}

/// Both types hold only prefixes that are no longer than their address.
fn cidr(prefix: config::Prefix) -> Option<Cidr> {
    Cidr::new(prefix.address(), prefix.length())
}

/// The interface of this place in the configuration, as ports and stack name it.
pub(super) fn iface(index: usize) -> IfaceId {
    IfaceId(u16::try_from(index).unwrap_or(u16::MAX))
}

/// Certificates and options of all TLS listeners; none if there are no certificates.
pub(super) fn tls(config: &Config) -> Result<Option<Arc<TlsServer>>, TlsConfigError> {
    if config.certificates.is_empty() {
        return Ok(None);
    }
    let certificates = config.certificates.clone();
    let versions = &config.tls.versions;
    let options = TlsOptions {
        versions: match (
            versions.contains(&config::TlsVersion::V1_2),
            versions.contains(&config::TlsVersion::V1_3),
        ) {
            (true, false) => TlsVersions::Tls12,
            (false, true) => TlsVersions::Tls13,
            (true, true) | (false, false) => TlsVersions::Both,
        },
        suites: config.tls.suites.iter().flat_map(|s| suites(*s)).collect(),
        alpn: vec![b"http/1.1".to_vec()],
        tickets: if config.tls.tickets { TICKETS } else { 0 },
    };
    Ok(Some(Arc::new(TlsServer::new(certificates, &options)?)))
}

/// Which backends seal and open.
pub(super) fn backend(ktls: config::Ktls) -> BackendChoice {
    match ktls.backend {
        config::Backend::Auto => BackendChoice::Auto,
        config::Backend::AwsLc => BackendChoice::AwsLcRs,
        config::Backend::RustCrypto => BackendChoice::RustCrypto,
    }
}

/// A worker's page buffers.
pub(super) fn pool(limits: config::Limits) -> PoolConfig {
    PoolConfig {
        blocks: limits.page_buffers,
        small_spans: limits.spans_small,
        large_spans: limits.spans_large,
    }
}

/// Allocation failures that a test asks for, in the pools of one worker or in those of the ports.
#[cfg(feature = "fault-injection")]
pub(super) fn failures(test: config::Test, of: usize) -> Option<lockgate_drivers::Inject> {
    let seed = u64::from(test.fail_seed) << 16 | of as u64;
    (test.fail_one_in > 0).then_some(lockgate_drivers::Inject {
        seed,
        one_in: test.fail_one_in,
    })
}

/// The limits of HTTP.
pub(super) fn http(config: &config::Http) -> lockgate_http::Limits {
    lockgate_http::Limits {
        head_bytes_max: lockgate_http::Bounded::clamped(config.request_max),
        headers_max: lockgate_http::Bounded::clamped(u32::from(config.headers_max)),
        header_timeout: timeout(config.header_timeout),
        idle_timeout: timeout(config.idle_timeout),
        send_timeout: timeout(config.send_timeout),
        requests_max: lockgate_http::Bounded::clamped(config.requests_max),
        ..lockgate_http::Limits::default()
    }
}

/// The limits of the page cache, beside its memory.
pub(super) fn cache(config: config::Cache) -> CacheConfig {
    CacheConfig {
        revalidate: config.revalidate,
        objects_max: config.files_max,
        loaders: config.readers,
        ..CacheConfig::default()
    }
}

fn tcp(tcp: &config::Tcp) -> TcpConfig {
    TcpConfig {
        congestion: match tcp.congestion {
            config::Congestion::Cubic => Algorithm::Cubic,
            config::Congestion::NewReno => Algorithm::NewReno,
        },
        initial_window: u8::try_from(tcp.initial_window).unwrap_or(u8::MAX),
        window_max: tcp.window_max,
        rto_min: tcp.rto_min,
        syn_ack_retries: tcp.syn_retries,
        user_timeout: tcp.user_timeout,
        time_wait: tcp.time_wait,
        fin_wait2_timeout: tcp.fin_wait_timeout,
        keepalive: tcp.keepalive.map(|keepalive| Keepalive {
            idle: keepalive.idle,
            interval: keepalive.interval,
            count: keepalive.count,
        }),
        nodelay: !tcp.nagle,
        delayed_ack: tcp.delayed_ack,
        ..TcpConfig::default()
    }
}

fn limits(config: &Config) -> Limits {
    let (tcp, limits) = (&config.tcp, &config.limits);
    Limits {
        connections_max: tcp.connections_max,
        half_open_max: tcp.half_open_max,
        // As many as there can be connections: each leaves one at most.
        time_wait_max: tcp.connections_max,
        // What a handshake holds is bounded, so as many as may be half-open.
        handshakes_max: tcp.half_open_max.min(tcp.connections_max),
        ranges_max: limits.sent_ranges,
        send_buffer_bytes: limits.send_queue_max,
        send_low_water_bytes: limits.send_queue_max / 2,
        recv_buffer_bytes: tcp.window_max.min(RECV_BUFFER_MAX),
        // Half of the packet buffers, so that packets still come in while nobody reads.
        recv_total_bytes: u64::from(limits.mbufs) * MBUF_BYTES / 2,
        // As long as a response may make no progress while it's still HTTP's.
        orphan_timeout: config.http.send_timeout,
        ..Limits::default()
    }
}

fn suites(suite: config::Suite) -> [CipherSuite; 3] {
    match suite {
        config::Suite::Aes128Gcm => [
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ],
        config::Suite::Aes256Gcm => [
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ],
        config::Suite::Chacha20Poly1305 => [
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ],
    }
}

fn timeout(duration: Duration) -> lockgate_http::Timeout {
    lockgate_http::Timeout::clamped(u32::try_from(duration.as_millis()).unwrap_or(u32::MAX))
}

/// The PCI devices among the ports' devices: the part before the arguments, if it isn't the name
/// of a driver.
fn pci_addresses(config: &Config) -> Vec<String> {
    config
        .ports
        .iter()
        .filter_map(|port| port.device.split(',').next())
        .map(str::trim)
        .filter(|name| name.contains(':'))
        .map(str::to_owned)
        .collect()
}

/// Session tickets that a client gets after a full handshake, as most servers send.
const TICKETS: u8 = 2;

/// What a received packet pins at least.
const MBUF_BYTES: u64 = 2048;

/// Memory that the unread bytes of one connection may pin: an edge receives requests.
const RECV_BUFFER_MAX: u32 = 512 << 10;

#[cfg(test)]
mod tests {
    use pktbuf::PagePool;

    use super::*;
    use crate::config::tests::{BASE, Scratch};

    #[test]
    fn the_sum_of_memory_grows_as_the_pool_of_page_buffers_does() {
        let scratch = Scratch::new();
        let sizes = |limits: &str| {
            let config = scratch.parse(&format!("{BASE}[limits]\n{limits}")).unwrap();
            let pool = PagePool::bytes_needed(pool(config.limits)) as u64;
            (config.memory_needed(), pool)
        };
        let smallest = "spans_large = 16\nspans_small = 64\npage_buffers = 256\n";
        let (sum_min, pool_min) = sizes(smallest);
        assert!(sum_min > pool_min);
        for limits in [
            "",
            "spans_large = 1048576\n",
            "spans_small = 4194304\n",
            "page_buffers = 16777216\n",
            "spans_large = 1048576\nspans_small = 4194304\npage_buffers = 16777216\n",
        ] {
            let (sum, pool) = sizes(limits);
            assert!(sum - sum_min >= pool - pool_min, "{limits}: {sum}, {pool}");
        }
    }
}
