#!/usr/bin/env bash
# make test-nginx NGINX=/path: the end-to-end tests on an nginx with ngx_wasm_module. ARGS goes to the test program, such as
# the name of one test.
source "$(dirname "$0")/common.sh"
[ -n "${NGINX:-}" ] || die "which nginx? make test-nginx NGINX=/path/to/nginx (one with ngx_wasm_module; nginx-wasm/README.md says where to get it)"
command -v "$NGINX" >/dev/null || die "$NGINX cannot be run"
NGINX=$(command -v "$NGINX")
export NGINX

# What nginx, or the filter in it, cannot do yet: left out by name, and said so. With ARGS all of it can be asked for.
left_out=(
  "routing::a_path_cannot_dodge_a_route: routes match the path as the client sent it"
  "lifecycle::without_a_zone_the_answer_is_503_and_the_log_says_why: the answer is 500"
)
skip=()
if [ -z "${ARGS:-}" ]; then
  for what in "${left_out[@]}"; do
    say "left out: $what"
    skip+=(--skip "${what%%: *}")
  done
fi

stage "set-up"
source scripts/tools.sh
need_envoy # the picks are compared with Envoy's

stage "release filter"
scripts/build.sh

stage "end to end, on $("$NGINX" -v 2>&1 | sed 's/^nginx version: //')"
"${native[@]}" build -p durpina-cli
"${native[@]}" test -p durpina-e2e --test nginx -- "${skip[@]}" ${ARGS:+$ARGS}
