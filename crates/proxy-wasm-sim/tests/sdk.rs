//! The Rust SDK's example `http_headers`, in both hosts.
//!
//! It has to be built first, for wasm32; `HTTP_HEADERS_WASM` names the file. In this repository it is `examples/http_headers.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proxy_wasm_sim::{Module, Plugin, Process, Request};

#[test]
#[ignore = "needs the example built for wasm32, and HTTP_HEADERS_WASM"]
fn the_sdk_s_example_runs_in_both_hosts() {
    let path = std::env::var("HTTP_HEADERS_WASM").expect("HTTP_HEADERS_WASM names the module");
    let module = Module::load(&std::fs::read(path).unwrap()).unwrap();
    for process in [Process::envoy(&module, 1), Process::nginx(&module, 1)] {
        let mut process = process.everything_to("10.0.0.1:80");
        process.start(&[Plugin::filter("http_headers", "")]).unwrap();

        let hello = process.request(Request::get("/hello")).unwrap();
        assert_eq!((hello.status, hello.body.as_slice()), (Some(200), b"Hello, World!\n".as_slice()));
        assert!(hello.headers.contains(&("hello".to_owned(), "World".to_owned())), "{hello:?}");
        assert!(process.world().peer("10.0.0.1:80").received.is_empty(), "the filter answered by itself");

        let other = process.request(Request::get("/other").header("x-one", "1")).unwrap();
        assert_eq!(other.status, Some(200));
        let logs: Vec<String> = process.logs().into_iter().map(|line| line.text).collect();
        for wanted in ["-> :path: /other", "-> x-one: 1", "<- :status: 200", "completed."] {
            assert!(logs.iter().any(|line| line.ends_with(wanted)), "{wanted}: {logs:?}");
        }
        assert!(process.traps().is_empty(), "{:?}", process.traps());
    }
}
