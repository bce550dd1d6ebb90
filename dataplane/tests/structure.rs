//! The structure of the workspace: circles of imports, module files, front pages of crates.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Files of a crate that import each other, directly or through others, are a circle. They can only
/// be understood together, so there are at most [`CIRCLE_FILES_MAX`] of them. A file with further
/// `impl` blocks of a type is part of that type and does not import it.
#[test]
fn no_circle_of_imports_is_longer_than_three_files() {
    let mut wrong = Vec::new();
    let mut arrows = 0;
    for (package, sources) in crates() {
        let modules = Modules::read(&sources);
        let imports = modules.imports();
        arrows += imports.values().map(BTreeSet::len).sum::<usize>();
        for circle in circles(&imports) {
            if circle.len() > CIRCLE_FILES_MAX {
                wrong.push(format!("{package}: {}", circle.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "circles of imports: {wrong:#?}");
    // Or nothing was recognised as an import, and this test shows nothing.
    assert!(arrows > 500, "{arrows} imports");
}

#[test]
fn the_finder_of_circles_finds_circles() {
    let modules = Modules::of([
        ("lib", "mod a;\nmod b;\nmod c;\nmod d;\npub use b::Beta;\n"),
        ("a", "use crate::Beta;\n"),
        ("b", "pub struct Beta;\nuse super::c::{self, Gamma};\n"),
        ("c", "pub struct Gamma;\nfn f() { crate::d::g() }\n"),
        ("d", "use crate::{a::{Alpha}};\n// use crate::d::e;\n"),
        ("d::e", "use super::super::a;\nuse super::Delta;\n"),
        (
            "d::f",
            "use super::{f, e};\nimpl Beta {}\nuse crate::Beta;\n",
        ),
    ]);
    assert_eq!(circles(&modules.imports()), [["a", "b", "c", "d"]]);
}

/// One style: `foo.rs` beside `foo/`, and no file that is named for not having a subject.
#[test]
fn modules_are_files_beside_their_folders_and_named_for_their_subject() {
    let mut wrong = Vec::new();
    for (package, sources) in crates() {
        for file in rust_files(sources.parent().unwrap()) {
            let name = file.file_name().unwrap().to_str().unwrap();
            if [
                "mod.rs",
                "common.rs",
                "types.rs",
                "util.rs",
                "utils.rs",
                "misc.rs",
            ]
            .contains(&name)
            {
                wrong.push(format!("{package}: {}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The front page of a library: what it is, and an example that the documentation tests compile.
#[test]
fn libraries_have_a_front_page_with_an_example() {
    let mut wrong = Vec::new();
    for (package, sources) in crates() {
        let Ok(text) = fs::read_to_string(sources.join("lib.rs")) else {
            continue;
        };
        let page: Vec<_> = text.lines().take_while(|l| l.starts_with("//!")).collect();
        let example = page.iter().any(|l| l.trim_end() == "//! ```");
        // The bindings are generated, and the inputs of the fuzz targets are their examples.
        let exempt = ["dpdk-sys", "lockgate-fuzz"].contains(&package.as_str());
        if page.len() < 10 || !(example || exempt) {
            wrong.push(format!(
                "{package}: {} lines, example: {example}",
                page.len()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The modules of a crate: module path, and its code without comments and tests.
struct Modules(BTreeMap<String, String>);

impl Modules {
    fn read(sources: &Path) -> Self {
        let text = |file: &Path| {
            let path = file.strip_prefix(sources).unwrap().with_extension("");
            let parts: Vec<_> = path.iter().map(|part| part.to_str().unwrap()).collect();
            let test = parts.iter().any(|part| part.starts_with("test"));
            (!test).then(|| (parts.join("::"), fs::read_to_string(file).unwrap()))
        };
        let files = rust_files(sources);
        let texts: Vec<_> = files.iter().filter_map(|file| text(file)).collect();
        Self::of(
            texts
                .iter()
                .map(|(path, text)| (path.as_str(), text.as_str())),
        )
    }

    fn of<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let code = |text: &str| {
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let lines = code
                .lines()
                .map(|l| l.split("//").next().unwrap_or_default());
            lines.collect::<Vec<_>>().join("\n")
        };
        let root = |path: &str| match path {
            "lib" | "main" => String::new(),
            path => path.to_owned(),
        };
        Self(
            texts
                .into_iter()
                .map(|(path, text)| (root(path), code(text)))
                .collect(),
        )
    }

    /// For each module the modules that it imports from, itself excluded.
    fn imports(&self) -> BTreeMap<String, BTreeSet<String>> {
        let of = |module: &String| {
            let mut used = self.used_paths(module);
            used.retain(|path| !self.implements(module, path));
            let files = used.iter().filter_map(|path| self.defining(path, 0));
            files.filter(|file| file != module).collect()
        };
        self.0
            .keys()
            .map(|module| (module.clone(), of(module)))
            .collect()
    }

    /// Absolute paths, without `crate::`, of everything that a module names by a path.
    fn used_paths(&self, module: &str) -> Vec<String> {
        let code = &self.0[module];
        let mut paths = Vec::new();
        for (at, _) in code.match_indices("use ") {
            // A re-export (`pub use`) is no use of what it names.
            let line = code[..at].rsplit('\n').next().unwrap_or_default();
            let starts = line.trim().is_empty();
            if let (true, Some(end)) = (starts, code[at..].find(';')) {
                expand(&code[at + 4..at + end], String::new(), &mut paths);
            }
        }
        let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        for start in ["crate::", "super::"] {
            for (at, _) in code.match_indices(start) {
                let path: String = code[at..].chars().take_while(|c| word(*c)).collect();
                // `use crate::{...}` was read above.
                if !path.ends_with(':') {
                    paths.push(path);
                }
            }
        }
        paths
            .iter()
            .filter_map(|path| self.absolute(module, path))
            .collect()
    }

    /// Whether the module has an inherent `impl` block of the type that the path names.
    fn implements(&self, module: &str, path: &str) -> bool {
        let name = path.rsplit("::").next().unwrap_or_default();
        self.0[module].lines().any(|line| {
            let head = line.trim_start().strip_prefix("impl");
            let subject =
                head.map(|h| h.rsplit_once("> ").map_or(h, |(_, subject)| subject).trim());
            subject.is_some_and(|s| {
                s.split(|c: char| !c.is_alphanumeric() && c != '_').next() == Some(name)
            })
        })
    }

    fn absolute(&self, module: &str, path: &str) -> Option<String> {
        let mut base: Vec<_> = module.split("::").filter(|part| !part.is_empty()).collect();
        let mut parts = path.split("::").map(str::trim).peekable();
        match parts.next()? {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                base.pop();
                while parts.next_if_eq(&"super").is_some() {
                    base.pop();
                }
            }
            // A child of this module, or else another crate.
            child => {
                base.push(child);
                if !self.0.contains_key(&base.join("::")) {
                    return None;
                }
            }
        }
        Some(
            base.into_iter()
                .chain(parts.filter(|p| *p != "self"))
                .collect::<Vec<_>>()
                .join("::"),
        )
    }

    /// The module that defines what a path names: re-exports are followed.
    fn defining(&self, path: &str, depth: u8) -> Option<String> {
        if self.0.contains_key(path) {
            return Some(path.to_owned());
        }
        let mut module = path;
        let mut rest = path;
        while !self.0.contains_key(module) {
            (module, rest) = module.rsplit_once("::").unwrap_or(("", module));
        }
        let name = rest.split("::").next().unwrap_or_default();
        let ends = |used: &&String| used.rsplit("::").next() == Some(name) && used.as_str() != path;
        let exported = if depth < 4 {
            self.reexports(module)
        } else {
            Vec::new()
        };
        match exported.iter().find(ends) {
            Some(target) => self.defining(target, depth + 1),
            None => Some(module.to_owned()),
        }
    }

    fn reexports(&self, module: &str) -> Vec<String> {
        let mut paths = Vec::new();
        for statement in self.0[module].split_inclusive(';') {
            let Some((before, tree)) = statement.split_once(" use ") else {
                continue;
            };
            if before
                .rsplit('\n')
                .next()
                .is_some_and(|line| line.starts_with("pub"))
            {
                expand(tree.trim_end_matches(';'), String::new(), &mut paths);
            }
        }
        paths
            .iter()
            .filter_map(|path| self.absolute(module, path))
            .collect()
    }
}

/// Expands the tree of a `use` declaration to paths; globs and renames are left out.
fn expand(tree: &str, prefix: String, paths: &mut Vec<String>) {
    let tree = tree.trim();
    if let Some((head, group)) = tree.split_once('{') {
        let inner = group.rsplit_once('}').map_or(group, |(inner, _)| inner);
        let mut depth = 0;
        let split = |c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        };
        for part in inner.split(split) {
            expand(part, format!("{prefix}{}", head.trim()), paths);
        }
    } else if !tree.is_empty() && !tree.ends_with('*') {
        let name = tree.split(" as ").next().unwrap_or_default();
        paths.push(format!("{prefix}{name}"));
    }
}

/// Sets of modules of which each reaches each other by imports.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reached = |from: &String| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        while let Some(module) = next.pop() {
            for target in imports.get(module).into_iter().flatten() {
                if seen.insert(target) {
                    next.push(target);
                }
            }
        }
        seen
    };
    let reach: BTreeMap<_, _> = imports.keys().map(|m| (m, reached(m))).collect();
    let mut found = BTreeSet::new();
    for (module, targets) in &reach {
        let circle: Vec<String> = targets
            .iter()
            .filter(|t| reach[**t].contains(module))
            .map(|t| (*t).clone())
            .collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

/// Name and source folder of each crate of the workspace.
fn crates() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let manifest: toml::Table = fs::read_to_string(root.join("Cargo.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    let package = |member: &toml::Value| {
        let folder = root.join(member.as_str().unwrap());
        let text = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let name = manifest["package"]["name"].as_str().unwrap().to_owned();
        (name, folder.join("src"))
    };
    members.iter().map(package).collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.join("Cargo.toml").exists() && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

const CIRCLE_FILES_MAX: usize = 3;
