//! Length, media type and validators of a file, from its status.
//!
//! The rules, against a file that is changed while its validators stay the same:
//!
//! - The tag's text has inode, length, modification time and change time. A program can put back
//!   all of them but the last, which the kernel moves with each write and each change of status.
//! - The tag is weak while the file is [`Young`](ChangeAge::Young): it was changed at most two
//!   seconds before it is read. The text has the time of reading then, so that what is read later
//!   gets another tag.
//! - The tag is weak while the file is [`Recent`](ChangeAge::Recent): it is read in spans, and was
//!   modified at most five minutes before it is opened. It may be a log, whose running bodies shall
//!   continue when it grows. A body under a strong tag fails then; see [`FileHandle::check_read`].
//! - The tag is weak on a file system that isn't trusted with change times.
//! - Else it is strong.
//! - The date is always weak: a program can set it to anything.
//!
//! The guarantee of a strong tag: each write(2), truncation, `fallocate` and replacement since the
//! status was read gives the file another tag. Its exceptions are changes that the kernel doesn't
//! stamp, or stamps with an old time:
//!
//! - A write through a shared memory mapping. The first one to a page moves the change time;
//!   further ones don't before the page was written back, and on tmpfs never again.
//! - A single write(2) that lasts more than two seconds. It is stamped at its start.
//! - A clock that is set back and stamps a change with the very nanosecond of an older one.
//! - A disk image with times that its builder chose, whatever file system is in it.
//! - For a body that is running while the file is rewritten in place: a program that puts back the
//!   modification time and removes a name of the file between two reads. Only the spans that were
//!   read before are compared.
//!
//! [`FileHandle::check_read`]: super::handle::FileHandle::check_read

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use lockgate_http::{ContentType, Entity, EntityTag, Validators};

use super::fingerprint::{ChangeAge, Fingerprint};
use crate::key::Key;

/// The length, media type and validators of one version of a file, which was `found` and is read
/// after `now`, with its `age` then.
pub(super) fn entity(
    key: &Key,
    found: &Fingerprint,
    now: Duration,
    age: ChangeAge,
    has_reliable_change_time: bool,
) -> Entity {
    let content_type = ContentType::of(Path::new(OsStr::from_bytes(&key.path)));
    let tag = tag(found, now, age, has_reliable_change_time);
    Entity::new(
        found.len,
        Validators::new(tag, found.modified.seconds),
        content_type,
    )
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-8.8.1
//# A "strong validator" is representation metadata that changes value whenever a change occurs to
//# the representation data that would be observable in the content of a 200 (OK) response to GET.
fn tag(
    found: &Fingerprint,
    now: Duration,
    age: ChangeAge,
    has_reliable_change_time: bool,
) -> EntityTag {
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
    if age == ChangeAge::Young {
        // Eight digits at most: the text has room for no more.
        text.push_str(&format!("-{:x}", now.as_millis() & 0xffff_ffff));
    }
    let tag = if age == ChangeAge::Old && has_reliable_change_time {
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
        let now = Duration::from_secs(seconds);
        let age = found.change_age(now, false);
        tag(found, now, age, is_reliable).write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_tag_is_strong_once_the_change_time_is_old_and_trusted() {
        assert_eq!(text(&file(), 1_000, true), "\"ab-4d2-5.6-10.20\"");
        assert_eq!(text(&file(), 1_000, false), "W/\"ab-4d2-5.6-10.20\"");
        // Recent.
        assert_eq!(text(&file(), 100, true), "W/\"ab-4d2-5.6-10.20\"");
        // Young: each reading has a tag of its own.
        assert_eq!(text(&file(), 17, true), "W/\"ab-4d2-5.6-10.20-4268\"");
        assert_eq!(text(&file(), 18, true), "W/\"ab-4d2-5.6-10.20-4650\"");
        // In the future.
        assert_eq!(text(&file(), 1, true), "W/\"ab-4d2-5.6-10.20-3e8\"");
    }

    #[test]
    fn tags_differ_with_each_part() {
        let base = text(&file(), 1_000, true);
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
            assert_ne!(text(&other, 1_000, true), base, "{at}");
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
        let now = Duration::from_secs(1_000);
        let entity = entity(&key, &file(), now, ChangeAge::Old, true);
        assert_eq!(
            (entity.len(), entity.content_type().name()),
            (0x4d2, "text/html")
        );
        assert_eq!(entity.validators().modified(), 5);
        assert!(!entity.validators().is_date_strong(u64::MAX));
    }
}
