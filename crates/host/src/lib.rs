//! The vocabulary between a filter and the proxy that runs it.
//!
//! A filter is a [`Guest`]: the proxy calls it when a request arrives, when one is over, when a call was answered, and at
//! ticks. What the guest may ask in return is a trait of its own for each of these moments, so that a question at the
//! wrong time does not compile:
//!
//! | trait | when | what |
//! | --- | --- | --- |
//! | [`Host`] | always | the time, random numbers, shared data, calls to servers |
//! | [`RequestHost`] | while the request's headers are at hand | the request, where it goes, an answer to it |
//! | [`ResponseHost`] | from the answer's headers to the end | the attempts and how they ended, the answer's status |
//!
//! Proxies differ, and the differences are values, not cases: [`Capabilities`] says what a host can do, an
//! [`Attempt`] names the address that it went to, and a host remembers by itself what kind of call a [`CallId`] is. An
//! implementation answers for what its proxy does to shared data: a value comes back whole and under its own key, or not at
//! all.
//!
//! This crate has no dependency. All that runs in it is the [`subject`] of lines for the log. The filter, its simulator and the adapter to proxy-wasm meet here.

mod attempt;
mod call;
mod guest;
mod host;
mod peer_headers;
mod shared;
pub mod subject;
mod time;

pub use attempt::{Attempt, End, Failure, Stray};
pub use call::{Call, CallId, CallKind, CalloutClusters, EndCall, Reply, LONGEST_REPLY};
pub use guest::{Guest, Outcome};
pub use host::{Capabilities, Host, RequestHost, Response, ResponseHost, Visited, MOST_CANDIDATES};
pub use peer_headers::PeerHeaders;
pub use shared::{Expect, HostError, Stored};
pub use time::{millis, Timestamp};
