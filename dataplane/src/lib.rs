//! The Lockgate edge appliance.
#![forbid(unsafe_code)]

pub mod certificates;
pub mod config;
pub mod control;
