#!/usr/bin/env bash
# The image of `make image`, read by programs of others: both images can be copied as into a registry, and the filter comes out.
source "$(dirname "$0")/tools.sh"

need_image_tools
scripts/image.sh
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

umoci unpack --rootless --image "dist/image:$version" "$scratch/unpacked" >/dev/null
cmp "$DURPINA_WASM" "$scratch/unpacked/rootfs/plugin.wasm"
[ "$(ls "$scratch/unpacked/rootfs")" = plugin.wasm ] || die "there is more in the image than plugin.wasm"

for tag in "$version" "$version-oci"; do
  skopeo copy --quiet "oci:dist/image:$tag" "dir:$scratch/$tag"
done
# Istio finds the module by its layer's type, and wants two layers.
layers=$(skopeo inspect --raw "dir:$scratch/$version-oci" |
  python3 -c 'import json, sys; [print(layer["mediaType"], layer["digest"]) for layer in json.load(sys.stdin)["layers"]]')
[ "$(wc -l <<<"$layers")" = 2 ] || die "expected two layers, found: $layers"
module=$(sed -n 's/^application.vnd.module.wasm.content.layer.v1+wasm sha256://p' <<<"$layers")
cmp "$DURPINA_WASM" "$scratch/$version-oci/$module"

python3 scripts/image.py "$DURPINA_WASM" "$scratch/again" "$version"
diff -r dist/image "$scratch/again" || die "the same filter gave another image"
say "both images of dist/image can be copied, and hold the filter"
