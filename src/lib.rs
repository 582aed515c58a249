//! Dynamic upstreams for Envoy and nginx: the core of the filter, and the library for filters of one's own.
//!
//! A filter JSON names upstreams and the routes to them. For each request the filter picks a few peers and hands
//! their addresses to the proxy, which tries them in order; what fails is counted, and a peer that fails too
//! often is left out for a while. All workers share one state, which can be changed while traffic flows.
//!
//! Where to start reading, from the facts up:
//!
//! | module | what is there |
//! | --- | --- |
//! | [`model`] | what is: servers, peers, upstreams, what is said of them and counted, and what follows from that |
//! | [`store`] | the state that all workers share: read, decide elsewhere, compare and swap |
//! | [`json`], [`settings`] | JSON as it was written, and the options of one's own monitors and balancers |
//! | [`balancer`], [`monitor`], [`Registry`] | which peer is picked, what a peer is asked, by the names that configurations use |
//! | [`config`], `request` | the filter JSON; the request in hand, and its route |
//! | [`handle`] | upstreams and peers with the predecessor's methods: all that changes one |
//! | `worker` | what one worker knows: its copies of upstreams, and the pools from which it picks |
//! | `checks` | which worker asks which peer and which name server when, and what becomes of the answers |
//! | `admin` | the management API, the status page, the metrics |
//! | `filter` | what happens to a request, from its arrival to the count of its failures |
//!
//! The core knows no proxy: it has no clock, no random source and no I/O but through the traits of [`host`]. It builds and
//! is tested natively and on wasm32. `durpina-proxy-wasm` runs it in a proxy, `durpina-sim` in a simulation of one.

pub use durpina_host as host;

mod admin;
pub mod balancer;
mod bits;
mod checks;
pub mod config;
mod filter;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod handle;
pub mod json;
pub mod model;
pub mod monitor;
mod problem;
mod registry;
mod repeats;
mod request;
pub mod settings;
pub mod store;
#[cfg(test)]
mod testing;
pub mod time;
mod worker;

// The guides' Rust is compiled and run as the examples of this documentation are.
#[cfg(doctest)]
#[doc = include_str!("../docs/scripting.md")]
struct Scripting;
#[cfg(doctest)]
#[doc = include_str!("../docs/from-durpina.md")]
struct FromDurpina;

pub use filter::Filter;
pub use registry::{Registry, RegistryError};
