//! Reads that pass the kernel's page cache by.

use super::super::testing::{kernel_time, start_with_clock, wait_for_tick};
use super::*;

/// Starts a cache that reads large files directly, through io_uring or by `pread`.
fn start_direct(tree: &Tree, io: FileIo, age: Duration) -> (FileCache, Waiter) {
    let config = CacheConfig {
        io,
        is_direct: true,
        ..CacheConfig::default()
    };
    let now = kernel_time() + age;
    let clock = WallClock::new(move || now);
    let (cache, mut clients) = start_with_clock(tree, MIB, &config, 1, clock);
    (cache, Waiter::new(clients.pop().unwrap()))
}

/// Whether the file system of scratch directories tells how to read directly.
fn has_direct_reads(tree: &Tree) -> bool {
    tree.write("try", &stamped(1, 100_000));
    let (cache, mut waiter) = start_direct(tree, FileIo::Pread, Duration::from_secs(7_200));
    assert_eq!(version(&waiter.fetch("try").unwrap()), 1);
    let has = cache.counters().direct_files == 1;
    if !has {
        lockgate_testing::skip("direct reads", "the file system doesn't tell how");
    }
    has
}

#[test]
fn large_files_are_read_past_the_page_cache_at_any_length() {
    let tree = Tree::new();
    if !has_direct_reads(&tree) {
        return;
    }
    for (n, len) in [65_537, 131_072, 200_000, 262_143, 700_001]
        .into_iter()
        .enumerate()
    {
        tree.write(&format!("{n}"), &stamped(n as u64, len));
    }
    for io in [FileIo::Auto, FileIo::Pread] {
        let (cache, mut waiter) = start_direct(&tree, io, Duration::from_secs(7_200));
        for (n, len) in [65_537, 131_072, 200_000, 262_143, 700_001]
            .into_iter()
            .enumerate()
        {
            let bytes = waiter.fetch(&format!("{n}")).unwrap();
            assert_eq!((version(&bytes), bytes.len()), (n as u64, len), "{io:?}");
        }
        let counters = cache.counters();
        assert_eq!((counters.direct_files, counters.read_errors), (5, 0));
    }
}

/// A log: what was read of it is read again, by aligned reads, too.
#[test]
fn a_file_that_changes_while_it_is_read_directly_is_noticed() {
    let tree = Tree::new();
    if !has_direct_reads(&tree) {
        return;
    }
    for io in [FileIo::Auto, FileIo::Pread] {
        for (name, is_same) in [("grown", true), ("cut", false), ("rewritten", false)] {
            tree.write(name, &stamped(1, 300_000));
            // Its tag is weak.
            let (_cache, mut waiter) = start_direct(&tree, io, Duration::from_secs(60));
            let object = waiter.find(name).unwrap();
            let mut body = FileBody::new(object, 0..u64::MAX);
            let mut out = Vec::new();
            assert!(waiter.read(&mut body, 10, &mut out));
            wait_for_tick();
            let file = fs::OpenOptions::new()
                .write(true)
                .open(tree.path(name))
                .unwrap();
            match name {
                "grown" => file.write_all_at(b"a line", 300_000).unwrap(),
                "cut" => file.set_len(290_000).unwrap(),
                _ => file.write_all_at(&stamped(2, 300_000), 0).unwrap(),
            }
            let is_whole = waiter.read(&mut body, ALL, &mut out);
            assert_eq!(is_whole, is_same, "{io:?}, {name}");
            assert!(out.len() == 300_000 || !is_same);
            if is_same {
                assert_eq!(version(&out), 1);
            }
        }
    }
}
