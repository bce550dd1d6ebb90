use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::thread;

use super::*;
use crate::source::filesystem::Kernel;
use crate::source::fingerprint::ChangeAge;
use crate::store::Admitted;
use crate::testing::{Tree, kernel_time, start};
use crate::{CacheConfig, FileCache};

/// A loader without a thread, and the cache that it works for.
fn loader(tree: &Tree) -> (FileCache, Arc<Files>) {
    let (cache, _) = start(tree, 1 << 20, &CacheConfig::default(), 1);
    let files = Arc::clone(cache.source().files());
    (cache, files)
}

fn opened(file: File) -> Opened {
    let file = OwnedFd::from(file);
    let found = Fingerprint::of(&Kernel, &file).unwrap();
    Opened {
        file,
        found,
        now: kernel_time(),
        is_growing: false,
    }
}

#[test]
fn a_small_file_that_changed_while_it_was_read_isnt_taken() {
    let tree = Tree::new();
    tree.write("a", &[b'x'; 1_000]);
    let (cache, loader) = loader(&tree);
    let mut opened = opened(File::open(tree.path("a")).unwrap());
    let span = loader.read_whole(&opened, None).unwrap().unwrap();
    assert_eq!(**span, [b'x'; 1_000]);
    drop(span);
    // Later than any tick of the file's times.
    thread::sleep(Duration::from_millis(20));
    // Another file is renamed over it: that one is opened at the next attempt.
    tree.replace("a", &[b'z'; 1_000]);
    let replaced = loader.read_whole(&opened, None);
    assert_eq!(replaced.unwrap_err(), ReadError::Changed);
    opened = self::opened(File::open(tree.path("a")).unwrap());
    thread::sleep(Duration::from_millis(20));
    let writer = OpenOptions::new().write(true).open(tree.path("a")).unwrap();
    writer.write_all_at(b"y", 0).unwrap();
    let changed = loader.read_whole(&opened, None);
    assert_eq!(changed.unwrap_err(), ReadError::Changed);
    writer.set_len(500).unwrap();
    let shorter = loader.read_whole(&opened, None);
    assert_eq!(shorter.unwrap_err(), ReadError::Changed);
    opened.is_growing = true;
    let shorter = loader.read_whole(&opened, None);
    assert_eq!(shorter.unwrap_err(), ReadError::Changed);
    assert_eq!(cache.counters().bytes_used, 0, "its memory was freed");
}

#[test]
fn a_small_file_that_grew_while_it_was_read_is_taken_if_it_grows_all_the_time() {
    let tree = Tree::new();
    tree.write("a", &[b'x'; 1_000]);
    let (cache, loader) = loader(&tree);
    let mut opened = opened(File::open(tree.path("a")).unwrap());
    let append = OpenOptions::new().append(true).open(tree.path("a"));
    append.unwrap().write_all(b"more").unwrap();
    let changed = loader.read_whole(&opened, None);
    assert_eq!(changed.unwrap_err(), ReadError::Changed, "it's tried again");
    opened.is_growing = true;
    let span = loader.read_whole(&opened, None).unwrap().unwrap();
    assert_eq!(**span, [b'x'; 1_000]);
    drop(span);
    assert_eq!(cache.counters().bytes_used, 0);
    assert_eq!(fs::metadata(tree.path("a")).unwrap().len(), 1_004);
}

#[test]
fn a_file_that_cant_be_read_fails_and_is_counted() {
    let tree = Tree::new();
    tree.write("small", &[b'x'; 1_000]);
    tree.write("large", &vec![b'x'; 200_000]);
    let (cache, loader) = loader(&tree);
    let write_only = |name: &str| {
        opened(
            OpenOptions::new()
                .write(true)
                .open(tree.path(name))
                .unwrap(),
        )
    };
    let failed = loader.read_whole(&write_only("small"), None);
    assert_eq!(failed.unwrap_err(), ReadError::Failed);

    let Opened {
        file, found, now, ..
    } = write_only("large");
    let key = Key {
        root: RootId::new(0),
        path: b"large"[..].into(),
    };
    let spans = Content::Spans(loader.store.new_span_table(4));
    let entity = entity(&key, &found, now, ChangeAge::Young, true);
    let file = loader.keep_open(RootId::new(0), file).unwrap();
    let handle = SourceHandle::File(FileHandle::new(
        Some(file),
        found,
        now,
        ChangeAge::Young,
        false,
        4,
    ));
    let object = Object::new(key, entity, spans, handle, Instant::from_secs(1));
    let object = Arc::new(object);
    loader.store.insert(&object);
    let admitted = Admitted {
        task: Task::ReadSpan {
            object: Arc::clone(&object),
            index: 0,
        },
        is_background: true,
    };
    let end = loader.load_span(Job::new(0, admitted), Arc::clone(&object), 0);
    assert!(matches!(end, JobEnd::Done));
    assert!(object.is_retired(), "the next lookup opens it anew");
    let counters = cache.counters();
    assert_eq!((counters.read_errors, counters.changed_files), (2, 0));
    assert_eq!((counters.objects, counters.bytes_used), (0, 0));
    drop(object);
    assert_eq!(cache.counters().files_open, 0);
}
