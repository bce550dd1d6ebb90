//! The wall clock, which the cache gets as an argument.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The wall clock that the kernel stamps files with. The cache compares it with their change times
/// and with nothing else.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl WallClock {
    /// A clock that `read` reads: the time since the Unix epoch. Any thread may call it.
    pub fn new(read: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(crate) fn now(&self) -> Duration {
        (self.0)()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WallClock")
    }
}
