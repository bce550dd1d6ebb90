use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockgate_wire::Instant;
use pktbuf::{PageArena, Region};

use super::*;
use crate::key::Key;
use crate::request::Task;
use crate::store::Admitted;

const ROOTS: usize = 3;

/// A loader does one job at a time.
fn scheduler() -> Scheduler {
    let shares = Shares {
        loaders: 2,
        depth: 1,
        jobs: 100,
    };
    Scheduler::new(ROOTS, shares)
}

/// Ends a job and its loader's binding to the root.
fn finish(scheduler: &mut Scheduler, root: u16) {
    scheduler.finish(RootId::new(root));
    scheduler.release(RootId::new(root));
}

fn job(root: u16, client: u16, name: u32) -> Job {
    let key = Key {
        root: RootId::new(root),
        path: name.to_be_bytes().into(),
    };
    let task = Task::Lookup {
        key,
        now: Instant::ZERO,
    };
    let is_background = false;
    Job::new(
        client,
        Admitted {
            task,
            is_background,
        },
    )
}

fn background(root: u16, name: u32) -> Job {
    Job {
        is_background: true,
        ..job(root, 0, name)
    }
}

/// Root, client and name of a job.
fn parts(job: &Job) -> (u16, u16, u32) {
    let Task::Lookup { key, .. } = &job.task else {
        panic!("only lookups here");
    };
    let root = u16::try_from(key.root.index()).unwrap();
    (
        root,
        job.client,
        u32::from_be_bytes(key.path[..].try_into().unwrap()),
    )
}

fn next(scheduler: &mut Scheduler) -> Option<(u16, u16, u32)> {
    scheduler.next().as_ref().map(parts)
}

fn push(scheduler: &mut Scheduler, job: Job) {
    assert!(scheduler.push(job).is_ok());
}

#[test]
fn a_root_that_hangs_keeps_its_threads_and_no_more() {
    let mut scheduler = scheduler();
    for name in 0..1_000 {
        push(&mut scheduler, job(0, 0, name));
    }
    assert_eq!(next(&mut scheduler), Some((0, 0, 0)));
    assert_eq!(next(&mut scheduler), Some((0, 0, 1)));
    assert_eq!(next(&mut scheduler), None, "it has as many as it may");
    // They never end. Others are served one after the other.
    for name in 0..100 {
        push(&mut scheduler, job(1, 0, name));
        assert!(scheduler.has_ready());
        assert_eq!(next(&mut scheduler), Some((1, 0, name)));
        finish(&mut scheduler, 1);
    }
    finish(&mut scheduler, 0);
    assert_eq!(next(&mut scheduler), Some((0, 0, 2)));
    assert_eq!(next(&mut scheduler), None);
    assert_eq!(scheduler.queued(), 997);
}

#[test]
fn roots_and_the_clients_of_a_root_are_served_in_turn() {
    let mut scheduler = scheduler();
    for name in 0..100 {
        push(&mut scheduler, job(0, 0, name));
        push(&mut scheduler, job(1, 0, name));
    }
    push(&mut scheduler, job(0, 1, 0));
    push(&mut scheduler, job(2, 1, 0));
    let mut order = Vec::new();
    for _ in 0..8 {
        let (root, client, _) = next(&mut scheduler).unwrap();
        order.push((root, client));
        finish(&mut scheduler, root);
    }
    // A round of the roots, and another one with the next client of root 0.
    let expected = [
        (0, 0),
        (1, 0),
        (2, 1),
        (0, 1),
        (1, 0),
        (0, 0),
        (1, 0),
        (0, 0),
    ];
    assert_eq!(order, expected);
}

#[test]
fn jobs_that_continue_alternate_with_new_ones() {
    let mut scheduler = scheduler();
    for name in 0..10 {
        push(&mut scheduler, job(0, 0, name));
    }
    let mut order = Vec::new();
    // The first one never ends: a log that is verified.
    for _ in 0..8 {
        let job = scheduler.next().unwrap();
        let name = parts(&job).2;
        order.push(name);
        finish(&mut scheduler, 0);
        if name == 0 {
            scheduler.resume(job);
        }
    }
    assert_eq!(order, [0, 1, 0, 2, 0, 3, 0, 4]);
}

#[test]
fn background_jobs_of_a_root_are_bounded() {
    let mut scheduler = scheduler();
    let queued = (0..1_000).filter(|name| scheduler.push(background(0, *name)).is_ok());
    assert_eq!(queued.count(), BACKGROUND_MAX);
    push(&mut scheduler, job(0, 0, 1_000));
    assert!(scheduler.push(background(1, 0)).is_ok(), "another root's");
    assert!(scheduler.next().is_some());
    assert!(
        scheduler.push(background(0, 1_001)).is_ok(),
        "one was taken"
    );
    assert!(scheduler.push(background(0, 1_002)).is_err());
}

/// Memory for tests: an arena of a few pages.
fn arena(pages: usize) -> PageArena {
    let mut region = Region::heap(pages * 4_096).unwrap();
    PageArena::new(&mut region, pages * 4_096).unwrap()
}

#[test]
fn memory_is_granted_to_clients_in_turn_and_never_to_a_root_that_hangs() {
    let mut scheduler = scheduler();
    for name in 0..2 {
        push(&mut scheduler, job(0, 0, name));
        assert!(next(&mut scheduler).is_some());
    }
    // Root 0 hangs. The jobs of it that wait for memory are passed over.
    for name in 10..20 {
        scheduler.wait_for_memory(job(0, 0, name), 4_096);
    }
    for name in 20..23 {
        scheduler.wait_for_memory(job(1, 0, name), 4_096);
    }
    scheduler.wait_for_memory(job(2, 1, 30), 4_096);
    assert!(scheduler.is_memory_short());
    let arena = arena(100);
    let grant = |scheduler: &mut Scheduler, mut pages: usize| {
        scheduler.grant_memory(|len| {
            pages = pages.checked_sub(1)?;
            arena.alloc_unfilled(len)
        });
    };
    grant(&mut scheduler, 2);
    assert_eq!(next(&mut scheduler), Some((1, 0, 20)));
    assert_eq!(next(&mut scheduler), Some((2, 1, 30)));
    assert_eq!(next(&mut scheduler), None);
    // As much as there is: root 1 gets no more than it has threads for.
    grant(&mut scheduler, 100);
    assert_eq!(next(&mut scheduler), Some((1, 0, 21)));
    assert_eq!(next(&mut scheduler), None);
    assert!(
        !scheduler.is_memory_short(),
        "nothing waits for memory that could run"
    );
    finish(&mut scheduler, 1);
    grant(&mut scheduler, 100);
    assert_eq!(next(&mut scheduler), Some((1, 0, 22)));
    // Once root 0 answers, its jobs get memory, one for each thread.
    for name in 10..20 {
        finish(&mut scheduler, 0);
        grant(&mut scheduler, 100);
        let mut job = scheduler.next().unwrap();
        assert_eq!(parts(&job), (0, 0, name));
        assert!(job.page.take().is_some() && job.was_granted);
    }
}

#[test]
fn a_root_whose_files_are_all_in_use_doesnt_hold_up_another() {
    let mut scheduler = scheduler();
    for name in 0..3 {
        scheduler.wait_for_file(job(0, 0, name));
        scheduler.wait_for_file(job(1, 0, name));
    }
    assert!(scheduler.has_deferred() && !scheduler.has_ready());
    scheduler.grant_files(|root| root == RootId::new(1));
    assert_eq!(next(&mut scheduler), Some((1, 0, 0)));
    assert_eq!(next(&mut scheduler), None);
    scheduler.grant_files(|_| true);
    assert_eq!(next(&mut scheduler), Some((0, 0, 0)));
    assert_eq!(next(&mut scheduler), Some((1, 0, 1)));
}

/// Six jobs of each loader; 12 are shared.
fn deep(roots: usize) -> Scheduler {
    let shares = Shares {
        loaders: 2,
        depth: 6,
        jobs: 12,
    };
    Scheduler::new(roots, shares)
}

/// Takes jobs with bound loaders, until there are none to be had. Returns how many of each root.
fn take_all(scheduler: &mut Scheduler, roots: u16) -> Vec<usize> {
    let mut taken = vec![0; usize::from(roots)];
    while let Some((root, _, _)) = next(scheduler) {
        taken[usize::from(root)] += 1;
    }
    for root in 0..roots {
        while scheduler.next_of(RootId::new(root)).is_some() {
            taken[usize::from(root)] += 1;
        }
    }
    taken
}

#[test]
fn a_bound_loader_takes_jobs_of_its_root_up_to_the_roots_share() {
    let mut scheduler = deep(1);
    for name in 0..100 {
        push(&mut scheduler, job(0, 0, name));
    }
    assert_eq!(take_all(&mut scheduler, 1), [12], "a single root has all");

    // Roots whose reads hang leave a part to the next one, and each has a job for each loader.
    let mut scheduler = deep(5);
    let mut taken = Vec::new();
    for root in 0..5 {
        for name in 0..100 {
            push(&mut scheduler, job(root, 0, name));
        }
        taken.push(take_all(&mut scheduler, 5)[usize::from(root)]);
    }
    assert_eq!(taken, [6, 3, 2, 2, 2]);
    // One of the last root ends: a bound loader may take its next.
    scheduler.finish(RootId::new(4));
    assert!(scheduler.next_of(RootId::new(4)).is_some());
    assert!(scheduler.next_of(RootId::new(4)).is_none());
}

#[test]
fn a_root_has_its_loaders_and_no_more_however_many_reads_it_may_have() {
    let mut scheduler = deep(2);
    for name in 0..100 {
        push(&mut scheduler, job(0, 0, name));
    }
    assert!(next(&mut scheduler).is_some() && next(&mut scheduler).is_some());
    assert_eq!(next(&mut scheduler), None);
    assert!(
        scheduler.next_of(RootId::new(0)).is_some(),
        "a bound loader's"
    );
    scheduler.release(RootId::new(0));
    assert!(next(&mut scheduler).is_some());
}

#[test]
fn a_job_wakes_a_parked_loader_of_its_root_and_no_other_thread() {
    let mut scheduler = deep(2);
    let woken = Arc::new(AtomicUsize::new(0));
    let wake = |bit: usize| -> Wake {
        let woken = Arc::clone(&woken);
        Arc::new(move || {
            woken.fetch_add(bit, Ordering::Relaxed);
        })
    };
    let root = RootId::new(0);
    push(&mut scheduler, job(0, 0, 0));
    assert!(next(&mut scheduler).is_some());
    scheduler.park(root, LoaderId(7), wake(1), true);
    assert!(scheduler.next_to_wake().is_none(), "there is no job");
    push(&mut scheduler, job(1, 0, 1));
    assert!(scheduler.next_to_wake().is_none(), "it is another root's");
    assert_eq!(next(&mut scheduler), Some((1, 0, 1)));
    push(&mut scheduler, job(0, 0, 2));
    assert!(!scheduler.has_ready());
    scheduler.next_to_wake().unwrap()();
    assert_eq!(woken.load(Ordering::Relaxed), 1);
    assert!(scheduler.next_to_wake().is_none(), "once");
    scheduler.unpark(root, LoaderId(7));
    assert!(scheduler.next_of(root).is_some());
    // It was woken by a read before: another loader takes the job.
    scheduler.park(root, LoaderId(7), wake(1), true);
    push(&mut scheduler, job(0, 0, 3));
    scheduler.unpark(root, LoaderId(7));
    assert!(scheduler.next_to_wake().is_none());
    assert_eq!(next(&mut scheduler), Some((0, 0, 3)));
    // A loader that parks with a job queued is woken at once.
    push(&mut scheduler, job(0, 0, 4));
    scheduler.park(root, LoaderId(8), wake(10), true);
    scheduler.next_to_wake().unwrap()();
    assert_eq!(woken.load(Ordering::Relaxed), 11);
    scheduler.park(root, LoaderId(9), wake(100), true);
    scheduler.next_parked().unwrap()();
    assert_eq!(woken.load(Ordering::Relaxed), 111);
    assert!(scheduler.next_parked().is_none());
}

/// It is woken by its reads, and at the end. As long as the root may have another loader, a job is
/// that one's; then the job waits for a read.
#[test]
fn a_job_wakes_no_loader_that_cant_take_it() {
    let mut scheduler = deep(2);
    let woken = Arc::new(AtomicUsize::new(0));
    let wake = || -> Wake {
        let woken = Arc::clone(&woken);
        Arc::new(move || {
            woken.fetch_add(1, Ordering::Relaxed);
        })
    };
    let root = RootId::new(0);
    push(&mut scheduler, job(0, 0, 0));
    assert!(next(&mut scheduler).is_some());
    // With a job queued, and before the next job.
    push(&mut scheduler, job(0, 0, 1));
    scheduler.park(root, LoaderId(7), wake(), false);
    push(&mut scheduler, job(0, 0, 2));
    assert!(scheduler.next_to_wake().is_none());
    assert!(scheduler.has_ready());
    assert_eq!(next(&mut scheduler), Some((0, 0, 1)), "another loader's");
    assert!(!scheduler.has_ready(), "it may have two");
    // Of two parked loaders, the one with room is woken.
    scheduler.park(root, LoaderId(8), wake(), true);
    scheduler.next_to_wake().unwrap()();
    assert!(scheduler.next_to_wake().is_none());
    scheduler.unpark(root, LoaderId(8));
    assert!(scheduler.next_of(root).is_some());
    // Both are full: the job waits, until a read ends and its loader asks for a job.
    scheduler.park(root, LoaderId(8), wake(), false);
    push(&mut scheduler, job(0, 0, 3));
    assert!(scheduler.next_to_wake().is_none() && !scheduler.has_ready());
    scheduler.unpark(root, LoaderId(7));
    scheduler.finish(root);
    assert!(scheduler.next_to_wake().is_none() && !scheduler.has_ready());
    assert_eq!(scheduler.next_of(root).as_ref().map(parts), Some((0, 0, 3)));
    scheduler.park(root, LoaderId(7), wake(), false);
    // Or until a loader is released.
    push(&mut scheduler, job(0, 0, 4));
    scheduler.unpark(root, LoaderId(8));
    scheduler.release(root);
    assert!(scheduler.next_to_wake().is_none());
    assert_eq!(next(&mut scheduler), Some((0, 0, 4)));
    scheduler.park(root, LoaderId(8), wake(), true);
    let before = woken.load(Ordering::Relaxed);
    for _ in 0..2 {
        scheduler.next_parked().unwrap()();
    }
    assert_eq!(woken.load(Ordering::Relaxed), before + 2);
    assert!(scheduler.next_parked().is_none());
}
