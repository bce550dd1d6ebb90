//! Hosts on ports, the bytes that they exchange, and the faults of the wire between them.

pub(crate) mod clients;
pub(crate) mod forged_peer;
pub(crate) mod host;
pub(crate) mod pki;
pub(crate) mod ring;
pub(crate) mod server_thread;
pub(crate) mod source;
pub(crate) mod transfer;
pub(crate) mod wire;

use std::env;

use lockgate_drivers::{Eal, EalConfig, Hugepages};
use lockgate_testing::Random;

/// An EAL on ordinary pages, which every machine has.
pub(crate) fn eal() -> Eal {
    let config = EalConfig {
        hugepages: Hugepages::Off,
        memory_mib: 384,
        ..EalConfig::default()
    };
    Eal::init(&config).expect("the EAL starts")
}

/// The seeds of a case: the one that `LOCKGATE_SEED` names, else as many as `LOCKGATE_SEEDS`.
pub(crate) fn seeds(count: u64) -> Vec<u64> {
    let number = |name| {
        env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    match number("LOCKGATE_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("LOCKGATE_SEEDS").unwrap_or(count)).collect(),
    }
}

/// Runs `test` once for each seed. A failure prints its seed.
pub(crate) fn each_seed(count: u64, mut test: impl FnMut(u64, Random)) {
    struct ReportSeed(u64);
    impl Drop for ReportSeed {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("LOCKGATE_SEED={}", self.0);
            }
        }
    }
    for seed in seeds(count) {
        let report = ReportSeed(seed);
        test(seed, Random::new(seed));
        drop(report);
    }
}
