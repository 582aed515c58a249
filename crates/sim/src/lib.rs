//! A simulated host, for tests: workers, shared data with compare-and-swap, a clock that the test turns, and
//! servers that answer, refuse, hang or break off on command.
//!
//! Everything happens on one thread in an order that the test decides, so a failure is found again. What a
//! proxy's workers do at the same time is played by [`Sim::interfere`]: it runs something between one worker's
//! read and its write.
//!
//! A [`Worker`] drives any [`Guest`](durpina_host::Guest). What is logged through the crate `log` is kept for [`Sim::logged`], for each thread
//! apart.
// A test must not go on when the filter left in place what a client sent.
#![allow(clippy::expect_used)]

mod dns;
mod host;
mod log;
mod machine;
mod sent;
mod shared;
mod worker;

pub use host::SimHost;
pub use machine::Sim;
pub use sent::{Answer, Sent};
pub use shared::Behaviour;
pub use worker::{Ended, Worker};
