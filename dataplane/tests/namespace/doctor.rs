//! `lockgate doctor` on live interfaces: what it finds is there, and its commands help.

use std::path::Path;
use std::process::Command;

use lockgate_testing::cases::Case;
use lockgate_testing::network::{self, Network, ip};
use lockgate_testing::process::{Ran, run};
use serde_json::Value;

use crate::support::scene::{CONFIG, Setup};
use crate::support::server::LOCKGATE;

pub(crate) const CASES: &[Case] = &[
    Case::new("doctor::its_commands_help", its_commands_help),
    Case::new(
        "doctor::beside_a_running_instance",
        beside_a_running_instance,
    ),
];

fn doctor(net: &Network, directory: &Path, more: &[&str]) -> Ran {
    // It mounts the namespace's own /sys.
    let mut command = Command::new("ip");
    run(command
        .args([
            "netns",
            "exec",
            net.server(),
            LOCKGATE,
            "doctor",
            "--config",
        ])
        .arg(directory.join(CONFIG))
        .args(more))
}

/// Returns the findings at port `p0` and the appliance's addresses that aren't ok or notes.
fn complaints(net: &Network, directory: &Path) -> Vec<Value> {
    let ran = doctor(net, directory, &["--json"]);
    let report: Value = serde_json::from_slice(&ran.out).expect("it's JSON");
    let findings = report["findings"].as_array().expect("a list");
    let has_fault = findings.iter().any(|finding| finding["level"] == "fault");
    assert_eq!(ran.code, Some(i32::from(has_fault)), "{report}");
    let about = |finding: &&Value| {
        let subject = finding["subject"].as_str().expect("a text");
        let level = finding["level"].as_str().expect("a text");
        (subject == "port p0" || subject.starts_with("address "))
            && ["warning", "fault"].contains(&level)
    };
    findings.iter().filter(about).cloned().collect()
}

/// Before the appliance was ever started: each setting that is in the way is found, and is gone
/// after the command beside it.
fn its_commands_help() {
    let setup = Setup::new().set("port.device", "net_af_packet0,iface=lg2");
    let (net, scratch) = setup.prepare();
    let (namespace, directory) = (net.server(), scratch.path());
    // Both ends in one namespace, so that the other end can be examined, too.
    ip(&format!(
        "-n {namespace} link add lg2 mtu 1400 type veth peer name lg3 mtu 1400"
    ));
    ip(&format!("-n {namespace} link set lg3 up"));
    for address in ["198.18.0.1/24", "192.0.2.9/24"] {
        ip(&format!("-n {namespace} addr add {address} dev lg2"));
    }
    let found = complaints(&net, directory);
    for (level, part) in [
        ("warning", "interface lg2 is down"),
        ("fault", "the MTU of lg2 is 1400"),
        (
            "warning",
            "the kernel has 198.18.0.1/24, 192.0.2.9/24 on lg2",
        ),
        ("warning", "the kernel's IPv6 is on at lg2"),
        (
            "fault",
            "lg3, the other end of veth lg2, sends no checksums",
        ),
        ("fault", "the kernel has it, too, on lg2"),
    ] {
        let has = |finding: &Value| {
            finding["level"] == level && finding["message"].as_str().expect("a text").contains(part)
        };
        assert!(found.iter().any(has), "{part}: {found:#?}");
    }
    // A command may uncover something else: up, the interface has no carrier for a moment.
    let mut left = found;
    for _ in 0..8 {
        for finding in &left {
            if let Some(line) = finding["command"].as_str() {
                // The address may be gone already by another finding's command.
                run(network::command(namespace, "sh").args(["-c", line]));
            }
        }
        left = complaints(&net, directory);
        if left.is_empty() {
            break;
        }
    }
    assert!(left.is_empty(), "{left:#?}");
    let text = doctor(&net, directory, &[]).ok().text();
    for line in [
        "interface lg2 is up, with a carrier",
        "lg3, the other end of veth lg2, sends checksums",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

fn beside_a_running_instance() {
    let mut scene = Setup::new().start();
    let pid = scene.server.pid();
    let ran = doctor(&scene.net, scene.scratch.path(), &[]).ok();
    let text = ran.text();
    assert!(
        text.contains(&format!("an instance answers: process {pid}")),
        "{text}"
    );
    // Its own socket on the interface is none of another process.
    assert!(!text.contains("packet sockets are open"), "{text}");
    assert!(
        text.contains("the other end of veth lg0 is in another network namespace"),
        "{text}"
    );
    // Entered without its /sys, the namespace's interfaces can't be examined.
    let mut command = network::command(scene.net.server(), LOCKGATE);
    let config = scene.scratch.join(CONFIG);
    let ran = run(command.args(["doctor", "--config"]).arg(config)).ok();
    assert!(
        ran.text().contains("/sys shows another network namespace"),
        "{}",
        ran.text()
    );
    scene.finish();
}
