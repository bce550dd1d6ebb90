//! Parses `[process]`, by the system's databases of users and groups.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::document::Document;
use crate::privileges::Identity;

/// Returns the user that the process becomes after the start, with its groups.
pub(super) fn identity(document: &Document<'_>) -> Option<Identity> {
    let process = document.one("process");
    let (user, group) = (process.text("user"), process.text("group"));
    let group = group.and_then(|at| {
        let gid = find_group(&at.value).and_then(refuse_root);
        gid.map_err(|message| process.fault("group", message)).ok()
    });
    let Some(name) = user.map(|at| at.value) else {
        if group.is_some() {
            process.fault("group", "there is no process.user: set it, too");
        }
        return None;
    };
    let identity = find_user(&name).and_then(|user| user.with_group(name, group));
    let identity = identity.map_err(|message| process.fault("user", message));
    identity.ok()
}

/// A user of the system, or a number without a name.
struct FoundUser {
    uid: Uid,
    /// The name and the group of the database's entry.
    entry: Option<(String, Gid)>,
}

impl FoundUser {
    fn with_group(self, name: String, group: Option<Gid>) -> Result<Identity, String> {
        if self.uid.is_root() {
            return Err(
                "this is root: remove the key to stay root, or name another user".to_owned(),
            );
        }
        let own = self.entry.as_ref().map(|(_, gid)| *gid);
        let Some(gid) = group.or(own) else {
            return Err(format!(
                "user {name} has no entry here, so set process.group"
            ));
        };
        let groups = match self.entry.and_then(|(name, _)| CString::new(name).ok()) {
            Some(name) => getgrouplist(&name, gid).map_err(|error| error.to_string())?,
            None => vec![gid],
        };
        refuse_groups_of_root(&name, gid, &groups)?;
        Ok(Identity {
            name,
            uid: self.uid.as_raw(),
            gid: gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
        })
    }
}

/// The group root may read and write files of root's on many systems.
fn refuse_root(gid: Gid) -> Result<Gid, String> {
    if gid == ROOT {
        return Err("this is root: name another group".to_owned());
    }
    Ok(gid)
}

fn refuse_groups_of_root(user: &str, gid: Gid, groups: &[Gid]) -> Result<(), String> {
    if gid == ROOT {
        return Err(format!(
            "the group of user {user} is root: set process.group, or name another user"
        ));
    }
    if groups.contains(&ROOT) {
        return Err(format!(
            "user {user} is a member of the group root: end that (gpasswd --delete {user} root), \
             or name another user"
        ));
    }
    Ok(())
}

fn find_user(text: &str) -> Result<FoundUser, String> {
    let number = text.parse::<u32>().ok().map(Uid::from_raw);
    let entry = match number {
        Some(uid) => User::from_uid(uid),
        None => User::from_name(text),
    };
    let entry = entry.map_err(|error| format!("{text}: {error}"))?;
    match (entry, number) {
        (Some(user), _) => Ok(FoundUser {
            uid: user.uid,
            entry: Some((user.name, user.gid)),
        }),
        // (uid_t)-1 means "unchanged" to setresuid(2).
        (None, Some(uid)) if uid.as_raw() != u32::MAX => Ok(FoundUser { uid, entry: None }),
        (None, _) => Err(format!(
            "there is no user {text:?} here; useradd --system makes one"
        )),
    }
}

fn find_group(text: &str) -> Result<Gid, String> {
    let number = text.parse::<u32>().ok().filter(|gid| *gid != u32::MAX);
    if let Some(gid) = number {
        return Ok(Gid::from_raw(gid));
    }
    match Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => Err(format!("there is no group {text:?} here")),
        Err(error) => Err(format!("{text}: {error}")),
    }
}

const ROOT: Gid = Gid::from_raw(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_with_the_group_root_is_refused() {
        let user = || FoundUser {
            uid: Uid::from_raw(7),
            entry: Some(("nobody".to_owned(), ROOT)),
        };
        let refused = user().with_group("seven".to_owned(), None).unwrap_err();
        assert!(
            refused.contains("user seven is root: set process.group"),
            "{refused}"
        );
        let group = Gid::from_raw(8);
        let taken = user().with_group("seven".to_owned(), Some(group)).unwrap();
        assert_eq!((taken.gid, taken.groups), (8, vec![8]));
        let refused = refuse_groups_of_root("seven", group, &[group, ROOT]).unwrap_err();
        assert!(refused.contains("a member of the group root"), "{refused}");
        assert_eq!(refuse_groups_of_root("seven", group, &[group]), Ok(()));
    }
}
