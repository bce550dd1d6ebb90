//! Runs every target with its stored inputs, and with a fixed number of mutations of them.
//!
//! Nothing is random: the mutations are drawn from one seed. Exploring is `scripts/fuzz`.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::{fs, io};

use lockgate_testing::Random;

#[test]
fn deframer() {
    replay("deframer", lockgate_fuzz::deframer::run);
}

#[test]
fn http() {
    replay("http", lockgate_fuzz::http::run);
}

#[test]
fn on_segment() {
    replay("on_segment", lockgate_fuzz::on_segment::run);
}

#[test]
fn stack() {
    replay("stack", lockgate_fuzz::stack::run);
}

#[test]
fn wire() {
    replay("wire", lockgate_fuzz::wire::run);
}

/// Each target has a folder of inputs, each folder a target.
#[test]
fn every_target_has_inputs() {
    let mut folders = list(&corpus())
        .unwrap()
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect::<Vec<_>>();
    folders.sort();
    let mut targets = lockgate_fuzz::TARGETS.map(|(name, _)| name).to_vec();
    targets.sort_unstable();
    assert_eq!(folders, targets);
}

fn replay(target: &str, run: fn(&[u8])) {
    let mut inputs = Vec::new();
    for path in list(&corpus().join(target)).unwrap() {
        let input = fs::read(&path).unwrap();
        assert!(
            input.len() <= INPUT_BYTES_MAX,
            "{} is large",
            path.display()
        );
        check(run, &input, &path.display());
        inputs.push(input);
    }
    assert!(!inputs.is_empty(), "there are no inputs for {target}");
    let mut random = Random::new(SEED);
    for number in 0..MUTATIONS {
        let input = mutation(&inputs, &mut random);
        check(run, &input, &format_args!("mutation {number} of {target}"));
    }
}

/// Runs a target; a failure names the input and prints its bytes, which a file can be made of.
fn check(run: fn(&[u8]), input: &[u8], name: &dyn std::fmt::Display) {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(input)));
    assert!(outcome.is_ok(), "{name} fails: {input:?}");
}

/// An input with some bytes changed, removed, repeated, or replaced by part of another input.
fn mutation(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = inputs[random.index(inputs.len())].clone();
    for _ in 0..=random.index(4) {
        let at = random.index(input.len() + 1);
        let len = random.index(input.len() - at + 1).min(random.index(16));
        match random.index(5) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.index(8);
                }
            }
            1 => {
                let [byte] = random.array();
                input.insert(at, byte);
            }
            2 => drop(input.drain(at..at + len)),
            3 => {
                let piece = input[at..at + len].to_vec();
                input.splice(at..at, piece);
            }
            _ => {
                let other = &inputs[random.index(inputs.len())];
                let from = random.index(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The entries of a folder by name, so that the order is the same everywhere.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

const SEED: u64 = 20_110_906;
const MUTATIONS: u32 = 20_000;
const INPUT_BYTES_MAX: usize = 4096;
