//! Certificates, keys, the directories of sites, the control socket.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Finding, HostView};
use crate::certificates::ValidityWarning;
use crate::config::{CertificateFiles, Config};
use crate::privileges::Identity;

pub(super) fn check(config: &Config, host: &HostView) -> Vec<Finding> {
    let mut findings = vec![process(config, host)];
    for files in &config.certificate_files {
        findings.push(validity(files, host.facts.unix_seconds));
        findings.extend(key_mode(&files.key));
    }
    if let Some(identity) = &config.identity {
        findings.extend(config.roots.iter().map(|root| readable(root, identity)));
    }
    findings
}

fn process(config: &Config, host: &HostView) -> Finding {
    let subject = "process";
    if let Some(pid) = host.facts.instance {
        return Finding::ok(subject, format!("an instance answers: process {pid}"));
    }
    match &config.identity {
        Some(identity) => {
            let (uid, gid) = (identity.uid, identity.gid);
            let name = &identity.name;
            Finding::ok(
                subject,
                format!("becomes user {name} ({uid}:{gid}) after its start"),
            )
        }
        None => Finding::note(subject, "keeps the user that starts it")
            .advise("if that is root, name a user without privileges in [process] user"),
    }
}

fn validity(files: &CertificateFiles, now: u64) -> Finding {
    let subject = "certificate";
    let chain = files.chain.display();
    match files.validity.validity_at(now) {
        Some(warning @ (ValidityWarning::NotYetValid | ValidityWarning::Expired { .. })) => {
            let finding = Finding::warning(subject, format!("{chain}: {warning}"));
            finding.run(
                "replace it, or set the clock",
                format!("openssl x509 -dates -in {chain}"),
            )
        }
        None => {
            let left = files.validity.days_left(now);
            let message = format!("{chain} is valid for {left} days more");
            if left < RENEW_DAYS {
                Finding::warning(subject, message).advise("renew it")
            } else {
                Finding::ok(subject, message)
            }
        }
    }
}

/// A private key that others than its owner can read.
fn key_mode(key: &Path) -> Option<Finding> {
    let found = fs::metadata(key).ok()?;
    let mode = found.mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        let shown = key.display();
        let message = format!("{shown} has mode {mode:03o}: others than its owner may read it");
        let finding = if mode & 0o007 == 0 {
            Finding::note("private key", message)
        } else {
            Finding::warning("private key", message)
        };
        finding.run(
            "it is read at the start, as the user that starts it",
            format!("chmod 600 {shown}"),
        )
    })
}

/// Whether the user may search every directory on the way to a site's files. By mode bits alone:
/// access control lists aren't read.
fn readable(root: &Path, identity: &Identity) -> Finding {
    let subject = "site";
    let Ok(root) = root.canonicalize() else {
        return Finding::fault(subject, format!("{} can't be resolved", root.display()));
    };
    let mut directories: Vec<&Path> = root.ancestors().collect();
    directories.reverse();
    let name = &identity.name;
    for directory in directories {
        let Ok(found) = fs::metadata(directory) else {
            return Finding::fault(subject, format!("{} can't be read", directory.display()));
        };
        let (class, shift) = class_of(identity, &found);
        if found.mode() >> shift & SEARCH == 0 {
            let directory = directory.display();
            let message = format!("user {name} may not search {directory}");
            let command = format!("chmod {class}+x {directory}");
            return Finding::fault(subject, message).run("allow it", command);
        }
    }
    Finding::ok(
        subject,
        format!("user {name} may search {}", root.display()),
    )
}

/// Returns the class of the user in a file's mode, as chmod(1) names it, and the place of its bits.
fn class_of(identity: &Identity, found: &Metadata) -> (char, u32) {
    if found.uid() == identity.uid {
        ('u', 6)
    } else if found.gid() == identity.gid || identity.groups.contains(&found.gid()) {
        ('g', 3)
    } else {
        ('o', 0)
    }
}

/// The bit of one class in a directory's mode that allows to search it.
const SEARCH: u32 = 1;

/// A certificate that is valid for fewer days is to be renewed.
const RENEW_DAYS: u64 = 14;
