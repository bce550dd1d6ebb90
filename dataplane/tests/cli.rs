//! The command line from outside: what it prints where, and its exit codes.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use lockgate_testing::ScratchDir;

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

fn scratch() -> ScratchDir {
    let scratch = ScratchDir::new();
    scratch.make_dir("www");
    scratch
}

#[test]
fn check_says_ok() {
    let scratch = scratch();
    scratch.write("good.toml", GOOD);
    let ran = lockgate(&["check", "--config", "good.toml"], scratch.path());
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (Some(0), "ok\n", "")
    );
}

/// SIGHUP is reserved for a reload, from the first line of the start on. Here the process reads its
/// configuration, and the other end of the pipe says when.
#[test]
fn a_hangup_during_the_start_ends_nothing() {
    let scratch = scratch();
    let file = scratch.join("pipe.toml");
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, &file, kind, mode, 0).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockgate"));
    let mut process = command
        .args(["run", "--config"])
        .arg(&file)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // This waits until the process has opened it.
    let mut pipe = std::fs::File::options().write(true).open(&file).unwrap();
    let pid = rustix::process::Pid::from_child(&process);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    pipe.write_all(b"no configuration").unwrap();
    drop(pipe);
    assert_eq!(process.wait().unwrap().code(), Some(2));
}

#[test]
fn check_and_run_say_what_is_wrong_and_end_with_two() {
    let scratch = scratch();
    let bad = GOOD.replace("www", "nowhere").replace("mtu", "mtuu");
    scratch.write("bad.toml", bad);
    for command in ["check", "run"] {
        let ran = lockgate(&[command, "--config", "bad.toml"], scratch.path());
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
        assert_eq!(
            ran.err,
            "bad.toml:4: port.mtuu: unknown key; did you mean \"mtu\"?\n\
             bad.toml:12: site.root: nowhere: No such file or directory (os error 2)\n"
        );
    }
    let ran = lockgate(&["run", "--config", "none.toml"], scratch.path());
    let expected = "none.toml: can't be read: No such file or directory (os error 2)\n";
    assert_eq!((ran.code, ran.err.as_str()), (Some(2), expected));
}

#[test]
fn stats_of_nobody() {
    let scratch = scratch();
    scratch.write("good.toml", GOOD);
    let ran = lockgate(&["stats", "--socket", "s"], scratch.path());
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (Some(1), "s: no instance is running there\n")
    );
    let ran = lockgate(
        &["stats", "--config", "good.toml", "--json"],
        scratch.path(),
    );
    let expected = "good.toml: control.socket: not set\n";
    assert_eq!((ran.code, ran.err.as_str()), (Some(2), expected));
    assert_eq!(lockgate(&["stats"], scratch.path()).code, Some(2));
}

#[test]
fn it_knows_its_version_and_its_commands() {
    let scratch = scratch();
    let ran = lockgate(&["--version"], scratch.path());
    let expected = format!("lockgate {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((ran.code, ran.out), (Some(0), expected));
    let ran = lockgate(&["--help"], scratch.path());
    for command in ["run", "check", "doctor", "stats"] {
        assert!(ran.out.contains(&format!("\n  {command} ")), "{}", ran.out);
    }
    assert_eq!(lockgate(&["serve"], scratch.path()).code, Some(2));
}

/// Findings go to standard output. The exit code is 1 for faults of the machine, 2 for the file's.
#[test]
fn doctor_reports_the_machine() {
    let scratch = scratch();
    scratch.write("good.toml", GOOD);
    let ran = lockgate(&["doctor", "--config", "good.toml"], scratch.path());
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    assert!(ran.out.contains("huge pages:"), "{}", ran.out);
    let absent = GOOD.replace("net_null0,no-rx=1", "net_af_packet0,iface=lg-nowhere");
    scratch.write("absent.toml", absent);
    let ran = lockgate(&["doctor", "--config", "absent.toml"], scratch.path());
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""));
    let fault = ran.out.lines().find(|line| line.starts_with("fault"));
    assert!(
        fault.is_some_and(|line| line.contains("no interface lg-nowhere")),
        "{}",
        ran.out
    );
    scratch.write("bad.toml", GOOD.replace("mtu", "mtuu"));
    let ran = lockgate(&["doctor", "--config", "bad.toml"], scratch.path());
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
}

/// `systemd-analyze` reports unknown keys and malformed values.
#[test]
fn the_unit_for_systemd_is_valid() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/lockgate.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    let scratch = scratch();
    let program = "/usr/local/bin/lockgate";
    assert!(unit.contains(&format!("ExecStart={program} run --config ")));
    let file = scratch.write(
        "lockgate.service",
        unit.replace(program, env!("CARGO_BIN_EXE_lockgate")),
    );
    let mut verify = Command::new("systemd-analyze");
    let Ok(output) = verify.arg("verify").arg(&file).output() else {
        lockgate_testing::skip("the_unit_for_systemd_is_valid", "no systemd-analyze here");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
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
