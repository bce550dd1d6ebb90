//! Temporary directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Once;

use tempfile::TempDir;

use crate::stale;

/// A temporary directory of one test. It and everything in it is removed on drop, also when the
/// test panics. What a killed test left behind is removed by the next process that makes one.
///
/// Its path is short enough for Unix sockets in it, whose paths have at most 107 bytes.
#[derive(Debug)]
pub struct ScratchDir(TempDir);

impl ScratchDir {
    /// Makes an empty directory with an unpredictable name.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a new directory each time is no default value"
    )]
    pub fn new() -> Self {
        static CLEAN: Once = Once::new();
        CLEAN.call_once(remove_stale);
        let prefix = format!("{PREFIX}{}-", process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir();
        Self(directory.expect("the directory for temporary files is writable"))
    }

    /// The directory's absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The absolute path of `name` in the directory, whether it exists or not.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Writes the file `name`, with all directories on the way to it, and returns its path.
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        let directory = path
            .parent()
            .expect("it has the scratch directory above it");
        fs::create_dir_all(directory).expect("a scratch directory is writable");
        fs::write(&path, content).expect("a scratch directory is writable");
        path
    }

    /// Makes the directory `name`, with all directories on the way to it, and returns its path.
    pub fn make_dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).expect("a scratch directory is writable");
        path
    }
}

impl AsRef<Path> for ScratchDir {
    fn as_ref(&self) -> &Path {
        self.path()
    }
}

/// Removes the directories of processes that have ended without doing so.
fn remove_stale() {
    for entry in fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        if stale::is_stale(&entry.file_name().to_string_lossy(), PREFIX) {
            // Another process may be removing it, too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

const PREFIX: &str = "lockgate-scratch-";

#[cfg(test)]
mod tests {
    use super::{PREFIX, ScratchDir, remove_stale};

    #[test]
    fn directories_of_dead_processes_are_removed() {
        let mut child = std::process::Command::new("true")
            .spawn()
            .expect("true is a program");
        let left = std::env::temp_dir().join(format!("{PREFIX}{}-x", child.id()));
        std::fs::create_dir(&left).expect("the temporary directory is writable");
        child.wait().expect("it is our child");
        let mine = ScratchDir::new();
        remove_stale();
        assert!(!left.exists());
        assert!(mine.path().is_dir());
    }

    #[test]
    fn directories_are_separate_and_removed_on_drop() {
        let (one, other) = (ScratchDir::new(), ScratchDir::new());
        assert_ne!(one.path(), other.path());
        let file = one.write("a/b/c", "content");
        assert_eq!(std::fs::read(&file).expect("it was written"), b"content");
        assert!(other.make_dir("d").is_dir());
        drop(one);
        assert!(!file.exists());
        assert!(other.path().is_dir());
    }
}
