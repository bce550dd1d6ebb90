use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use super::*;
use crate::source::filesystem::Kernel;
use crate::source::reader::{PreadReader, Reader as _};
use crate::store::Admitted;
use crate::testing::{Tree, kernel_time, start, start_with, wait_for_tick};
use crate::{CacheConfig, FileCache};

/// A loader without a thread, and the cache that it works for.
fn loader(tree: &Tree) -> (FileCache, Arc<Files>) {
    let (cache, _) = start(tree, 1 << 20, &CacheConfig::default(), 1);
    let files = Arc::clone(cache.source().files());
    (cache, files)
}

impl Files {
    /// Does a job, or a step of it, with its reads.
    fn step(&self, job: Job) -> JobEnd {
        self.with_reads(self.run(job))
    }

    fn with_reads(&self, mut end: JobEnd) -> JobEnd {
        let mut reader = PreadReader::new(Arc::clone(&self.system));
        while let JobEnd::Read(read) = end {
            reader.begin(read);
            end = self.on_read(reader.next().unwrap());
        }
        end
    }

    /// Reads a small file that was opened.
    fn read_whole(&self, opened: &Opened) -> Result<Arc<SharedSpan>, ReadError> {
        let len = usize::try_from(opened.found.len).unwrap();
        let mut page = self.store.allocate(len).unwrap();
        while page.filled().len() < len {
            let at = page.filled().len();
            match page.fill_with(len - at, |spare| {
                self.system.read_new(&opened.file, spare, at as u64)
            }) {
                Ok(0) => return Err(ReadError::Changed),
                Ok(_) => {}
                Err(_) => return Err(ReadError::Failed),
            }
        }
        self.check_whole(opened, page)
    }
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
    let span = loader.read_whole(&opened).unwrap();
    assert_eq!(**span, [b'x'; 1_000]);
    drop(span);
    wait_for_tick();
    // Another file is renamed over it: that one is opened at the next attempt.
    tree.replace("a", &[b'z'; 1_000]);
    let replaced = loader.read_whole(&opened);
    assert_eq!(replaced.unwrap_err(), ReadError::Changed);
    opened = self::opened(File::open(tree.path("a")).unwrap());
    wait_for_tick();
    let writer = OpenOptions::new().write(true).open(tree.path("a")).unwrap();
    writer.write_all_at(b"y", 0).unwrap();
    let changed = loader.read_whole(&opened);
    assert_eq!(changed.unwrap_err(), ReadError::Changed);
    writer.set_len(500).unwrap();
    let shorter = loader.read_whole(&opened);
    assert_eq!(shorter.unwrap_err(), ReadError::Changed);
    opened.is_growing = true;
    let shorter = loader.read_whole(&opened);
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
    let changed = loader.read_whole(&opened);
    assert_eq!(changed.unwrap_err(), ReadError::Changed, "it's tried again");
    opened.is_growing = true;
    let span = loader.read_whole(&opened).unwrap();
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
    let page = loader.store.allocate(1_000).unwrap();
    let opened = Some(write_only("small"));
    let read = read_for(lookup("small"), opened, page, 0, 1_000, kernel_time());
    let read = JobEnd::Read(read);
    assert!(matches!(loader.with_reads(read), JobEnd::Done));
    assert_eq!(cache.counters().absent, 1);

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
    let end = loader.with_reads(loader.load_span(Job::new(0, admitted), &object, 0));
    assert!(matches!(end, JobEnd::Done));
    assert!(object.is_retired(), "the next lookup opens it anew");
    let counters = cache.counters();
    assert_eq!((counters.read_errors, counters.changed_files), (2, 0));
    assert_eq!((counters.objects, counters.bytes_used), (0, 0));
    drop(object);
    assert_eq!(cache.counters().files_open, 0);
}

/// A loader without a thread, whose clock stands still, on a file system that isn't trusted.
fn loader_at(tree: &Tree, now: Duration) -> (FileCache, Arc<Files>) {
    let clock = WallClock::new(move || now);
    let config = CacheConfig::default();
    let (cache, _) = start_with(tree, 1 << 20, &config, 1, clock, false);
    let files = Arc::clone(cache.source().files());
    (cache, files)
}

/// A job that the store has started.
fn job(task: Task) -> Job {
    let is_background = true;
    Job {
        is_started: true,
        ..Job::new(
            0,
            Admitted {
                task,
                is_background,
            },
        )
    }
}

fn lookup(name: &str) -> Job {
    let now = Instant::from_secs(1);
    job(Task::Lookup {
        key: key(name),
        now,
    })
}

fn key(name: &str) -> Key {
    Key {
        root: RootId::new(0),
        path: name.as_bytes().into(),
    }
}

/// A loader that waited for the file to come to rest would serve no other one meanwhile.
#[test]
fn a_file_that_was_changed_just_now_is_looked_at_in_steps() {
    let tree = Tree::new();
    tree.write("a", b"x");
    let (cache, loader) = loader_at(&tree, kernel_time());
    let mut job = lookup("a");
    for attempt in 1..30 {
        job = match loader.step(job) {
            JobEnd::Later(job) => job,
            _ => panic!("attempt {attempt}"),
        };
    }
    // Its versions can't be distinguished.
    assert!(matches!(loader.step(job), JobEnd::Done));
    assert_eq!(cache.counters().absent, 1);
}

/// One client downloads a log: before its last span is served, all are read again.
#[test]
fn spans_of_a_growing_file_are_verified_in_steps_with_other_jobs_in_between() {
    let tree = Tree::new();
    let spans = 200;
    tree.write("log", &vec![b'x'; spans * SPAN_BYTES as usize]);
    tree.write("other", b"other");
    let (cache, loader) = loader_at(&tree, kernel_time() + Duration::from_secs(3_600));
    assert!(matches!(loader.step(lookup("log")), JobEnd::Done));
    let object = loader.store.find(&key("log")).unwrap();
    let read = |index| {
        let object = Arc::clone(&object);
        job(Task::ReadSpan { object, index })
    };
    for index in 0..spans as u64 - 1 {
        assert!(matches!(loader.step(read(index)), JobEnd::Done), "{index}");
    }
    let append = OpenOptions::new().append(true).open(tree.path("log"));
    append.unwrap().write_all(b"a line").unwrap();

    let mut last = read(spans as u64 - 1);
    let mut steps = 0;
    loop {
        let before = cache.counters().loads;
        let end = loader.step(last);
        let loads = cache.counters().loads - before;
        steps += 1;
        assert!(loads <= 18, "{loads} in step {steps}");
        last = match end {
            JobEnd::Done => break,
            JobEnd::Yield(job) => job,
            _ => panic!("step {steps}"),
        };
        // Another file, and another span of this one, which isn't read and holds no memory.
        assert!(matches!(loader.step(lookup("other")), JobEnd::Done));
        let before = cache.counters().loads;
        let JobEnd::Later(waiting) = loader.step(read(7)) else {
            panic!("step {steps}");
        };
        assert!(waiting.page.is_none() && waiting.reading.is_none());
        assert_eq!(cache.counters().loads, before);
    }
    // 198 spans besides the first and the last one, 16 in a step.
    assert_eq!(steps, 13);
    assert!(object.spans().unwrap().contains(spans as u64 - 1));
    assert!(
        object.is_retired(),
        "the next lookup finds the longer version"
    );
    assert!(matches!(
        loader.step(read(7)),
        JobEnd::Yield(_) | JobEnd::Done
    ));
}
