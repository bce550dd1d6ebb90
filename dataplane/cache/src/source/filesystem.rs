//! File systems whose change times can be trusted.

use std::os::fd::OwnedFd;

use rustix::fs::fstatfs;

/// Returns whether the change time of a file can be trusted.
pub(crate) type ChangeTimeCheck = fn(&OwnedFd) -> bool;

/// Whether the file is on a local file system on which this kernel stamps every inode that changes.
///
/// Others can't be trusted:
///
/// - FUSE, NFS and SMB cache attributes, or stamp with the clock of another machine.
/// - FAT keeps no change time.
/// - SquashFS and EROFS are images. Their builder sets the times, often to a fixed one, so a
///   rebuilt image may have the same times for other bytes.
/// - Overlayfs shows the times of its lower layers, which may be on any of these.
pub(crate) fn has_reliable_change_time(file: &OwnedFd) -> bool {
    fstatfs(file).is_ok_and(|status| {
        // The type of the field depends on the machine; magic numbers have 32 bits.
        u32::try_from(status.f_type & 0xffff_ffff).is_ok_and(is_reliable)
    })
}

fn is_reliable(magic: u32) -> bool {
    RELIABLE.contains(&magic)
}

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
