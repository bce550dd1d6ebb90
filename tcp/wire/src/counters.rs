//! Counters: a struct of numbers that only grow, each with its name.

/// Declares a struct of `u64` counters.
///
/// Its method `iter` yields each counter with its name: the prefix, a dot and the field's name. The
/// name is written once, so that the two can't differ.
///
/// ```
/// lockgate_wire::counters! {
///     /// Counters of a port.
///     pub struct PortCounters in "port" {
///         /// Packets received.
///         rx_packets,
///         /// Packets dropped because the ring was full.
///         rx_missed,
///     }
/// }
/// let counters = PortCounters { rx_packets: 2, ..PortCounters::default() };
/// assert!(counters.iter().eq([("port.rx_packets", 2), ("port.rx_missed", 0)]));
/// ```
#[macro_export]
macro_rules! counters {
    (
        $(#[$meta:meta])*
        pub struct $name:ident in $prefix:literal {
            $($(#[$doc:meta])* $field:ident,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl $name {
            /// Returns every counter with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((concat!($prefix, ".", stringify!($field)), self.$field),)*].into_iter()
            }
        }
    };
}
