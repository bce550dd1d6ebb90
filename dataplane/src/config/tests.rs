use core::net::Ipv6Addr;
use std::fs;
use std::path::{Path, PathBuf};

use lockgate_cache::FileIo;
use lockgate_drivers::{Assume, Disable, Iova};
use lockgate_stack::tls::{CipherSuite, TlsVersions};
use lockgate_tcp::congestion::Algorithm;
use lockgate_testing::ScratchDir;
use lockgate_testing::certificates::Identity;
use pktbuf::PagePool;
use proptest::prelude::*;

use super::document::Document;
use super::schema::{Key, Kind, SECTIONS, Section, section_table};
use super::values::{did_you_mean, duration, show_duration, show_size, size};
use super::*;

/// A scratch directory with the files that configurations name: `demo.crt` and `demo.key`, another
/// pair, and `www`.
pub(crate) struct Scratch(ScratchDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        let scratch = Self(ScratchDir::new());
        scratch.0.write("www/index.html", "hello");
        for name in ["demo", "other"] {
            scratch.certificate(name, (2020, 2060));
        }
        scratch
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn certificate(&self, name: &str, years: (i32, i32)) {
        Identity::valid_in(&["lockgate.test"], years).write(self.0.path(), name);
    }

    pub(crate) fn parse(&self, text: &str) -> Result<Config, Faults> {
        parse(&self.path("t.toml"), text, &host())
    }

    /// The faults as text, without the directory's name in it.
    fn faults(&self, text: &str) -> String {
        let faults = self.parse(text).expect_err("faults").to_string();
        faults.replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// What the EAL allocates itself of so much memory: regions are counted apart.
fn own_mib(config: &Config, memory: u64) -> u32 {
    let pools = config.workers.cores.len() * PagePool::bytes_needed(config.pool);
    let own = memory - pools as u64 - config.cache_bytes;
    u32::try_from(own.div_ceil(1 << 20)).unwrap()
}

fn host() -> Host {
    Host {
        cores: vec![0, 1, 2, 3],
        unix_seconds: IN_2026,
    }
}

#[test]
fn a_small_file_gets_every_default() {
    let config = Scratch::new().parse(BASE).unwrap();
    let port = &config.ports[0].settings;
    assert_eq!((port.mtu, port.queues, port.rx_buffers), (1500, 1, 8192));
    assert_eq!(config.workers.cores, [0]);
    assert_eq!(
        config.eal.memory_mib,
        own_mib(&config, config.memory_needed())
    );
    assert_eq!(config.eal.iova, Iova::Auto);
    assert!(config.eal.pci.is_empty());
    assert_eq!(
        config.http.header_timeout.duration(),
        Duration::from_secs(10)
    );
    assert_eq!(config.tcp.congestion, Algorithm::Cubic);
    assert_eq!(config.tls.options.versions, TlsVersions::Both);
    let site = config.sites.select(b"any.example").unwrap();
    assert_eq!(site.index.as_deref(), Some("index.html"));
    assert_eq!(config.roots.len(), 1);
    assert_eq!(config.control_socket, None);
    assert_eq!(config.log_level, Level::INFO);
    assert!(config.warnings.is_empty());
    let listener = config.listeners[0];
    assert_eq!(
        (listener.address.to_string().as_str(), listener.tls),
        ("198.18.0.1:443", true)
    );
}

/// By name with the entry's group, by number, with another group; root's groups are never kept.
#[test]
fn a_user_has_its_groups() {
    let scratch = Scratch::new();
    let identity = |keys: &str| {
        let text = format!("{BASE}[process]\n{keys}\n");
        let identity = scratch.parse(&text).unwrap().identity.unwrap();
        (identity.uid, identity.gid, identity.groups)
    };
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
    assert_eq!(identity("user = \"nobody\""), (uid, gid, vec![gid]));
    assert_eq!(
        identity(&format!("user = \"{uid}\"")),
        (uid, gid, vec![gid])
    );
    let grouped = identity("user = \"nobody\"\ngroup = \"7\"");
    assert_eq!(grouped, (uid, 7, vec![7]));
    let unnamed = identity("user = \"4294967294\"\ngroup = \"daemon\"");
    assert_eq!((unnamed.0, unnamed.2), (4_294_967_294, vec![unnamed.1]));
    assert_eq!(scratch.parse(BASE).unwrap().identity, None);
}

#[test]
fn values_are_taken_over() {
    let text = BASE.replace(
        "name = \"p0\"",
        "name = \"p0\"\nmtu = 9000\nassume = [\"tso\"]\ndisable = [\"rxcsum\"]",
    ) + "[workers]\ncores = [3, 1]\nidle = \"spin\"\n[eal]\nmemory = \"1GiB\"\n\
           [tcp]\ncongestion = \"newreno\"\nkeepalive = false\nwindow_max = 65536\n\
           [tls]\nversions = [\"1.3\"]\nsuites = [\"chacha20-poly1305\", \"aes-128-gcm\"]\n\
           [http]\nidle_timeout = \"2m\"\n[control]\nsocket = \"run/x.sock\"\n\
           [[route]]\nto = \"::/0\"\nvia = \"fd00:18::2\"\n";
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("run")).unwrap();
    let config = scratch.parse(&text).unwrap();
    assert_eq!(config.workers.cores, [3, 1]);
    assert_eq!(config.workers.idle, IdlePolicy::Spin);
    assert_eq!(config.eal.memory_mib, own_mib(&config, 1 << 30));
    let port = &config.ports[0].settings;
    assert_eq!((port.mtu, port.queues), (9000, 2));
    let only_tso = Assume {
        tso: true,
        ..Assume::default()
    };
    assert_eq!(port.assume, only_tso);
    let only_rx_csum = Disable {
        rx_csum: true,
        ..Disable::default()
    };
    assert_eq!(port.disable, only_rx_csum);
    // The port receives the solicited-node groups of its interfaces' addresses.
    assert_eq!(
        port.ipv6_addresses,
        ["fd00:18::1".parse::<Ipv6Addr>().unwrap()]
    );
    assert_eq!(
        (config.tcp.congestion, config.tcp.keepalive),
        (Algorithm::NewReno, None)
    );
    assert_eq!(config.tcp.window_max, 65_536);
    let TlsOptions {
        versions, suites, ..
    } = &config.tls.options;
    assert_eq!(*versions, TlsVersions::Tls13);
    assert_eq!(suites.len(), 6);
    assert_eq!(
        (suites[0], suites[3]),
        (
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS13_AES_128_GCM_SHA256
        )
    );
    assert_eq!(
        config.http.idle_timeout.duration(),
        Duration::from_secs(120)
    );
    assert_eq!(config.control_socket, Some(scratch.path("run/x.sock")));
    assert_eq!(config.routes[0].iface, iface(0));
}

#[test]
fn only_the_devices_on_the_bus_are_opened_by_their_address() {
    let text = BASE.to_owned()
        + "[[port]]\nname = \"p1\"\ndevice = \"03:0A.0,x=1,y\"\n\
           [[port]]\nname = \"p2\"\ndevice = \"net_af_packet0,iface=a.b\"\n\
           [[port]]\nname = \"p3\"\ndevice = \"net_bonding0,mode=1,slave=0000:04:00.0,slave=04:00.1\"\n";
    let config = Scratch::new().parse(&text).unwrap();
    // A card with its arguments, and the members of a bond.
    assert_eq!(
        config.eal.pci,
        ["0000:03:0a.0,x=1,y", "0000:04:00.0", "0000:04:00.1"]
    );
    assert_eq!(config.ports.len(), 4);
}

#[test]
fn what_a_file_says_reaches_the_components() {
    let text = BASE.to_owned()
        + "[tcp]\nnagle = true\nsyn_retries = 3\nfin_wait_timeout = \"9s\"\nkeepalive_count = 4\n\
           half_open_max = 100\nconnections_max = 50\nwindow_max = \"64MiB\"\n\
           [limits]\nmbufs = 1000\npage_buffers = 300\nspans_small = 70\nspans_large = 20\n\
           sent_ranges = 256\nsend_queue_max = \"32KiB\"\n\
           [http]\nsend_timeout = \"3s\"\nrequest_max = 600\nheaders_max = 9\nrequests_max = 7\n\
           [cache]\nfiles_max = 17\nrevalidate = \"0s\"\nstale_max = \"3s\"\nreaders = 3\nio = \"pread\"\ndirect = true\nmemory_max = \"2MiB\"\n\
           [tls]\ntickets = false\n[drain]\ndeadline = \"4s\"\n[log]\nlevel = \"trace\"\n";
    let config = Scratch::new().parse(&text).unwrap();
    let tcp = &config.tcp;
    assert_eq!((tcp.nodelay, tcp.syn_ack_retries), (false, 3));
    assert_eq!(tcp.fin_wait2_timeout, Duration::from_secs(9));
    assert_eq!(tcp.keepalive.map(|k| k.count), Some(4));
    let limits = config.limits;
    assert_eq!((limits.connections_max, limits.half_open_max), (50, 100));
    assert_eq!((limits.time_wait_max, limits.handshakes_max), (50, 50));
    assert_eq!(limits.handshake_bytes_max, 1 << 20);
    assert_eq!(config.http.long_heads_bytes_max, 1 << 20);
    assert_eq!(
        (limits.ranges_max, limits.send_buffer_bytes),
        (256, 32 << 10)
    );
    assert_eq!(limits.send_low_water_bytes, 16 << 10);
    assert_eq!(limits.recv_buffer_bytes, 512 << 10);
    assert_eq!(limits.recv_total_bytes, 1000 * 1024);
    assert_eq!(limits.orphan_timeout, Duration::from_secs(3));
    assert_eq!(config.ports[0].settings.rx_buffers, 1000);
    let pool = config.pool;
    assert_eq!(
        (pool.blocks, pool.small_spans, pool.large_spans),
        (300, 70, 20)
    );
    let http = &config.http;
    assert_eq!(http.send_timeout.duration(), Duration::from_secs(3));
    assert_eq!(http.head_bytes_max.value(), 600);
    assert_eq!(
        (http.headers_max.value(), http.requests_max.value()),
        (9, 7)
    );
    assert_eq!((config.cache.objects_max, config.cache.loaders), (17, 3));
    assert_eq!(
        (config.cache.io, config.cache.is_direct),
        (FileIo::Pread, true)
    );
    assert_eq!(
        (config.cache.revalidate, config.cache_bytes),
        (Duration::ZERO, 2 << 20)
    );
    assert_eq!(config.cache.stale_max, Duration::from_secs(3));
    assert_eq!(config.tls.options.tickets, 0);
    assert_eq!(config.drain_deadline, Duration::from_secs(4));
    assert_eq!(config.log_level, Level::TRACE);
}

#[test]
fn a_wildcard_listener_stands_for_each_address_of_its_family() {
    let scratch = Scratch::new();
    let text = BASE.replace("198.18.0.1:443", "[::]:443");
    let config = scratch.parse(&text).unwrap();
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address.to_string(), "[fd00:18::1]:443");

    let text = BASE.to_owned() + "[[listener]]\naddress = \"0.0.0.0:443\"\n";
    assert_eq!(
        scratch.faults(&text),
        "t.toml:17: listener.address: another listener has 198.18.0.1:443"
    );
}

/// Each a change of [`BASE`], or what is added from line 16 on, and all that is said about it.
#[rustfmt::skip]
const BAD: &[(&str, &str, &str)] = &[
    // No TOML at all.
    ("", "mtu = \n", "t.toml:16: string values must be quoted, expected literal string"),
    ("", "[log]\nlevel = \"warn\"\nlevel = \"info\"\n", "t.toml:18: duplicate key"),
    // Unknown names.
    ("", "[worker]\ncores = [0]\n", "t.toml:16: worker: unknown section; did you mean \"workers\"?"),
    ("", "[zzz]\n", "t.toml:16: zzz: unknown section"),
    ("", "[tcp]\ncongestoin = \"cubic\"\n", "t.toml:17: tcp.congestoin: unknown key; did you mean \"congestion\"?"),
    ("root = \"www\"", "root = \"www\"\ncolour = 1", "t.toml:16: site.colour: unknown key"),
    // Sections of the wrong kind.
    ("", "[route]\nto = \"::/0\"\n", "t.toml:16: route: this section may come several times: [[route]]"),
    ("", "[[http]]\n", "t.toml:16: http: expected one section, [http]"),
    ("", "[drain]\n[[drain.x]]\n", "t.toml:17: drain.x: unknown key"),
    // Values of the wrong kind or out of range.
    ("device = \"net_ring0\"", "device = \"net_ring0\"\nmtu = 70000", "t.toml:4: port.mtu: 70000 is out of range: 576 to 9000 bytes"),
    ("device = \"net_ring0\"", "device = \"net_ring0\"\nmtu = -1", "t.toml:4: port.mtu: expected a whole number, found -1"),
    ("device = \"net_ring0\"", "device = \"net_ring0\"\nmtu = \"1500\"", "t.toml:4: port.mtu: expected a whole number, found \"1500\""),
    ("device = \"net_ring0\"", "device = 7", "t.toml:3: port.device: expected text, found 7"),
    ("device = \"net_ring0\"", "device = \"\"", "t.toml:3: port.device: expected a PCI address or a device such as \"net_af_packet0,iface=eth0\", found \"\""),
    ("", "[http]\nidle_timeout = 30\n", "t.toml:17: http.idle_timeout: expected a duration such as \"30s\" or \"200ms\", found 30"),
    ("", "[http]\nidle_timeout = \"30 days\"\n", "t.toml:17: http.idle_timeout: expected a duration such as \"30s\" or \"200ms\", found \"30 days\""),
    ("", "[http]\nidle_timeout = \"9h\"\n", "t.toml:17: http.idle_timeout: \"9h\" is out of range: 100ms to 1h"),
    ("", "[cache]\nmemory_max = \"64MB\"\n", "t.toml:17: cache.memory_max: expected a size such as \"64MiB\", found \"64MB\""),
    ("", "[cache]\nmemory_max = \"1KiB\"\n", "t.toml:17: cache.memory_max: \"1KiB\" is out of range: 1MiB to 512GiB"),
    ("", "[ktls]\nenable = \"yes\"\n", "t.toml:17: ktls.enable: expected true or false, found \"yes\""),
    ("", "[ktls]\nworkers = 65\n", "t.toml:17: ktls.workers: 65 is out of range: 0 to 64 threads"),
    ("", "[ktls]\nworkers = 1\nworker_cores = [9]\n", "t.toml:18: ktls.worker_cores: the process may not use core 9; it may use: 0, 1, 2, 3"),
    ("", "[ktls]\nworker_cores = [2, 2]\n", "t.toml:17: ktls.worker_cores: core 2 comes twice"),
    ("", "[ktls]\nbackend = \"openssl\"\n", "t.toml:17: ktls.backend: \"openssl\" is none of auto, aws-lc, rustcrypto"),
    ("", "[tls]\nversions = [\"1.1\"]\n", "t.toml:17: tls.versions: \"1.1\" is none of 1.2, 1.3"),
    ("", "[tls]\nversions = [\"1.3\", \"1.3\"]\n", "t.toml:17: tls.versions: \"1.3\" comes twice"),
    ("", "[tls]\nversions = []\n", "t.toml:17: tls.versions: the list is empty"),
    ("", "[log]\nlevel = \"loud\"\n", "t.toml:17: log.level: \"loud\" is none of error, warn, info, debug, trace"),
    ("", "[eal]\nmemory = \"64MiB\"\n", "t.toml:17: eal.memory: too small: the pools and the cache need MEMORY"),
    ("", "[eal]\nhugepages = \"off\"\niova = \"pa\"\n", "t.toml:18: eal.iova: physical addresses need all packet memory on huge pages, and hugepages is \"off\""),
    // Cores.
    ("", "[workers]\ncores = [0, 9]\n", "t.toml:17: workers.cores: the process may not use core 9; it may use: 0, 1, 2, 3"),
    ("", "[workers]\ncores = [1,\n 1]\n", "t.toml:18: workers.cores: core 1 comes twice"),
    ("", "[workers]\ncores = []\n", "t.toml:17: workers.cores: the list is empty"),
    ("", "[workers]\ncores = [0.5]\n", "t.toml:17: workers.cores: expected a number from 0 to 1023"),
    // Ports.
    ("name = \"p0\"\n", "", "t.toml:1: port.name: missing: 1 to 15 of a-z, 0-9, - and _\nt.toml:4: interface.on: there is no port \"p0\""),
    ("", "[[port]]\nname = \"p0\"\ndevice = \"net_ring0\"\n", "t.toml:17: port.name: another port is called \"p0\"\nt.toml:18: port.device: port \"p0\" is this device"),
    ("device = \"net_ring0\"", "device = \"net_af_packet0,iface=e\"\n[[port]]\nname = \"p1\"\ndevice = \"net_af_packet1,iface=e\"", "t.toml:6: port.device: port \"p0\" uses interface e already"),
    ("device = \"net_ring0\"", "device = \"0000:00:0A.0,x=1\"\n[[port]]\nname = \"p1\"\ndevice = \"00:0a.0\"", "t.toml:6: port.device: port \"p0\" is this device"),
    ("device = \"net_ring0\"", "device = \"net_tap0\"\n[[port]]\nname = \"p1\"\ndevice = \"net_tap0,mac=fixed\"", "t.toml:6: port.device: port \"p0\" is this device"),
    ("device = \"net_ring0\"", "device = \"net_bonding0,slave=0000:00:0a.0\"\n[[port]]\nname = \"p1\"\ndevice = \"00:0A.0\"", "t.toml:6: port.device: port \"p0\" uses card 0000:00:0a.0 already"),
    ("device = \"net_ring0\"", "device = \"net_tap0,iface=e\"\n[[port]]\nname = \"p1\"\ndevice = \"net_tap1,iface=e\"", "t.toml:6: port.device: port \"p0\" uses interface e already"),
    ("device = \"net_ring0\"", "device = \"net_bonding0,slave=net_null0\"\n[[port]]\nname = \"p1\"\ndevice = \"net_null0\"", "t.toml:6: port.device: it is a member of port \"p0\""),
    ("device = \"net_ring0\"", "device = \"net_null0\"\n[[port]]\nname = \"p1\"\ndevice = \"net_bonding0,member=net_null0\"", "t.toml:6: port.device: port \"p0\" is a member of it"),
    ("net_ring0", "net_af_packet0,iface=../lo", "t.toml:3: port.device: \"../lo\" can't be the name of a kernel's interface"),
    ("net_ring0", "net_null0,a=\\u001b[2J", "t.toml:3: port.device: expected a PCI address or a device such as \"net_af_packet0,iface=eth0\", found \"net_null0,a=\\u{1b}[2J\""),
    ("", "[[port]]\nname = \"Port one\"\ndevice = \"net_null0\"\n", "t.toml:17: port.name: a name is 1 to 15 of a-z, 0-9, - and _"),
    ("", "[[port]]\nname = \"p1\"\ndevice = \"net_af_xdp0,iface=x\"\nmtu = 9000\n", "t.toml:19: port.mtu: net_af_xdp0 can do 1500 at most"),
    ("", "[[port]]\nname = \"p1\"\ndevice = \"net_af_packet0,iface=x\"\nassume = [\"tso\"]\n", "t.toml:19: port.assume: only net_ring and net_memif can assume offloads: packets leave this machine's memory on any other device"),
    ("", "[workers]\ncores = [0, 1]\n[[port]]\nname = \"p1\"\ndevice = \"net_pcap0\"\n", "t.toml:20: port.device: 2 workers need a queue each, net_pcap0 has 1 at most"),
    ("net_ring0", "eth0", "t.toml:3: port.device: expected a PCI address or a device such as \"net_af_packet0,iface=eth0\", found \"eth0\""),
    ("net_ring0", "net_af_packet0", "t.toml:3: port.device: net_af_packet0 needs a kernel's interface: \"net_af_packet0,iface=...\""),
    // Interfaces.
    ("on = \"p0\"", "on = \"p7\"", "t.toml:5: interface.on: there is no port \"p7\""),
    ("", "[[interface]]\non = \"p0\"\naddresses = [\"198.19.0.1/24\"]\n", "t.toml:17: interface.on: this port has an interface already"),
    ("\"198.18.0.1/24\"", "\"198.18.0.1\"", "t.toml:6: interface.addresses: expected address/length such as \"198.18.0.1/24\", found \"198.18.0.1\"\nt.toml:11: listener.address: no interface has 198.18.0.1"),
    ("\"fd00:18::1/64\"", "\"198.18.0.0/24\"", "t.toml:6: interface.addresses: 198.18.0.0/24 is a network, not an address in one"),
    ("\"fd00:18::1/64\"", "\"224.0.0.5/24\"", "t.toml:6: interface.addresses: 224.0.0.5 can't be an interface's address"),
    ("\"fd00:18::1/64\"", "\"198.18.0.1/16\"", "t.toml:6: interface.addresses: 198.18.0.1 comes twice"),
    ("device = \"net_ring0\"", "device = \"net_ring0\"\nmtu = 1000", "t.toml:7: interface.addresses: IPv6 needs an mtu of 1280, the port's is 1000"),
    ("", "[[port]]\nname = \"p1\"\ndevice = \"net_ring1\"\n[[interface]]\non = \"p1\"\naddresses = [\"198.18.0.9/16\"]\n", "t.toml:21: interface.addresses: overlaps with 198.18.0.1/24 on another interface"),
    // Routes.
    ("", "[[route]]\nto = \"0.0.0.0/0\"\nvia = \"198.19.0.2\"\n", "t.toml:18: route.via: 198.19.0.2 is in no interface's network"),
    ("", "[[route]]\nto = \"0.0.0.0/0\"\nvia = \"198.18.0.1\"\n", "t.toml:18: route.via: 198.18.0.1 is our own address"),
    ("", "[[route]]\nto = \"::/0\"\nvia = \"198.18.0.2\"\n", "t.toml:18: route.via: 198.18.0.2 and ::/0 are of different families"),
    ("", "[[route]]\nto = \"10.0.0.1/8\"\nvia = \"198.18.0.2\"\n", "t.toml:17: route.to: 10.0.0.1/8 is an address in a network; did you mean 10.0.0.0/8?"),
    ("", "[[route]]\nto = \"10.0.0.0/8\"\nvia = \"198.18.0.2\"\n[[route]]\nto = \"10.0.0.0/8\"\nvia = \"198.18.0.3\"\n", "t.toml:20: route.to: there is another route to 10.0.0.0/8"),
    ("", "[[route]]\nvia = \"gateway\"\n", "t.toml:16: route.to: missing: network/length\nt.toml:17: route.via: expected an address, found \"gateway\""),
    // Listeners.
    ("198.18.0.1:443", "198.18.0.3:443", "t.toml:11: listener.address: no interface has 198.18.0.3"),
    ("198.18.0.1:443", "198.18.0.1", "t.toml:11: listener.address: expected address:port such as \"198.18.0.1:443\" or \"[fd00::1]:443\", found \"198.18.0.1\""),
    ("198.18.0.1:443", "198.18.0.1:0", "t.toml:11: listener.address: expected address:port such as \"198.18.0.1:443\" or \"[fd00::1]:443\", found \"198.18.0.1:0\""),
    ("", "[[listener]]\naddress = \"198.18.0.1:443\"\n", "t.toml:17: listener.address: another listener has 198.18.0.1:443"),
    ("[[certificate]]\nchain = \"demo.crt\"\nkey = \"demo.key\"\n", "", "t.toml:9: listener.tls: there is no [[certificate]]"),
    ("", "[ktls]\nenable = false\n", "t.toml:12: listener.tls: ktls.enable is false, so there can be no TLS"),
    // Certificates.
    ("demo.crt", "none.crt", "t.toml:8: certificate.chain: none.crt: No such file or directory (os error 2)"),
    ("demo.crt", "www/index.html", "t.toml:8: certificate.chain: www/index.html: no certificate in it"),
    ("demo.crt", "demo.key", "t.toml:8: certificate.chain: demo.key: no certificate in it"),
    ("demo.key", "none.key", "t.toml:9: certificate.key: none.key: No such file or directory (os error 2)"),
    ("demo.key", "demo.crt", "t.toml:9: certificate.key: demo.crt: no private key in it"),
    ("demo.key", "other.key", "t.toml:9: certificate.key: other.key is not the key of the certificate in demo.crt"),
    ("key = \"demo.key\"\n", "", "t.toml:7: certificate.key: missing: a PEM file"),
    // Sites.
    ("[[site]]\nhosts = [\"*\"]\nroot = \"www\"\n", "", "t.toml: site: there is no [[site]]: listeners serve nothing"),
    ("root = \"www\"", "root = \"nowhere\"", "t.toml:15: site.root: nowhere: No such file or directory (os error 2)"),
    ("root = \"www\"", "root = \"demo.crt\"", "t.toml:15: site.root: demo.crt is not a directory"),
    ("hosts = [\"*\"]", "hosts = [\"a.b\", \"*\", \"A.b\"]", "t.toml:14: site.hosts: \"a.b\" comes twice, first in line 14"),
    ("hosts = [\"*\"]", "hosts = [\"a..b\"]", "t.toml:14: site.hosts: expected a host name, *.domain or *, found \"a..b\""),
    ("hosts = [\"*\"]", "hosts = []", "t.toml:14: site.hosts: the list is empty"),
    ("root = \"www\"", "root = \"www\"\nindex = \"../x\"", "t.toml:16: site.index: expected a file name without a directory"),
    // Process.
    ("", "[process]\nuser = \"no-such-user\"\n", "t.toml:17: process.user: there is no user \"no-such-user\" here; useradd --system makes one"),
    ("", "[process]\nuser = \"root\"\n", "t.toml:17: process.user: this is root: remove the key to stay root, or name another user"),
    ("", "[process]\nuser = \"0\"\n", "t.toml:17: process.user: this is root: remove the key to stay root, or name another user"),
    ("", "[process]\nuser = \"4294967295\"\n", "t.toml:17: process.user: there is no user \"4294967295\" here; useradd --system makes one"),
    ("", "[process]\nuser = \"4294967294\"\n", "t.toml:17: process.user: user 4294967294 has no entry here, so set process.group"),
    ("", "[process]\nuser = \"nobody\"\ngroup = \"root\"\n", "t.toml:18: process.group: this is root: name another group"),
    ("", "[process]\nuser = \"nobody\"\ngroup = \"0\"\n", "t.toml:18: process.group: this is root: name another group"),
    ("", "[process]\nuser = \"nobody\"\ngroup = \"no-such-group\"\n", "t.toml:18: process.group: there is no group \"no-such-group\" here"),
    ("", "[process]\ngroup = \"nogroup\"\n", "t.toml:17: process.group: there is no process.user: set it, too"),
    // Control.
    ("", "[control]\nsocket = \"www\"\n", "t.toml:17: control.socket: expected the path of a socket"),
    ("", "[control]\nsocket = \"run/s\"\n", "t.toml:17: control.socket: run: No such file or directory (os error 2)"),
    ("", "[control]\nsocket = \"demo.crt/s\"\n", "t.toml:17: control.socket: demo.crt is not a directory"),
];

#[test]
fn each_fault_is_told_with_its_line_and_key() {
    let scratch = Scratch::new();
    let needed = scratch.parse(BASE).unwrap().memory_needed();
    let needed = format!("{}MiB", needed >> 20);
    for (from, to, expected) in BAD {
        assert!(BASE.contains(from), "{from:?} is not in the base");
        let text = if from.is_empty() {
            format!("{BASE}{to}")
        } else {
            BASE.replacen(from, to, 1)
        };
        let faults = scratch.faults(&text);
        assert_eq!(
            faults,
            expected.replace("MEMORY", &needed),
            "from {from:?} to {to:?}"
        );
    }
}

#[test]
fn several_faults_are_told_together_in_the_order_of_the_file() {
    let text = BASE
        .replace("p0\"\ndevice", "p0\"\nmtu = 1\ndevice")
        .replace("demo.key", "x.key")
        + "[log]\nlevels = 1\n";
    assert_eq!(
        Scratch::new().faults(&text),
        "t.toml:3: port.mtu: 1 is out of range: 576 to 9000 bytes\n\
         t.toml:10: certificate.key: x.key: No such file or directory (os error 2)\n\
         t.toml:18: log.levels: unknown key; did you mean \"level\"?"
    );
}

#[test]
fn a_long_control_socket_is_refused() {
    let text = format!("{BASE}[control]\nsocket = \"/tmp/{}\"\n", "x".repeat(103));
    let expected = "t.toml:17: control.socket: 108 bytes long; a socket's path has 107";
    assert_eq!(Scratch::new().faults(&text), expected);
}

#[test]
fn a_byte_order_mark_before_pem_is_skipped_and_utf_16_is_named() {
    let scratch = Scratch::new();
    for name in ["demo.crt", "demo.key"] {
        let pem = fs::read(scratch.path(name)).unwrap();
        fs::write(
            scratch.path(name),
            [b"\xef\xbb\xbf", pem.as_slice()].concat(),
        )
        .unwrap();
        let config = scratch
            .parse(BASE)
            .unwrap_or_else(|f| panic!("{name}: {f}"));
        assert_eq!(config.certificates.len(), 1, "{name}");
        assert!(config.warnings.is_empty(), "{name}: {:?}", config.warnings);
    }
    for (name, place) in [
        ("demo.crt", "8: certificate.chain"),
        ("demo.key", "9: certificate.key"),
    ] {
        let pem = fs::read_to_string(scratch.path(name)).unwrap();
        let wide = |to_bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            pem.encode_utf16().flat_map(to_bytes).collect()
        };
        for bytes in [wide(u16::to_le_bytes), wide(u16::to_be_bytes)] {
            fs::write(scratch.path(name), bytes).unwrap();
            assert_eq!(
                scratch.faults(BASE),
                format!("t.toml:{place}: {name}: is UTF-16 text; save it as ASCII or UTF-8")
            );
        }
        fs::write(scratch.path(name), &pem).unwrap();
    }
}

#[test]
fn an_old_certificate_is_a_warning() {
    let scratch = Scratch::new();
    for (years, expected) in [
        ((2020, 2026), "the certificate expired 31 days ago"),
        ((2049, 2060), "the certificate is not valid yet"),
    ] {
        scratch.certificate("demo", years);
        let config = scratch.parse(BASE).unwrap();
        let chain = scratch.path("demo.crt");
        let warning = config.warnings[0].to_string();
        assert!(
            warning.ends_with(&format!(
                "certificate.chain: {}: {expected}",
                chain.display()
            )),
            "{warning}"
        );
    }
}

#[test]
fn a_file_that_is_not_there_or_no_text() {
    let scratch = Scratch::new();
    let none = load(&scratch.path("none.toml"), &host())
        .unwrap_err()
        .to_string();
    assert!(none.ends_with("none.toml: can't be read: No such file or directory (os error 2)"));
    fs::write(scratch.path("latin1.toml"), b"# a\n# \xe4\n").unwrap();
    let latin1 = load(&scratch.path("latin1.toml"), &host())
        .unwrap_err()
        .to_string();
    assert!(latin1.ends_with("latin1.toml:2: not UTF-8"));
    let directory = load(&scratch.path("www"), &host()).unwrap_err().to_string();
    assert!(directory.ends_with("www: can't be read: Is a directory (os error 21)"));
}

#[test]
fn the_control_socket_is_found_whatever_else_is_wrong() {
    let scratch = Scratch::new();
    let file = scratch.path("t.toml");
    fs::write(&file, "[control]\nsocket = \"s\"\n[zzz]\n").unwrap();
    assert_eq!(control_socket(&file), Ok(scratch.path("s")));
    fs::write(&file, "[zzz]\n").unwrap();
    assert!(
        control_socket(&file)
            .unwrap_err()
            .to_string()
            .ends_with("control.socket: not set")
    );
}

#[test]
fn the_parser_reads_every_key_of_the_schema() {
    let scratch = Scratch::new();
    for section in SECTIONS {
        for key in section.keys {
            let (open, close) = if section.repeats {
                ("[[", "]]")
            } else {
                ("[", "]")
            };
            let header = format!("{open}{}{close}", section.name);
            let text = format!("{header}\n{} = 1979-05-27\n", key.name);
            let faults = scratch.parse(&text).unwrap_err();
            let found = format!("{}.{}", section.name, key.name);
            let found = faults
                .iter()
                .find(|f| f.place.line == 2 && f.place.key == found);
            let fault = found.unwrap_or_else(|| panic!("{}.{}: {faults}", section.name, key.name));
            assert!(fault.message.contains("date"), "{fault}");
        }
    }
}

#[test]
fn every_bound_of_the_schema_is_taken() {
    let scratch = Scratch::new();
    let base = BASE.replace("tls = true\n", "");
    for section in SECTIONS.iter().filter(|s| !s.repeats && s.name != "eal") {
        for key in section.keys {
            for value in bounds(key) {
                let text = format!("{base}[{}]\n{} = {value}\n", section.name, key.name);
                // A debug assertion tells if the field is smaller than the schema's range.
                scratch
                    .parse(&text)
                    .unwrap_or_else(|faults| panic!("{faults}"));
            }
        }
    }
}

fn bounds(key: &Key) -> Vec<String> {
    match key.kind {
        Kind::Count { min, max, .. } => vec![min.to_string(), max.to_string()],
        Kind::Size { min, max, .. } => vec![min.to_string(), format!("\"{}\"", show_size(max))],
        Kind::Time { min, max, .. } => [min, max]
            .map(|time| format!("\"{}\"", show_duration(time)))
            .to_vec(),
        Kind::Switch { .. } => vec!["true".to_owned(), "false".to_owned()],
        Kind::Choice { of, .. } => of.iter().map(|name| format!("{name:?}")).collect(),
        Kind::Choices { of, .. } => vec![format!("{of:?}")],
        Kind::Text { .. } | Kind::Counts { .. } | Kind::Texts { .. } => Vec::new(),
    }
}

/// KTLS workers run on the listed cores, or else on all cores without a worker.
#[test]
fn ktls_workers_get_the_cores_that_are_left() {
    let scratch = Scratch::new();
    let parse = |keys: &str| {
        let text = format!("{BASE}[workers]\ncores = [3, 1]\n[ktls]\n{keys}");
        scratch.parse(&text).unwrap().ktls.workers
    };
    assert_eq!(parse("workers = 0\nworker_cores = [2]\n"), None);
    let left = parse("workers = 3\n").unwrap();
    assert_eq!((left.workers.get(), left.cores), (3, vec![0, 2]));
    let given = parse("workers = 1\nworker_cores = [1]\n").unwrap();
    assert_eq!((given.workers.get(), given.cores), (1, vec![1]));
}

#[test]
fn every_default_is_within_its_range() {
    for key in SECTIONS.iter().flat_map(|section| section.keys) {
        let fits = match key.kind {
            Kind::Count {
                min, max, default, ..
            } => (min..=max).contains(&default),
            Kind::Size { min, max, default } => default.is_none_or(|d| (min..=max).contains(&d)),
            Kind::Time { min, max, default } => (min..=max).contains(&default),
            Kind::Choice { of, default } => of.contains(&default),
            Kind::Choices { of, default, .. } => default.iter().all(|name| of.contains(name)),
            Kind::Counts {
                max,
                len_max,
                default,
            } => default.len() <= len_max && default.iter().all(|n| *n <= max),
            Kind::Switch { .. } | Kind::Text { .. } | Kind::Texts { .. } => true,
        };
        assert!(fits, "{}", key.name);
    }
}

#[test]
fn every_sample_is_valid() {
    let scratch = Scratch::new();
    let mut count = 0;
    for entry in fs::read_dir(configs()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        if let Err(faults) = scratch.parse(&text) {
            panic!("{}: {faults}", path.display());
        }
        count += 1;
    }
    assert!(count > 0, "no samples in {}", configs().display());
}

/// The sections of a build without the feature `fault-injection`, which tests always have.
#[test]
fn failures_cannot_be_injected_into_a_release_build() {
    let file = Path::new("lockgate.toml");
    let text = "[workers]\ncores = [0]\n\n[test]\nfail_one_in = 15\nfail_seed = 1\n";
    let release = Document::parse_with(file, text, &[]).and_then(|document| document.finish());
    let message = release.unwrap_err().to_string();
    assert!(
        message.starts_with("lockgate.toml:4: test: unknown section"),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");
    let with_feature = Document::parse(file, text).and_then(|document| document.finish());
    assert!(with_feature.is_ok(), "{with_feature:?}");
    assert!(SECTIONS.iter().all(|section| section.name != "test"));
}

/// With `LOCKGATE_UPDATE=1` in the environment the tables are written instead of compared.
#[test]
fn the_documentation_has_every_key() {
    let file = configs().join("README.md");
    let found = fs::read_to_string(&file).unwrap();
    let headings: Vec<String> = SECTIONS.iter().map(heading).collect();
    let there: Vec<&str> = found
        .lines()
        .filter(|line| line.starts_with("## `["))
        .collect();
    assert_eq!(there, headings, "the sections of {}", file.display());
    let mut parts = found.split_inclusive('\n').peekable();
    let mut wanted = String::new();
    while let Some(line) = parts.next() {
        wanted.push_str(line);
        let Some(at) = headings.iter().position(|h| line.trim_end() == h) else {
            continue;
        };
        while let Some(text) = parts.next_if(|line| !line.starts_with(['|', '#'])) {
            wanted.push_str(text);
        }
        while parts.next_if(|line| line.starts_with('|')).is_some() {}
        wanted.push_str(&section_table(&SECTIONS[at]));
        if parts.peek().is_some_and(|line| line.starts_with('#')) {
            wanted.push('\n');
        }
    }
    if std::env::var_os("LOCKGATE_UPDATE").is_some() {
        fs::write(&file, &wanted).unwrap();
    } else {
        assert_eq!(
            found, wanted,
            "run again with LOCKGATE_UPDATE=1, then look at the difference"
        );
    }
}

fn heading(section: &Section) -> String {
    let name = section.name;
    if section.repeats {
        format!("## `[[{name}]]`")
    } else {
        format!("## `[{name}]`")
    }
}

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

#[test]
fn deep_nesting_is_a_fault() {
    for deep in ["[", "{a=", "a.", "[["] {
        for text in [
            deep.repeat(100_000),
            format!("x = {}", deep.repeat(100_000)),
        ] {
            assert!(parse(Path::new("t.toml"), &text, &host()).is_err());
        }
    }
}

#[test]
fn durations_and_sizes() {
    let good = [
        ("0s", 0),
        ("7us", 7_000),
        ("200ms", 200_000_000),
        ("90 s", 90_000_000_000),
    ];
    for (text, nanos) in good {
        assert_eq!(duration(text), Some(Duration::from_nanos(nanos)), "{text}");
    }
    for text in [
        "",
        "s",
        "5",
        "5 d",
        "-1s",
        "1.5s",
        "99999999999999999999s",
        "9999999999999h",
    ] {
        assert_eq!(duration(text), None, "{text}");
    }
    for (text, bytes) in [
        ("0B", 0),
        ("1KiB", 1024),
        ("64 MiB", 64 << 20),
        ("2GiB", 2 << 30),
    ] {
        assert_eq!(size(text), Some(bytes), "{text}");
    }
    for text in ["", "MiB", "64MB", "64k", "99999999999999GiB", "1.5GiB"] {
        assert_eq!(size(text), None, "{text}");
    }
}

#[test]
fn near_names_are_meant_and_far_ones_not() {
    let names = ["hugepages", "memory", "mtu"];
    let meant = |wrong: &str| did_you_mean(wrong, names.iter().copied());
    assert_eq!(meant("hugepagse"), Some("hugepages"));
    assert_eq!(meant("mut"), Some("mtu"));
    assert_eq!(meant("colour"), None);
    assert_eq!(meant(&"m".repeat(100_000)), None);
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(256))]

    #[test]
    fn any_text_is_judged_without_a_panic(text in "\\PC{0,200}") {
        let _ = parse(Path::new("t.toml"), &text, &host());
    }

    /// Near misses: pieces of configurations in any order.
    #[test]
    fn pieces_are_judged_without_a_panic(
        pieces in prop::collection::vec((0..PIECES.len(), 0..PIECES.len()), 0..40)
    ) {
        let mut text = String::new();
        for (one, two) in pieces {
            text.push_str(PIECES[one]);
            text.push_str(PIECES[two]);
        }
        let _ = parse(Path::new("t.toml"), &text, &host());
    }

    #[test]
    fn any_key_may_have_any_value(key in 0..SECTIONS.len() * 8, value in "[-0-9a-z\"\\[\\]:/.,]{0,12}") {
        let section = &SECTIONS[key / 8];
        let key = &section.keys[(key % 8) % section.keys.len()];
        let header = heading(section).replace(['#', '`', ' '], "");
        let text = format!("{BASE}{header}\n{} = {value}\n", key.name);
        let _ = parse(Path::new("/nowhere/t.toml"), &text, &host());
    }

    #[test]
    fn shown_durations_and_sizes_are_read_back(number in 0..1u64 << 53) {
        prop_assert_eq!(size(&show_size(number)), Some(number));
        let time = Duration::from_micros(number);
        prop_assert_eq!(duration(&show_duration(time)), Some(time));
    }
}

const PIECES: &[&str] = &[
    "\n",
    "[",
    "]",
    "[[",
    "]]",
    "=",
    " = ",
    "\"",
    "\"\"\"",
    "'",
    "{",
    "}",
    ",",
    ".",
    "#",
    "0",
    "-1",
    "port",
    "site",
    "listener",
    "interface",
    "route",
    "[[port]]\n",
    "[tcp]\n",
    "name",
    "addresses",
    "address",
    "\"198.18.0.1/24\"",
    "\"::/0\"",
    "1979-05-27",
    "0x7f",
    "1e9",
    "true",
    "hosts",
    "mtu",
    "\r",
    "\u{feff}",
];

pub(crate) const BASE: &str = r#"[[port]]
name = "p0"
device = "net_ring0"
[[interface]]
on = "p0"
addresses = ["198.18.0.1/24", "fd00:18::1/64"]
[[certificate]]
chain = "demo.crt"
key = "demo.key"
[[listener]]
address = "198.18.0.1:443"
tls = true
[[site]]
hosts = ["*"]
root = "www"
"#;

/// The first of February.
pub(crate) const IN_2026: u64 = 1_769_904_000;
