# autoreply: `make demo` shows it, `make test` tests it; both install what is missing and say what.
.DEFAULT_GOAL := help
.PHONY: help demo test lint run build load deps deps-build services services-down compose-check chaos ops-check drill upgrade-test

CARGO ?= cargo
# HexChat and the OCR engine are children of what cargo starts: one thread each is fastest for rows of text.
export OMP_THREAD_LIMIT = 1

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: deps ## The main job, for you to watch: a real chat window gets verified replies; leaves demo-report/report.html
	@$(CARGO) build --quiet --features failpoints || $(CARGO) build --features failpoints
	@./target/debug/autoreply demo --directory demo-report

test: deps ## Every test: unit, property, architecture, conformance, end to end with HexChat, crashes
	@scripts/test

chaos: deps ## A whole cluster under load while its parts are killed, stopped and wiped (about an hour; CHAOS=--short: 2); leaves chaos-report/report.html
	@scripts/install-services
	$(CARGO) build --release --workspace
	@./target/release/chaos $(CHAOS)

lint: deps-build ## Formatting, clippy with warnings as errors, import rules, each half alone
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --features failpoints -- -D warnings
	$(CARGO) clippy --lib --bins --no-default-features --features desktop -- -D warnings
	$(CARGO) clippy --lib --bins --no-default-features --features worker -- -D warnings
	$(CARGO) test --quiet --features failpoints --test architecture

run: deps-build ## autoreply on this machine's own windows (drafts only, until you say otherwise)
	@$(CARGO) build --quiet || $(CARGO) build
	@./target/debug/autoreply run

load: deps-build ## A load run with real servers, a release build and a report: SCENARIO=platform|mail|peak|concurrent|saturate|rolling
	@scripts/install-services
	@$(CARGO) build --release -p autoreply -p autoreply-load-tests --bins
	@./target/release/load $(or $(SCENARIO),platform) $(LOAD_FLAGS)

build: deps-build ## The program, ready to be installed: target/release/autoreply
	$(CARGO) build --release

services: ## Apache Kafka, PostgreSQL and Redis on loopback, installed on first use (BROKERS=3: three brokers)
	@scripts/install-services
	@scripts/services up
	@echo 'Point tests at them: . target/services/env    End them: make services-down    More: docs/services.md'

services-down: ## Ends what make services started; the data stays
	@scripts/services down

compose-check: ## docker-compose.yml against the schema of compose files, Dockerfile against hadolint
	@scripts/check-compose

ops-check: deps-build ## Compose, Dockerfile, manifests, units, rules, dashboards, shell, by real tools (PARTS="rules queries": only those)
	@scripts/ops-check $(PARTS)

drill: deps-build ## Five alerts, each from its cause to its end, by the runbooks (about six minutes; ALERT=AutoreplyDeskSilent: only that one)
	@scripts/install-services
	$(CARGO) build --workspace --bins
	@ops/drills/run $(ALERT)

upgrade-test: deps-build ## A worker of this version beside one of the version before, on one ledger, while people write
	@scripts/install-services
	@scripts/test-upgrade

deps-build:
	@scripts/install-build-deps

deps: deps-build
	@scripts/install-run-deps
