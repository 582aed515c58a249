#!/usr/bin/env bash
# make check: the native command, which reads a filter JSON as the filter would.
source "$(dirname "$0")/common.sh"

[ -n "${CONFIG:-}" ] || die "no file to check; call it as: make check CONFIG=filter.json"
source scripts/toolchain.sh
# Split at spaces: ARGS is a command line, such as --monitor NAME.
# shellcheck disable=SC2086
exec "${native[@]}" run --quiet -p durpina-cli -- check ${ARGS:-} "$CONFIG"
