//! Dynamic upstreams for Envoy and nginx as one proxy-wasm filter.
