#!/usr/bin/env bash
# make test-nginx NGINX=/path: the end-to-end tests on an nginx with ngx_wasm_module. ARGS goes to the test program, such as
# the name of one test.
source "$(dirname "$0")/common.sh"
[ -n "${NGINX:-}" ] || die "which nginx? make test-nginx NGINX=/path/to/nginx (one with ngx_wasm_module; nginx-wasm/README.md says where to get it)"
command -v "$NGINX" >/dev/null || die "$NGINX cannot be run"
NGINX=$(command -v "$NGINX")
export NGINX

stage "set-up"
source scripts/tools.sh
need_envoy # the picks are compared with Envoy's

stage "release filter"
scripts/build.sh

stage "the examples' filters"
scripts/examples.sh

stage "end to end, on $("$NGINX" -v 2>&1 | sed 's/^nginx version: //')"
"${native[@]}" build -p durpina-cli
"${native[@]}" test -p durpina-e2e --test nginx -- ${ARGS:+$ARGS}
