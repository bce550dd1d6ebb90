//! Length, media type and validators of a file, from its status.
//!
//! The rules, against a file that is changed while its validators stay the same:
//!
//! - The tag's text has inode, length, modification time and change time. A program can put back
//!   all of them but the last, and the kernel moves that one with each change.
//! - The tag is strong if the change time was older than two seconds when reading began, on a file
//!   system that can be trusted with it. Then no change since can have the same change time.
//! - Else it is weak. If the change time is too young, the text also has the time of reading, so
//!   that what is read when it is older gets another tag; see [`FileHandle::is_version`].
//! - The date is always weak: a program can set it to anything.
//!
//! [`FileHandle::is_version`]: super::handle::FileHandle::is_version

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use lockgate_http::{ContentType, Entity, EntityTag, Validators};

use super::fingerprint::Fingerprint;
use crate::key::Key;

/// The length, media type and validators of one version of a file, which was `found` and is read
/// after `now`.
pub(super) fn entity(
    key: &Key,
    found: &Fingerprint,
    now: Duration,
    has_reliable_change_time: bool,
) -> Entity {
    let content_type = ContentType::of(Path::new(OsStr::from_bytes(&key.path)));
    let tag = tag(found, now, has_reliable_change_time);
    Entity::new(
        found.len,
        Validators::new(tag, found.modified.seconds),
        content_type,
    )
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-8.8.1
//# A "strong validator" is representation metadata that changes value whenever a change occurs to
//# the representation data that would be observable in the content of a 200 (OK) response to GET.
fn tag(found: &Fingerprint, now: Duration, has_reliable_change_time: bool) -> EntityTag {
    let Fingerprint {
        inode,
        len,
        modified,
        changed,
        ..
    } = found;
    let mut text = format!(
        "{inode:x}-{len:x}-{:x}.{:x}-{:x}.{:x}",
        modified.seconds, modified.nanos, changed.seconds, changed.nanos
    );
    let is_aged = found.is_aged(now);
    if !is_aged {
        // Eight digits at most: the text has room for no more.
        text.push_str(&format!("-{:x}", now.as_millis() & 0xffff_ffff));
    }
    let tag = if is_aged && has_reliable_change_time {
        EntityTag::strong(text.as_bytes())
    } else {
        EntityTag::weak(text.as_bytes())
    };
    tag.expect("six hexadecimal numbers fit into a tag")
}

#[cfg(test)]
mod tests {
    use super::super::fingerprint::FileTime;
    use super::*;

    fn file() -> Fingerprint {
        Fingerprint {
            device: 1,
            inode: 0xab,
            len: 0x4d2,
            modified: FileTime {
                seconds: 5,
                nanos: 6,
            },
            changed: FileTime {
                seconds: 0x10,
                nanos: 0x20,
            },
            links: 1,
        }
    }

    fn text(found: &Fingerprint, seconds: u64, is_reliable: bool) -> String {
        let mut out = Vec::new();
        tag(found, Duration::from_secs(seconds), is_reliable).write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_tag_is_strong_once_the_change_time_is_old_and_trusted() {
        assert_eq!(text(&file(), 100, true), "\"ab-4d2-5.6-10.20\"");
        assert_eq!(text(&file(), 100, false), "W/\"ab-4d2-5.6-10.20\"");
        // Young: each reading has a tag of its own.
        assert_eq!(text(&file(), 17, true), "W/\"ab-4d2-5.6-10.20-4268\"");
        assert_eq!(text(&file(), 18, true), "W/\"ab-4d2-5.6-10.20-4650\"");
        // In the future.
        assert_eq!(text(&file(), 1, true), "W/\"ab-4d2-5.6-10.20-3e8\"");
    }

    #[test]
    fn tags_differ_with_each_part() {
        let base = text(&file(), 100, true);
        let changes: [fn(&mut Fingerprint); 6] = [
            |f| f.inode += 1,
            |f| f.len += 1,
            |f| f.modified.seconds += 1,
            |f| f.modified.nanos += 1,
            |f| f.changed.seconds += 1,
            |f| f.changed.nanos += 1,
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut other = file();
            change(&mut other);
            assert_ne!(text(&other, 100, true), base, "{at}");
        }
    }

    #[test]
    fn the_longest_tag_fits() {
        let extreme = FileTime {
            seconds: i64::MIN,
            nanos: u32::MAX,
        };
        let future = FileTime {
            seconds: i64::MAX,
            ..extreme
        };
        for changed in [extreme, future] {
            let longest = Fingerprint {
                device: u64::MAX,
                inode: u64::MAX,
                len: u64::MAX,
                modified: extreme,
                changed,
                links: 1,
            };
            let text = text(&longest, u64::MAX, true);
            assert!(text.len() > 80, "{text}");
        }
    }

    #[test]
    fn dates_of_files_are_never_strong() {
        let key = Key {
            root: crate::RootId::new(0),
            path: b"a.html"[..].into(),
        };
        let entity = entity(&key, &file(), Duration::from_secs(100), true);
        assert_eq!(
            (entity.len(), entity.content_type().name()),
            (0x4d2, "text/html")
        );
        assert_eq!(entity.validators().modified(), 5);
        assert!(!entity.validators().is_date_strong(u64::MAX));
    }
}
