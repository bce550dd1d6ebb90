//! A part of the other cases again with the smallest pools, and with allocations that fail:
//! slower, but right, and everything is back at the end.

use crate::support::scene::Setup;
use crate::{bulk, clients, files, serving, tls};
use lockgate_testing::cases::Case;

pub(crate) const CASES: &[Case] = &[
    Case::new("exhaustion::small_curl", || {
        serving::curl_everywhere(small())
    })
    .with(&["curl"]),
    Case::new("exhaustion::small_methods", || serving::methods(small())),
    Case::new("exhaustion::small_pipelining", || {
        serving::pipelining(small())
    }),
    Case::new("exhaustion::small_suites", || tls::suites(small())).with(&["openssl"]),
    Case::new("exhaustion::small_one_byte_at_a_time", || {
        clients::one_byte_at_a_time(small())
    }),
    Case::new("exhaustion::small_crowd", || {
        bulk::crowd(small().set("tcp.half_open_max", 64), CROWD, true)
    }),
    Case::new("exhaustion::small_download", || {
        bulk::fetch_all(small(), LEN)
    })
    .with(&["curl"]),
    Case::new("exhaustion::small_garbage", || clients::garbage(small())),
    Case::new("exhaustion::small_half_closed", || {
        clients::half_closed(small())
    }),
    Case::new("exhaustion::small_resets", || clients::resets(small())),
    Case::new("exhaustion::small_resumption", || tls::resumption(small())).with(&["openssl"]),
    Case::new(
        "exhaustion::small_key_updates",
        || tls::key_updates(small()),
    )
    .with(&["openssl"]),
    Case::new("exhaustion::small_changing_files", || {
        files::churn(small(), 3, CHURN)
    }),
    Case::new("exhaustion::failing_curl", || {
        serving::curl_everywhere(failing(1))
    })
    .with(&["curl"]),
    Case::new("exhaustion::failing_methods", || {
        serving::methods(failing(2))
    }),
    Case::new("exhaustion::failing_pipelining", || {
        serving::pipelining(failing(3))
    }),
    Case::new("exhaustion::failing_suites", || tls::suites(failing(4))).with(&["openssl"]),
    Case::new("exhaustion::failing_one_byte_at_a_time", || {
        clients::one_byte_at_a_time(failing(5));
    }),
    Case::new("exhaustion::failing_crowd", || {
        bulk::crowd(failing(6).set("tcp.half_open_max", 64), CROWD, true)
    }),
    Case::new("exhaustion::failing_download", || {
        bulk::fetch_all(failing(7), LEN)
    })
    .with(&["curl"]),
    Case::new("exhaustion::failing_garbage", || {
        clients::garbage(failing(9))
    }),
    Case::new("exhaustion::failing_half_closed", || {
        clients::half_closed(failing(10))
    }),
    Case::new("exhaustion::failing_resets", || {
        clients::resets(failing(11))
    }),
    Case::new("exhaustion::failing_resumption", || {
        tls::resumption(failing(12))
    })
    .with(&["openssl"]),
    Case::new("exhaustion::failing_key_updates", || {
        tls::key_updates(failing(13))
    })
    .with(&["openssl"]),
    Case::new("exhaustion::failing_changing_files", || {
        files::churn(failing(8), 3, CHURN)
    }),
];

/// The smallest pools.
fn small() -> Setup {
    Setup::smallest()
}

/// The smallest pools, of which one allocation in fifteen fails.
fn failing(seed: i64) -> Setup {
    Setup::smallest()
        .set("test.fail_one_in", 15)
        .set("test.fail_seed", seed)
}

/// As many as there may be connections.
const CROWD: usize = 60;
const LEN: u64 = 8 << 20;
/// Whole files to fetch while they change.
const CHURN: u64 = 100;
