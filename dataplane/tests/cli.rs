//! The command line from outside: what it prints where, and its exit codes.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn lockgate(arguments: &[&str], directory: &Path) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockgate"));
    let output = command
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A directory of the test's own; gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let name = format!("lockgate-cli-{}-{test}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(directory.join("www")).unwrap();
        Self(directory)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn check_says_ok() {
    let scratch = Scratch::new("ok");
    fs::write(scratch.0.join("good.toml"), GOOD).unwrap();
    let ran = lockgate(&["check", "--config", "good.toml"], &scratch.0);
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (Some(0), "ok\n", "")
    );
}

#[test]
fn check_and_run_say_what_is_wrong_and_end_with_two() {
    let scratch = Scratch::new("faults");
    let bad = GOOD.replace("www", "nowhere").replace("mtu", "mtuu");
    fs::write(scratch.0.join("bad.toml"), bad).unwrap();
    for command in ["check", "run"] {
        let ran = lockgate(&[command, "--config", "bad.toml"], &scratch.0);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
        assert_eq!(
            ran.err,
            "bad.toml:4: port.mtuu: unknown key; did you mean \"mtu\"?\n\
             bad.toml:12: site.root: nowhere: No such file or directory (os error 2)\n"
        );
    }
    let ran = lockgate(&["run", "--config", "none.toml"], &scratch.0);
    let expected = "none.toml: can't be read: No such file or directory (os error 2)\n";
    assert_eq!((ran.code, ran.err.as_str()), (Some(2), expected));
}

#[test]
fn stats_of_nobody() {
    let scratch = Scratch::new("stats");
    fs::write(scratch.0.join("good.toml"), GOOD).unwrap();
    let ran = lockgate(&["stats", "--socket", "s"], &scratch.0);
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (Some(1), "s: no instance is running there\n")
    );
    let ran = lockgate(&["stats", "--config", "good.toml", "--json"], &scratch.0);
    let expected = "good.toml: control.socket: not set\n";
    assert_eq!((ran.code, ran.err.as_str()), (Some(2), expected));
    assert_eq!(lockgate(&["stats"], &scratch.0).code, Some(2));
}

#[test]
fn it_knows_its_version_and_its_commands() {
    let scratch = Scratch::new("version");
    let ran = lockgate(&["--version"], &scratch.0);
    let expected = format!("lockgate {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((ran.code, ran.out), (Some(0), expected));
    let ran = lockgate(&["--help"], &scratch.0);
    for command in ["run", "check", "stats"] {
        assert!(ran.out.contains(&format!("\n  {command} ")), "{}", ran.out);
    }
    assert_eq!(lockgate(&["serve"], &scratch.0).code, Some(2));
}

const GOOD: &str = r#"[[port]]
name = "p0"
device = "net_null0,no-rx=1"
mtu = 1500
[[interface]]
on = "p0"
addresses = ["198.18.0.1/24"]
[[listener]]
address = "198.18.0.1:80"
[[site]]
hosts = ["*"]
root = "www"
"#;
