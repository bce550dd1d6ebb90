//! Reads the values of a section by the schema, and collects faults instead of stopping.

use core::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::document::{Document, unknown};
use super::fault::Place;
use super::schema::{Key, Kind, Section, TextDefault};
use super::values::{duration, size};

/// A value and its place in the file.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// A reader of one section.
///
/// Each method reads a key of one [`Kind`]. A wrong value adds a fault and reads as the default.
pub(super) struct Reader<'a, 'i> {
    document: &'a Document<'i>,
    section: &'static Section,
    table: Option<&'a DeTable<'i>>,
    line: u32,
}

impl<'a, 'i> Reader<'a, 'i> {
    pub(super) fn new(
        document: &'a Document<'i>,
        name: &str,
        table: Option<&'a DeTable<'i>>,
        line: u32,
    ) -> Self {
        let section = Section::of(name).unwrap_or(&EMPTY);
        debug_assert_eq!(section.name, name, "sections are read by the schema");
        let reader = Self {
            document,
            section,
            table,
            line,
        };
        for (key, _) in table.into_iter().flatten() {
            if section.key(key.get_ref()).is_none() {
                let line = document.line(key.span().start);
                let place = Place::new(line, format!("{name}.{}", key.get_ref()));
                let known = section.keys.iter().map(|k| k.name);
                document.fault(place, unknown("key", key.get_ref(), known));
            }
        }
        reader
    }

    /// A [`Kind::Count`].
    pub(super) fn count<T: TryFrom<u64> + Default>(&self, name: &str) -> T {
        let Kind::Count {
            min, max, default, ..
        } = self.key(name).kind
        else {
            return self.mismatch(name);
        };
        let read = |value: &DeValue<'_>| {
            let number = integer(value).ok_or("expected a whole number")?;
            (min..=max).contains(&number).then_some(number).ok_or("")
        };
        narrow(self.read(name, read).unwrap_or(default))
    }

    /// A [`Kind::Size`], in bytes; none if there's no default.
    pub(super) fn size<T: TryFrom<u64> + Default>(&self, name: &str) -> Option<T> {
        let Kind::Size { min, max, default } = self.key(name).kind else {
            return self.mismatch(name);
        };
        let read = |value: &DeValue<'_>| {
            let bytes = match value {
                DeValue::Integer(_) => integer(value),
                DeValue::String(text) => size(text),
                _ => None,
            };
            let bytes = bytes.ok_or("expected a size such as \"64MiB\"")?;
            (min..=max).contains(&bytes).then_some(bytes).ok_or("")
        };
        self.read(name, read).or(default).map(narrow)
    }

    /// A [`Kind::Time`].
    pub(super) fn time(&self, name: &str) -> Duration {
        let Kind::Time { min, max, default } = self.key(name).kind else {
            return self.mismatch(name);
        };
        let read = |value: &DeValue<'_>| {
            let time = value.as_str().and_then(duration);
            let time = time.ok_or("expected a duration such as \"30s\" or \"200ms\"")?;
            (min..=max).contains(&time).then_some(time).ok_or("")
        };
        self.read(name, read).unwrap_or(default)
    }

    /// A [`Kind::Switch`].
    pub(super) fn switch(&self, name: &str) -> bool {
        let Kind::Switch { default } = self.key(name).kind else {
            return self.mismatch(name);
        };
        self.read(name, |v| v.as_bool().ok_or("expected true or false"))
            .unwrap_or(default)
    }

    /// A [`Kind::Choice`], as the value that stands beside its name in `values`.
    pub(super) fn choice<T: Copy, const N: usize>(&self, name: &str, values: [(&str, T); N]) -> T {
        const { assert!(N > 0, "a choice has values") };
        let found = match self.key(name).kind {
            Kind::Choice { of, default } => {
                let given = self.value(name);
                let given = given.and_then(|(value, place)| self.one_of(value, &place, of));
                named(given.unwrap_or(default), &values)
            }
            _ => self.mismatch(name),
        };
        found.unwrap_or(values[0].1)
    }

    /// A [`Kind::Choices`], each as the value that stands beside its name in `values`.
    pub(super) fn choices<T: Copy, const N: usize>(
        &self,
        name: &str,
        values: [(&str, T); N],
    ) -> Vec<T> {
        let Kind::Choices {
            of,
            default,
            may_be_empty,
        } = self.key(name).kind
        else {
            return self.mismatch(name);
        };
        let names = match self.list(name, usize::from(!may_be_empty), of.len()) {
            Some(list) => self.different(list, of),
            None => default.to_vec(),
        };
        let values = names.into_iter().map(|name| named(name, &values));
        values.flatten().collect()
    }

    /// Returns the names in the list that are of these, each once.
    fn different(
        &self,
        list: Vec<Located<&DeValue<'_>>>,
        of: &'static [&'static str],
    ) -> Vec<&'static str> {
        let mut found = Vec::new();
        for Located { value, place } in list {
            let Some(one) = self.one_of(value, &place, of) else {
                continue;
            };
            if found.contains(&one) {
                self.document.fault(place, format!("\"{one}\" comes twice"));
            } else {
                found.push(one);
            }
        }
        found
    }

    /// A [`Kind::Text`]. None if the value is absent or wrong.
    pub(super) fn text(&self, name: &str) -> Option<Located<String>> {
        let Kind::Text { default, what } = self.key(name).kind else {
            return self.mismatch(name);
        };
        let place = self.place(name);
        if self.value(name).is_none() {
            match default {
                TextDefault::Required => self.fault(name, format!("missing: {what}")),
                TextDefault::None => {}
                TextDefault::Text(text) => {
                    return Some(Located {
                        value: text.to_owned(),
                        place,
                    });
                }
            }
            return None;
        }
        let read = |value: &DeValue<'_>| value.as_str().map(str::to_owned).ok_or("expected text");
        self.read(name, read).map(|value| Located { value, place })
    }

    /// A [`Kind::Counts`].
    pub(super) fn counts(&self, name: &str) -> Vec<Located<u64>> {
        let Kind::Counts {
            max,
            len_max,
            default,
        } = self.key(name).kind
        else {
            return self.mismatch(name);
        };
        let Some(list) = self.list(name, 1, len_max) else {
            let place = self.place(name);
            return default
                .iter()
                .map(|n| Located {
                    value: *n,
                    place: place.clone(),
                })
                .collect();
        };
        let mut found = Vec::new();
        for Located { value, place } in list {
            match integer(value).filter(|n| *n <= max) {
                Some(value) => found.push(Located { value, place }),
                None => self
                    .document
                    .fault(place, format!("expected a number from 0 to {max}")),
            }
        }
        found
    }

    /// A [`Kind::Texts`].
    pub(super) fn texts(&self, name: &str) -> Vec<Located<&'a str>> {
        let Kind::Texts { len_max, what } = self.key(name).kind else {
            return self.mismatch(name);
        };
        if self.value(name).is_none() {
            self.fault(name, format!("missing: {what}"));
        }
        let mut found = Vec::new();
        for Located { value, place } in self.list(name, 1, len_max).unwrap_or_default() {
            match value.as_str() {
                Some(value) => found.push(Located { value, place }),
                None => self.document.fault(place, "expected text"),
            }
        }
        found
    }

    /// Returns the place of the key; of the section, if the key is absent.
    pub(super) fn place(&self, name: &str) -> Place {
        self.value(name).map_or_else(
            || Place::new(self.line, format!("{}.{name}", self.section.name)),
            |(_, place)| place,
        )
    }

    /// Adds a fault of that key.
    pub(super) fn fault(&self, name: &str, message: impl Into<String>) {
        self.document.fault(self.place(name), message);
    }

    fn key(&self, name: &str) -> &'static Key {
        let key = self.section.key(name);
        debug_assert!(
            key.is_some(),
            "{}.{name} isn't in the schema",
            self.section.name
        );
        key.unwrap_or(&NO_KEY)
    }

    /// Reports that the parser reads a key as another kind than the schema's: an error of ours.
    fn mismatch<T: Default>(&self, name: &str) -> T {
        debug_assert!(
            false,
            "{}.{name} is of another kind in the schema",
            self.section.name
        );
        T::default()
    }

    fn value(&self, name: &str) -> Option<(&'a DeValue<'i>, Place)> {
        let (key, value) = self.table?.get_key_value(name)?;
        let line = self.document.line(key.span().start);
        Some((
            value.get_ref(),
            Place::new(line, format!("{}.{name}", self.section.name)),
        ))
    }

    /// Reads the value by `read`, whose empty message means that it's out of range.
    fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&DeValue<'i>) -> Result<T, &'static str>,
    ) -> Option<T> {
        let (value, place) = self.value(name)?;
        let complaint = match read(value) {
            Ok(value) => return Some(value),
            Err("") => {
                let range = self.key(name).kind.range();
                format!("{} is out of range: {range}", show(value))
            }
            Err(expected) => format!("{expected}, found {}", show(value)),
        };
        self.document.fault(place, complaint);
        None
    }

    fn list(&self, name: &str, min: usize, max: usize) -> Option<Vec<Located<&'a DeValue<'i>>>> {
        let (value, place) = self.value(name)?;
        let Some(list) = value.as_array() else {
            self.document
                .fault(place, format!("expected a list, found {}", show(value)));
            return Some(Vec::new());
        };
        if list.len() < min {
            self.document.fault(place, "the list is empty");
        } else if list.len() > max {
            let message = format!("{} values; there can be {max} at most", list.len());
            self.document.fault(place, message);
            return Some(Vec::new());
        }
        let key = format!("{}.{name}", self.section.name);
        let item = |item: &'a Spanned<DeValue<'i>>| Located {
            value: item.get_ref(),
            place: Place::new(self.document.line(item.span().start), key.clone()),
        };
        Some(list.iter().map(item).collect())
    }

    fn one_of(
        &self,
        value: &DeValue<'_>,
        place: &Place,
        of: &'static [&'static str],
    ) -> Option<&'static str> {
        let text = value.as_str();
        let found = of.iter().copied().find(|name| Some(*name) == text);
        if found.is_none() {
            let message = format!("{} is none of {}", show(value), of.join(", "));
            self.document.fault(place.clone(), message);
        }
        found
    }
}

/// Returns the value as messages show it, shortened.
fn show(value: &DeValue<'_>) -> String {
    let cut = |text: &str| {
        let short: String = text.chars().take(40).collect();
        if short.len() < text.len() {
            format!("{short}...")
        } else {
            short
        }
    };
    match value {
        DeValue::String(text) => format!("{:?}", cut(text)),
        DeValue::Integer(number) if number.radix() == 10 => cut(number.as_str()),
        DeValue::Float(number) => cut(number.as_str()),
        DeValue::Boolean(on) => on.to_string(),
        DeValue::Integer(_) => "a number".to_owned(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn integer(value: &DeValue<'_>) -> Option<u64> {
    let number: &DeInteger<'_> = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// Returns the value beside a name of the schema. Every name has one; a test reads them all.
fn named<T: Copy>(name: &str, values: &[(&str, T)]) -> Option<T> {
    let found = values.iter().find(|(known, _)| *known == name);
    debug_assert!(found.is_some(), "{name} is in the schema, but has no value");
    found.map(|(_, value)| *value)
}

/// Narrows a number to its field's type. The schema's range fits; a test reads every bound.
fn narrow<T: TryFrom<u64> + Default>(number: u64) -> T {
    let narrowed = T::try_from(number);
    debug_assert!(
        narrowed.is_ok(),
        "{number} is within the schema's range, not the field's"
    );
    narrowed.unwrap_or_default()
}

const EMPTY: Section = Section {
    name: "",
    repeats: false,
    keys: &[],
};

const NO_KEY: Key = Key {
    name: "",
    kind: Kind::Switch { default: false },
    about: "",
};
