//! Dynamic upstreams for Envoy and nginx as one proxy-wasm filter.
//!
//! A filter JSON names upstreams and the routes to them. For each request the filter picks a few peers and hands
//! their addresses to the proxy, which tries them in order; what fails is counted, and a peer that fails too
//! often is left out for a while. All workers share one state, which can be changed while traffic flows.
//!
//! Where to start reading:
//!
//! | module | what is there |
//! | --- | --- |
//! | [`filter`] | what happens to a request, from its arrival to the count of its failures |
//! | [`upstream`], [`peer`], [`server`] | the domain: what is declared, what is ordered, what is |
//! | [`health`] | failures counted against peers |
//! | [`status`] | what monitors, agents and name servers say about peers |
//! | [`monitor`], [`resolver`], `lease` | what peers and name servers are asked, and which worker asks |
//! | [`counters`], [`load`] | what happened at peers, in one worker and in all |
//! | [`admin`] | the management API, the status page, the metrics |
//! | [`balancer`], `pool` | who may be picked, and who is |
//! | [`config`], [`route`], [`template`], [`time`], [`codes`] | the filter JSON |
//! | [`store`] | the state that all workers share |
//! | [`host`] | the proxy around the filter: Envoy, or a simulation |
//! | `plugin` | the proxy-wasm callbacks (wasm only) |
//!
//! The core knows no host: it has no clock, no random source and no I/O but through [`host::Host`]. It builds
//! and is tested natively and on wasm32.

pub mod admin;
pub mod balancer;
pub mod codes;
pub mod config;
pub mod counters;
pub mod filter;
pub mod health;
pub mod host;
mod lease;
pub mod load;
pub mod monitor;
pub mod peer;
#[cfg(all(target_arch = "wasm32", feature = "filter"))]
mod plugin;
mod pool;
pub mod request;
pub mod resolver;
pub mod route;
pub mod server;
pub mod status;
pub mod store;
pub mod template;
pub mod time;
pub mod upstream;

#[cfg(test)]
mod testing;

/// The module's entry point. Feature `filter` off: a filter of one's own brings another.
#[cfg(all(target_arch = "wasm32", feature = "filter"))]
#[allow(missing_docs, unsafe_code, unreachable_pub)]
mod entry {
    proxy_wasm::main! {{
        crate::plugin::start();
    }}
}
