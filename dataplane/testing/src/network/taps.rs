//! Taps: the network side of an emulated machine's cards.

use super::{address, delete, ip, name, remove_stale_once, write_setting};

/// A namespace with taps, for an emulator and for clients. Removed on drop.
#[derive(Debug)]
pub struct Taps {
    namespace: String,
}

impl Taps {
    /// Makes a namespace with `tap0`, `tap1` and so on. `tapN` has 198.18.N.2/24 and
    /// fd00:18:N::2/64. A tap passes on frames of a card that segments and frames without
    /// checksums, as the offloads of a card demand. With `queues` above one it has several queues.
    #[must_use]
    pub fn new(count: usize, mtu: u16, queues: usize) -> Self {
        remove_stale_once();
        let taps = Self {
            namespace: name("t"),
        };
        let namespace = taps.namespace();
        ip(&format!("netns add {namespace}"));
        // The router solicitations of a new interface aren't a part of any test.
        write_setting(namespace, "ipv6/conf/default/router_solicitations", "0");
        for number in 0..count {
            let multi_queue = if queues > 1 { "multi_queue" } else { "" };
            let tap = format!("tap{number}");
            ip(&format!(
                "-n {namespace} tuntap add dev {tap} mode tap vnet_hdr {multi_queue}"
            ));
            ip(&format!("-n {namespace} link set {tap} mtu {mtu}"));
            let addresses = [
                format!("198.18.{number}.2/24"),
                format!("fd00:18:{number}::2/64"),
            ];
            address(namespace, &tap, &addresses.each_ref().map(String::as_str));
        }
        taps
    }

    /// The name of the namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Drop for Taps {
    fn drop(&mut self) {
        delete(&self.namespace);
    }
}
