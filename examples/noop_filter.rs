//! A proxy-wasm filter that does nothing: what `make bench` compares durpina with.
//!
//! It has the callbacks that durpina has, and each returns at once, so that the difference between the
//! two is durpina's own work and not the price of calling into wasm.
//!
//! ```text
//! cargo build --release --example noop_filter --target wasm32-unknown-unknown
//! ```

// The macro below makes a function without documentation.
#![allow(missing_docs)]
// Natively an empty library: `cargo test` builds every example.
#![cfg(target_arch = "wasm32")]

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Noop));
}}

struct Noop;

impl Context for Noop {}

impl RootContext for Noop {
    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Noop))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

// The trait's own methods return `Action::Continue`.
impl HttpContext for Noop {}
