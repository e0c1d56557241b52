# The one door to building and testing. No logic lives here: every line calls cargo, mix or tests/otp/setup.sh;
# what needs deciding is decided there.

OTP = $(abspath $(or $(FLYHOT_OTP_PREFIX),target/otp))
export FLYHOT_OTP_BIN = $(OTP)/otp-25/bin
export FLYHOT_OTP_BINS = $(OTP)/otp-25/bin:$(OTP)/otp-27/bin:$(OTP)/otp-29/bin
# Most tests wait for a node most of the time; their deadlines hold with three of them on two cores.
export RUST_TEST_THREADS ?= 3

.PHONY: help setup demo demo-fleet test matrix soak fuzz bench lint fmt docs native agent clean

help: ## Show these explanations
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

setup: ## Check Rust, put Erlang/OTP 25, 27 and 29 with Elixir into target/otp; done by the others by themselves
	@tests/otp/setup.sh

demo: setup ## Build flyhot and a shop, upgrade the shop under traffic, let two bad upgrades fail
	cargo run --release --bin demo

demo-fleet: setup ## Upgrade six machines in three regions under traffic by one command, let an ill version fail on the canary; needs root
	cargo run --release --bin demo_fleet

test: setup ## Everything: all tests on OTP 25, then the matrix
	cargo test --workspace
	$(MAKE) matrix

matrix: setup ## The tests of the matrix group on OTP 27 and 29
	FLYHOT_OTP=27 cargo test --workspace --test all -- matrix:: native:: mix::
	FLYHOT_OTP=29 cargo test --workspace --test all -- matrix:: native:: mix::

soak: setup ## Every scenario with many more rounds and fresh seeds on every OTP; resumes, result in docs/soak.json
	cargo run --bin soak

# Each has its own words on what it is fed; seconds for each of them.
FUZZED = frame handshake term answer manifest artifact boot beam resource policy fly mix machines
FUZZ_SECONDS = 60

fuzz: setup ## Feed every parser of outside bytes for FUZZ_SECONDS each; what breaks one is kept in target/fuzz
	cd tests/fuzz && cargo build --release
	$(MAKE) $(FUZZED:%=fuzz-%)

fuzz-%:
	mkdir -p target/fuzz/$*
	cd tests/fuzz && cargo run --release --bin $* -- -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -timeout=10 \
		-rss_limit_mb=1024 -verbosity=0 -print_final_stats=1 -artifact_prefix=../../target/fuzz/$*- \
		../../target/fuzz/$* corpus/$*

bench: setup ## Measure the window, the rehearsal, the revert and the command; keep the figures under docs/
	cargo run --release --bin bench

lint: setup ## Check formatting and lints, warnings are errors
	cargo fmt --all --check
	cargo fmt --manifest-path tests/fuzz/Cargo.toml --check
	cargo clippy --workspace --all-targets -- -D warnings
	cd tests/fixtures/shop && PATH=$(OTP)/otp-27/bin:$$PATH mix format --check-formatted
	cd elixir_shim && PATH=$(OTP)/otp-27/bin:$$PATH mix format --check-formatted

fmt: setup ## Format Rust and Elixir
	cargo fmt --all
	cargo fmt --manifest-path tests/fuzz/Cargo.toml
	cd tests/fixtures/shop && PATH=$(OTP)/otp-27/bin:$$PATH mix format
	cd elixir_shim && PATH=$(OTP)/otp-27/bin:$$PATH mix format

docs: ## Build the pages of the Rust code under target/doc, warnings are errors
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps

native: ## Build the library for nodes and flyhot into the Elixir package, for the machine it is built on
	cargo build --release -p flyhot-native -p flyhot
	mkdir -p elixir_shim/priv
	cp target/release/flyhot elixir_shim/priv/flyhot
	cp target/release/libfly_deploy_native.so elixir_shim/priv/fly_deploy_native.so

agent: setup ## Compile the Erlang module kept in the tree beside its source, as shipped and as tested, with OTP 25
	cd driver/agent/erl && $(OTP)/otp-25/bin/erlc -Wall -Werror +deterministic flyhot_agent.erl
	cd driver/agent/erl && $(OTP)/otp-25/bin/erlc -Wall -Werror +deterministic -DFAULTS -o faults flyhot_agent.erl

clean: ## Remove everything that was built, Erlang in target/otp too
	cargo clean
