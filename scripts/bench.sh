#!/usr/bin/env bash
# make bench: only the benchmarks. A bare `cargo bench` would build and run every unit test as a benchmark, too.
source "$(dirname "$0")/tools.sh"

scripts/build.sh
need_envoy
# What the filter is compared with on Envoy: one that does nothing.
wasm build --release -p durpina-proxy-wasm --example noop_filter
export NOOP_WASM=$target_dir/$target/release/examples/noop_filter.wasm

"${native[@]}" bench --workspace --bench "${BENCH:-*}"
