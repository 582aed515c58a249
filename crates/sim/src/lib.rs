//! A simulated host, for tests: workers, shared data with compare-and-swap, a clock that the test turns, and
//! servers that answer, refuse, hang or break off on command.
//!
//! Everything happens on one thread in an order that the test decides, so a failure is found again. What a
//! proxy's workers do at the same time is played by [`Sim::interfere`]: it runs something between one worker's
//! read and its write.
//!
//! A [`Worker`] drives any [`Guest`](durpina_host::Guest). What is logged through the crate `log` is kept for [`Sim::logged`], for each thread
//! apart.
//!
//! # What it shares with the simulated hosts of modules, and what not
//!
//! The crate `proxy-wasm-sim` runs the module that ships, this one the core as it is compiled for the tests. Their servers have behaviours of
//! the same kinds, and what a name server answers is shared: [`name_server_answer`]. More is not, because time is another thing in each. There, a
//! server's answer takes its time, and between any two host calls others go on: a behaviour is a course of events in a virtual clock, by
//! the laws of a certain host. Here a test turns the clock itself and decides what happens next, an answer is a value, and no ABI, no
//! header map and no process is between the core and the test. A world for both would have to be a third crate, which would publish its types with
//! `proxy-wasm-sim`; what is left for it are an enumeration and a map of addresses.
// A test must not go on when the filter left in place what a client sent.
#![allow(clippy::expect_used)]

mod dns;
mod host;
mod log;
mod machine;
mod sent;
mod shared;
mod worker;

pub use dns::answer as name_server_answer;
pub use host::SimHost;
pub use machine::Sim;
pub use sent::{Answer, Sent};
pub use shared::Behaviour;
pub use worker::{Ended, Worker};
