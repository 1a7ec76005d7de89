# `make help` lists the targets. Everything that CI runs is `make test`.

TOOLS := target/tools/bin
CARGO ?= cargo
export PATH := $(CURDIR)/$(TOOLS):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help build fmt check test unit postgres tools journeys schema people console propagation clients oci crash fuzz bench bench-quick bench-report bench-check bench-audit bench-console counts

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the release binaries
	$(CARGO) build --release -p wharfinger -p rctl

fmt: ## Format the sources
	$(CARGO) fmt --all

check: ## Formatting, lints, documentation, dependencies
	tests/tools/install.sh check
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --workspace --no-deps --quiet
	$(TOOLS)/cargo-deny --all-features check bans licenses sources

# Tests are always built for the whole workspace: for single packages, cargo chooses other features and builds it all again.
TESTS := $(CARGO) test --workspace

# Most tests make small files and databases and wait for the disk: in memory, where there is room. Journeys, clients and crash
# stay on the disk.
IN_MEMORY := $(shell [ "$$(df --output=avail /dev/shm 2>/dev/null | tail -n 1)" -gt 4000000 ] 2>/dev/null && [ -w /dev/shm ] && echo TMPDIR=/dev/shm)

unit: ## Unit, property and handler tests
	$(IN_MEMORY) $(TESTS) --lib --bins --test cli

journeys: ## Journeys through the running binary that need no other program
	$(TESTS) --test journeys

schema: tools ## The REST API against its own OpenAPI document, by schemathesis
	$(TESTS) --test journeys --no-run
	tests/tools/schemathesis.sh

people: tools ## A mail server that insists on TLS, a passkey in a real browser, a real OpenID Connect provider
	$(TESTS) --test people

console: tools ## The console in a real browser: every screen, by keyboard, on a phone, without a script, and by axe; pictures in target/console
	$(TESTS) --test console -- --nocapture

propagation: ## How soon a change of rights is felt at every door, printed
	$(TESTS) --test journeys propagation -- --nocapture

postgres: tools ## The storage tests, the journeys and two replicas, on a private PostgreSQL
	$(IN_MEMORY) tests/tools/postgres.sh $(TESTS) --lib --test journeys --test replicas

tools: ## Install the programs that the heavier tests drive
	tests/tools/install.sh

clients: tools build ## Real clients: docker, podman, skopeo, crane, oras, regctl, helm, cosign, ctr
	$(TESTS) --test clients --no-run
	WHARFINGER_BIN=$(CURDIR)/target/release/wharfinger tests/tools/in-network.sh $(TESTS) --offline --test clients

oci: tools build ## The OCI conformance program, every switch on, over TLS with tokens
	WHARFINGER_BIN=$(CURDIR)/target/release/wharfinger $(TESTS) --test oci -- --nocapture

crash: tools build ## kill -9, power cuts, full disks, memory (as root)
	WHARFINGER_BIN=$(CURDIR)/target/release/wharfinger $(TESTS) --test crash -- --test-threads=1

# Data of the servers goes to target/bench: BENCH="--data FOLDER" puts it on another disk, BENCH="-w push" measures a part.
BENCH ?=
conformance := target/release/conformance

bench: build ## Compare the speed with CNCF Distribution, docker-registry and nginx: hours; conformance/bench/REPORT.md
	tests/tools/install.sh bench
	$(CARGO) build --release -p wharfinger -p rctl -p conformance
	$(conformance) bench run $(BENCH); status=$$?; $(conformance) bench report && exit $$status

bench-quick: build ## The same beside docker-registry alone, once, with small sizes: minutes, printed
	tests/tools/install.sh bench-quick
	$(CARGO) build --release -p wharfinger -p rctl -p conformance
	$(conformance) bench run --scale quick --runs 1 --no-limits --scheme https --peer wharfinger --peer docker-registry \
	  --results target/bench/quick.json $(BENCH)

bench-report: ## Write the report and the charts anew from what `make bench` kept
	$(CARGO) build --release -p wharfinger -p rctl -p conformance
	$(conformance) bench report

bench-check: ## Every workload of the benchmark against the server, at a size that says only that it works
	$(TESTS) --test journeys --no-run
	$(TESTS) --test bench

bench-audit: ## How long pages of an audit log of a million events take, printed
	$(CARGO) run -q -p storage --example bench_audit

bench-console: build ## How long each page of the console takes with 100,000 users and repositories, printed
	WHARFINGER_BIN=$(CURDIR)/target/release/wharfinger tests/tools/bench-console.py

# Optimised, as what is counted is what users run; beside the programs, so that the libraries are built once for all of them.
counts: ## Allocations and instructions of the requests made most, against counts/bounds.toml; BLESS=1 renews it
	tests/tools/install.sh counts
	$(CARGO) build --release -p wharfinger -p rctl -p counts
	target/release/counts

fuzz: ## A minute on every fuzz target
	tests/tools/install.sh fuzz
	tests/tools/fuzz.sh

test: tools ## All of it, step by step, with a count at the end
	tests/tools/steps.sh check unit journeys bench-check counts schema people console postgres clients oci crash
