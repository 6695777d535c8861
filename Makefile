# One command runs every check there is: `make test`. CI runs the same. The long forms of some tests
# have targets of their own.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := test
.PHONY: test tools lint advisories doc unit it console api schemathesis k8s deb deb-check kill9 powercut chaos fuzz bench loadtest

# Rounds and seconds of the long forms.
KILL_ROUNDS ?= 1000
POWERCUT_ROUNDS ?= 100
RECONNECTS ?= 10000
CHAOS_OPERATIONS ?= 1000000
FUZZ_SECONDS ?= 60
SCHEMATHESIS_EXAMPLES ?= 200
SCHEMATHESIS_SECONDS ?= 600

export CARGO_TERM_COLOR ?= auto

test: lint doc unit it api k8s deb-check

# What the tests need besides Rust: a C compiler (SQLite, crypto, the library that makes fsync fail),
# ext4 and mount for the disks that fill up and lose power, PostgreSQL and redis-server, which tests start
# themselves, Python and npm for the tools that read the API's documents, Chromium for its page.
tools:
	@scripts/tools.sh

lint: tools
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	scripts/dependencies.sh

# Known vulnerabilities of dependencies; by itself, because the answer changes while nothing here does. Of GitHub's
# RustSec/advisory-db, or of a copy of it: ADVISORY_DB=FOLDER.
advisories: tools
	scripts/dependencies.sh advisories

# For those who work on it, private items included, so that public docs may point at them.
doc: tools
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items --locked

# Everything that needs no server: units, golden frames, hostile bytes, the store's contract, README.
unit: tools
	cargo test --workspace --locked --exclude hub
	cargo test -p hub --locked --lib --bins --test readme

# The product by its front door, the promises among it, with files and as a cluster, and the bus with real Redis
# servers. Needs root for the disks. Alerts wait for their faults most of the time, so more of them go at once; the
# short form of the chaos suite has deadlines of seconds, so it goes by itself.
it: tools
	cargo test --workspace --locked --exclude hub
	cargo test -p hub --locked --lib --bins --test readme

# The product by its front door, the promises among it, with files and as a cluster, and the bus with real Redis
# servers. Needs root for the disks. Alerts wait for their faults most of the time, so more of them go at once. The short form of the chaos suite has deadlines of seconds, so it goes by itself.
it: tools
	cargo test -p hub --locked --test it -- --skip chaos:: --skip alerts::
	cargo test -p hub --locked --test it alerts:: -- --test-threads 4
	scripts/it-cluster.sh
	cargo test -p hub --locked --test it chaos::
	cargo test -p hub --locked --test bus

# The console in a real Chromium, one test after the other; a part of `it`. Chromium is a Debian package (100 MB, a minute
# to install), see `tools`. CONSOLE_PICTURES=FOLDER keeps pictures of it.
console: tools
	cargo test -p hub --locked --lib console::
	cargo test -p hub --locked --test it console:: -- --test-threads 1

# The API by its own description, with requests that nobody thought of: 40 s for each of three callers.
api: tools
	scripts/schemathesis/run.sh 10 40

# The same for longer, with another seed each day.
schemathesis: tools
	SEED=$$(date +%Y%m%d) scripts/schemathesis/run.sh $(SCHEMATHESIS_EXAMPLES) $(SCHEMATHESIS_SECONDS)

# Manifests, image, alerts and dashboard; shows of each check that it can fail.
k8s: tools
	scripts/k8s.sh

# A Debian package of the release, below target/debian.
deb: tools
	cargo build --release --locked -p hub
	scripts/deb.sh

# The package of the tests' binary, installed, upgraded, removed and purged in a layer above this system.
deb-check: tools
	scripts/deb-check.sh

kill9: tools
	KILL_ROUNDS=$(KILL_ROUNDS) RECONNECTS=$(RECONNECTS) cargo test -p hub --locked --release --test it -- \
	  --nocapture promise_1_durable_before_2xx_kill_9 promise_2_gapless_ordered_once

powercut: tools
	POWERCUT_ROUNDS=$(POWERCUT_ROUNDS) cargo test -p hub --locked --release --test it -- --nocapture power_cut

# Faults at random on each form of Redis, one after the other, until each run has seen CHAOS_OPERATIONS
# operations. CHAOS_SEED repeats the faults and the workload of a run.
chaos: tools
	CHAOS_OPERATIONS=$(CHAOS_OPERATIONS) cargo test -p hub --locked --release --test it chaos::long -- \
	  --ignored --nocapture --test-threads 1

# Coverage-led; on the stable compiler by RUSTC_BOOTSTRAP. New corpus files stay in protocol/fuzz/corpus.
fuzz: tools
	@cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz
	for target in client_frame server_frame envelope; do \
	  mkdir -p protocol/fuzz/corpus/$$target; \
	  scripts/fuzz-seeds.sh $$target; \
	  (cd protocol && RUSTC_BOOTSTRAP=1 cargo fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=60); \
	done

bench: tools
	cargo bench --workspace --locked

loadtest: tools
	cargo build --release --locked -p hub -p loadtest
	scripts/loadtest.sh
