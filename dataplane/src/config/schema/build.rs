//! Short constructors for the tables of keys.

use core::time::Duration;

use super::key::{Key, Kind, TextDefault};

pub(super) const fn key(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, about }
}

pub(super) const fn choice(of: &'static [&'static str], default: &'static str) -> Kind {
    Kind::Choice { of, default }
}

pub(super) const fn required(what: &'static str) -> Kind {
    Kind::Text {
        what,
        default: TextDefault::Required,
    }
}

pub(super) const fn count(min: u64, max: u64, default: u64, unit: &'static str) -> Kind {
    Kind::Count {
        min,
        max,
        default,
        unit,
    }
}

pub(super) const fn size(min: u64, max: u64, default: u64) -> Kind {
    Kind::Size {
        min,
        max,
        default: Some(default),
    }
}

/// In milliseconds.
pub(super) const fn time(min: u64, max: u64, default: u64) -> Kind {
    Kind::Time {
        min: Duration::from_millis(min),
        max: Duration::from_millis(max),
        default: Duration::from_millis(default),
    }
}

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
pub(super) const MS: u64 = 1;
pub(super) const S: u64 = 1000 * MS;
pub(super) const M: u64 = 60 * S;
pub(super) const H: u64 = 60 * M;
