#!/usr/bin/env bash
# The status page in headless Chromium, against a mock of the management API. Arguments go to tests/page/test_page.py: with
# --url http://127.0.0.1:PORT/durpina/ --token TOKEN it tests the page of a running filter instead.
# CHROMIUM=/path/to/chromium names a browser of your own. With --tools alone it only makes sure of what it needs.
source "$(dirname "$0")/common.sh"

# Chromium comes from Debian: playwright would fetch one from a server of its own, which not every machine may reach.
need_browser() {
  local name
  if [ -n "${CHROMIUM:-}" ]; then
    [ -x "$CHROMIUM" ] || die "CHROMIUM is '$CHROMIUM', which cannot be executed"
    return
  fi
  for name in chromium chromium-browser google-chrome; do
    if CHROMIUM=$(command -v $name); then return; fi
  done
  want chromium "the browser that the status page is tested in"
  apt_install
  CHROMIUM=$(command -v chromium) || die "no Chromium can be had here; name one of your own: CHROMIUM=/path/to/chromium"
}

stage "set-up"
source scripts/tools.sh
need_browser
export CHROMIUM
"$CHROMIUM" --version >/dev/null 2>&1 || die "$CHROMIUM does not run here; name another browser: CHROMIUM=/path/to/chromium"
python_package playwright "drives the browser" || die "pip found no playwright for this machine"
python_package axe-playwright-python "finds what keeps people with disabilities out" || die "pip found no axe-playwright-python"

[ "${1:-}" != --tools ] || exit 0

stage "the status page in $("$CHROMIUM" --version 2>/dev/null)"
PYTHONDONTWRITEBYTECODE=1 .venv/bin/python tests/page/test_page.py "$@"
