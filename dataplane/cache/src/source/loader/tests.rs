use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::thread;

use super::*;
use crate::testing::{Tree, start};
use crate::{CacheConfig, FileCache};

/// A loader without a thread, and the cache that it works for.
fn loader(tree: &Tree) -> (FileCache, Arc<Files>) {
    let (cache, _) = start(tree, 1 << 20, &CacheConfig::default(), 1);
    let files = Arc::clone(cache.source().files());
    (cache, files)
}

fn opened(file: File) -> (OwnedFd, Fingerprint) {
    let file = OwnedFd::from(file);
    let version = Fingerprint::of(&file).unwrap();
    (file, version)
}

#[test]
fn a_small_file_that_changed_while_it_was_read_isnt_taken() {
    let tree = Tree::new();
    tree.write("a", &[b'x'; 1_000]);
    let (cache, loader) = loader(&tree);
    let (file, version) = opened(File::open(tree.path("a")).unwrap());
    let span = loader.read_whole(&file, &version, false).unwrap().unwrap();
    assert_eq!(**span, [b'x'; 1_000]);
    drop(span);
    // Later than any tick of the file's times.
    thread::sleep(Duration::from_millis(20));
    let writer = OpenOptions::new().write(true).open(tree.path("a")).unwrap();
    writer.write_all_at(b"y", 0).unwrap();
    let changed = loader.read_whole(&file, &version, false);
    assert_eq!(changed.unwrap_err(), ReadError::Changed);
    writer.set_len(500).unwrap();
    let shorter = loader.read_whole(&file, &version, false);
    assert_eq!(shorter.unwrap_err(), ReadError::Changed);
    assert_eq!(
        cache.counters().bytes_used,
        0,
        "what was read of it is given back"
    );
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
    let (file, version) = write_only("small");
    let failed = loader.read_whole(&file, &version, false);
    assert_eq!(failed.unwrap_err(), ReadError::Failed);

    let (file, version) = write_only("large");
    let key = Key {
        root: crate::RootId::new(0),
        path: b"large"[..].into(),
    };
    let spans = Content::Spans(loader.store.new_span_table(version.len));
    let entity = entity(&key, &version);
    let file = loader.keep_open(file).unwrap();
    let handle = SourceHandle::File(FileHandle::new(Some(file), version));
    let now = Instant::from_secs(1);
    let object = Arc::new(Object::new(key, entity, spans, handle, now));
    loader.store.insert(&object);
    assert!(loader.load_span(Arc::clone(&object), 0, false).is_ok());
    assert!(
        object.is_retired(),
        "whoever comes next gets it opened anew"
    );
    let counters = cache.counters();
    assert_eq!((counters.read_errors, counters.changed_files), (2, 0));
    assert_eq!((counters.objects, counters.bytes_used), (0, 0));
    drop(object);
    assert_eq!(cache.counters().files_open, 0);
}
