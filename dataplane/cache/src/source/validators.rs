//! What a file's status says about its representation: length, media type and validators.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use lockgate_http::{ContentType, Entity, EntityTag, Validators};

use super::fingerprint::Fingerprint;
use crate::key::Key;

/// The length, media type and validators of one version of a file.
pub(super) fn entity(key: &Key, found: &Fingerprint) -> Entity {
    let content_type = ContentType::of(Path::new(OsStr::from_bytes(&key.path)));
    let validators = Validators::new(tag(found), found.modified.seconds);
    Entity::new(found.len, validators, content_type)
}

/// The tag of a version: inode, size and time of modification.
fn tag(found: &Fingerprint) -> EntityTag {
    let (inode, len) = (found.inode, found.len);
    let (seconds, nanos) = (found.modified.seconds, found.modified.nanos);
    let text = format!("{inode:x}-{len:x}-{seconds:x}.{nanos:x}");
    EntityTag::strong(text.as_bytes()).expect("hexadecimal numbers fit into a tag")
}
