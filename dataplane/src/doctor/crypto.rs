//! CPU instructions for the record ciphers.

use super::{Finding, HostView};
use crate::config::Config;

pub(super) fn check(config: &Config, host: &HostView) -> Vec<Finding> {
    if !config.listeners.iter().any(|listener| listener.tls) {
        return Vec::new();
    }
    let subject = "crypto instructions";
    let info = host.read("proc/cpuinfo").unwrap_or_default();
    let has_name = |line: &&str| line.starts_with("flags") || line.starts_with("Features");
    let Some(line) = info.lines().find(has_name) else {
        return vec![Finding::note(
            subject,
            "/proc/cpuinfo doesn't tell the CPU's features",
        )];
    };
    let flags: Vec<_> = line.split_whitespace().collect();
    let table = if line.starts_with("flags") { X86 } else { ARM };
    let absent = |names: &[&'static str]| -> Vec<&str> {
        let missing = names.iter().copied().filter(|name| !flags.contains(name));
        missing.collect()
    };
    let (required, better) = (absent(table.required), absent(table.better));
    vec![if !required.is_empty() {
        let message = format!("this CPU has no {}: AES-GCM is slow", required.join(", "));
        Finding::warning(subject, message).advise(
            "prefer ChaCha20-Poly1305: [tls] suites = [\"chacha20-poly1305\", \"aes-128-gcm\", \
             \"aes-256-gcm\"]; in a virtual machine pass the host's CPU through (-cpu host)",
        )
    } else if !better.is_empty() {
        let message = format!(
            "{} are used; no {}",
            table.required.join(", "),
            better.join(", ")
        );
        Finding::note(subject, message)
    } else {
        let all = [table.required, table.better].concat();
        Finding::ok(subject, format!("{} are used", all.join(", ")))
    }]
}

/// Features of an architecture, by their names in /proc/cpuinfo.
struct Features {
    /// Without these AES-GCM takes several times as long.
    required: &'static [&'static str],
    /// These make it faster.
    better: &'static [&'static str],
}

const X86: Features = Features {
    required: &["aes", "pclmulqdq"],
    better: &["avx2", "vaes", "vpclmulqdq"],
};

const ARM: Features = Features {
    required: &["aes", "pmull"],
    better: &["sha2"],
};
