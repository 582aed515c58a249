#!/usr/bin/env bash
# make bench: only the benchmarks. A bare `cargo bench` would build and run every unit test as a benchmark, too.
source "$(dirname "$0")/tools.sh"

# The module from before a change, to compare with. Absolute, as cargo runs benchmarks in their package's directory.
if [ -n "${BASELINE_WASM:-}" ]; then
  [ -f "$BASELINE_WASM" ] || die "BASELINE_WASM is '$BASELINE_WASM', which is no file"
  BASELINE_WASM=$(realpath "$BASELINE_WASM")
  export BASELINE_WASM
fi

scripts/build.sh
if [ "${BENCH:-}" = fuel ]; then
  # Instructions of the filter in the simulated host. The same in any profile, and this one is what the tests are built with.
  # shellcheck disable=SC2086
  "${native[@]}" bench -q --profile dev -p durpina-e2e --bench fuel -- ${ARGS:-}
  exit
fi
need_envoy
need_valgrind || say "valgrind cannot be had: instructions are not counted"
# What the filter is compared with on Envoy: one that does nothing.
wasm build --release -p durpina-proxy-wasm --example noop_filter
export NOOP_WASM=$target_dir/$target/release/examples/noop_filter.wasm

# Split at spaces: ARGS is a command line.
# shellcheck disable=SC2086
"${native[@]}" bench --workspace --bench "${BENCH:-*}" -- ${ARGS:-}
