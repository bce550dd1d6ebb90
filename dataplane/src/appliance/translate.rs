//! The stack's configuration: what the file says, and what only the open ports know.

use lockgate_drivers::Port;
use lockgate_ip::{Interface, IpConfig};
use lockgate_stack::StackConfig;

use crate::config::{Config, iface};

/// Returns the configuration of a worker's stack. The ports are the configuration's, in its order.
pub(super) fn stack(config: &Config, ports: &[Port]) -> StackConfig {
    let interfaces = config.interfaces.iter().enumerate();
    StackConfig {
        interfaces: interfaces
            .map(|(index, interface)| {
                let port = &ports[interface.port];
                let on = Interface {
                    id: iface(index),
                    mac: Some(port.mac()),
                    mtu: port.mtu(),
                    vlan: None,
                };
                (on, interface.addresses.clone())
            })
            .collect(),
        routes: config.routes.clone(),
        ip: IpConfig::default(),
        tcp: config.tcp.clone(),
        limits: config.limits,
        handshake_timeout: config.tls.handshake_timeout,
        ktls: config.ktls.enable,
        cbc: config.ktls.cbc_enable,
        // Each worker's own.
        siblings: None,
        record_len_max: config.ktls.record_max,
        dynamic_records: config.ktls.dynamic_records,
    }
}

/// Allocation failures that a test asks for, in the pools of one worker or in those of the ports.
#[cfg(feature = "fault-injection")]
pub(super) fn failures(
    test: crate::config::Test,
    of: usize,
) -> Option<lockgate_drivers::FaultInjection> {
    let seed = u64::from(test.fail_seed) << 16 | of as u64;
    (test.fail_one_in > 0).then_some(lockgate_drivers::FaultInjection {
        seed,
        one_in: test.fail_one_in,
    })
}
