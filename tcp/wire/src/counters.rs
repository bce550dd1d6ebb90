//! Counters: a struct of numbers that only grow, each with its name.

/// Declares a struct of `u64` counters. `iter` gives each with its name, which is the prefix, a dot
/// and the field's name: said once, so that the two can't differ.
///
/// ```
/// lockgate_wire::counters! {
///     /// What a door counts.
///     pub struct DoorCounters in "door" {
///         /// Times it was opened.
///         opened,
///         /// Times it was slammed.
///         slammed,
///     }
/// }
/// let counters = DoorCounters { opened: 2, ..DoorCounters::default() };
/// assert!(counters.iter().eq([("door.opened", 2), ("door.slammed", 0)]));
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
            /// Every counter with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((concat!($prefix, ".", stringify!($field)), self.$field),)*].into_iter()
            }
        }
    };
}
