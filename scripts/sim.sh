#!/usr/bin/env bash
# make sim: the filter that ships in the simulated host. SEEDS=n runs so many seeds (1,000 by default) from FIRST_SEED on, SEED=k one
# with its trace.
source "$(dirname "$0")/toolchain.sh"

scripts/build.sh
"${native[@]}" test -q -p durpina-e2e --test sim -- --nocapture
