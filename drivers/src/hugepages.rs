//! Huge pages: how many are free, and whether they suffice for what the memory is wanted for.
//!
//! That is arithmetic on what a `/sys` directory says, so that it is decided before the EAL starts:
//! a start that failed can't be tried again in one process.

mod budget;
mod free;

use std::sync::{Mutex, PoisonError};

pub use budget::{Chunk, Demand, Grant, HeapLimits, PageBudget, Shortage, show_free};
pub(crate) use budget::{commands, page_size};
pub use free::{FreePages, free_pages};

/// Sets the pages that regions may use.
pub(crate) fn set_budget(budget: PageBudget) {
    *BUDGET.lock().unwrap_or_else(PoisonError::into_inner) = Some(budget);
}

/// Gives out pages of that budget; none before it is set.
pub(crate) fn take(demand: &Demand) -> Grant {
    let mut budget = BUDGET.lock().unwrap_or_else(PoisonError::into_inner);
    let budget = budget.as_mut();
    budget.map_or_else(Grant::default, |budget| budget.take(demand))
}

static BUDGET: Mutex<Option<PageBudget>> = Mutex::new(None);
