//! The filter that ships, in a simulated host that can be stopped between any two host calls: what must hold whatever happens.
//!
//! - [`reference`]: the configuration around the filter, as the files in `envoy/` have it;
//! - [`scenario`]: a run, all of which follows from its seed;
//! - [`calm`]: in the middle of it, what is said of peers that stay as they are, and where requests go then;
//! - [`counts`]: the failures counted, and those that there were;
//! - [`told`]: what the log told of an upstream's state;
//! - [`trials`]: runs with a peer that fails slowly, and no monitor;
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
mod counts;
mod first;
mod reference;
mod scenario;
mod seeds;
mod told;
mod trials;

use std::path::PathBuf;
use std::sync::OnceLock;

use proxy_wasm_sim::Module;

/// The module that ships, read once.
fn module() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| {
        let built = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dist/durpina.wasm");
        let path = std::env::var_os("DURPINA_WASM").map_or_else(built, PathBuf::from);
        let bytes =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; `make build` first", path.display()));
        Module::load(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    })
}
