//! Throughput over loss, round-trip time and receive window, as a table that is compared with the
//! one in `grid.txt`. Any change of behaviour shows as a difference: if it is meant,
//! `LOCKGATE_BLESS=1` writes the new table.

use core::fmt::Write as _;
use core::time::Duration;

use lockgate_tcp::TcpConfig;
use lockgate_tcp::congestion::Algorithm;
use lockgate_wire::Instant;

use crate::host::AppConfig;
use crate::link::LinkConfig;
use crate::world::{World, host};

/// 100 Mbit/s.
const RATE: u64 = 12_500_000;
const SECONDS: u64 = 8;

/// How much of the wire is used, in percent, in a few seconds from the connection's start.
fn utilisation(algorithm: Algorithm, loss_ppm: u32, rtt_ms: u64, window: u32) -> f64 {
    let config = TcpConfig {
        congestion: algorithm,
        window_max: window,
        ..TcpConfig::default()
    };
    let receiver = AppConfig {
        receive_buffer: window,
        ..AppConfig::sender(0)
    };
    let hosts = [
        host(
            0,
            config.clone(),
            AppConfig::sender(1 << 40),
            1460,
            65_536,
            5,
        ),
        host(1, config, receiver, 1460, 65_536, 6),
    ];
    let links = [loss_ppm, 0].map(|loss_ppm| LinkConfig {
        rate: RATE,
        // 20 ms of it.
        queue: RATE / 50,
        loss_ppm,
        ..LinkConfig::clean(Duration::from_micros(rtt_ms * 500))
    });
    let mut world = World::new(hosts, links, 5);
    world.hosts[0].connect(world.now);
    let began = world.now;
    world.run(began + Duration::from_secs(SECONDS));
    assert!(world.now > began && world.now < Instant::MAX);
    // On the wire: 12 more bytes of timestamps, 40 of headers.
    let carried = world.hosts[1].received() * 1500 / 1448;
    carried as f64 * 100.0 / (RATE * SECONDS) as f64
}

fn table() -> String {
    let mut out = String::from(
        "Share of a 100 Mbit/s wire that one connection uses in its first 8 seconds, in percent,\n\
         by receive window (columns).\n",
    );
    let windows = [16, 64, 256, 1024, 4096];
    for algorithm in [Algorithm::Cubic, Algorithm::NewReno] {
        write!(out, "\n{:<26}", format!("{algorithm:?}")).expect("to a string");
        for window in windows {
            write!(out, "{:>9}", format!("{window} KiB")).expect("to a string");
        }
        out.push('\n');
        for rtt_ms in [1, 10, 50, 200] {
            for (loss_ppm, loss) in [(0, "0"), (1_000, "0.1 %"), (10_000, "1 %"), (30_000, "3 %")] {
                let row = format!("rtt {rtt_ms} ms, loss {loss}");
                write!(out, "{row:<26}").expect("to a string");
                for window in windows {
                    let share = utilisation(algorithm, loss_ppm, rtt_ms, window << 10);
                    write!(out, "{share:>9.1}").expect("to a string");
                }
                out.push('\n');
            }
        }
    }
    out
}

#[test]
fn throughput_grid() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/grid.txt");
    let table = table();
    if std::env::var_os("LOCKGATE_BLESS").is_some() {
        std::fs::write(path, &table).expect("the table can be written");
        return;
    }
    let known = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        table == known,
        "the table has changed; LOCKGATE_BLESS=1 writes it to {path}\n{table}"
    );
}
