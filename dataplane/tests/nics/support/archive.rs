//! An archive of files for the initramfs, in the format that the kernel unpacks (cpio, "newc").

use std::collections::BTreeSet;

/// Files that are added to those of the initramfs.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
}

impl Archive {
    /// Adds a file with its directories. `path` is absolute in the guest.
    pub(crate) fn add(&mut self, path: &str, mode: u32, content: &[u8]) {
        let path = path.strip_prefix('/').expect("an absolute path");
        for (at, _) in path.match_indices('/') {
            let directory = &path[..at];
            if self.directories.insert(directory.to_owned()) {
                self.entry(directory, DIRECTORY | 0o755, &[]);
            }
        }
        self.entry(path, REGULAR | mode, content);
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        let name_len = name.len() + 1;
        // Inode, mode, owner, group, links, time, size, four device numbers, name, checksum.
        let fields = [0, mode as usize, 0, 0, 1, 0, content.len()]
            .into_iter()
            .chain([0; 4])
            .chain([name_len, 0]);
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
