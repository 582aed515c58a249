#!/usr/bin/env bash
# make build: the release filter, for Envoy and for nginx. Copies at places that never change, for people, tests and configurations;
# replaced in one step and only if they differ, so that an Envoy which watches the file sees whole filters and no false changes.
source "$(dirname "$0")/toolchain.sh"

# A crate of its own that is nothing but the module: beside an rlib, cargo would build without link-time optimisation.
wasm build --release -p durpina-filter
linked=$target_dir/$target/release/durpina_filter.wasm

# The two differ in what they export, see crates/module. Built as tests are, so that nothing is compiled twice.
"${native[@]}" build -q -p durpina-module
maker=$target_dir/debug/durpina-module

# binaryen takes another eighth off. Where it cannot be had the filter works just as well.
need_wasm_opt() {
  command -v wasm-opt >/dev/null && return
  (
    want binaryen "its wasm-opt makes the filter smaller"
    apt_install
  )
}
smaller=yes
need_wasm_opt || {
  smaller=''
  say "wasm-opt (binaryen) cannot be had: the filter stays larger than it could be"
}

# make_for HOST FILE
make_for() {
  local made=$target_dir/$target/release/durpina_filter.$1.wasm
  if [ ! "$made" -nt "$linked" ] || [ ! "$made" -nt "$maker" ]; then
    "$maker" "$1" "$linked" "$made.new"
    # The features are those that Rust uses; older versions of wasm-opt do not read them from the file.
    [ -z "$smaller" ] || wasm-opt -Oz --enable-bulk-memory --enable-sign-ext --enable-mutable-globals \
      --enable-nontrapping-float-to-int --enable-multivalue --enable-reference-types "$made.new" -o "$made.new"
    mv "$made.new" "$made"
  fi
  if ! cmp -s "$made" "$2"; then
    mkdir -p dist
    cp "$made" "$2.new"
    mv "$2.new" "$2"
  fi
  say "${2#"$root"/}: $(($(wc -c <"$2"))) bytes"
}
make_for envoy "$DURPINA_WASM"
make_for nginx "$DURPINA_NGINX_WASM"
