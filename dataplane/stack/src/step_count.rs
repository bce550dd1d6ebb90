//! Counts of steps, by which tests bound what a packet or a wake-up costs.

/// A number of steps. It stays 0 without debug assertions.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StepCount(u64);

impl StepCount {
    pub(crate) fn add(&mut self, steps: u32) {
        if cfg!(debug_assertions) {
            self.0 += u64::from(steps);
        }
    }

    pub(crate) fn get(self) -> u64 {
        self.0
    }
}
