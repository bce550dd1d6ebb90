//! File systems whose change times can be trusted.

use std::os::fd::OwnedFd;

use rustix::fs::fstatfs;

/// Whether every change of the file shows in its change time: it is on a local file system that
/// stamps inodes itself. Others (FUSE, NFS, SMB, FAT) cache attributes, stamp with the clock of
/// another machine, or keep no change time.
pub(super) fn has_reliable_change_time(file: &OwnedFd) -> bool {
    fstatfs(file).is_ok_and(|status| {
        // The type of the field depends on the machine; magic numbers have 32 bits.
        u32::try_from(status.f_type & 0xffff_ffff).is_ok_and(|magic| RELIABLE.contains(&magic))
    })
}

/// Magic numbers of statfs(2).
const RELIABLE: [u32; 11] = [
    0x0000_ef53, // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0xf2f5_2010, // F2FS
    0x2fc1_2fc1, // ZFS
    0xca45_1a4e, // bcachefs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x794c_7630, // overlayfs
    0x7371_7368, // SquashFS
    0xe0f5_e1e2, // EROFS
];
