//! Every section and key of the configuration file: kind, range, default and what it's for.
//!
//! This is the one place. The parser reads a key only through its entry here, and the tables of
//! `configs/README.md` are [`section_table`]'s.

mod build;
mod network;
mod serving;

use core::fmt::Write as _;
use core::time::Duration;

use self::network::{EAL, INTERFACE, PORT, ROUTE, TCP, WORKERS};
#[cfg(feature = "fault-injection")]
use self::serving::TEST;
use self::serving::{
    CACHE, CERTIFICATE, CONTROL, DRAIN, HTTP, KTLS, LIMITS, LISTENER, LOG, SITE, TLS,
};
use super::values::{show_duration, show_size};

/// A table of the file.
#[derive(Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// Whether it may come several times: `[[name]]`.
    pub repeats: bool,
    /// Its keys.
    pub keys: &'static [Key],
}

/// A key of a section.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What it's for, in Markdown.
    pub about: &'static str,
}

/// What a key's value is.
#[derive(Debug)]
pub enum Kind {
    /// A whole number.
    Count {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
        /// If the key is absent.
        default: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// A number of bytes: `"64MiB"`, or a whole number.
    Size {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
        /// If the key is absent; none: computed.
        default: Option<u64>,
    },
    /// `"30s"`.
    Time {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
        /// If the key is absent.
        default: Duration,
    },
    /// `true` or `false`.
    Switch {
        /// If the key is absent.
        default: bool,
    },
    /// One of some names.
    Choice {
        /// The names.
        of: &'static [&'static str],
        /// If the key is absent.
        default: &'static str,
    },
    /// A list of some names, none twice.
    Choices {
        /// The names.
        of: &'static [&'static str],
        /// If the key is absent.
        default: &'static [&'static str],
        /// Whether the list may be empty.
        may_be_empty: bool,
    },
    /// Text.
    Text {
        /// What it has to be.
        what: &'static str,
        /// If the key is absent.
        default: Default,
    },
    /// A list of whole numbers.
    Counts {
        /// Largest.
        max: u64,
        /// How many there may be, at least one.
        len_max: usize,
        /// If the key is absent.
        default: &'static [u64],
    },
    /// A list of texts.
    Texts {
        /// What each has to be.
        what: &'static str,
        /// How many there may be, at least one.
        len_max: usize,
    },
}

/// What stands for an absent text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Nothing: the key is required.
    Required,
    /// Nothing, and that is a value.
    None,
    /// This text.
    Text(&'static str),
}

impl Section {
    /// The section of that name.
    pub fn of(name: &str) -> Option<&'static Self> {
        let mut all = SECTIONS.iter().chain(TEST_SECTIONS);
        all.find(|s| s.name == name)
    }

    /// The key of that name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }
}

impl Kind {
    /// The values that are allowed.
    pub fn range(&self) -> String {
        match self {
            Self::Count { min, max, unit, .. } => format!("{min} to {max}{}", after(unit)),
            Self::Size { min, max, .. } => format!("{} to {}", show_size(*min), show_size(*max)),
            Self::Time { min, max, .. } => {
                format!("{} to {}", show_duration(*min), show_duration(*max))
            }
            Self::Switch { .. } => "true, false".to_owned(),
            Self::Choice { of, .. } | Self::Choices { of, .. } => of.join(", "),
            Self::Text { what, .. } => (*what).to_owned(),
            Self::Counts { max, len_max, .. } => format!("1 to {len_max} of 0 to {max}"),
            Self::Texts { what, len_max } => format!("1 to {len_max} of {what}"),
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::Count { .. } => "number",
            Self::Size { .. } => "size",
            Self::Time { .. } => "duration",
            Self::Switch { .. } => "switch",
            Self::Choice { .. } => "name",
            Self::Choices { .. } => "list of names",
            Self::Text { .. } => "text",
            Self::Counts { .. } => "list of numbers",
            Self::Texts { .. } => "list of texts",
        }
    }

    fn default_text(&self) -> String {
        match self {
            Self::Count { default, .. } => format!("`{default}`"),
            Self::Size {
                default: Some(size),
                ..
            } => format!("`\"{}\"`", show_size(*size)),
            Self::Size { default: None, .. } => "what the pools need".to_owned(),
            Self::Time { default, .. } => format!("`\"{}\"`", show_duration(*default)),
            Self::Switch { default } => format!("`{default}`"),
            Self::Choice { default, .. } => format!("`\"{default}\"`"),
            Self::Choices { default, .. } => format!("`{default:?}`"),
            Self::Text {
                default: Default::Required,
                ..
            }
            | Self::Texts { .. } => "required".to_owned(),
            Self::Text {
                default: Default::None,
                ..
            } => "none".to_owned(),
            Self::Text {
                default: Default::Text(text),
                ..
            } => format!("`\"{text}\"`"),
            Self::Counts { default, .. } => format!("`{default:?}`"),
        }
    }
}

/// The section's table, in Markdown.
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
    one("control", CONTROL),
    one("drain", DRAIN),
    one("log", LOG),
];

/// Sections that only builds with the feature `fault-injection` know. They aren't documented.
pub const TEST_SECTIONS: &[Section] = &[
    #[cfg(feature = "fault-injection")]
    one("test", TEST),
];

/// Sections of one kind that a file may have.
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

fn after(unit: &str) -> String {
    if unit.is_empty() {
        String::new()
    } else {
        format!(" {unit}")
    }
}
