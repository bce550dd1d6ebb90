//! PCI addresses.

use std::fmt;
use std::str::FromStr;

/// A PCI address: domain, bus, device and function.
///
/// It is parsed from every spelling that DPDK and lspci(8) use, `00:0a.0` and `0000:00:0A.0`, and
/// displayed in the one that names DPDK's ports: with the domain, in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// Returned for text that is no PCI address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPci;

impl FromStr for PciAddress {
    type Err = NotPci;

    /// Parses `[domain:]bus:device.function` in hexadecimal. A bus has 32 devices of 8 functions.
    fn from_str(text: &str) -> Result<Self, NotPci> {
        let (rest, function) = text.rsplit_once('.').ok_or(NotPci)?;
        let fields: Vec<&str> = rest.split(':').collect();
        let (domain, bus, device) = match fields[..] {
            [domain, bus, device] => (hex(domain, 4..=8)?, bus, device),
            [bus, device] => (0, bus, device),
            _ => return Err(NotPci),
        };
        let below = |value: u32, limit: u32| {
            let value = u8::try_from(value).map_err(|_| NotPci)?;
            (u32::from(value) < limit).then_some(value).ok_or(NotPci)
        };
        Ok(Self {
            domain,
            bus: below(hex(bus, 2..=2)?, 256)?,
            device: below(hex(device, 2..=2)?, 32)?,
            function: below(hex(function, 1..=1)?, 8)?,
        })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

/// Parses hexadecimal digits, as many as `digits` allows.
fn hex(text: &str, digits: std::ops::RangeInclusive<usize>) -> Result<u32, NotPci> {
    // `from_str_radix` would take a sign.
    if !digits.contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(NotPci);
    }
    u32::from_str_radix(text, 16).map_err(|_| NotPci)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_is_one_address() {
        let table = [
            ("0000:03:00.0", Some("0000:03:00.0")),
            ("03:00.0", Some("0000:03:00.0")),
            ("00:0A.0", Some("0000:00:0a.0")),
            ("0000:00:0A.0", Some("0000:00:0a.0")),
            ("ABCD:EF:1F.7", Some("abcd:ef:1f.7")),
            // Intel VMD numbers its domains from 0x10000 on.
            ("10000:01:00.0", Some("10000:01:00.0")),
            ("00010000:01:00.0", Some("10000:01:00.0")),
            ("0000:03:20.0", None),
            ("0000:03:00.8", None),
            ("0000:03:00.00", None),
            ("3:00.0", None),
            ("000:03:00.0", None),
            ("000000000:03:00.0", None),
            ("0000:03:00", None),
            ("0000:003:00.0", None),
            ("0000:+3:00.0", None),
            ("0:0000:03:00.0", None),
            ("00", None),
            ("", None),
        ];
        for (text, shown) in table {
            let parsed = text.parse::<PciAddress>().ok();
            let parsed = parsed.map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), shown, "{text:?}");
        }
    }
}
