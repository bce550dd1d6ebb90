//! Every section and key of the configuration file: kind, range, default, description.
//!
//! Nothing about a key is said elsewhere: the parser reads a key only through its entry here, and
//! [`section_table`] writes the tables of `configs/README.md`.

mod build;
mod key;
mod network;
mod serving;

use core::fmt::Write as _;

use self::network::{EAL, INTERFACE, PORT, ROUTE, TCP, WORKERS};
#[cfg(feature = "fault-injection")]
use self::serving::TEST;
use self::serving::{
    CACHE, CERTIFICATE, CONTROL, DRAIN, HTTP, KTLS, LIMITS, LISTENER, LOG, PROCESS, SITE, TLS,
};

pub use self::key::{Key, Kind, TextDefault};

/// A section of the file: a TOML table, or an array of tables.
#[derive(Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// Whether it may be repeated: `[[name]]`.
    pub repeats: bool,
    /// Its keys.
    pub keys: &'static [Key],
}

impl Section {
    /// Returns the section of that name.
    pub fn of(name: &str) -> Option<&'static Self> {
        let mut all = SECTIONS.iter().chain(TEST_SECTIONS);
        all.find(|s| s.name == name)
    }

    /// Returns the key of that name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }
}

/// Returns the section's table, in Markdown.
pub fn section_table(section: &Section) -> String {
    let mut out = String::from("| key | type | allowed | default | what it is |\n");
    out.push_str("|---|---|---|---|---|\n");
    for Key { name, kind, about } in section.keys {
        let (of, allowed, default) = (kind.type_name(), kind.range(), kind.default_text());
        // Writing to a string can't fail.
        let _ = writeln!(out, "| `{name}` | {of} | {allowed} | {default} | {about} |");
    }
    out
}

/// Every section, in the order of the documentation.
pub const SECTIONS: &[Section] = &[
    one("eal", EAL),
    one("workers", WORKERS),
    many("port", PORT),
    many("interface", INTERFACE),
    many("route", ROUTE),
    one("tcp", TCP),
    one("ktls", KTLS),
    one("tls", TLS),
    many("certificate", CERTIFICATE),
    many("listener", LISTENER),
    many("site", SITE),
    one("http", HTTP),
    one("cache", CACHE),
    one("limits", LIMITS),
    one("process", PROCESS),
    one("control", CONTROL),
    one("drain", DRAIN),
    one("log", LOG),
];

/// Sections that only builds with the feature `fault-injection` know. They aren't documented.
pub const TEST_SECTIONS: &[Section] = &[
    #[cfg(feature = "fault-injection")]
    one("test", TEST),
];

/// The most sections of one name in a file.
pub const REPEATS_MAX: usize = 1024;

const fn one(name: &'static str, keys: &'static [Key]) -> Section {
    Section {
        name,
        repeats: false,
        keys,
    }
}

const fn many(name: &'static str, keys: &'static [Key]) -> Section {
    Section {
        name,
        repeats: true,
        keys,
    }
}
