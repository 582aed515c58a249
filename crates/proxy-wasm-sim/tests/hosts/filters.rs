//! Small modules, written as text.

use proxy_wasm_sim::{Module, Process};

/// Imports, a memory and an allocator. `$say` logs a status as a letter: `0` for 0, `:` for 10.
const HEAD: &str = r#"
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_get_log_level" (func $log_level (param i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
  (import "env" "proxy_done" (func $done (result i32)))
  (import "env" "proxy_get_property" (func $property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
  (import "env" "proxy_get_metric" (func $metric (param i32 i32) (result i32)))
  (import "env" "proxy_resolve_shared_queue" (func $resolve (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
  (import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add_header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_stream" (func $grpc (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_http_call" (func $http (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $answer (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 32)
  (global $top (mut i32) (i32.const 65536))
  (func (export "malloc") (param $size i32) (result i32)
    (global.set $top (i32.add (global.get $top) (local.get $size)))
    (i32.sub (global.get $top) (local.get $size)))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func $say (param $status i32)
    (i32.store8 (i32.const 0) (i32.add (i32.const 48) (local.get $status)))
    (drop (call $log (i32.const 2) (i32.const 0) (i32.const 1))))
  (func $text (param $at i32) (param $size i32)
    (drop (call $log (i32.const 2) (local.get $at) (local.get $size))))
  ;; Headers of a call, encoded: 3 pairs.
  (data (i32.const 1000) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00:method\00GET\00:path\00/\00:authority\00a\00")
  (func $call (result i32)
    (call $http (i32.const 1100) (i32.const 4) (i32.const 1000) (i32.const 62)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 500) (i32.const 8)))
  (data (i32.const 1100) "peer")
"#;

/// The body callbacks, without which one host does not live.
const BODIES: &str = r#"
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (i32.const 0))
"#;

/// A module of these functions and data.
pub(crate) fn module(text: &str) -> Module {
    without_bodies(&format!("{BODIES}{text}"))
}

/// The same, without body callbacks.
pub(crate) fn without_bodies(text: &str) -> Module {
    let text = format!("(module {HEAD} {text})");
    let bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"));
    Module::load(&bytes).unwrap_or_else(|error| panic!("{error}"))
}

/// A module that does this at the headers of a request.
pub(crate) fn at_headers(data: &str, code: &str) -> Module {
    module(&format!(
        r#"{data} (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {code} (i32.const 0))"#
    ))
}

/// What the module said, one letter or text after the other.
pub(crate) fn said(process: &Process) -> String {
    process.logs().into_iter().map(|line| line.text).collect()
}
