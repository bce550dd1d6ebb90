//! Which site a request is for.

use core::fmt;
use core::net::Ipv6Addr;
use core::str::FromStr;
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

/// The hosts that a site is served under; ASCII, lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `*`: every host that no other pattern matches, and requests without one.
    Any,
    /// `www.example.com`: this name or address alone.
    Exact(String),
    /// `*.example.com`, kept as `.example.com`: every name that ends so, at any depth.
    Suffix(String),
}

/// A text that isn't a host name, `*.` and a name, or `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a host is a name, \"*.\" and a name, or \"*\"")]
pub struct ParseHostError;

impl FromStr for HostPattern {
    type Err = ParseHostError;

    fn from_str(text: &str) -> Result<Self, ParseHostError> {
        let text = text.to_ascii_lowercase();
        if text == "*" {
            return Ok(Self::Any);
        }
        let (wild, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text.as_str()),
        };
        let address = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
        let is_address = address.is_some_and(|a| a.parse::<Ipv6Addr>().is_ok());
        if !(is_host_name(name) || is_address && !wild) {
            return Err(ParseHostError);
        }
        Ok(if wild {
            Self::Suffix(format!(".{name}"))
        } else {
            Self::Exact(text)
        })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(name) => write!(f, "*{name}"),
        }
    }
}

fn is_host_name(name: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split('.').all(label)
}

impl Sites {
    /// No sites.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the hosts that match `pattern` to `site`. Returns the site that had the same pattern.
    pub fn insert(&mut self, pattern: HostPattern, site: Site) -> Option<Site> {
        match pattern {
            HostPattern::Any => self.any.replace(site),
            HostPattern::Exact(name) => self.exact.insert(name.into_bytes(), site),
            HostPattern::Suffix(suffix) => self.suffixes.insert(suffix.into_bytes(), site),
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
            assert_eq!(sites.insert(host.parse().unwrap(), site(n)), None);
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
        sites.insert("*.a".parse().unwrap(), site(1));
        assert_eq!(sites.select(b"a"), None);
        assert_eq!(sites.select(b"b.a"), Some(&site(1)));
    }

    #[test]
    fn the_same_pattern_replaces_the_site() {
        let mut sites = Sites::new();
        for host in ["a", "*.a", "*"] {
            let pattern: HostPattern = host.parse().unwrap();
            assert_eq!(sites.insert(pattern.clone(), site(1)), None, "{host}");
            assert_eq!(sites.insert(pattern, site(2)), Some(site(1)), "{host}");
        }
        for host in ["a", "x.a", "b"] {
            assert_eq!(sites.select(host.as_bytes()), Some(&site(2)), "{host}");
        }
    }

    #[test]
    fn patterns_are_parsed_into_lower_case() {
        let exact = |name: &str| Ok(HostPattern::Exact(name.to_owned()));
        for (text, expected) in [
            ("*", Ok(HostPattern::Any)),
            ("WWW.Example.com", exact("www.example.com")),
            (
                "*.example.com",
                Ok(HostPattern::Suffix(".example.com".to_owned())),
            ),
            ("[fd00::1]", exact("[fd00::1]")),
            ("198.18.0.1", exact("198.18.0.1")),
        ] {
            let parsed = text.parse::<HostPattern>();
            assert_eq!(parsed, expected, "{text}");
            assert_eq!(
                parsed.unwrap().to_string(),
                text.to_ascii_lowercase(),
                "{text}"
            );
        }
        for text in [
            "",
            "*.",
            "*a",
            "a*.b",
            "a.*.b",
            "**",
            "a b",
            "-a.b",
            "*.[fd00::1]",
            "a.b.",
            "ä.de",
            "a:443",
        ] {
            assert_eq!(text.parse::<HostPattern>(), Err(ParseHostError), "{text}");
        }
    }
}
