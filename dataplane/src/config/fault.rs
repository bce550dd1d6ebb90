//! Faults of a configuration file, with their places.

use core::fmt;
use std::path::{Path, PathBuf};

/// A fault of a configuration file: `file:line: key: message`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The configuration file.
    pub file: PathBuf,
    /// The place in it.
    pub place: Place,
    /// What is wrong, and what to do where that isn't obvious.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(file: &Path, place: Place, message: impl Into<String>) -> Self {
        Self {
            file: file.to_path_buf(),
            place,
            message: message.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.place.line > 0 {
            write!(f, ":{}", self.place.line)?;
        }
        if !self.place.key.is_empty() {
            write!(f, ": {}", self.place.key)?;
        }
        // A message may quote the file or a system error. Control characters would leave its line.
        write!(f, ": {}", self.message.replace(char::is_control, "?"))
    }
}

/// A place in a configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, from 1; 0 for the whole file.
    pub line: u32,
    /// Section and key, as in `port.mtu`; empty where the file isn't TOML.
    pub key: String,
}

impl Place {
    pub(super) fn new(line: u32, key: impl Into<String>) -> Self {
        Self {
            line,
            key: key.into(),
        }
    }
}

/// All faults of a file, in its order; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// The faults, if there are any.
    pub(super) fn from_list(mut list: Vec<Fault>) -> Option<Self> {
        list.sort();
        list.dedup();
        (!list.is_empty()).then_some(Self(list))
    }

    /// Returns the faults in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().enumerate() {
            let end = if n + 1 < self.0.len() { "\n" } else { "" };
            write!(f, "{fault}{end}")?;
        }
        Ok(())
    }
}

impl core::error::Error for Faults {}
