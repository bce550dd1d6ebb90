//! Tables of `docs/ktls.md` that the suites' cases are compared with.

use std::path::Path;
use std::{env, fs};

/// A table between two markers.
pub(crate) struct Section {
    pub(crate) title: String,
    /// What the markers in the document name.
    pub(crate) marker: &'static str,
    pub(crate) rows: Vec<Row>,
}

/// A case, or several of a name.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) what: String,
    /// Whether it runs, or why it doesn't.
    pub(crate) status: String,
}

impl Section {
    fn text(&self) -> String {
        let mut text = format!(
            "### {}\n\n| case | asserts | here |\n|---|---|---|\n",
            self.title
        );
        for row in &self.rows {
            text += &format!("| `{}` | {} | {} |\n", row.name, row.what, row.status);
        }
        text
    }
}

/// Compares the document's table with the cases.
///
/// With `LOCKGATE_WRITE_TABLES` in the environment the table is written instead.
pub(crate) fn check_document(section: &Section) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ktls.md");
    let document = fs::read_to_string(&path).unwrap();
    let begin = format!("<!-- cases of {} -->\n", section.marker);
    let end = format!("<!-- end of the cases of {} -->\n", section.marker);
    let (before, rest) = document.split_once(&begin).expect("the table's begin");
    let (table, after) = rest.split_once(&end).expect("the table's end");
    let text = section.text();
    if table == text {
        return;
    }
    if env::var_os("LOCKGATE_WRITE_TABLES").is_some() {
        fs::write(path, format!("{before}{begin}{text}{end}{after}")).unwrap();
        return;
    }
    let differs = text.lines().zip(table.lines()).find(|(a, b)| a != b);
    panic!(
        "docs/ktls.md: the table of {} isn't that of the cases; run this test with \
         LOCKGATE_WRITE_TABLES=1: {differs:?}",
        section.marker,
    );
}
