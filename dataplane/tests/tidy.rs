//! What the compiler's and clippy's lints can't see of the house style.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn lines_are_short_and_clean() {
    let mut wrong = Vec::new();
    for file in files(&["rs", "c", "h", "sh", "py"])
        .into_iter()
        .chain(scripts())
    {
        for (number, line) in file.lines() {
            if line.chars().count() > COLUMNS_MAX && !is_long_literal(&file, line) {
                wrong.push(format!(
                    "{}:{number}: over {COLUMNS_MAX} columns",
                    file.name
                ));
            }
            if line.ends_with([' ', '\t']) || line.ends_with('\r') {
                wrong.push(format!("{}:{number}: ends with a space", file.name));
            }
            // C is indented as DPDK's is.
            if line.contains('\t') && !file.name.ends_with(['c', 'h']) {
                wrong.push(format!("{}:{number}: a tab", file.name));
            }
        }
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            wrong.push(format!("{}: no newline at the end", file.name));
        }
    }
    none(&wrong);
}

#[test]
fn nothing_is_left_unfinished() {
    // In two pieces each, or this file would be the first to be found.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("HA", "CK"),
        concat!("dbg", "!("),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("Place", "holder"),
    ];
    let mut wrong = Vec::new();
    for file in files(&["rs", "c", "h", "toml", "md", "py"])
        .into_iter()
        .chain(scripts())
    {
        for (number, line) in file.lines() {
            let words = words.iter().filter(|word| contains_word(line, word));
            wrong.extend(words.map(|word| format!("{}:{number}: {word}", file.name)));
        }
    }
    none(&wrong);
}

#[test]
fn unsafe_code_is_under_drivers_only() {
    let keyword = concat!("un", "safe");
    let forbid = format!("#![forbid({keyword}_code)]");
    let mut wrong = Vec::new();
    for file in files(&["rs"]) {
        if file.name.starts_with("drivers/") {
            continue;
        }
        for (number, line) in file.lines() {
            let code = line.split("//").next().unwrap_or_default();
            if code.trim() != forbid && contains_word(code, keyword) && !code.contains('"') {
                wrong.push(format!("{}:{number}: {keyword} code", file.name));
            }
        }
        if is_crate_root(&file.name) && !file.text.contains(&forbid) {
            wrong.push(format!("{}: a crate root without {forbid}", file.name));
        }
    }
    none(&wrong);
}

/// Allocation failures on purpose are a cargo feature that only dev-dependencies turn on.
#[test]
fn a_release_build_has_no_fault_injection() {
    let features = |edges: &str| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["tree", "--offline", "--locked", "--workspace", "--edges"]);
        let output = cargo.args([edges, "--format", "{p} {f}"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let release = features("normal,build");
    let wrong = release.lines().filter(|l| l.contains("fault-injection"));
    none(&wrong.map(str::to_owned).collect::<Vec<_>>());
    assert!(release.contains("dpdk-sys"), "{release}");
    // Or the feature has another name by now, and this test shows nothing.
    for package in ["lockgate v", "lockgate-drivers v", "pktbuf v", "dpdk-sys v"] {
        let has = |l: &str| l.contains(package) && l.contains("fault-injection");
        assert!(features("all").lines().any(has), "{package}");
    }
}

#[test]
fn files_are_of_a_readable_size() {
    let mut wrong = Vec::new();
    for file in files(&["rs"]) {
        let lines = file.text.lines().collect::<Vec<_>>();
        let is_test_module = |pair: &[&str]| {
            pair[0].trim() == "#[cfg(test)]"
                && pair[1].starts_with("mod ")
                && pair[1].ends_with('{')
        };
        let code = lines
            .windows(2)
            .position(is_test_module)
            .unwrap_or(lines.len());
        if code > LINES_MAX && !is_test(&file.name) {
            wrong.push(format!(
                "{}: {code} lines, {LINES_MAX} are enough",
                file.name
            ));
        }
    }
    none(&wrong);
}

#[test]
fn no_path_is_one_machines_own() {
    let paths = [
        concat!("/wo", "rk/"),
        concat!("/ho", "me/"),
        concat!("/tmp/", "t-"),
    ];
    let mut wrong = Vec::new();
    for file in files(&["rs", "c", "h", "toml", "md", "py"])
        .into_iter()
        .chain(scripts())
    {
        for (number, line) in file.lines() {
            let paths = paths.iter().filter(|path| line.contains(**path));
            wrong.extend(paths.map(|path| format!("{}:{number}: {path}", file.name)));
        }
    }
    none(&wrong);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for file in files(&["md"]) {
        let directory = file.path.parent().unwrap_or_else(|| Path::new(""));
        for (number, line) in file.lines() {
            for target in links(line) {
                let path = target.split('#').next().unwrap_or_default();
                let outside = target.contains("://") || target.starts_with("mailto:");
                if !outside && !path.is_empty() && !directory.join(path).exists() {
                    wrong.push(format!("{}:{number}: {target} doesn't exist", file.name));
                }
            }
        }
    }
    none(&wrong);
}

#[test]
fn the_changelog_has_a_place_for_what_comes() {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let first = changelog.lines().find(|line| line.starts_with("## "));
    assert_eq!(first, Some("## Unreleased"));
}

#[test]
fn scripts_stop_at_the_first_error() {
    for script in scripts()
        .iter()
        .filter(|script| script.text.starts_with("#!/usr/bin/env bash"))
    {
        assert!(
            script.text.contains("\nset -euo pipefail\n"),
            "{}",
            script.name
        );
    }
}

struct File {
    path: PathBuf,
    /// Relative to the repository.
    name: String,
    text: String,
}

impl File {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .split_terminator('\n')
            .enumerate()
            .map(|(at, line)| (at + 1, line))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// The repository's files with one of these extensions.
fn files(extensions: &[&str]) -> Vec<File> {
    let has = |path: &Path| {
        path.extension()
            .and_then(|e| e.to_str())
            .is_some_and(|e| extensions.contains(&e))
    };
    let files: Vec<File> = walk(&root())
        .into_iter()
        .filter(|path| has(path))
        .map(open)
        .collect();
    assert!(!files.is_empty(), "no files found for {extensions:?}");
    files
}

/// Scripts without an extension.
fn scripts() -> Vec<File> {
    let is_script = |path: &PathBuf| {
        let bare = path.extension().is_none();
        bare && (path.starts_with(root().join("scripts")) || path.starts_with(root().join(".ci")))
    };
    walk(&root())
        .into_iter()
        .filter(is_script)
        .map(open)
        .collect()
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default()
            .to_owned();
        if path.is_dir() {
            let skipped = [
                "target",
                ".git",
                "corpus",
                "artifacts",
                "proptest-regressions",
            ];
            if !skipped.contains(&name.as_str()) {
                found.extend(walk(&path));
            }
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn open(path: PathBuf) -> File {
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let name = path
        .strip_prefix(root())
        .unwrap_or(&path)
        .display()
        .to_string();
    File { path, name, text }
}

fn is_crate_root(name: &str) -> bool {
    let under = |directory: &str| name.contains(&format!("/{directory}/"));
    let is_root = name.ends_with("src/lib.rs") || name.ends_with("src/main.rs");
    // Each file right in tests/, benches/ and examples/ is a crate of its own.
    let depth = |directory: &str| {
        name.split_once(&format!("/{directory}/"))
            .is_some_and(|(_, rest)| !rest.contains('/'))
    };
    is_root
        || !under("src")
            && ["tests", "benches", "examples", "fuzz_targets"]
                .iter()
                .any(|d| depth(d))
}

fn is_test(name: &str) -> bool {
    name.ends_with("/tests.rs")
        || ["/tests/", "/benches/", "fuzz/"]
            .iter()
            .any(|part| name.contains(part))
}

/// Addresses of documents and sentences of RFCs can't be broken, nor, in tests, what rustfmt leaves
/// alone: tables, vectors, macros.
fn is_long_literal(file: &File, line: &str) -> bool {
    let line = line.trim_start();
    let table = is_test(&file.name) && !line.starts_with("//");
    let link = line.starts_with("//") && line.contains("https://");
    let quoted = line.starts_with("//# ");
    table || link || quoted
}

fn contains_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(is_part);
        let after = line[at + word.len()..].chars().next().is_some_and(is_part);
        let bounded = word.ends_with('(') || !after;
        !before && bounded
    })
}

/// The targets of `[text](target)`.
fn links(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some((_, after)) = rest.split_once("](") {
        let Some((target, after)) = after.split_once(')') else {
            break;
        };
        found.push(target);
        rest = after;
    }
    found
}

fn none(wrong: &[String]) {
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

const COLUMNS_MAX: usize = 100;
const LINES_MAX: usize = 500;
