//! The metadata of a representation.

use std::path::Path;

use crate::validators::Validators;

/// The metadata of one version of a representation. Its source makes it once, when it opens or
/// loads the representation, and each response's head is written from it.
#[derive(Clone, Debug)]
pub struct Entity {
    len: u64,
    validators: Validators,
    content_type: ContentType,
}

impl Entity {
    /// The metadata of `len` bytes.
    pub fn new(len: u64, validators: Validators, content_type: ContentType) -> Self {
        Self {
            len,
            validators,
            content_type,
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its entity tag and modification date.
    pub fn validators(&self) -> &Validators {
        &self.validators
    }

    /// Its media type.
    pub fn content_type(&self) -> ContentType {
        self.content_type
    }
}

/// A media type, with `charset=utf-8` for text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentType {
    name: &'static str,
    text: bool,
}

impl ContentType {
    /// Bytes of unknown meaning.
    pub const UNKNOWN: Self = Self {
        name: "application/octet-stream",
        text: false,
    };
    /// The pages that this server writes itself.
    pub const HTML: Self = Self {
        name: "text/html",
        text: true,
    };

    /// The type that a file's extension stands for.
    pub fn of(path: &Path) -> Self {
        match mime_guess::from_path(path).first_raw() {
            Some(name) => Self {
                name,
                text: is_text(name),
            },
            None => Self::UNKNOWN,
        }
    }

    /// The type's name, without parameters.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The parameters that follow the name.
    pub fn parameters(self) -> &'static str {
        if self.text { "; charset=utf-8" } else { "" }
    }
}

/// Types that are text in the sense that a client has to be told their encoding.
fn is_text(name: &str) -> bool {
    name.starts_with("text/") || matches!(name, "application/javascript" | "application/x-sh")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_by_extension() {
        for (path, name, parameters) in [
            ("a/index.html", "text/html", "; charset=utf-8"),
            ("x.CSS", "text/css", "; charset=utf-8"),
            ("x.js", "text/javascript", "; charset=utf-8"),
            ("x.png", "image/png", ""),
            ("x.json", "application/json", ""),
            ("x.nothing-known", "application/octet-stream", ""),
            ("Makefile", "application/octet-stream", ""),
        ] {
            let found = ContentType::of(Path::new(path));
            assert_eq!(
                (found.name(), found.parameters()),
                (name, parameters),
                "{path}"
            );
        }
    }
}
