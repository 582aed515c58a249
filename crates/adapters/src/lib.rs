//! Runs a filter, any [`Guest`](durpina_host::Guest), in proxies that speak proxy-wasm.
//!
//! - `abi`: the calls of the ABI, behind a trait, so that what follows is tested natively;
//! - `envoy`: what Envoy makes of the vocabulary of [`durpina_host`]; `blame`: whose fault it is when a request fails there;
//!   `answers`: what the replies to its own calls mean there, and whose words they are;
//! - `nginx`: what nginx makes of it; `nginx_path`: the path of a request there; `trail`: its attempts; `zone` and `envelope`: its shared data; `queue` and
//!   `helper`: the filter's own calls; `environment`: a configuration that is too long for a directive;
//! - `random`: random numbers, for both;
//! - `raw`: the calls themselves, and the only unsafe code (wasm only);
//! - `entries`: the entry points of a module that is for Envoy alone, and `requests`: what comes through them (wasm only);
//! - `lines`: the proxy's log (wasm only);
//! - `callbacks`: the proxy's calls of the filter, which proxy it is, and what Envoy's contexts do (wasm only); `nginx_contexts`: what
//!   nginx's do.
//!
//! A filter's module is this much:
//!
//! ```ignore
//! proxy_wasm::main! {{
//!     durpina_proxy_wasm::start::<Filter>(Registry::default());
//! }}
//! ```

// Natively only tests use these.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
mod abi;
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
mod answers;
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
mod blame;
#[cfg(target_arch = "wasm32")]
mod callbacks;
#[cfg(target_arch = "wasm32")]
mod entries;
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
mod envelope;
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
mod environment;
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
mod envoy;
#[cfg(test)]
mod fake;
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
mod helper;
#[cfg(target_arch = "wasm32")]
mod lines;
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
mod nginx;
#[cfg(target_arch = "wasm32")]
mod nginx_contexts;
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
mod nginx_path;
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
mod queue;
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
mod random;
#[cfg(target_arch = "wasm32")]
mod raw;
#[cfg(target_arch = "wasm32")]
mod requests;
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
mod trail;
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code))]
mod zone;

#[cfg(target_arch = "wasm32")]
pub use callbacks::start;
