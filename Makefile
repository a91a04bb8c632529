# The only door: bare `make` prints this help.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Debian's own Python is built with all optimisations; what version managers build often is not.
PYTHON ?= $(or $(shell for each in /usr/bin/python3.11 python3.11; do $$each -c 'import ensurepip, venv' 2>/dev/null && echo $$each && break; done),python3.11)
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
# What to test: a path, or several.
T ?= tests
# Processes that run tests.
JOBS ?= 2
# 1 runs the fault tier in full length.
FULL ?=
# What `make bench` compares, in this order.
ONLY ?= direct,nginx,tensorzero,turnpike
ROUNDS ?= 2
export PYTHONDONTWRITEBYTECODE := 1
export RUFF_CACHE_DIR := .cache/ruff
export MYPY_CACHE_DIR := .cache/mypy
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help
help: ## Print this help
	@awk 'BEGIN{FS=":.*## "} /^##@/{printf "\n%s\n",substr($$0,5)} /^[a-z0-9-]+:.*## /{printf "  %-14s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

##@ Set up
.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is missing: apt-get install python3.11 python3.11-venv"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "venv is missing: apt-get install python3.11-venv"; exit 1; }
	@echo "Making .venv (once)"
	@$(PYTHON) -m venv .venv

.venv/.run-installed: requirements.lock pyproject.toml | .venv/bin/python
	@echo "Installing what Turnpike needs into .venv"
	@$(PIP) --require-hashes --no-deps -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev-installed: requirements-dev.lock .venv/.run-installed
	@echo "Installing what its development needs into .venv"
	@$(PIP) --require-hashes --no-deps -r requirements-dev.lock
	@touch $@

.PHONY: setup triton
setup: .venv/.dev-installed triton ## Make .venv and .venv-triton with everything development needs
triton: | .venv/bin/python
	@$(BIN)/python examples/triton/environment.py --path .venv-triton

.PHONY: lock
lock: .venv/.dev-installed ## Write the lock files anew (needs uv)
	uv pip compile --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q pyproject.toml --extra embedded --extra tempo -o requirements.lock
	uv pip compile --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q pyproject.toml --extra embedded --extra tempo --extra dev -c requirements.lock -o requirements-dev.lock

##@ Run
.PHONY: run
run: .venv/.run-installed ## Everything in one process, with a local NATS and Triton; Ctrl-C ends it
	@$(BIN)/python examples/triton/environment.py --path .venv-triton || true
	@exec $(BIN)/turnpike serve

.PHONY: chain
chain: tests/node/mpp/node_modules/.package-lock.json ## A local chain for machine payments, see docs/payments.md; Ctrl-C ends it
	@cd tests/node/mpp; node_modules/@foundry-rs/anvil-*/bin/anvil* --host 127.0.0.1 --port 18545 --network tempo --hardfork T4 --chain-id 42431 --silent & \
	trap "kill $$!" EXIT; node rpc_shim.mjs http://127.0.0.1:18545/ 18546

##@ Contract
.PHONY: protos
protos: .venv/.dev-installed ## Generate protos/gen from protos
	$(BIN)/python protos/generate.py

##@ Check
.PHONY: check fmt
check: .venv/.dev-installed ## Static checks, under 60 s
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	mkdir -p .cache; $(BIN)/lint-imports --no-cache >.cache/imports.log || { cat .cache/imports.log; exit 1; }
	$(BIN)/buf lint
	$(BIN)/mypy

fmt: .venv/.dev-installed ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

##@ Test
.PHONY: test test-all node fuzz faults k8s-check
test: .venv/.dev-installed triton ## Every Python tier that needs no GPU; T=path narrows it
	$(PYTEST) -q -n $(JOBS) --dist loadgroup $(T)

test-all: test node fuzz faults ## Everything: test, Node's clients, short fuzz, short faults

%/node_modules/.package-lock.json: %/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing: apt-get install nodejs npm"; exit 1; }
	cd $* && npm ci --no-audit --no-fund

NODE_INSTALLED := tests/node/node_modules/.package-lock.json tests/node/mpp/node_modules/.package-lock.json
node: .venv/.dev-installed $(NODE_INSTALLED) ## The official clients for Node
	$(PYTEST) -q -n $(JOBS) -o addopts="" --import-mode=importlib tests/node

fuzz: .venv/.dev-installed ## Properties, the served API and byte readers, with many more examples
	HYPOTHESIS_PROFILE=fuzz $(PYTEST) -q -n $(JOBS) --dist loadgroup tests/unit tests/fuzz

faults: .venv/.dev-installed ## Kill processes under load; FULL=1 for all of it
	FULL=$(FULL) $(PYTEST) -q -s -o addopts="" --import-mode=importlib --timeout=1500 tests/faults

k8s-check: .venv/.dev-installed ## Check images, manifests and the Tiltfile without a cluster
	$(PYTEST) -q tests/house/test_deploy.py tests/house/test_images.py tests/house/test_tiltfile.py

##@ Measure
.PHONY: bench bench-micro
bench: .venv/.run-installed bench/peers/.installed ## Compare with nginx and a peer; ONLY= and ROUNDS= narrow it
	@command -v nginx >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get install -y -qq nginx-light >/dev/null; } || { echo "nginx is missing: apt-get install nginx-light"; exit 1; }
	$(BIN)/python bench/run.py --only $(ONLY) --rounds $(ROUNDS) --seconds 3 2>bench/peers/rounds.log

bench-micro: .venv/.dev-installed triton ## What a token from a real Triton costs, how soon it is cancelled, a usage event in SQLite, a route, a translated chunk, a voucher, a draw from a lease
	$(BIN)/python bench/triton.py
	$(BIN)/python bench/cancel.py
	$(BIN)/python bench/ledger.py
	$(BIN)/python bench/settlement.py
	$(BIN)/python bench/routing.py
	$(BIN)/python bench/translated.py
	$(BIN)/python bench/voucher.py
	$(BIN)/python bench/lease.py

bench/peers/.installed: bench/peers.lock | .venv/bin/python
	@mkdir -p bench/peers
	@$(BIN)/python -m venv bench/peers/tensorzero
	@bench/peers/tensorzero/bin/pip install --quiet --disable-pip-version-check --require-hashes -r bench/peers.lock
	@touch $@
