//! The filter that ships, in a simulated host that can be stopped between any two host calls: what must hold whatever happens.
//!
//! - [`reference`]: the configuration around the filter, as the files in `envoy/` have it;
//! - [`scenario`]: a run, all of which follows from its seed;
//! - [`calm`]: in the middle of it, what is said of peers that stay as they are, and where requests go then;
//! - [`counts`]: the failures counted, and those that there were;
//! - [`told`]: what the log told of an upstream's state;
//! - [`rivals`]: runs in which a worker is held in the middle of a write, and another writes too;
//! - [`trials`]: runs with a peer that fails slowly, and no monitor;
//! - [`names`]: runs in which agents and name servers change their minds, lie and are silent;
//! - [`nginx`]: the filter in a simulated nginx;
//! - [`costs`]: what each callback costs, and what it may;
//! - [`seeds`]: many of them at once, and one again, with its trace.
//!
//! `make sim SEEDS=100000` runs more than `make test` does, `make sim SEED=17` one with its trace. By hand: `make build`, then
//! `cargo test -p durpina-e2e --test sim`. The host is the crate `proxy-wasm-sim`.

#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The core is not allowed to read a clock; tests measure with one.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod api;
mod calm;
mod costs;
mod counts;
mod filter;
mod first;

mod names;
mod nginx;
mod reference;
mod rivals;
mod scenario;
mod seeds;
mod told;
mod trials;

use filter::{module, nginx_module};
