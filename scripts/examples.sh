#!/usr/bin/env bash
# The filters of examples/, and one of a crate that is made outside this workspace, at dist/examples/, quick to build and not as small as they could be: for the
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

# Somebody else's crate: its own workspace, this library by path, no more than what docs/scripting.md shows.
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
mkdir "$elsewhere/src"
cat >"$elsewhere/Cargo.toml" <<TOML
[package]
name = "consumer"
version = "0.0.0"
edition = "2021"

[lib]
crate-type = ["cdylib"]

[dependencies]
durpina = { path = "$root" }
durpina-proxy-wasm = { path = "$root/crates/adapters" }
proxy-wasm = "0.2.5"

[profile.examples]
inherits = "release"
panic = "abort"
TOML
# The versions of this workspace, so that none are looked up.
cp Cargo.lock "$elsewhere/Cargo.lock"
cp examples/consumer.rs "$elsewhere/src/lib.rs"
(cd "$elsewhere" && wasm build --profile examples)
put "$target_dir/$target/examples/consumer.wasm" consumer
say "dist/examples/: $(cd dist/examples && wc -c ./*.wasm | awk '$2 != "total" { print $2, $1 }' | tr '\n' ' ')"
