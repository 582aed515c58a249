#!/usr/bin/env bash
# make build: the release filter. A copy at a place that never changes, for people, tests and configurations; replaced in
# one step and only if it differs, so that an Envoy which watches the file sees whole filters and no false changes.
source "$(dirname "$0")/toolchain.sh"

# `rustc` and the one crate type: beside an rlib, cargo would build without link-time optimisation, a third larger.
wasm rustc --release --lib --crate-type cdylib
built=$target_dir/$target/release/durpina.wasm
if ! cmp -s "$built" "$DURPINA_WASM"; then
  mkdir -p dist
  cp "$built" "$DURPINA_WASM.new"
  mv "$DURPINA_WASM.new" "$DURPINA_WASM"
fi
say "dist/durpina.wasm: $(($(wc -c <"$DURPINA_WASM"))) bytes"
