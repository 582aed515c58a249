#!/usr/bin/env bash
# make build: the release filter. A copy at a place that never changes, for people, tests and configurations; replaced in
# one step and only if it differs, so that an Envoy which watches the file sees whole filters and no false changes.
source "$(dirname "$0")/toolchain.sh"

# A crate of its own that is nothing but the module: beside an rlib, cargo would build without link-time optimisation.
wasm build --release -p durpina-filter
built=$target_dir/$target/release/durpina_filter.wasm

# binaryen takes another eighth off. Where it cannot be had the filter works just as well.
need_wasm_opt() {
  command -v wasm-opt >/dev/null && return
  (
    want binaryen "its wasm-opt makes the filter smaller"
    apt_install
  )
}
if need_wasm_opt; then
  small=$target_dir/$target/release/durpina_filter.small.wasm
  if [ ! "$small" -nt "$built" ]; then
    # The features are those that Rust uses; older versions of wasm-opt do not read them from the file.
    wasm-opt -Oz --enable-bulk-memory --enable-sign-ext --enable-mutable-globals --enable-nontrapping-float-to-int \
      --enable-multivalue --enable-reference-types "$built" -o "$small.new"
    mv "$small.new" "$small"
  fi
  built=$small
else
  say "wasm-opt (binaryen) cannot be had: the filter stays larger than it could be"
fi

if ! cmp -s "$built" "$DURPINA_WASM"; then
  mkdir -p dist
  cp "$built" "$DURPINA_WASM.new"
  mv "$DURPINA_WASM.new" "$DURPINA_WASM"
fi
say "dist/durpina.wasm: $(($(wc -c <"$DURPINA_WASM"))) bytes"
