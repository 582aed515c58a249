#!/usr/bin/env bash
# make run: the demo. exec, so that the demo itself gets Ctrl-C and make's signals, and can stop its servers and its Envoy.
source "$(dirname "$0")/tools.sh"

scripts/build.sh
need_envoy
# Split at spaces: ARGS is a command line.
# shellcheck disable=SC2086
exec "${native[@]}" run --quiet -p durpina-e2e --example demo -- ${ARGS:-}
