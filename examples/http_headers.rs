//! A filter as the Rust SDK's example `http_headers` has it: logs the headers of requests and answers, and answers `/hello` itself.
//!
//! `cargo build --release --target wasm32-unknown-unknown -p durpina-proxy-wasm --example http_headers`
#![cfg(target_arch = "wasm32")]
// What the macro makes is neither documented nor free of unsafe attributes.
#![allow(missing_docs, unsafe_code, unreachable_pub)]

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Headers { context_id }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Headers {
    context_id: u32,
}

impl Context for Headers {}

impl HttpContext for Headers {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        for (name, value) in self.get_http_request_headers() {
            log::info!("#{} -> {name}: {value}", self.context_id);
        }
        match self.get_http_request_header(":path") {
            Some(path) if path == "/hello" => {
                self.send_http_response(
                    200,
                    vec![("Hello", "World"), ("Powered-By", "proxy-wasm")],
                    Some(b"Hello, World!\n"),
                );
                Action::Pause
            }
            _ => Action::Continue,
        }
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        for (name, value) in self.get_http_response_headers() {
            log::info!("#{} <- {name}: {value}", self.context_id);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        log::info!("#{} completed.", self.context_id);
    }
}
