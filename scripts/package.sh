#!/usr/bin/env bash
# make package: what would be published of the library, packed and built from the packages alone. Nothing is uploaded.
source "$(dirname "$0")/toolchain.sh"

stage "packages"
# The order in which they depend on each other is cargo's to find. Changes that are not committed are packed as well.
"${native[@]}" publish --dry-run --allow-dirty -p durpina-host -p durpina-sim -p durpina -p durpina-proxy-wasm
