# Sourced where Rust is needed. Chooses a toolchain that can build for wasm32-unknown-unknown, installs what it lacks, and
# defines how to call it:
#   native=(…)   the command for cargo on this machine, as in "${native[@]}" test --lib
#   wasm …       cargo for wasm32, as in wasm build --release
#   target_dir   where it builds
#
# There are two ways, because not every machine may reach the server that rustup fetches from:
#   rustup   the cargo that is first in PATH, if its target is there or rustup can add it
#   debian   Debian's packages of Rust; they have no standard library for this target, so cargo builds it from the source
#            package (-Zbuild-std, which a stable compiler permits under RUSTC_BOOTSTRAP=1)
# DURPINA_TOOLCHAIN forces one. Versions are derived, never pinned: they move with Debian's security updates.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
target=wasm32-unknown-unknown

# new_enough RUSTC: Cargo.toml says what the oldest usable compiler is.
msrv=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
new_enough() { printf '%s\n' "$msrv" "$("$1" -V 2>/dev/null | cut -d' ' -f2)" | sort -V -C; }

may_add=yes
use_rustup() {
  if ! command -v cargo >/dev/null || ! new_enough rustc; then why="there is no Rust $msrv or newer in PATH" && return 1; fi
  # The directory exists if this compiler has a standard library for the target, from wherever: no network is asked.
  if [ ! -d "$(rustc --print target-libdir --target $target 2>/dev/null)" ]; then
    why="rustc in PATH cannot build for $target"
    if [ -z "$may_add" ] || ! command -v rustup >/dev/null; then return 1; fi
    say "+ $target (rustup target add): the target that the filter is built for"
    local log
    if ! log=$(timeout 300 rustup target add $target 2>&1); then
      why="rustup could not add $target ($(grep -m1 '^error' <<<"$log" || echo 'no answer'))"
      return 1
    fi
  fi
  if ! command -v cc >/dev/null; then
    want gcc "the linker that rustc calls for native programs"
    want libc6-dev "the C library that native programs link to"
    apt_install
  fi
  native=(cargo) std='' target_dir=$CARGO_TARGET_DIR
}

# recent PACKAGE: Debian has it, and new enough.
recent() {
  local version
  version=$(apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9].*\)/\1/p')
  [ -n "$version" ] && dpkg --compare-versions "$version" ge "$msrv"
}

use_debian() {
  if ! command -v apt-get >/dev/null; then
    why="there is no apt-get either; install rustup and its target $target, or Rust $msrv or newer with that target"
    return 1
  fi
  # Stable releases of Debian carry a recent Rust under names of its own, which their browsers are built with.
  local names=''
  if installed rustc-web; then
    names=web
  elif ! new_enough /usr/bin/rustc; then
    if ! recent rustc-web && ! recent rustc; then apt_update; fi
    if recent rustc-web; then
      names=web
    elif ! recent rustc; then
      why="this release has no package of Rust $msrv or newer"
      return 1
    fi
  fi
  if [ "$names" = web ]; then
    rustc=rustc-web cargo=cargo-web src=rust-web-src clippy=rust-web-clippy rustfmt=rustfmt-web
  else
    rustc=rustc cargo=cargo src=rust-src clippy=rust-clippy rustfmt=rustfmt # the last two are for need_lint
  fi
  want $rustc "the Rust compiler"
  want $cargo "builds, and fetches the crates"
  want $src "the source of the standard library, which is built for $target"
  apt_install
  local llvm
  llvm=$(/usr/bin/rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
  want "lld-$llvm" "links $target modules; the one of rustc's own LLVM version"
  apt_install

  # A directory of its own under target/, so that going from one way to the other builds nothing anew.
  target_dir=$CARGO_TARGET_DIR/debian
  export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=/usr/bin/wasm-ld-$llvm
  # $CARGO_HOME/bin last: where it is not in PATH cargo puts it first, and would find rustup's clippy and rustfmt in it.
  PATH=/usr/bin:$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  native=(env "CARGO_TARGET_DIR=$target_dir" RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc /usr/bin/cargo)
  std=std,panic_abort
}

# Debian's packages, once chosen, are chosen again without asking rustup's server, unless the target came by another way.
choose() {
  local chosen=.tools/debian
  case ${DURPINA_TOOLCHAIN:-} in
  rustup | debian) "use_$DURPINA_TOOLCHAIN" || die "DURPINA_TOOLCHAIN=$DURPINA_TOOLCHAIN: $why" ;;
  '')
    if [ -e $chosen ]; then may_add=''; fi
    if use_rustup; then
      DURPINA_TOOLCHAIN=rustup
    else
      [ -e $chosen ] || say "  $why: so Debian's packages of Rust are used"
      use_debian || die "no Rust that builds for $target: $why"
      mkdir -p .tools && touch $chosen
      DURPINA_TOOLCHAIN=debian
    fi
    ;;
  *) die "DURPINA_TOOLCHAIN is '$DURPINA_TOOLCHAIN', it can be rustup or debian" ;;
  esac
  # A script that this one calls builds with the same.
  export DURPINA_TOOLCHAIN
}

# wasm SUBCOMMAND ARGUMENTS: cargo for wasm32.
wasm() {
  local subcommand=$1 flags=(--target "$target") bootstrap=()
  shift
  if [ -n "$std" ]; then
    bootstrap=(env RUSTC_BOOTSTRAP=1)
    # Tests need one more crate of the standard library.
    if [ "$subcommand" = test ]; then flags+=("-Zbuild-std=$std,test"); else flags+=("-Zbuild-std=$std"); fi
  fi
  ${bootstrap[@]+"${bootstrap[@]}"} "${native[@]}" "$subcommand" "${flags[@]}" "$@"
}

choose
