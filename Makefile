# Every target is one small script in scripts/. Each works alone and in any order on a fresh machine: it installs what it
# needs, once, and says so. Settings, on the command line or in the environment:
#   DURPINA_TOOLCHAIN=rustup|debian   forces where Rust comes from (scripts/toolchain.sh has the rule)
#   ENVOY=/path/to/envoy              an Envoy of your own instead of the one in .venv
#   NGINX=/path/to/nginx              an nginx with ngx_wasm_module, for the tests on nginx
#   BASELINE_WASM=/path/to/filter     another build of the filter, which `make bench BENCH=envoy` compares with; with
#                                     ARGS=instructions it stops after its first tables
#   BENCH=fuel ARGS=record              of `make bench`: records what callbacks cost, to which `make test` holds the filter

.PHONY: help build run test sim fuzz test-nginx bench lint check image package clean
.NOTPARALLEL:

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

build: ## the release filter at dist/durpina.wasm
	@scripts/build.sh

run: ## a real Envoy with the filter, demo servers and traffic, until Ctrl-C (ARGS="…" goes to the demo)
	@scripts/run.sh

test: ## every test: native, wasm32 in Node, end to end on a real Envoy (and nginx, if NGINX is set)
	@scripts/test.sh

sim: ## many runs in a simulated host, full of faults: SEEDS=100000 runs more, SEED=17 one with its trace
	@SEEDS="$(SEEDS)" SEED="$(SEED)" FIRST_SEED="$(FIRST_SEED)" scripts/sim.sh

fuzz: ## what reads others' bytes, with libFuzzer: TIME=seconds for each target, TARGET=name for one
	@TIME="$(TIME)" TARGET="$(TARGET)" scripts/fuzz.sh

test-nginx: ## the end-to-end tests on nginx: make test-nginx NGINX=/path/to/nginx
	@NGINX='$(NGINX)' scripts/test-nginx.sh

bench: ## the benchmarks, with a table at the end (BENCH=name runs one)
	@scripts/bench.sh

lint: ## formatting, lints, documentation and the filter's size; warnings are errors
	@scripts/lint.sh

check: ## validates a filter JSON without any proxy: make check CONFIG=filter.json (ARGS="--monitor NAME" for monitors of your own)
	@scripts/check.sh

image: ## the filter as an OCI image on disk, dist/image
	@scripts/image.sh

package: ## what would be published of the library, packed and built from the packages alone; nothing is uploaded
	@scripts/package.sh

clean: ## removes what was built; .venv and .tools stay, they are slow to make and still right
	rm -rf target dist
