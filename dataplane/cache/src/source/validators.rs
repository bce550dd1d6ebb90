//! What a file's status says about its representation: length, media type and validators.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::fingerprint::Fingerprint;
use crate::key::Key;
use crate::store::object::Metadata;

/// The length and times of one version of a file.
pub(super) fn metadata(key: &Key, found: &Fingerprint) -> Metadata {
    Metadata {
        len: found.len,
        modified: (found.modified.seconds, found.modified.nanos),
        inode: found.inode,
        path: Path::new(OsStr::from_bytes(&key.path)).to_owned(),
    }
}
