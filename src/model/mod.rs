//! What is: facts, and what follows from them. Nothing here reads or writes shared data.

pub mod access;
pub mod admin_state;
pub mod agent;
pub mod check;
pub mod codes;
pub mod counters;
pub mod ejection;
pub mod error;
pub mod failure_table;
pub mod failures;
pub mod id;
pub mod overrides;
pub mod peer;
pub mod peer_status;
pub mod positions;
pub mod report;
pub mod resolution;
pub mod selector;
pub mod server;
pub mod slow_start;
pub mod spec;
pub mod state;
pub mod status;
pub mod template;
pub mod upstream;
pub mod verdict;
