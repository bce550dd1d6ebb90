//! Files that change: their validators, and the bodies that are being read.

use std::fs::{File, FileTimes, OpenOptions, Permissions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;

use super::super::testing::{kernel_time, start_with, wait_for_tick};
use super::*;

/// A clock that stands still until the test moves it. It begins an hour before all files' change
/// times, which are too young then, however long the test takes.
#[derive(Clone)]
struct TestClock {
    seconds: Arc<AtomicU64>,
}

impl TestClock {
    fn start(tree: &Tree, config: &CacheConfig) -> (FileCache, Waiter, Self) {
        let seconds = Arc::new(AtomicU64::new(kernel_time().as_secs() - HOUR));
        let read = Arc::clone(&seconds);
        let clock = WallClock::new(move || Duration::from_secs(read.load(Ordering::Relaxed)));
        let (cache, mut clients) = start_with_clock(tree, MIB, config, 1, clock);
        (cache, Waiter::new(clients.pop().unwrap()), Self { seconds })
    }

    /// Makes all files old enough for strong tags.
    fn age_files(&self) {
        self.advance(2 * HOUR);
    }

    fn advance(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}

const HOUR: u64 = 3_600;

impl Waiter {
    /// Lets so much time pass that the next lookup asks the source first.
    fn expire(&mut self) {
        self.millis += 60_000;
    }

    /// The tag of what is at a path, as it stands in a field.
    fn tag(&mut self, path: &str) -> String {
        let object = self.find(path).unwrap();
        let mut text = Vec::new();
        object.entity().validators().tag().write(&mut text);
        String::from_utf8(text).unwrap()
    }
}

fn append(tree: &Tree, name: &str, bytes: &[u8]) {
    let file = OpenOptions::new().append(true).open(tree.path(name));
    file.unwrap().write_all(bytes).unwrap();
}

fn overwrite(tree: &Tree, name: &str, at: u64, bytes: &[u8]) {
    wait_for_tick();
    let file = OpenOptions::new().write(true).open(tree.path(name));
    file.unwrap().write_all_at(bytes, at).unwrap();
}

fn is_strong(tag: &str) -> bool {
    assert!(tag.starts_with('"') || tag.starts_with("W/\""), "{tag}");
    tag.starts_with('"')
}

/// What tar, `rsync -t` and content-addressed stores do.
#[test]
fn a_file_rewritten_with_its_size_and_time_put_back_has_another_strong_tag() {
    let tree = Tree::new();
    for (name, len) in [("small", 1_000), ("large", 200_000)] {
        tree.write(name, &stamped(1, len));
        let (_cache, mut waiter, clock) = TestClock::start(&tree, &CacheConfig::default());
        clock.age_files();
        let before = waiter.tag(name);
        assert!(is_strong(&before), "{before}");
        let modified = fs::metadata(tree.path(name)).unwrap().modified().unwrap();

        // In place.
        overwrite(&tree, name, 0, &stamped(2, len));
        let times = FileTimes::new().set_modified(modified);
        let file = OpenOptions::new().write(true).open(tree.path(name));
        file.unwrap().set_times(times).unwrap();
        waiter.expire();
        let in_place = waiter.tag(name);
        assert!(is_strong(&in_place), "{in_place}");
        assert_ne!(in_place, before);
        assert_eq!(version(&waiter.fetch(name).unwrap()), 2);

        // By another file that is renamed over it.
        let new = tree.path("new");
        fs::write(&new, stamped(3, len)).unwrap();
        let file = OpenOptions::new().write(true).open(&new).unwrap();
        file.set_times(times).unwrap();
        fs::rename(&new, tree.path(name)).unwrap();
        waiter.expire();
        let renamed = waiter.tag(name);
        assert!(is_strong(&renamed), "{renamed}");
        assert!(renamed != in_place && renamed != before, "{renamed}");
        assert_eq!(version(&waiter.fetch(name).unwrap()), 3);
        let after = fs::metadata(tree.path(name)).unwrap().modified().unwrap();
        assert_eq!(after, modified, "the time was put back");
    }
}

#[test]
fn a_tag_is_weak_while_the_change_time_is_young_and_strong_at_a_later_look() {
    let tree = Tree::new();
    tree.write("small", &stamped(1, 1_000));
    tree.write("large", &stamped(1, 200_000));
    let (cache, mut waiter, clock) = TestClock::start(&tree, &CacheConfig::default());
    let mut young = Vec::new();
    for name in ["small", "large"] {
        let tag = waiter.tag(name);
        assert!(!is_strong(&tag), "{tag}");
        assert_eq!(waiter.tag(name), tag, "as long as it's in memory");
        assert_eq!(version(&waiter.fetch(name).unwrap()), 1);
        young.push(tag);
    }
    let before = cache.counters();
    // A body that was begun under the weak tag continues.
    let mut body = FileBody::new(waiter.find("large").unwrap(), 0..u64::MAX);
    let mut out = Vec::new();
    assert!(waiter.read(&mut body, 100_000, &mut out));
    clock.age_files();
    waiter.expire();
    for (name, young) in ["small", "large"].into_iter().zip(young) {
        let tag = waiter.tag(name);
        assert!(is_strong(&tag), "{tag}");
        // What was read while it was young may lack a change: no client's copy is current.
        assert_ne!(young.trim_start_matches("W/"), tag);
        assert_eq!(version(&waiter.fetch(name).unwrap()), 1);
        waiter.expire();
        assert_eq!(waiter.tag(name), tag, "it stays");
    }
    assert!(waiter.read(&mut body, ALL, &mut out));
    assert_eq!((out.len(), version(&out)), (200_000, 1));
    let after = cache.counters();
    assert_eq!(
        after.changed_files, before.changed_files,
        "it didn't change"
    );
    assert!(after.loads > before.loads, "it was read again");
    assert_eq!(after.revalidations, before.revalidations + 4);
}

#[test]
fn a_tag_is_weak_where_change_times_arent_trusted() {
    let tree = Tree::new();
    tree.write("small", &stamped(1, 1_000));
    tree.write("large", &stamped(1, 200_000));
    for is_trusted in [false, true] {
        let later = kernel_time() + Duration::from_secs(HOUR);
        let clock = WallClock::new(move || later);
        let config = CacheConfig::default();
        let (_cache, mut clients) = start_with(&tree, MIB, &config, 1, clock, is_trusted);
        let mut waiter = Waiter::new(clients.pop().unwrap());
        for name in ["small", "large"] {
            let tag = waiter.tag(name);
            assert_eq!(is_strong(&tag), is_trusted, "{name}: {tag}");
            waiter.expire();
            assert_eq!(waiter.tag(name), tag, "it stays");
            assert_eq!(version(&waiter.fetch(name).unwrap()), 1);
        }
    }
}

/// The machine's clock was set back since the file was changed: it may come to that time again.
#[test]
fn a_change_time_in_the_future_makes_a_weak_tag() {
    let tree = Tree::new();
    tree.write("a", b"x");
    let (_cache, mut waiter, _clock) = TestClock::start(&tree, &CacheConfig::default());
    let tag = waiter.tag("a");
    assert!(!is_strong(&tag), "{tag}");
}

#[test]
fn a_modification_time_in_the_future_is_no_reason_for_a_weak_tag() {
    let tree = Tree::new();
    tree.write("a", b"x");
    let future = std::time::UNIX_EPOCH + Duration::from_secs(10_000_000_000);
    let file = OpenOptions::new().write(true).open(tree.path("a")).unwrap();
    file.set_times(FileTimes::new().set_modified(future))
        .unwrap();
    let (_cache, mut waiter, clock) = TestClock::start(&tree, &CacheConfig::default());
    clock.age_files();
    assert!(is_strong(&waiter.tag("a")));
    let object = waiter.find("a").unwrap();
    assert_eq!(object.entity().validators().modified(), 10_000_000_000);
    assert!(!object.entity().validators().is_date_strong(u64::MAX));
}

#[test]
fn a_change_of_permissions_makes_a_new_version() {
    let tree = Tree::new();
    tree.write("a", &stamped(1, 200_000));
    let (cache, mut waiter, clock) = TestClock::start(&tree, &CacheConfig::default());
    clock.age_files();
    let before = waiter.tag("a");
    wait_for_tick();
    // The status can't tell this from a rewrite with its size and time put back.
    fs::set_permissions(tree.path("a"), Permissions::from_mode(0o600)).unwrap();
    waiter.expire();
    let after = waiter.tag("a");
    assert!(is_strong(&after) && after != before, "{after}");
    assert_eq!(version(&waiter.fetch("a").unwrap()), 1);
    assert_eq!(cache.counters().changed_files, 1);
}

fn no_read_ahead() -> CacheConfig {
    CacheConfig {
        read_ahead: 0,
        ..CacheConfig::default()
    }
}

/// A body of a new file, of which the first 200 000 bytes were read.
fn begin(tree: &Tree, name: &str, len: usize, waiter: &mut Waiter) -> (FileBody, Vec<u8>) {
    tree.write(name, &stamped(1, len));
    waiter.expire();
    let object = waiter.find(name).unwrap();
    assert_eq!(object.entity().len(), len as u64);
    let mut body = FileBody::new(object, 0..u64::MAX);
    let mut out = Vec::new();
    assert!(waiter.read(&mut body, 200_000, &mut out));
    (body, out)
}

#[test]
fn a_body_of_a_growing_file_ends_at_the_length_that_was_announced() {
    let tree = Tree::new();
    let (cache, mut waiter, _clock) = TestClock::start(&tree, &no_read_ahead());
    // The second is larger than the memory, so that spans are read again.
    for (name, len) in [("log", 900_000), ("huge", 3 * MIB + 7)] {
        let changed = cache.counters().changed_files;
        let (mut body, mut out) = begin(&tree, name, len, &mut waiter);
        assert!(!is_strong(&waiter.tag(name)), "it was just written");
        append(&tree, name, b"more");
        while out.len() < len {
            let next = (out.len() + 70_000).min(len);
            assert!(
                waiter.read(&mut body, next, &mut out),
                "{name}: {}",
                out.len()
            );
            append(&tree, name, &[b'+'; 1_000]);
        }
        assert!(waiter.read(&mut body, ALL, &mut out));
        assert_eq!((out.len(), body.remaining()), (len, 0));
        assert_eq!(version(&out), 1);
        assert_eq!(cache.counters().changed_files, changed + 1);

        // The next one gets what is there now, without waiting for the object to expire.
        let object = waiter.find(name).unwrap();
        assert!(object.entity().validators().tag().is_weak());
        let now = fs::read(tree.path(name)).unwrap();
        assert!(now.len() > len + 1_000);
        assert_eq!(object.entity().len(), now.len() as u64);
        assert!(waiter.fetch(name).unwrap() == now);
    }
    assert_eq!(cache.counters().read_errors, 0);
}

#[test]
fn a_body_fails_if_the_file_grew_and_something_else_changed() {
    let tree = Tree::new();
    let len = 1_000_000;
    let (cache, mut waiter, _clock) = TestClock::start(&tree, &no_read_ahead());
    type Change<'a> = (&'a str, &'a dyn Fn(&str));
    let changes: [Change<'_>; 6] = [
        ("first byte", &|name| {
            append(&tree, name, b"more");
            overwrite(&tree, name, 0, b"!");
        }),
        ("middle", &|name| {
            append(&tree, name, b"more");
            overwrite(&tree, name, 100_000, b"!");
        }),
        ("last that was sent", &|name| {
            overwrite(&tree, name, 199_999, b"!");
            append(&tree, name, b"more");
        }),
        ("longer from the start", &|name| {
            tree.write(name, &stamped(2, len + 5_000));
        }),
        ("truncated and grown", &|name| {
            let file = OpenOptions::new().write(true).open(tree.path(name));
            file.unwrap().set_len(0).unwrap();
            append(&tree, name, &stamped(2, 2 * len));
        }),
        ("truncated to a hole", &|name| {
            let file = OpenOptions::new()
                .write(true)
                .open(tree.path(name))
                .unwrap();
            file.set_len(0).unwrap();
            file.set_len(2 * len as u64).unwrap();
        }),
    ];
    for (name, change) in changes {
        let (mut body, mut out) = begin(&tree, name, len, &mut waiter);
        let before = out.len();
        change(name);
        assert!(!waiter.read(&mut body, ALL, &mut out), "{name}");
        assert!(out.len() < len, "{name}");
        assert_eq!(version(&out), 1, "{name}");
        assert!(out.len() - before <= SPAN_BYTES as usize, "{name}");
        let now = fs::read(tree.path(name)).unwrap();
        assert!(waiter.fetch(name).unwrap() == now, "{name}");
    }
    assert_eq!(cache.counters().read_errors, 0);
}

/// A clock that writes to a file each time that it's read: the file has always just changed.
fn busy(
    tree: &Tree,
    name: &'static str,
    write: impl Fn(&mut File) + Send + Sync + 'static,
) -> WallClock {
    let file = OpenOptions::new()
        .write(true)
        .open(tree.path(name))
        .unwrap();
    let file = Mutex::new(file);
    WallClock::new(move || {
        let mut file = file.lock().unwrap();
        write(&mut file);
        let modified = file.metadata().unwrap().modified().unwrap();
        modified.duration_since(std::time::UNIX_EPOCH).unwrap()
    })
}

#[test]
fn a_log_that_grows_all_the_time_is_served_under_a_weak_tag() {
    let tree = Tree::new();
    for (name, len) in [("small", 1_000), ("large", 300_000)] {
        tree.write(name, &stamped(1, len));
        let clock = busy(&tree, name, |file| {
            file.seek(SeekFrom::End(0)).unwrap();
            file.write_all(b"a line\n").unwrap();
        });
        let (_cache, mut clients) = start_with_clock(&tree, MIB, &no_read_ahead(), 1, clock);
        let mut waiter = Waiter::new(clients.pop().unwrap());
        let object = waiter.find(name).unwrap();
        assert!(object.entity().validators().tag().is_weak());
        let announced = usize::try_from(object.entity().len()).unwrap();
        assert!(announced > len);
        let mut body = FileBody::new(object, 0..u64::MAX);
        let mut out = Vec::new();
        assert!(waiter.read(&mut body, ALL, &mut out), "{name}");
        assert_eq!(out.len(), announced);
        let now = fs::read(tree.path(name)).unwrap();
        assert!(out[..] == now[..announced], "{name}");
        // It also grew while it was served, if that took more than one read.
        assert_eq!(now.len() > announced, name == "large");
        assert_eq!(version(&out[..len]), 1);
    }
}

#[test]
fn a_file_that_is_rewritten_all_the_time_has_no_version() {
    let tree = Tree::new();
    tree.write("a", &stamped(1, 1_000));
    let versions = AtomicU64::new(1);
    let clock = busy(&tree, "a", move |file| {
        let version = versions.fetch_add(1, Ordering::Relaxed);
        file.write_all_at(&stamped(version, 1_000), 0).unwrap();
    });
    let (_cache, mut clients) = start_with_clock(&tree, MIB, &no_read_ahead(), 1, clock);
    let mut waiter = Waiter::new(clients.pop().unwrap());
    assert_eq!(waiter.find("a").unwrap_err(), Absence::Changing);
}

#[test]
fn a_sparse_file_is_read_as_zeros() {
    let tree = Tree::new();
    let file = File::create(tree.path("sparse")).unwrap();
    file.set_len(400_000).unwrap();
    file.write_all_at(b"end", 399_997).unwrap();
    let (_cache, mut waiter, _clock) = TestClock::start(&tree, &CacheConfig::default());
    let bytes = waiter.fetch("sparse").unwrap();
    assert_eq!(bytes.len(), 400_000);
    assert!(bytes[..399_997].iter().all(|b| *b == 0));
    assert_eq!(&bytes[399_997..], b"end");
}

#[test]
fn a_directory_that_becomes_a_link_out_of_the_tree_is_noticed() {
    let outside = Tree::new();
    outside.write("file", &stamped(2, 200_000));
    let tree = Tree::new();
    fs::create_dir(tree.path("d")).unwrap();
    tree.write("d/file", &stamped(1, 200_000));
    let (_cache, mut waiter, _clock) = TestClock::start(&tree, &no_read_ahead());
    let mut body = FileBody::new(waiter.find("d/file").unwrap(), 0..u64::MAX);
    let mut out = Vec::new();
    assert!(waiter.read(&mut body, 65_536, &mut out));
    fs::rename(tree.path("d"), tree.path("old")).unwrap();
    symlink(outside.path(""), tree.path("d")).unwrap();
    // The file is open: what was begun is finished.
    assert!(waiter.read(&mut body, ALL, &mut out));
    assert_eq!((out.len(), version(&out)), (200_000, 1));
    waiter.expire();
    assert_eq!(waiter.find("d/file").unwrap_err(), Absence::NotFound);
    assert_eq!(version(&waiter.fetch("old/file").unwrap()), 1);
}

fn strong_object(waiter: &mut Waiter, name: &str) -> Arc<Object> {
    let object = waiter.find(name).unwrap();
    assert!(!object.entity().validators().tag().is_weak(), "{name}");
    object
}

/// Backups by hard links (`cp -l`, rsnapshot) add and remove names, which moves the change time.
#[test]
fn a_rewrite_after_a_name_was_removed_has_another_strong_tag() {
    let tree = Tree::new();
    for (name, len) in [("small", 1_000), ("large", 200_000)] {
        tree.write(name, &stamped(1, len));
        fs::hard_link(tree.path(name), tree.path("other")).unwrap();
        let (_cache, mut waiter, clock) = TestClock::start(&tree, &no_read_ahead());
        clock.age_files();
        let before = waiter.tag(name);
        assert!(is_strong(&before), "{before}");
        let mut body = FileBody::new(waiter.find(name).unwrap(), 0..u64::MAX);
        let mut out = Vec::new();
        assert!(waiter.read(&mut body, 500, &mut out));
        let modified = fs::metadata(tree.path(name)).unwrap().modified().unwrap();
        wait_for_tick();
        fs::remove_file(tree.path("other")).unwrap();
        // The running body continues: its spans read before are unchanged.
        assert!(waiter.read(&mut body, ALL, &mut out));
        assert_eq!((out.len(), version(&out)), (len, 1));
        waiter.expire();
        let unlinked = waiter.tag(name);
        assert!(is_strong(&unlinked) && unlinked != before, "{unlinked}");

        overwrite(&tree, name, 0, &stamped(2, len));
        let times = FileTimes::new().set_modified(modified);
        let file = OpenOptions::new().write(true).open(tree.path(name));
        file.unwrap().set_times(times).unwrap();
        waiter.expire();
        let after = waiter.tag(name);
        assert!(is_strong(&after), "{after}");
        assert!(after != before && after != unlinked, "{after}");
        assert_eq!(version(&waiter.fetch(name).unwrap()), 2);
        // Nothing of the version before is left to be found.
        assert_eq!(waiter.tag(name), after);
    }
}

/// A rewrite with the modification time put back, and a name that is removed: the status can't tell
/// this from a name that is removed alone.
#[test]
fn a_body_fails_if_a_name_was_removed_and_what_was_read_is_different() {
    let tree = Tree::new();
    let len = 1_000_000;
    tree.write("a", &stamped(1, len));
    fs::hard_link(tree.path("a"), tree.path("other")).unwrap();
    let (_cache, mut waiter, clock) = TestClock::start(&tree, &no_read_ahead());
    clock.age_files();
    let mut body = FileBody::new(strong_object(&mut waiter, "a"), 0..u64::MAX);
    let mut out = Vec::new();
    assert!(waiter.read(&mut body, 200_000, &mut out));
    let modified = fs::metadata(tree.path("a")).unwrap().modified().unwrap();
    overwrite(&tree, "a", 0, &stamped(2, len));
    let file = OpenOptions::new().write(true).open(tree.path("a"));
    let times = FileTimes::new().set_modified(modified);
    file.unwrap().set_times(times).unwrap();
    fs::remove_file(tree.path("other")).unwrap();
    assert!(!waiter.read(&mut body, ALL, &mut out));
    assert!(out.len() < len);
    assert_eq!(version(&out), 1);
    assert_eq!(version(&waiter.fetch("a").unwrap()), 2);
}

#[test]
fn a_body_under_a_strong_tag_fails_at_the_first_unread_span_once_the_file_grew() {
    let tree = Tree::new();
    let len = 1_000_000;
    type Change<'a> = (&'a str, &'a dyn Fn(&str));
    let changes: [Change<'_>; 2] = [
        ("unread part overwritten", &|name| {
            overwrite(&tree, name, 900_000, b"SPLICED");
            append(&tree, name, b"more");
        }),
        ("appended", &|name| {
            wait_for_tick();
            append(&tree, name, b"more");
        }),
    ];
    for (name, change) in changes {
        tree.write(name, &stamped(1, len));
        let (cache, mut waiter, clock) = TestClock::start(&tree, &no_read_ahead());
        clock.age_files();
        let object = strong_object(&mut waiter, name);
        let mut body = FileBody::new(Arc::clone(&object), 0..u64::MAX);
        let mut out = Vec::new();
        assert!(waiter.read(&mut body, 200_000, &mut out));
        let mut read_before = FileBody::new(Arc::clone(&object), 0..200_000);
        change(name);
        assert!(!waiter.read(&mut body, ALL, &mut out), "{name}");
        // The rest of the span that it had.
        assert_eq!(out.len(), 4 * SPAN_BYTES as usize, "{name}");
        assert_eq!(version(&out), 1, "{name}");
        // A body whose spans were all read before ends well.
        let mut out = Vec::new();
        assert!(waiter.read(&mut read_before, ALL, &mut out), "{name}");
        assert_eq!((out.len(), version(&out)), (200_000, 1), "{name}");

        // The next request gets another version at once, and nothing fails in it.
        assert!(object.is_retired());
        let now = fs::read(tree.path(name)).unwrap();
        assert!(waiter.fetch(name).unwrap() == now, "{name}");
        assert_ne!(
            waiter.find(name).unwrap().entity().validators().tag(),
            object.entity().validators().tag()
        );
        assert_eq!(cache.counters().changed_files, 1);
    }
}

#[test]
fn a_body_under_a_strong_tag_ends_well_if_all_of_it_was_read_before_the_file_grew() {
    let tree = Tree::new();
    let len = 500_000;
    tree.write("a", &stamped(1, len));
    let (cache, mut waiter, clock) = TestClock::start(&tree, &no_read_ahead());
    clock.age_files();
    let object = strong_object(&mut waiter, "a");
    assert_eq!(version(&waiter.fetch("a").unwrap()), 1);
    let mut body = FileBody::new(Arc::clone(&object), 0..u64::MAX);
    let mut out = Vec::new();
    assert!(waiter.read(&mut body, 100_000, &mut out));
    let loads = cache.counters().loads;
    overwrite(&tree, "a", 400_000, b"other");
    append(&tree, "a", b"more");
    assert!(waiter.read(&mut body, ALL, &mut out));
    assert_eq!((out.len(), version(&out)), (len, 1));
    assert_eq!(cache.counters().loads, loads, "nothing was read of it");

    // Nothing has noticed it. The tag is given until the object has expired, and no longer.
    let tag = waiter.tag("a");
    waiter.millis += 11_001;
    let after = waiter.tag("a");
    assert_ne!(after, tag);
    assert!(object.is_retired());
    assert_eq!(waiter.fetch("a").unwrap().len(), len + 4);
}

/// Its change time can be trusted already, but it may be a log.
#[test]
fn a_large_file_that_was_modified_minutes_ago_has_a_weak_tag_and_may_grow() {
    let tree = Tree::new();
    let len = 500_000;
    tree.write("small", &stamped(1, 1_000));
    tree.write("large", &stamped(1, len));
    tree.write("old", &stamped(1, len));
    let hours_ago = std::time::UNIX_EPOCH + kernel_time() - Duration::from_secs(3 * HOUR);
    let file = OpenOptions::new().write(true).open(tree.path("old"));
    file.unwrap()
        .set_times(FileTimes::new().set_modified(hours_ago))
        .unwrap();
    let (cache, mut waiter, clock) = TestClock::start(&tree, &no_read_ahead());
    clock.advance(HOUR + 60);
    // A small one is read at once, and a copy that keeps its time is no log.
    strong_object(&mut waiter, "small");
    strong_object(&mut waiter, "old");
    let young = waiter.tag("large");
    assert!(!is_strong(&young), "{young}");
    let mut body = FileBody::new(waiter.find("large").unwrap(), 0..u64::MAX);
    let mut out = Vec::new();
    assert!(waiter.read(&mut body, 100_000, &mut out));
    append(&tree, "large", b"more");
    assert!(waiter.read(&mut body, ALL, &mut out));
    assert_eq!((out.len(), version(&out)), (len, 1));
    let longer = waiter.tag("large");
    assert!(!is_strong(&longer), "{longer}");
    assert_ne!(longer, young);

    // A body that began under the weak tag continues under it.
    let mut body = FileBody::new(waiter.find("large").unwrap(), 0..u64::MAX);
    let mut out = Vec::new();
    assert!(waiter.read(&mut body, 100_000, &mut out));
    clock.advance(HOUR);
    waiter.expire();
    let object = strong_object(&mut waiter, "large");
    append(&tree, "large", b"more");
    assert!(waiter.read(&mut body, ALL, &mut out));
    assert_eq!(out.len(), len + 4);
    let mut body = FileBody::new(object, 0..u64::MAX);
    assert!(!waiter.read(&mut body, ALL, &mut Vec::new()));
    assert_eq!(cache.counters().read_errors, 0);
}

/// The loader sleeps for long after its last look at a file that keeps growing.
#[test]
fn a_small_file_that_never_came_to_rest_has_a_weak_tag() {
    let tree = Tree::new();
    tree.write("a", &stamped(1, 1_000));
    let file = OpenOptions::new().append(true).open(tree.path("a"));
    let file = Mutex::new((file.unwrap(), 0));
    let clock = WallClock::new(move || {
        let mut file = file.lock().unwrap();
        file.1 += 1;
        file.0.write_all(b"a line\n").unwrap();
        let modified = file.0.metadata().unwrap().modified().unwrap();
        let now = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
        now + Duration::from_secs(if file.1 > 30 { HOUR } else { 0 })
    });
    let (_cache, mut clients) = start_with_clock(&tree, MIB, &no_read_ahead(), 1, clock);
    let mut waiter = Waiter::new(clients.pop().unwrap());
    let object = waiter.find("a").unwrap();
    assert!(object.entity().validators().tag().is_weak());
}
