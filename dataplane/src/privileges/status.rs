//! The credentials of this process's threads, as `/proc/self/task/*/status` shows them.

use std::fs;
use std::io;

use rustix::thread::CapabilitySet;

use super::Identity;

/// The credentials of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadStatus {
    /// Its number.
    pub tid: i32,
    /// Its name.
    pub name: String,
    /// Real, effective, saved and file system user.
    pub uids: Vec<u32>,
    /// Real, effective, saved and file system group.
    pub gids: Vec<u32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The union of the inheritable, permitted, effective and ambient sets.
    pub capabilities: CapabilitySet,
    /// The bounding set.
    pub bounding: CapabilitySet,
    /// Whether programs that it executes can gain privileges.
    pub no_new_privs: bool,
}

impl ThreadStatus {
    /// Parses the text of `/proc/PID/task/TID/status`. None if a line is missing or malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
        };
        let ids = |name: &str| -> Option<Vec<u32>> {
            let numbers = field(name)?.split_whitespace().map(|id| id.parse().ok());
            numbers.collect()
        };
        let set = |name: &str| {
            let bits = u64::from_str_radix(field(name)?, 16).ok()?;
            Some(CapabilitySet::from_bits_retain(bits))
        };
        let sets = [
            set("CapInh")?,
            set("CapPrm")?,
            set("CapEff")?,
            set("CapAmb")?,
        ];
        Some(Self {
            tid: field("Pid")?.parse().ok()?,
            name: field("Name")?.to_owned(),
            uids: ids("Uid")?,
            gids: ids("Gid")?,
            groups: ids("Groups")?,
            capabilities: sets.into_iter().collect(),
            bounding: set("CapBnd")?,
            no_new_privs: field("NoNewPrivs")? == "1",
        })
    }

    /// Returns what the thread has beyond the identity and the allowed capabilities. A bounding
    /// set is no privilege under no_new_privs.
    pub(super) fn excess(&self, identity: &Identity, allowed: CapabilitySet) -> Option<String> {
        let is_all = |ids: &[u32], id: u32| ids.len() == 4 && ids.iter().all(|held| *held == id);
        let extra = self
            .groups
            .iter()
            .find(|gid| !identity.groups.contains(gid));
        if !is_all(&self.uids, identity.uid) {
            Some(format!("users {:?}", self.uids))
        } else if !is_all(&self.gids, identity.gid) {
            Some(format!("groups {:?}", self.gids))
        } else if let Some(gid) = extra {
            Some(format!("supplementary group {gid}"))
        } else if !allowed.contains(self.capabilities) {
            Some(super::names(self.capabilities - allowed))
        } else if !self.no_new_privs {
            Some("no_new_privs isn't set".to_owned())
        } else {
            None
        }
    }
}

/// Returns the status of every thread of this process.
pub(super) fn threads() -> io::Result<Vec<ThreadStatus>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(TASKS)? {
        let file = entry?.path().join("status");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            // The thread has ended since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.raw_os_error() == Some(ESRCH) => continue,
            Err(error) => return Err(error),
        };
        let malformed = || io::Error::other(format!("{} is malformed", file.display()));
        threads.push(ThreadStatus::parse(&text).ok_or_else(malformed)?);
    }
    Ok(threads)
}

const TASKS: &str = "/proc/self/task";

/// Reading the status of a thread that has ended (errno(3)).
const ESRCH: i32 = rustix::io::Errno::SRCH.raw_os_error();

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            name: "nobody".to_owned(),
            uid: 65_534,
            gid: 65_533,
            groups: vec![65_533, 100],
        }
    }

    fn dropped() -> String {
        "Name:\teal-intr-thread\nPid:\t77\nUid:\t65534\t65534\t65534\t65534\n\
         Gid:\t65533\t65533\t65533\t65533\nGroups:\t100 65533 \nCapInh:\t0000000000000000\n\
         CapPrm:\t0000000000001000\nCapEff:\t0000000000001000\nCapBnd:\t0000000000000000\n\
         CapAmb:\t0000000000000000\nNoNewPrivs:\t1\n"
            .to_owned()
    }

    /// Each row leaves one privilege behind. The start has to fail for it.
    #[test]
    fn whatever_a_thread_keeps_is_found() {
        for (find, replace, expected) in [
            ("", "", None),
            (
                "Uid:\t65534\t65534\t65534\t65534",
                "Uid:\t65534\t65534\t0\t65534",
                Some("users"),
            ),
            ("Uid:\t65534", "Uid:\t65534\t65534", Some("users")),
            ("Gid:\t65533\t65533", "Gid:\t65533\t0", Some("groups")),
            ("Groups:\t100", "Groups:\t0", Some("supplementary group 0")),
            (
                "CapInh:\t0000000000000000",
                "CapInh:\t0000000000000001",
                Some("CAP_CHOWN"),
            ),
            (
                "CapPrm:\t0000000000001000",
                "CapPrm:\t0000000000201000",
                Some("CAP_SYS_ADMIN"),
            ),
            (
                "CapEff:\t0000000000001000",
                "CapEff:\t0000000000003000",
                Some("CAP_NET_RAW"),
            ),
            (
                "CapAmb:\t0000000000000000",
                "CapAmb:\t0000000000000080",
                Some("CAP_SETUID"),
            ),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0", Some("no_new_privs")),
        ] {
            let status = ThreadStatus::parse(&dropped().replacen(find, replace, 1)).unwrap();
            let excess = status.excess(&identity(), CapabilitySet::NET_ADMIN);
            match expected {
                None => assert_eq!(excess, None),
                Some(part) => assert!(
                    excess.as_ref().is_some_and(|e| e.contains(part)),
                    "{excess:?}"
                ),
            }
        }
        let status = ThreadStatus::parse(&dropped()).unwrap();
        let excess = status.excess(&identity(), CapabilitySet::empty());
        assert_eq!(excess.as_deref(), Some("CAP_NET_ADMIN"));
        assert_eq!((status.tid, status.name.as_str()), (77, "eal-intr-thread"));
    }

    #[test]
    fn a_status_without_one_of_its_lines_is_malformed() {
        for line in dropped().lines() {
            let text = dropped().replace(&format!("{line}\n"), "");
            assert_eq!(ThreadStatus::parse(&text), None, "{line}");
        }
        let own = threads().unwrap();
        assert!(
            own.iter()
                .any(|thread| thread.tid == rustix::process::getpid().as_raw_pid())
        );
    }
}
