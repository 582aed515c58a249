# Sourced by every script, once: where things are, how to say something, stages with times, and how to get a Debian package.
# shellcheck shell=bash
declare -F stage >/dev/null && return
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

# Cargo would take `make -j` as an offer of a jobserver whose pipe is closed to it.
unset MAKEFLAGS MFLAGS

# Always explicit, so that the scripts know where cargo puts the filter whatever a user's own cargo settings say.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
# What the end-to-end tests, the benchmarks and the demo read.
export DURPINA_WASM=$root/dist/durpina.wasm DURPINA_NGINX_WASM=$root/dist/durpina-nginx.wasm
export ENVOY=${ENVOY:-$root/.venv/bin/envoy}

say() { printf '%s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# stage NAME: prints a header, and the time it took once the next stage or the end comes. Whatever ends the script, the
# last lines are a summary that names the stage which failed. (A trap and not `if stage …`, because bash ignores `set -e`
# in everything that a condition calls.)
stages='' current='' stage_start=0
stage() {
  stage_end ok
  current=$1 stage_start=$SECONDS
  trap 'stage_summary $?' EXIT
  printf '\n=== %s\n' "$current"
}
stage_end() {
  [ -z "$current" ] || stages+=$(printf '  %4d s  %-6s %s' $((SECONDS - stage_start)) "$1" "$current")$'\n'
}
stage_summary() {
  if [ "$1" = 0 ]; then stage_end ok; else stage_end FAILED; fi
  printf '\n=== summary of %s\n%s' "$(basename "$0" .sh)" "$stages"
  if [ "$1" = 0 ]; then
    printf '  %4d s  in all, every stage passed\n' $SECONDS
  else
    printf 'FAILED in stage: %s\n' "$current"
  fi
}

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# want PACKAGE WHY: notes a package for apt_install unless it is there.
wanted=()
want() {
  installed "$1" && return
  say "+ $1 (Debian package): $2"
  wanted+=("$1")
}

# Installs what `want` noted. --no-remove: a machine's own packages never make way for ours, apt says what conflicts.
apt_install() {
  [ ${#wanted[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "there is no apt-get here; install what the lines above name, then call again"
  local install=(install -y -q --no-install-recommends --no-remove -o DPkg::Lock::Timeout=300 "${wanted[@]}")
  if ! apt_get "${install[@]}"; then
    apt_update
    apt_get "${install[@]}" || { tail -n 15 .tools/apt.log >&2 && die "could not install ${wanted[*]}"; }
  fi
  wanted=()
}

# Package lists may be missing, or name versions that a security update has replaced.
apt_update() {
  say "  apt's package lists are fetched anew (apt-get update)"
  apt_get update -q || true
}

# What apt-get prints is long, and of interest only if it fails.
apt_get() {
  local become=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "not root, and there is no sudo; run this as root, then call again: apt-get $*"
    if [ -t 0 ]; then become=(sudo); else become=(sudo -n); fi
  fi
  mkdir -p .tools
  ${become[@]+"${become[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get "$@" >.tools/apt.log 2>&1 </dev/null
}
