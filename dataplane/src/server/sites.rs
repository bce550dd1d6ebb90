//! Which site a request is for.

use std::sync::Arc;

use hashbrown::HashMap;
use lockgate_cache::RootId;

/// The trees of files by the names of the hosts that they belong to.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    exact: HashMap<Vec<u8>, Site>,
    /// By the part behind the `*`, its dot included.
    suffixes: HashMap<Vec<u8>, Site>,
    any: Option<Site>,
}

/// A tree of files and how it's served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The tree.
    pub root: RootId,
    /// The file that stands for a directory; if there's none, directories aren't found.
    pub index: Option<Arc<str>>,
}

/// A host pattern that is neither a name, nor `*`, nor `*.` and a name; or one that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHost {
    /// Not a pattern.
    #[error("a host is a name, \"*\", or \"*.\" and a name")]
    Malformed,
    /// Another site has the same one.
    #[error("another site has this host already")]
    Taken,
}

impl Sites {
    /// No sites.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `host` to a site: a name, `*.` and a name (all names below it, at any depth), or `*`
    /// (whatever no other pattern matches).
    pub fn add(&mut self, host: &str, site: Site) -> Result<(), BadHost> {
        let host = host.to_ascii_lowercase().into_bytes();
        if host == b"*" {
            return match self.any.replace(site) {
                None => Ok(()),
                Some(_) => Err(BadHost::Taken),
            };
        }
        let (map, name) = match host.strip_prefix(b"*") {
            Some(suffix) if suffix.len() > 1 && suffix[0] == b'.' => {
                (&mut self.suffixes, suffix.to_vec())
            }
            Some(_) => return Err(BadHost::Malformed),
            None => (&mut self.exact, host),
        };
        if name.is_empty() || name.ends_with(b".") || name.contains(&b'*') {
            return Err(BadHost::Malformed);
        }
        match map.insert(name, site) {
            None => Ok(()),
            Some(_) => Err(BadHost::Taken),
        }
    }

    /// The site for `host`: by the name itself, else by the longest suffix, else by `*`.
    pub fn select(&self, host: &[u8]) -> Option<&Site> {
        if self.exact.is_empty() && self.suffixes.is_empty() {
            return self.any.as_ref();
        }
        let mut folded = [0; HOST_BYTES_MAX];
        let Some(name) = folded.get_mut(..host.len()) else {
            return self.any.as_ref();
        };
        name.copy_from_slice(host);
        name.make_ascii_lowercase();
        if let Some(site) = self.exact.get(&*name) {
            return Some(site);
        }
        if !self.suffixes.is_empty() {
            for (at, _) in name
                .iter()
                .enumerate()
                .filter(|(at, b)| **b == b'.' && *at > 0)
            {
                if let Some(site) = self.suffixes.get(&name[at..]) {
                    return Some(site);
                }
            }
        }
        self.any.as_ref()
    }
}

/// Longer than any name in the DNS.
const HOST_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn site(n: u16) -> Site {
        Site {
            root: RootId::new(n),
            index: None,
        }
    }

    #[test]
    fn the_most_particular_pattern_wins() {
        let mut sites = Sites::new();
        for (host, n) in [
            ("*", 0),
            ("example.com", 1),
            ("*.example.com", 2),
            ("*.b.example.com", 3),
            ("[::1]", 4),
        ] {
            sites.add(host, site(n)).unwrap();
        }
        for (host, n) in [
            ("example.com", 1),
            ("EXAMPLE.com", 1),
            ("a.example.com", 2),
            ("x.y.example.com", 2),
            ("b.example.com", 2),
            ("a.b.example.com", 3),
            ("notexample.com", 0),
            (".example.com", 0),
            ("", 0),
            ("[::1]", 4),
            ("192.0.2.1", 0),
        ] {
            assert_eq!(sites.select(host.as_bytes()), Some(&site(n)), "{host}");
        }
        assert_eq!(sites.select(&[b'a'; 300]), Some(&site(0)));
    }

    #[test]
    fn without_a_default_other_hosts_have_no_site() {
        let mut sites = Sites::new();
        assert_eq!(sites.select(b"a"), None);
        sites.add("*.a", site(1)).unwrap();
        assert_eq!(sites.select(b"a"), None);
        assert_eq!(sites.select(b"b.a"), Some(&site(1)));
    }

    #[test]
    fn bad_patterns() {
        let mut sites = Sites::new();
        for host in ["", "*.", "*a", "a.*.b", "a.", "**"] {
            assert_eq!(sites.add(host, site(1)), Err(BadHost::Malformed), "{host}");
        }
        for host in ["a", "*.a", "*"] {
            sites.add(host, site(1)).unwrap();
            assert_eq!(sites.add(host, site(2)), Err(BadHost::Taken));
        }
    }
}
