"""An OCI image of the filter, as a layout on disk: python3 scripts/image.py FILTER DIRECTORY VERSION

Two images are in it, for the two ways in which Istio and Envoy Gateway read a filter out of a registry
(https://github.com/solo-io/wasm/tree/master/spec):

    VERSION      spec-compat.md: an image like any other, with one layer, and the file plugin.wasm in it
    VERSION-oci  spec.md: the module itself is a layer, beside one that says what it is

The same filter gives the same bytes: no times, no owners. https://github.com/opencontainers/image-spec has the formats.
"""

import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


def document(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Layout:
    def __init__(self, directory):
        self.directory = directory
        self.manifests = []
        os.makedirs(os.path.join(directory, "blobs", "sha256"))

    def add(self, media_type, content, **more):
        """Stores a blob, and returns what names it."""
        name = digest(content)
        with open(os.path.join(self.directory, "blobs", *name.split(":")), "wb") as file:
            file.write(content)
        return {"mediaType": media_type, "digest": name, "size": len(content), **more}

    def image(self, tag, layers, diff_ids):
        # Tools for containers unpack images of an operating system that they know alone; the layers are read by proxies on any.
        config = {
            "architecture": "wasm",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.add(CONFIG, document(config)),
            "layers": layers,
            "annotations": {
                "org.opencontainers.image.title": "durpina",
                "org.opencontainers.image.description": "Dynamic upstreams for Envoy and nginx as one proxy-wasm filter",
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
            },
        }
        name = {"org.opencontainers.image.ref.name": tag}
        self.manifests.append(self.add(MANIFEST, document(manifest), annotations=name))

    def close(self):
        """Written last: without these two files it is no layout."""
        index = {"schemaVersion": 2, "manifests": self.manifests}
        for name, content in [("index.json", index), ("oci-layout", {"imageLayoutVersion": "1.0.0"})]:
            with open(os.path.join(self.directory, name), "wb") as file:
                file.write(document(content))


def archive(name, content):
    """A tar with one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(content), 0o644
        tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def main(filter_file, directory, version):
    with open(filter_file, "rb") as file:
        module = file.read()
    # Made beside it and put in its place in one step: what is there is always whole.
    new = directory + ".new"
    shutil.rmtree(new, ignore_errors=True)
    layout = Layout(new)

    tar = archive("plugin.wasm", module)
    packed = layout.add("application/vnd.oci.image.layer.v1.tar+gzip", gzip.compress(tar, 9, mtime=0))
    layout.image(version, [packed], [digest(tar)])

    about = document({"type": "envoy_proxy", "abiVersions": ["v0-2-1"], "config": {"rootIds": ["durpina"]}})
    layers = [
        layout.add("application/vnd.module.wasm.config.v1+json", about),
        layout.add("application/vnd.module.wasm.content.layer.v1+wasm", module),
    ]
    layout.image(version + "-oci", layers, [digest(about), digest(module)])

    layout.close()
    shutil.rmtree(directory, ignore_errors=True)
    os.rename(new, directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
