//! What is: facts, and what follows from them. Nothing here reads or writes shared data.

pub mod access;
pub mod agent;
pub mod codes;
pub mod counters;
pub mod ejection;
pub mod error;
pub mod failures;
pub mod id;
pub mod peer;
pub(crate) mod reachability;
pub mod selector;
pub mod server;
pub mod slow_start;
pub mod spec;
pub mod status;
pub mod template;
pub mod upstream;
pub mod verdict;
