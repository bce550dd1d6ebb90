//! Keys of the configuration file and the kinds of their values.

use core::time::Duration;

use crate::config::values::{show_duration, show_size};

/// A key of a section.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// The kind of its value.
    pub kind: Kind,
    /// What it sets, in Markdown.
    pub about: &'static str,
}

/// The kind of a key's value.
#[derive(Debug)]
pub enum Kind {
    /// A whole number.
    Count {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
        /// The value if the key is absent.
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
        /// The value if the key is absent; none if it's computed.
        default: Option<u64>,
    },
    /// `"30s"`.
    Time {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
        /// The value if the key is absent.
        default: Duration,
    },
    /// `true` or `false`.
    Switch {
        /// The value if the key is absent.
        default: bool,
    },
    /// One of some names.
    Choice {
        /// The names.
        of: &'static [&'static str],
        /// The value if the key is absent.
        default: &'static str,
    },
    /// A list of some names, none twice.
    Choices {
        /// The names.
        of: &'static [&'static str],
        /// The value if the key is absent.
        default: &'static [&'static str],
        /// Whether the list may be empty.
        may_be_empty: bool,
    },
    /// Text.
    Text {
        /// What the text has to be.
        what: &'static str,
        /// The value if the key is absent.
        default: TextDefault,
    },
    /// A list of whole numbers.
    Counts {
        /// Largest.
        max: u64,
        /// The longest list; it has one element at least.
        len_max: usize,
        /// The value if the key is absent.
        default: &'static [u64],
    },
    /// A list of texts.
    Texts {
        /// What each text has to be.
        what: &'static str,
        /// The longest list; it has one element at least.
        len_max: usize,
    },
}

/// The value of an absent text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextDefault {
    /// None: the key is required.
    Required,
    /// None, which is a valid value.
    None,
    /// This text.
    Text(&'static str),
}

impl Kind {
    /// Returns the allowed values, as the documentation and messages show them.
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

    pub(super) fn type_name(&self) -> &'static str {
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

    pub(super) fn default_text(&self) -> String {
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
                default: TextDefault::Required,
                ..
            }
            | Self::Texts { .. } => "required".to_owned(),
            Self::Text {
                default: TextDefault::None,
                ..
            } => "none".to_owned(),
            Self::Text {
                default: TextDefault::Text(text),
                ..
            } => format!("`\"{text}\"`"),
            Self::Counts { default, .. } => format!("`{default:?}`"),
        }
    }
}

fn after(unit: &str) -> String {
    if unit.is_empty() {
        String::new()
    } else {
        format!(" {unit}")
    }
}
