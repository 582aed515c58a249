//! The filter: durpina with its built-in balancers and monitors, as a proxy-wasm module.
//!
//! A filter with balancers and monitors of one's own looks the same, with a registry that holds them.
#![cfg(target_arch = "wasm32")]
// What the macro makes is neither documented nor free of unsafe attributes.
#![allow(missing_docs, unsafe_code, unreachable_pub)]

use durpina::{Filter, Registry};

proxy_wasm::main! {{
    durpina_proxy_wasm::start::<Filter>(Registry::default());
}}
