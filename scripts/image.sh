#!/usr/bin/env bash
# make image: the filter as an OCI image, a layout in dist/image. Nothing is sent anywhere.
source "$(dirname "$0")/common.sh"

scripts/build.sh
command -v python3 >/dev/null || die "python3 is not there, which packs the image"
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
python3 scripts/image.py "$DURPINA_WASM" dist/image "$version"
say "dist/image: durpina $version, as the images $version (a layer with plugin.wasm) and $version-oci (the module as a layer)"
say "To have it in a registry of yours: skopeo copy oci:dist/image:$version docker://registry.example/durpina:$version"
