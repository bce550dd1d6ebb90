//! File systems that hang.

use super::super::testing::{Call, Gate, kernel_time, start_gated};
use super::*;

const HUNG: RootId = RootId::new(0);
const FINE: RootId = RootId::new(1);

/// Two trees with the same files.
fn trees() -> [Tree; 2] {
    let trees = [Tree::new(), Tree::new()];
    for tree in &trees {
        for name in ["hot", "cold", "checked"] {
            tree.write(name, &stamped(1, 1_000));
        }
        tree.write("large", &stamped(1, 400_000));
    }
    trees
}

fn start_trees(
    trees: &[Tree],
    config: &CacheConfig,
    workers: usize,
    gate: &Gate,
) -> (FileCache, Vec<Waiter>) {
    let trees: Vec<_> = trees.iter().collect();
    // Old enough for strong tags: a check finds no reason to read a file again.
    let later = kernel_time() + Duration::from_secs(7_200);
    let clock = WallClock::new(move || later);
    let (cache, clients) = start_gated(&trees, 4 * MIB, config, workers, clock, gate);
    (cache, clients.into_iter().map(Waiter::new).collect())
}

impl Waiter {
    /// Requests so many files that were never requested before. Returns how many answers follow.
    fn request_many(&mut self, root: RootId, count: u64) -> usize {
        for n in 0..count {
            let path = format!("{n}");
            let (now, path) = (self.now(), path.as_bytes());
            let found = self.client.lookup(now, root, path, Token(1_000 + n));
            assert!(matches!(found, Lookup::Pending(_)), "{found:?}");
        }
        self.client.outstanding()
    }

    /// Takes all answers, and makes requests again that have to be made again. Returns the tokens.
    fn drain(&mut self, root: RootId) -> Vec<u64> {
        let mut tokens = Vec::new();
        while self.client.outstanding() > 0 {
            let completion = self.completion();
            let token = completion.token;
            if completion.into_lookup().is_some() {
                tokens.push(token.0);
            } else {
                let path = format!("{}", token.0 - 1_000);
                let now = self.now();
                self.client.lookup(now, root, path.as_bytes(), token);
            }
        }
        tokens.sort_unstable();
        tokens
    }
}

/// Whatever hangs: cached objects, misses and checks of another tree are served, and of the tree
/// that hangs what is in memory.
#[test]
fn a_tree_that_hangs_stops_only_its_own_files() {
    for call in [Call::Open, Call::Status, Call::Read] {
        let trees = trees();
        let gate = Gate::new(true);
        let (cache, mut waiters) = start_trees(&trees, &CacheConfig::default(), 2, &gate);
        for waiter in &mut waiters {
            for root in [HUNG, FINE] {
                waiter.root = root;
                assert_eq!(version(&waiter.fetch("hot").unwrap()), 1);
                assert_eq!(version(&waiter.fetch("checked").unwrap()), 1);
            }
        }
        gate.close(call, &trees[0]);
        // More than a client may have outstanding.
        for n in 0..700 {
            trees[0].write(&format!("{n}"), b"x");
        }
        waiters[0].request_many(HUNG, 700);
        gate.wait_for_hanging(2);

        // The fair client of the same worker, and that of the other one.
        for (waiter, millis) in waiters.iter_mut().zip([1_500, 3_000]) {
            waiter.root = FINE;
            assert!(waiter.knows("hot"));
            waiter.millis += millis;
            let before = cache.counters().revalidations;
            assert!(waiter.knows("checked"), "{call:?}: it is served");
            let answer_of = |waiter: &mut Waiter, path: &str| {
                let (now, token) = (waiter.now(), Token(1));
                let found = waiter.client.lookup(now, FINE, path.as_bytes(), token);
                if let Lookup::Pending(ticket) = found {
                    wait_for("answer", || {
                        waiter
                            .client
                            .poll(now)
                            .filter(|answer| answer.ticket == ticket)
                    });
                }
            };
            // A miss of the second worker is a hit of the store.
            answer_of(waiter, "cold");
            answer_of(waiter, "absent");
            wait_until("check", || cache.counters().revalidations > before);
            let large = waiter.find("large").unwrap();
            let mut body = FileBody::new(large, 0..u64::MAX);
            let mut out = Vec::new();
            assert!(waiter.read(&mut body, ALL, &mut out));
            assert_eq!((out.len(), version(&out)), (400_000, 1));
            waiter.root = HUNG;
            assert!(waiter.knows("hot"), "{call:?}: it is in memory");
        }
        let counters = cache.counters();
        assert_eq!(gate.hanging(), [call; 2], "no more than it may");
        assert!(
            counters.starved_root > 0 && counters.starved == 0,
            "{counters:?}"
        );
        assert!(counters.readers <= counters.readers_max);
        assert_eq!(counters.readers_max, 4);

        // Once it answers, everything does.
        gate.open();
        for waiter in &mut waiters {
            waiter.drain(HUNG);
        }
        wait_until("queues to drain", || {
            let counters = cache.counters();
            (counters.queued, counters.readers_busy, counters.requests) == (0, 0, 0)
        });
        assert_eq!(waiters[0].fetch("699").unwrap(), b"x");
    }
}

#[test]
fn every_request_of_a_tree_that_hung_is_answered_once() {
    let trees = trees();
    let gate = Gate::new(true);
    let (_cache, mut waiters) = start_trees(&trees, &CacheConfig::default(), 1, &gate);
    gate.close(Call::Open, &trees[0]);
    assert_eq!(waiters[0].request_many(HUNG, 3_000), 3_000);
    gate.wait_for_hanging(2);
    gate.open();
    let tokens = waiters[0].drain(HUNG);
    assert!(tokens.into_iter().eq(1_000..4_000));
}

/// A root directory whose file system hangs at the start keeps no other site from starting. It is
/// opened when the file system answers.
#[test]
fn a_root_that_hangs_at_the_start_stops_only_its_own_files() {
    let trees = trees();
    let gate = Gate::new(true);
    gate.close(Call::OpenRoot, &trees[0]);
    let config = CacheConfig {
        root_wait: Duration::from_millis(50),
        ..CacheConfig::default()
    };
    let (_cache, mut waiters) = start_trees(&trees, &config, 1, &gate);
    let waiter = &mut waiters[0];
    waiter.root = HUNG;
    assert!(!waiter.knows("hot"));
    // Of the start, and of the reader.
    gate.wait_for_hanging(2);
    waiter.root = FINE;
    assert_eq!(version(&waiter.fetch("hot").unwrap()), 1);
    assert!(waiter.fetch("absent").is_err());
    gate.open();
    waiter.root = HUNG;
    assert_eq!(version(&waiter.fetch("hot").unwrap()), 1);
    assert_eq!(version(&waiter.fetch("cold").unwrap()), 1);
}

/// Two sites may have their files on one file system. When it hangs, each has as many readers in it
/// as it may, and a site on another file system has its own.
#[test]
fn two_sites_on_a_file_system_that_hangs_leave_readers_to_a_third() {
    let trees = trees();
    let gate = Gate::new(true);
    let both = [&trees[0], &trees[0], &trees[1]];
    let later = kernel_time() + Duration::from_secs(7_200);
    let clock = WallClock::new(move || later);
    let config = CacheConfig::default();
    let (cache, clients) = start_gated(&both, 4 * MIB, &config, 1, clock, &gate);
    let mut waiter = Waiter::new(clients.into_iter().next().unwrap());
    let [first, second, third] = [0, 1, 2].map(RootId::new);
    waiter.root = first;
    assert_eq!(version(&waiter.fetch("hot").unwrap()), 1);
    gate.close(Call::Open, &trees[0]);
    for (hung, readers) in [(first, 2), (second, 4)] {
        waiter.request_many(hung, 700);
        gate.wait_for_hanging(readers);
    }
    let counters = cache.counters();
    assert_eq!((counters.readers_busy, counters.readers_max), (4, 6));
    assert!(counters.requests < counters.requests_max, "{counters:?}");
    for name in ["hot", "cold", "checked"] {
        waiter.root = third;
        let (now, token) = (waiter.now(), Token(1));
        let found = waiter.client.lookup(now, third, name.as_bytes(), token);
        let Lookup::Pending(ticket) = found else {
            panic!("it was never looked up");
        };
        let answer = wait_for("object", || {
            waiter
                .client
                .poll(now)
                .filter(|answer| answer.ticket == ticket)
        });
        assert!(answer.into_lookup().unwrap().is_ok());
    }
    waiter.root = first;
    assert!(waiter.knows("hot"), "it is in memory");
    assert_eq!(gate.hanging(), [Call::Open; 4]);
    gate.open();
}

/// However many trees hang, there is a thread for the next one.
#[test]
fn all_trees_hang_but_one() {
    let trees: Vec<_> = (0..8).map(|_| Tree::new()).collect();
    for tree in &trees {
        tree.write("file", &stamped(1, 200_000));
    }
    let gate = Gate::new(true);
    let config = CacheConfig {
        loaders: 3,
        ..CacheConfig::default()
    };
    let (cache, mut waiters) = start_trees(&trees, &config, 1, &gate);
    let waiter = &mut waiters[0];
    for (root, tree) in (0..7).zip(&trees) {
        gate.close(Call::Open, tree);
        waiter.request_many(RootId::new(root), 100);
        gate.wait_for_hanging(3 * (usize::from(root) + 1));
    }
    let counters = cache.counters();
    assert_eq!((counters.readers_busy, counters.readers_max), (21, 24));
    assert!(counters.requests <= counters.requests_max, "{counters:?}");
    waiter.root = RootId::new(7);
    let now = waiter.now();
    let Lookup::Pending(ticket) = waiter.client.lookup(now, waiter.root, b"file", Token(1)) else {
        panic!("it was never looked up");
    };
    let found = wait_for("object", || waiter.client.poll(now));
    assert_eq!(found.ticket, ticket);
    let object = found.into_lookup().unwrap().unwrap();
    let mut body = FileBody::new(object, 0..u64::MAX);
    let mut out = Vec::new();
    assert!(waiter.read(&mut body, ALL, &mut out));
    assert_eq!(version(&out), 1);
    gate.open();
}

/// Until `stale_max` has passed after `revalidate`, a file is served while its check hangs.
#[test]
fn a_file_whose_check_hangs_is_served_until_it_is_stale_for_too_long() {
    let trees = trees();
    let gate = Gate::new(true);
    let (cache, mut waiters) = start_trees(&trees, &CacheConfig::default(), 2, &gate);
    assert_eq!(version(&waiters[0].fetch("hot").unwrap()), 1);
    gate.close(Call::Open, &trees[0]);
    let opened = gate.opened().len();
    let checked_at = waiters[0].millis;
    waiters[0].millis = checked_at + 1_000;
    assert!(waiters[0].knows("hot"));
    assert_eq!(gate.opened().len(), opened, "it isn't due");
    assert_eq!(cache.counters().stale, 0);
    for millis in [1_001, 1_500, 5_000, 11_000] {
        waiters[0].millis = checked_at + millis;
        assert!(waiters[0].knows("hot"), "{millis}");
        gate.wait_for_hanging(1);
        // The other worker doesn't have it in its table, but the store has it.
        let waiter = &mut waiters[1];
        waiter.millis = checked_at + millis;
        let now = waiter.now();
        if let Lookup::Pending(ticket) = waiter.client.lookup(now, HUNG, b"hot", Token(1)) {
            let answer = wait_for("answer", || waiter.client.poll(now));
            assert_eq!(answer.ticket, ticket);
            assert!(answer.into_lookup().unwrap().is_ok());
        }
    }
    assert_eq!(gate.hanging(), [Call::Open], "one check for all");
    assert!(cache.counters().stale >= 8);
    for waiter in &mut waiters {
        waiter.millis = checked_at + 11_001;
        assert!(!waiter.knows("hot"));
        assert_eq!(waiter.client.outstanding(), 1);
    }
    gate.open();
    for waiter in &mut waiters {
        assert!(waiter.completion().into_lookup().unwrap().is_ok());
        assert!(waiter.knows("hot"));
    }
}

/// FUSE waits for its server when a file is closed, too.
#[test]
fn a_tree_whose_files_cant_be_closed_stops_only_its_own() {
    let trees = [Tree::new(), Tree::new()];
    for tree in &trees {
        for n in 0..12 {
            tree.write(&format!("f{n}"), &stamped(n, 100_000));
        }
    }
    let gate = Gate::new(true);
    let config = CacheConfig {
        open_max: 5,
        ..CacheConfig::default()
    };
    let (cache, mut waiters) = start_trees(&trees, &config, 1, &gate);
    let waiter = &mut waiters[0];
    gate.close(Call::Close, &trees[0]);
    // The first ones are evicted for the others: their closing hangs.
    for n in 0..6 {
        waiter.root = HUNG;
        assert!(waiter.find(&format!("f{n}")).is_ok());
    }
    gate.wait_for_hanging(2);
    waiter.root = FINE;
    for n in 0..12 {
        assert_eq!(version(&waiter.fetch(&format!("f{n}")).unwrap()), n);
        assert!(cache.counters().files_open <= 5);
    }
    assert_eq!(gate.hanging(), [Call::Close; 2]);
    let closing = cache.counters().files_closing;
    assert!((2..=10).contains(&closing), "{closing}");
    gate.open();
    wait_until("files to close", || cache.counters().files_closing == 0);
}

#[test]
fn shutting_down_doesnt_wait_for_a_reader_that_hangs() {
    let trees = trees();
    let gate = Gate::new(true);
    let (cache, mut waiters) = start_trees(&trees, &CacheConfig::default(), 1, &gate);
    gate.close(Call::Read, &trees[0]);
    waiters[0].root = HUNG;
    assert!(!waiters[0].knows("hot"));
    assert!(!waiters[0].knows("cold"));
    gate.wait_for_hanging(2);
    // Readers that don't hang end within the time, or are counted with the others.
    let left = cache.shut_down(Duration::from_millis(50));
    assert!((2..=4).contains(&left), "{left}");
    assert_eq!(gate.hanging(), [Call::Read; 2]);
    assert!(!gate.is_unused());
    assert!(waiters[0].client.poll(Instant::from_secs(99)).is_none());
    gate.open();
    wait_until("readers to end", || gate.is_unused());
}

#[test]
fn shutting_down_ends_every_reader() {
    let trees = trees();
    let gate = Gate::new(true);
    let (cache, mut waiters) = start_trees(&trees, &CacheConfig::default(), 1, &gate);
    assert_eq!(version(&waiters[0].fetch("large").unwrap()), 1);
    assert_eq!(cache.shut_down(lockgate_testing::HANG_LIMIT), 0);
    wait_until("threads to end", || gate.is_unused());
}
