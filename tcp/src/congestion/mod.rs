//! Congestion control.

/// Which congestion control a connection uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// CUBIC (RFC 9438).
    #[default]
    Cubic,
    /// Reno's (RFC 5681), repaired by RFC 6582.
    NewReno,
}
#[derive(Debug)]
pub(crate) struct Congestion;
