//! `lockgate doctor`: checks whether a machine fits a configuration, before the appliance is
//! started or beside a running one.
//!
//! A check is a function from a [`HostView`] and a [`Config`] to [`Finding`]s. It changes nothing
//! and starts nothing. What can be read from files is read below the view's root directory, so that
//! tests give a tree of their own; what only a system call knows is in [`Facts`].
//!
//! | module | checks |
//! |---|---|
//! | `memory` | huge pages, RLIMIT_MEMLOCK |
//! | `pci` | presence, kernel driver, IOMMU group, NUMA node and users of PCI ports |
//! | `interfaces` | link, addresses, IPv6, MTU, offloads and users of the kernel's interfaces |
//! | `cores` | NUMA node, isolation, hyperthreads and frequency governor of the workers' cores |
//! | `crypto` | CPU instructions for the record ciphers |
//! | `files` | certificates, keys, site roots, control socket |

mod cores;
mod crypto;
mod files;
mod finding;
mod host;
mod interfaces;
mod memory;
mod pci;

#[cfg(test)]
mod tests;

use crate::config::Config;

pub use finding::{Finding, Level, Report};
pub use host::{Facts, HostView, InterfaceAddress, Offloads};

/// Runs every check, in the order of the start.
pub fn examine(config: &Config, host: &HostView) -> Report {
    let checks = [
        files::check,
        memory::check,
        pci::check,
        interfaces::check,
        cores::check,
        crypto::check,
    ];
    Report::new(
        checks
            .iter()
            .flat_map(|check| check(config, host))
            .collect(),
    )
}
