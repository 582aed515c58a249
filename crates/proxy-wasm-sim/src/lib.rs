#![doc = include_str!("../README.md")]

mod abi;
mod core;
mod faults;
mod fuel;
mod guest;
mod host;
mod module;
mod pairs;
mod personality;
mod plugin;
mod process;
mod request;
mod rng;
mod run;
mod status;
mod trace;
mod vm;
mod wiring;
mod world;

/// The filter of the examples here, as text.
#[doc(hidden)]
pub const EXAMPLE: &str = include_str!("example.wat");

pub use faults::{Faults, Hold};
pub use fuel::Fuel;
pub use module::{LoadError, Module};
pub use pairs::Pairs;
pub use personality::{
    CallFacts, CasOfMissing, Effect, Ending, Integers, Keys, LifeFacts, MetricFacts, Personality, Refusal, Replies,
    RequestFacts, Retries, Return, Rule, SharedFacts, Situation, TickFacts, Update, Workers, ZeroCas, ENVOY, NGINX,
    NGINX_WITHOUT_EVICTION,
};
pub use plugin::{Crash, Plugin, Refused};
pub use process::Process;
pub use request::{Attempt, End, Outcome, Request, RequestId};
pub use rng::Rng;
pub use status::Status;
pub use trace::LogLine;
pub use wiring::{Decision, Destination, Outgoing, Route, Routed, Variable, Wiring};
pub use world::{Answer, Behaviour, Peer, Received, World};
