#!/usr/bin/env bash
# make test: every test there is, the quick ones first. Stops at the first stage that fails.
source "$(dirname "$0")/common.sh"

stage "set-up"
source scripts/tools.sh
need_envoy
need_wasm_runner
need_dnsmasq
need_promtool
need_schemathesis
need_http3
need_image_tools
scripts/page-test.sh --tools

stage "release filter"
scripts/build.sh

stage "the filter's image"
scripts/image-test.sh

stage "the examples' filters, and one of a crate outside"
scripts/examples.sh

stage "native tests: units and properties"
"${native[@]}" test --workspace --lib --bins --test layers

# The SDK's kind of filter, built like any other, for the simulated host's own tests.
stage "the simulated host, and the filter in it"
wasm build -q --release -p durpina-proxy-wasm --example http_headers
"${native[@]}" test -p proxy-wasm-sim --test hosts
HTTP_HEADERS_WASM=$target_dir/$target/release/examples/http_headers.wasm \
  "${native[@]}" test -p proxy-wasm-sim --test sdk -- --ignored
"${native[@]}" test -p durpina-e2e --test sim

stage "fuzz targets, for a short while"
FUZZ_SECONDS=3 "${native[@]}" test -p durpina-fuzz --test short -- --nocapture

stage "alert rules and dashboard"
scripts/alerts-test.sh

stage "examples in the documentation"
"${native[@]}" test --workspace --doc

# Without the proxy-wasm SDK: Node has no proxy's functions for it to import. Without debug information: the runner would
# spend most of its time on it, and a panic names its file and line all the same.
stage "the core on wasm32, in Node"
CARGO_PROFILE_DEV_DEBUG=0 wasm test -p durpina --lib

stage "the command line"
"${native[@]}" test -p durpina-cli --test cli

stage "end to end, on $("$ENVOY" --version | grep -o '/[0-9][0-9.]*/' | tr -d / | sed 's/^/Envoy /')"
"${native[@]}" build -p durpina-cli
# These tests wait more than they compute: at least four at a time, on two processors as well.
processors=$(nproc)
export RUST_TEST_THREADS=$((processors > 4 ? processors : 4))
"${native[@]}" test -p durpina-e2e --test envoy

# What a user would miss first: what the newest does in every test is tried in the older ones where it depends on Envoy.
smoke=(
  configuration::a_good_update_takes_effect_without_a_failed_request
  configuration::every_shipped_file_is_valid
  failover::a_request_with_a_body_is_not_sent_twice_once_it_arrived
  failover::no_request_fails_when_a_server_is_killed_under_load
  failures::a_client_that_goes_away_counts_for_nothing
  failures::every_attempt_of_a_request_counts
  failures::no_headers_in_time_count
  failures::with_every_peer_down_the_answer_is_a_503_at_once
  failures::without_retries_the_only_attempt_counts
  forgeries::
  hygiene::
  monitors::an_agent_s_line_halves_the_weight
  names::traffic_follows_a_name_whose_address_changes
  probes::a_gateway_that_is_not_there_is_nobody_s_fault
  probes::peers_of_every_kind_are_checked_by_one_filter
  routing::a_path_cannot_dodge_a_route
)
for version in "${older_envoys[@]}"; do
  stage "smoke tests, on Envoy $version"
  need_older_envoy "$version" || die "pip found no Envoy $version for this machine"
  ENVOY=$older_envoy "${native[@]}" test -p durpina-e2e --test envoy -- "${smoke[@]}"
done

unset RUST_TEST_THREADS

if [ -n "${NGINX:-}" ]; then
  stage "end to end, on nginx"
  "${MAKE:-make}" test-nginx "NGINX=$NGINX"
else
  say
  say "The tests on nginx were skipped: NGINX=/path/to/nginx was not given."
fi
