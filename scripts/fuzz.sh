#!/usr/bin/env bash
# make fuzz: what reads others' bytes, with libFuzzer, for TIME seconds each (60 by default); TARGET=name is one of them. What it finds
# is in fuzz/artifacts. The corpus in fuzz/corpus is read; what it learns is kept in target/fuzz, not committed.
source "$(dirname "$0")/toolchain.sh"

seconds=${TIME:-60}
targets=(agent api configuration dns server shared stored)
[ -z "${TARGET:-}" ] || targets=("$TARGET")

if ! command -v c++ >/dev/null; then
  want g++ "libFuzzer is C++"
  apt_install
fi
host=$(rustc -vV | sed -n 's/^host: //p')

# What cargo-fuzz passes for `--sanitizer none`: all of it works with a stable compiler. With a --target the flags are not for build
# scripts, which have no libFuzzer in them.
flags=(-Cpasses=sancov-module -Ccodegen-units=1 -Cdebug-assertions -Copt-level=3)
for argument in level=4 inline-8bit-counters pc-table trace-compares; do
  flags+=("-Cllvm-args=-sanitizer-coverage-$argument")
done

stage "fuzz targets"
CARGO_TARGET_DIR=$target_dir/fuzz RUSTFLAGS="${flags[*]}" CARGO_PROFILE_RELEASE_LTO=off \
  "${native[@]}" build -q --release --target "$host" -p durpina-fuzz --features libfuzzer --bins

mkdir -p fuzz/artifacts
for one in "${targets[@]}"; do
  stage "$one, $seconds s"
  learned=$target_dir/fuzz/corpus/$one
  mkdir -p "$learned"
  # libFuzzer's last words tell how many executions there were.
  "$target_dir/fuzz/$host/release/$one" -max_total_time="$seconds" -max_len=4096 -artifact_prefix="fuzz/artifacts/$one-" \
    -print_final_stats=1 -verbosity=0 "$learned" "fuzz/corpus/$one"
done
