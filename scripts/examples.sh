#!/usr/bin/env bash
# The filters of examples/, and two of crates that are made outside this workspace, at dist/examples/, quick to build and not as small as they could be: for the
# end-to-end tests. To build one of them as you would your own: cargo build --release -p NAME --target wasm32-unknown-unknown.
source "$(dirname "$0")/toolchain.sh"

mkdir -p dist/examples
# put FILE NAME: in one step, and only if it differs.
put() {
  cmp -s "$1" "dist/examples/$2.wasm" && return
  cp "$1" "dist/examples/$2.wasm.new"
  mv "dist/examples/$2.wasm.new" "dist/examples/$2.wasm"
}

wasm build --profile examples -p json-health -p version-drain -p zone-balancer
for name in json-health version-drain zone-balancer; do
  put "$target_dir/$target/examples/${name//-/_}.wasm" "$name"
done

# Somebody else's crates: their own workspace, this library by path, no more than what docs/scripting.md shows.
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
cat >"$elsewhere/Cargo.toml" <<TOML
[workspace]
members = ["consumer", "hostile"]
resolver = "2"

[profile.examples]
inherits = "release"
panic = "abort"
TOML
# crate NAME FILE
crate() {
  mkdir -p "$elsewhere/$1/src"
  cp "$2" "$elsewhere/$1/src/lib.rs"
  cat >"$elsewhere/$1/Cargo.toml" <<TOML
[package]
name = "$1"
version = "0.0.0"
edition = "2021"

[lib]
crate-type = ["cdylib"]

[dependencies]
durpina = { path = "$root" }
durpina-proxy-wasm = { path = "$root/crates/adapters" }
log = "0.4"
proxy-wasm = "0.2.5"
TOML
}
crate consumer examples/consumer.rs
crate hostile tests/filters/hostile.rs
# The versions of this workspace, so that none are looked up.
cp Cargo.lock "$elsewhere/Cargo.lock"
(cd "$elsewhere" && wasm build --profile examples)
for name in consumer hostile; do
  put "$target_dir/$target/examples/$name.wasm" "$name"
done
say "dist/examples/: $(cd dist/examples && wc -c ./*.wasm | awk '$2 != "total" { print $2, $1 }' | tr '\n' ' ')"
