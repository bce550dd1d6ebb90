//! The system calls of a file source, and which file systems' change times can be trusted.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, Mode, OFlags, ResolveFlags, Stat, StatxFlags, fcntl_getfl, fcntl_setfl, fstat,
    fstatfs, open, openat2, statx,
};
use rustix::io::{Errno, pread};

/// The system calls of a file source.
///
/// Each of them may block for as long as the file system likes: for ever on a network file system
/// whose server is gone. So only loader threads make them.
pub(crate) trait FileSystem: Send + Sync {
    /// Opens a root directory.
    fn open_directory(&self, path: &Path) -> Result<OwnedFd, Errno>;

    /// Opens what `path` names below a directory, for reading. The kernel resolves it: not above
    /// the directory, nor through `/proc`'s links.
    fn open_beneath(&self, directory: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno>;

    /// Returns the status of an open file.
    fn status(&self, file: &OwnedFd) -> Result<Stat, Errno>;

    /// Reads at `offset`. Returns the number of bytes; 0 at the end of the file.
    fn read(&self, file: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno>;

    /// The same, to memory that isn't initialised. Returns what was read.
    fn read_new<'a>(
        &self,
        file: &OwnedFd,
        spare: &'a mut [MaybeUninit<u8>],
        offset: u64,
    ) -> Result<&'a mut [u8], Errno>;

    /// Has reads of the file pass the kernel's page cache by. Returns the multiple of bytes that
    /// offsets and lengths of reads have to be, or none if reads stay buffered: memory is aligned
    /// to pages, and reads are of whole pages.
    fn set_direct(&self, file: &OwnedFd) -> Option<NonZeroU32>;

    /// Whether the file is on a local file system on which this kernel stamps every inode that
    /// changes.
    fn has_reliable_change_time(&self, file: &OwnedFd) -> bool;

    /// Closes a file. FUSE waits for its server here, too.
    fn close(&self, file: OwnedFd);
}

/// The kernel's file systems.
pub(crate) struct Kernel;

impl FileSystem for Kernel {
    fn open_directory(&self, path: &Path) -> Result<OwnedFd, Errno> {
        open(
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    }

    fn open_beneath(&self, directory: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
        // Opening a FIFO would wait for a writer, opening a terminal could make it ours.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let path: &Path = Path::new(OsStr::from_bytes(path));
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        for _ in 0..RACES_MAX {
            match openat2(directory, path, flags, Mode::empty(), resolve) {
                // A directory was renamed while the kernel resolved `..`.
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return done,
            }
        }
        Err(Errno::AGAIN)
    }

    fn status(&self, file: &OwnedFd) -> Result<Stat, Errno> {
        fstat(file)
    }

    fn read(&self, file: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        pread(file, buffer, offset)
    }

    fn read_new<'a>(
        &self,
        file: &OwnedFd,
        spare: &'a mut [MaybeUninit<u8>],
        offset: u64,
    ) -> Result<&'a mut [u8], Errno> {
        pread(file, spare, offset).map(|(read, _)| read)
    }

    fn set_direct(&self, file: &OwnedFd) -> Option<NonZeroU32> {
        let status = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
        // Kernels before 6.1 don't set the flag. A file that can't be read directly has 0.
        let is_known = status.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
        let is_aligned = |align: u32| align > 0 && PAGE_BYTES.is_multiple_of(align);
        if !is_known || !is_aligned(status.stx_dio_mem_align) {
            return None;
        }
        let align = Some(status.stx_dio_offset_align).filter(|align| is_aligned(*align))?;
        let flags = fcntl_getfl(file).ok()?;
        fcntl_setfl(file, flags | OFlags::DIRECT).ok()?;
        NonZeroU32::new(align)
    }

    fn has_reliable_change_time(&self, file: &OwnedFd) -> bool {
        has_reliable_change_time(file)
    }

    fn close(&self, file: OwnedFd) {
        drop(file);
    }
}

/// Whether the file is on a local file system on which this kernel stamps every inode that changes.
///
/// Others can't be trusted:
///
/// - FUSE, NFS and SMB cache attributes, or stamp with the clock of another machine.
/// - FAT keeps no change time.
/// - SquashFS and EROFS are images. Their builder sets the times, often to a fixed one, so a
///   rebuilt image may have the same times for other bytes.
/// - Overlayfs shows the times of its lower layers, which may be on any of these.
fn has_reliable_change_time(file: &OwnedFd) -> bool {
    fstatfs(file).is_ok_and(|status| {
        // The type of the field depends on the machine; magic numbers have 32 bits.
        u32::try_from(status.f_type & 0xffff_ffff).is_ok_and(is_reliable)
    })
}

fn is_reliable(magic: u32) -> bool {
    RELIABLE.contains(&magic)
}

/// Spans are aligned to this, and read in multiples of it.
const PAGE_BYTES: u32 = 4_096;

/// Attempts at a path that changes while it is resolved.
const RACES_MAX: u32 = 16;

/// Magic numbers of statfs(2).
const RELIABLE: [u32; 8] = [
    0x0000_ef53, // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0xf2f5_2010, // F2FS
    0x2fc1_2fc1, // ZFS
    0xca45_1a4e, // bcachefs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_file_systems_that_stamp_changes_themselves_are_trusted() {
        for (name, magic, expected) in [
            ("ext4", 0x0000_ef53, true),
            ("XFS", 0x5846_5342, true),
            ("Btrfs", 0x9123_683e, true),
            ("F2FS", 0xf2f5_2010, true),
            ("ZFS", 0x2fc1_2fc1, true),
            ("bcachefs", 0xca45_1a4e, true),
            ("tmpfs", 0x0102_1994, true),
            ("ramfs", 0x8584_58f6, true),
            ("overlayfs", 0x794c_7630, false),
            ("SquashFS", 0x7371_7368, false),
            ("EROFS", 0xe0f5_e1e2, false),
            ("NFS", 0x0000_6969, false),
            ("SMB", 0xfe53_4d42, false),
            ("FUSE", 0x6573_5546, false),
            ("FAT", 0x0000_4d44, false),
            ("ISO 9660", 0x0000_9660, false),
            ("9P", 0x0102_1997, false),
            ("AFS", 0x5346_414f, false),
            ("none", 0, false),
        ] {
            assert_eq!(is_reliable(magic), expected, "{name}");
        }
        // procfs has times, but of no contents.
        let file = std::fs::File::open("/proc/self/status").unwrap();
        assert!(!has_reliable_change_time(&file.into()));
    }
}
