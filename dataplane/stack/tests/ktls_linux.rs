//! The cases of Linux's `tools/testing/selftests/net/tls.c`, under their names, over sockets of two
//! stacks. `docs/ktls.md` has the table of them, which a test here compares.
//!
//! `support::linux` gives the stack's calls Linux's rules of reading, polling and low-water marks.
//! The table's rows name the differences between Linux and this stack.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

#[path = "ktls_linux/basic.rs"]
mod basic;
#[path = "ktls_linux/errors.rs"]
mod errors;
#[path = "ktls_linux/processes.rs"]
mod processes;
#[path = "ktls_linux/receive.rs"]
mod receive;
#[path = "ktls_linux/rekey.rs"]
mod rekey;
#[path = "ktls_linux/send.rs"]
mod send;
#[path = "ktls_linux/zero_len.rs"]
mod zero_len;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use support::cases::{Row, Section, check_document};
use support::linux::{Pair, Setup};
use support::network::{Network, check_pairwise, rows};
use support::records::{
    CCM_128_12, CCM_128_13, CHACHA_12, CHACHA_13, GCM_128_12, GCM_128_13, GCM_256_12, GCM_256_13,
    TestSuite,
};

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for case in cases() {
        for variant in VARIANTS.iter().filter(|variant| case.of.has(variant)) {
            trials.push(trial(case.title(variant), move || {
                for away in AWAY {
                    println!("KTLS workers: {away:?}");
                    case.run.run(Setup {
                        suite: variant.suite,
                        no_pad: variant.no_pad,
                        away,
                        network: Network::PERFECT,
                    });
                }
            }));
        }
    }
    let levels = matrix_levels();
    for (number, row) in rows(&levels).into_iter().enumerate() {
        let name = format!("matrix.{number}");
        trials.push(trial(name, move || matrix(&row)));
    }
    trials.push(trial("the_matrix_has_every_pair".to_owned(), move || {
        check_pairwise(&levels);
    }));
    trials.push(trial("the_document_has_every_case".to_owned(), || {
        check_document(&section());
    }));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: String, run: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        run();
        Ok::<(), Failed>(())
    })
}

/// Records are sealed and opened by the stack's thread, or by KTLS workers with a queue of so many.
const AWAY: [Option<usize>; 2] = [None, Some(8)];

// ---- the matrix

/// Factors of the matrix: the variant, what seals records, the network.
fn matrix_levels() -> Vec<usize> {
    let mut levels = vec![VARIANTS.len(), MATRIX_AWAY.len()];
    levels.extend(Network::LEVELS);
    levels
}

const MATRIX_AWAY: [Option<usize>; 3] = [None, Some(1), Some(8)];

/// The fixture `tls`, each case of it, over one combination.
fn matrix(row: &[usize]) {
    let variant = &VARIANTS[row[0]];
    let setup = Setup {
        suite: variant.suite,
        no_pad: variant.no_pad,
        away: MATRIX_AWAY[row[1]],
        network: Network::with(&row[2..]),
    };
    for case in cases().filter(|case| case.is_in_matrix() && case.of.has(variant)) {
        println!("{} with {setup:?}", case.name);
        case.run.run(setup);
    }
}

// ---- variants and cases

/// A variant of the fixture `tls`.
struct Variant {
    name: &'static str,
    suite: TestSuite,
    no_pad: bool,
}

const fn variant(name: &'static str, suite: TestSuite) -> Variant {
    Variant {
        name,
        suite,
        no_pad: false,
    }
}

const VARIANTS: [Variant; 9] = [
    variant("12_aes_gcm", GCM_128_12),
    variant("13_aes_gcm", GCM_128_13),
    variant("12_chacha", CHACHA_12),
    variant("13_chacha", CHACHA_13),
    variant("12_aes_ccm", CCM_128_12),
    variant("13_aes_ccm", CCM_128_13),
    variant("12_aes_gcm_256", GCM_256_12),
    variant("13_aes_gcm_256", GCM_256_13),
    Variant {
        no_pad: true,
        ..variant("13_nopad", GCM_128_13)
    },
];

/// The variants in which a case runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// All.
    All,
    /// Those of TLS 1.3.
    Tls13,
    /// The two of the fixture `tls_err`.
    Err,
    /// One suite, which the case has chosen.
    Ccm,
    /// A case without variants.
    One,
}

impl Of {
    fn has(self, variant: &Variant) -> bool {
        match self {
            Self::All => true,
            Self::Tls13 => variant.suite.is_tls13(),
            Self::Err => ["12_aes_gcm", "13_aes_gcm"].contains(&variant.name),
            Self::Ccm => variant.name == "12_aes_ccm",
            Self::One => variant.name == "13_aes_gcm",
        }
    }
}

/// A case: `fixture.name`, or `name` alone.
struct Case {
    name: &'static str,
    of: Of,
    asserts: &'static str,
    run: Run,
}

#[derive(Clone, Copy)]
enum Run {
    /// On two sockets with keys for both directions.
    Pair(fn(&mut Pair)),
    /// On what the case makes itself.
    Setup(fn(Setup)),
}

impl Run {
    fn run(self, setup: Setup) {
        match self {
            Self::Pair(run) => {
                let mut pair = Pair::new(setup);
                run(&mut pair);
                pair.end();
            }
            Self::Setup(run) => run(setup),
        }
    }
}

impl Case {
    /// Errors have rows of their own, without faults of the link.
    fn is_in_matrix(&self) -> bool {
        self.name.starts_with("tls.")
    }

    fn title(&self, variant: &Variant) -> String {
        match (self.of, self.name.split_once('.')) {
            (Of::All | Of::Tls13 | Of::Err, Some((fixture, name))) => {
                format!("{fixture}.{}.{name}", variant.name)
            }
            _ => self.name.to_owned(),
        }
    }
}

/// A case of the fixture `tls`.
const fn tls(name: &'static str, asserts: &'static str, run: fn(&mut Pair)) -> Case {
    Case {
        name,
        of: Of::All,
        asserts,
        run: Run::Pair(run),
    }
}

/// A case that makes its sockets itself.
const fn own(name: &'static str, of: Of, asserts: &'static str, run: fn(Setup)) -> Case {
    Case {
        name,
        of,
        asserts,
        run: Run::Setup(run),
    }
}

fn cases() -> impl Iterator<Item = &'static Case> {
    let lists = [
        basic::CASES,
        send::CASES,
        receive::CASES,
        processes::CASES,
        rekey::CASES,
        zero_len::CASES,
        errors::CASES,
    ];
    lists.into_iter().flatten()
}

// ---- the table

/// Cases that don't run, and why.
const NOT_APPLICABLE: &[(&str, &str, &str)] = &[
    (
        "tls.*, 13_sm4_gcm, 13_sm4_ccm, 12_aria_gcm, 12_aria_gcm_256",
        "every case of `tls` with SM4 and ARIA",
        "no backend has SM4 or ARIA, and rustls negotiates neither",
    ),
    (
        "tls_basic.disconnect",
        "`connect` with AF_UNSPEC: EOPNOTSUPP, queued data stays readable",
        "a socket has no call that connects it again",
    ),
    (
        "tls.shutdown_reuse",
        "a socket after its end: `bind` works, `listen` is EINVAL, `connect` EISCONN",
        "sockets are made by `connect` and `listen`, and a `SocketId` isn't used again",
    ),
    (
        "tls.recv_efault",
        "a buffer that is partly unmapped",
        "records are returned by reference, into no buffer of the caller",
    ),
    (
        "derived: TLS_TX_ZEROCOPY_RO; device TX and RX; device down; resync; device rekey",
        "what a network card seals or opens",
        "no network card seals records yet",
    ),
];

fn section() -> Section {
    let mut rows: Vec<_> = cases()
        .map(|case| {
            let count = VARIANTS.iter().filter(|v| case.of.has(v)).count();
            Row {
                name: case.name.to_owned(),
                what: case.asserts.to_owned(),
                status: match case.of {
                    Of::Ccm | Of::One => "runs".to_owned(),
                    Of::All | Of::Tls13 | Of::Err => format!("{count} run"),
                },
            }
        })
        .collect();
    rows.extend(NOT_APPLICABLE.iter().map(|(name, what, why)| Row {
        name: (*name).to_owned(),
        what: (*what).to_owned(),
        status: format!("doesn't apply: {why}"),
    }));
    Section {
        title: "Linux, `tls.c`".to_owned(),
        marker: "tls.c",
        rows,
    }
}
