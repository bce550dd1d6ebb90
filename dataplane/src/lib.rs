//! The Lockgate edge appliance.
#![forbid(unsafe_code)]

pub mod certificates;
pub mod config;
pub mod control;
pub mod files;
pub mod http;
