//! A TOML document: its sections, and the faults found in it so far.

use core::cell::RefCell;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::fault::{Fault, Faults, Place};
use super::reader::Reader;
use super::schema::{REPEATS_MAX, SECTIONS, Section, TEST_SECTIONS};
use super::values::did_you_mean;

/// A configuration file, and the faults that were found in it so far.
pub(super) struct Document<'i> {
    file: &'i Path,
    root: Spanned<DeTable<'i>>,
    line_starts: Vec<usize>,
    faults: RefCell<Vec<Fault>>,
}

impl<'i> Document<'i> {
    /// Parses the text and checks the names of its sections.
    ///
    /// # Errors
    /// The text isn't TOML.
    pub(super) fn parse(file: &'i Path, text: &'i str) -> Result<Self, Faults> {
        Self::parse_with(file, text, TEST_SECTIONS)
    }

    /// As [`Document::parse`], in a build that knows these sections besides [`SECTIONS`].
    pub(super) fn parse_with(
        file: &'i Path,
        text: &'i str,
        test_sections: &'static [Section],
    ) -> Result<Self, Faults> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let line_starts = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        let document = Self {
            file,
            root,
            line_starts,
            faults: RefCell::default(),
        };
        for error in errors {
            let line = error.span().map_or(0, |span| document.line(span.start));
            document.fault(Place::new(line, ""), error.message().trim());
        }
        if let Some(faults) = Faults::from_list(document.faults.take()) {
            return Err(faults);
        }
        document.check_sections(test_sections);
        Ok(document)
    }

    /// Returns the section of that name, empty if the file doesn't have it: every key has its
    /// default.
    pub(super) fn one(&self, name: &str) -> Reader<'_, 'i> {
        let found = self.root.get_ref().get(name);
        let table = found.and_then(|value| value.get_ref().as_table());
        let line = found.map_or(0, |value| self.line(value.span().start));
        Reader::new(self, name, table, line)
    }

    /// Returns all sections of that name.
    pub(super) fn many(&self, name: &str) -> Vec<Reader<'_, 'i>> {
        let found = self.root.get_ref().get(name);
        let list = found.and_then(|value| value.get_ref().as_array());
        let tables = list
            .into_iter()
            .flat_map(|list| list.iter())
            .filter_map(|value| {
                value
                    .get_ref()
                    .as_table()
                    .map(|t| (t, self.line(value.span().start)))
            });
        let tables = tables.take(REPEATS_MAX);
        tables
            .map(|(table, line)| Reader::new(self, name, Some(table), line))
            .collect()
    }

    /// Adds a fault.
    pub(super) fn fault(&self, place: Place, message: impl Into<String>) {
        self.faults
            .borrow_mut()
            .push(Fault::new(self.file, place, message));
    }

    /// Ends the document.
    ///
    /// # Errors
    /// The faults, if there are any.
    pub(super) fn finish(&self) -> Result<(), Faults> {
        Faults::from_list(self.faults.take()).map_or(Ok(()), Err)
    }

    /// Returns the line of a byte of the text, from 1.
    pub(super) fn line(&self, at: usize) -> u32 {
        let before = self.line_starts.partition_point(|start| *start <= at);
        u32::try_from(before + 1).unwrap_or(u32::MAX)
    }

    fn check_sections(&self, test_sections: &'static [Section]) {
        let known = || SECTIONS.iter().chain(test_sections);
        for (name, value) in self.root.get_ref() {
            let place = Place::new(self.line(name.span().start), name.get_ref().as_ref());
            let Some(section) = known().find(|s| s.name == name.get_ref().as_ref()) else {
                let names = known().map(|s| s.name);
                self.fault(place, unknown("section", name.get_ref(), names));
                continue;
            };
            let name = section.name;
            match value.get_ref() {
                DeValue::Table(_) if !section.repeats => {}
                DeValue::Array(list) if section.repeats => {
                    if list.iter().any(|item| !item.get_ref().is_table()) {
                        self.fault(place, format!("expected a list of sections, [[{name}]]"));
                    } else if list.len() > REPEATS_MAX {
                        let message = format!("more than {REPEATS_MAX} of these sections");
                        self.fault(place, message);
                    }
                }
                _ if section.repeats => {
                    self.fault(
                        place,
                        format!("this section may come several times: [[{name}]]"),
                    );
                }
                _ => self.fault(place, format!("expected one section, [{name}]")),
            }
        }
    }
}

/// Returns the message about an unknown name, with the known name that is nearest to it.
pub(super) fn unknown<'n>(
    what: &str,
    name: &DeString<'_>,
    known: impl Iterator<Item = &'n str>,
) -> String {
    did_you_mean(name, known).map_or_else(
        || format!("unknown {what}"),
        |meant| format!("unknown {what}; did you mean \"{meant}\"?"),
    )
}
