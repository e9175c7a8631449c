# What there is to do with this repository. `make help` lists it.

# Tools that tests/setup.sh installs are found without a new shell.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin:$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

BINS := -p cutover-coordinator -p cutover-agent -p cutover-cli -p cutover-gate -p cutover-sample

.PHONY: help demo test lint bench build fmt sim sim-mutants sim-coverage kill-everywhere

help: ## Print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: ## Run a coordinator and agents on this machine, deploy to them, and break something
	@tests/setup.sh build
	cargo build --release --locked $(BINS)
	target/release/cutover demo

test: ## Run every test: doctests, unit tests, and tests of the real programs
	@tests/setup.sh test
	cargo build --workspace --bins --locked
	cargo test --workspace --doc --locked
	cargo nextest run --workspace --locked

lint: ## Check format, lints, documentation, and what we depend on
	@tests/setup.sh lint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	@if cargo deny --version >/dev/null 2>&1; then \
		cargo deny --offline check licenses bans sources; \
	else \
		echo "skipped: cargo deny is not installed (cargo install --locked cargo-deny)"; \
	fi
	@if cargo tree --workspace --target all -e all --locked -i aws-lc-sys 2>/dev/null; then \
		echo "error: aws-lc-sys is in the tree above; ring is the one provider" >&2; exit 1; \
	fi

bench: ## Measure, beside etcd, Ansible, nginx, HAProxy and pm2 on the same machine
	@tests/setup.sh bench
	cargo build --release --locked $(BINS) -p cutover-tests --bins
	@mkdir -p target/bench
	TMPDIR=$(CURDIR)/target/bench target/release/cutover-bench --json target/bench.json

sim: ## Run ten thousand simulated fleets; with SEEDS=n, so many
	@tests/setup.sh build
	cargo run --locked -p cutover-sim -- run --seeds $(or $(SEEDS),10000)

sim-mutants: ## Plant each known bug in the cores, and see that it is found
	@tests/setup.sh build
	cargo test --quiet --locked -p cutover-agent-core --features cutover-common/planted-bugs planted
	cargo test --quiet --locked -p cutover-sim --features planted-bugs --test runs planted
	cargo run --locked -p cutover-sim --features planted-bugs -- mutants

sim-coverage: ## List which faults the simulator reaches, how often, and which never
	@tests/setup.sh build
	cargo run --locked -p cutover-sim -- coverage --seeds $(or $(SEEDS),2000)

kill-everywhere: ## Kill each daemon after each of its system calls in a deployment (half an hour)
	@tests/setup.sh test
	cargo build --workspace --bins --locked
	target/debug/cutover-syscalls

build: ## Build the programs, optimised, into target/release
	@tests/setup.sh build
	cargo build --release --locked $(BINS)

fmt: ## Format the code
	cargo fmt --all
