//! HTTP dates, and the current one, formatted once a second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A date in the preferred format of RFC 9110, section 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpDate([u8; 29]);

impl HttpDate {
    /// The date `seconds` after the Unix epoch; the last second of the year 9999 if it's later.
    pub fn from_unix(seconds: u64) -> Self {
        let time = UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND));
        let mut text = [b' '; 29];
        let formatted = httpdate::fmt_http_date(time);
        for (to, from) in text.iter_mut().zip(formatted.bytes()) {
            *to = from;
        }
        Self(text)
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Seconds since the Unix epoch of a date in any of the three formats that a server has to accept.
pub(crate) fn parse(value: &[u8]) -> Option<u64> {
    let time: SystemTime = httpdate::parse_http_date(str::from_utf8(value).ok()?).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// The current date, formatted when the second changes.
#[derive(Debug)]
pub struct DateCache {
    second: u64,
    date: HttpDate,
}

impl DateCache {
    /// A cache that holds the epoch.
    pub fn new() -> Self {
        Self {
            second: 0,
            date: HttpDate::from_unix(0),
        }
    }

    /// The date at `second` after the Unix epoch.
    pub fn at(&mut self, second: u64) -> HttpDate {
        if second != self.second {
            *self = Self {
                second,
                date: HttpDate::from_unix(second),
            };
        }
        self.date
    }
}

impl Default for DateCache {
    fn default() -> Self {
        Self::new()
    }
}

/// `Fri, 31 Dec 9999 23:59:59 GMT`.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_parses() {
        let example = HttpDate::from_unix(784_111_777);
        assert_eq!(example.as_bytes(), b"Sun, 06 Nov 1994 08:49:37 GMT");
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse(text.as_bytes()), Some(784_111_777), "{text}");
        }
        for bad in [
            &b""[..],
            b"yesterday",
            b"\xff",
            b"Sun, 06 Nov 1894 08:49:37 GMT",
        ] {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn far_dates_are_clamped() {
        assert_eq!(
            HttpDate::from_unix(u64::MAX).as_bytes(),
            b"Fri, 31 Dec 9999 23:59:59 GMT"
        );
    }

    #[test]
    fn the_cache_follows_the_second() {
        let mut cache = DateCache::new();
        assert_eq!(cache.at(784_111_777), HttpDate::from_unix(784_111_777));
        assert_eq!(cache.at(784_111_777), HttpDate::from_unix(784_111_777));
        assert_eq!(cache.at(784_111_778), HttpDate::from_unix(784_111_778));
    }
}
