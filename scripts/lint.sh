#!/usr/bin/env bash
# make lint: what a machine can judge. `lint.sh --tools` only makes sure of clippy and rustfmt, and fails if they cannot be had.
source "$(dirname "$0")/common.sh"
# Envoy compiles and holds the filter once in every worker.
max_bytes=660000

if [ "${1:-}" = --tools ]; then
  source scripts/tools.sh
  need_lint
  exit
fi

stage "set-up"
source scripts/tools.sh
need_lint || die "clippy and rustfmt cannot be had here"

stage "formatting"
"${native[@]}" fmt --check

stage "lints, native"
"${native[@]}" clippy --workspace --all-targets -- -D warnings

stage "lints, the filter on $target"
wasm clippy -p durpina-filter -- -D warnings

stage "documentation"
RUSTDOCFLAGS=-Dwarnings "${native[@]}" doc --workspace --no-deps --lib

stage "size of the filter"
scripts/build.sh
command -v wasm-opt >/dev/null || max_bytes=$((max_bytes * 8 / 7)) # without binaryen, see build.sh
for module in "$DURPINA_WASM" "$DURPINA_NGINX_WASM"; do
  bytes=$(($(wc -c <"$module")))
  [ $bytes -le $max_bytes ] || die "${module#"$root"/} has $bytes bytes, $((bytes - max_bytes)) more than the $max_bytes it may have"
done
