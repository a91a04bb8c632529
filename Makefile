# The only door: bare `make` prints this help.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
BIN := .venv/bin
T ?= tests
export PYTHONDONTWRITEBYTECODE := 1
# One tool cache inside the checkout, nothing outside it.
export RUFF_CACHE_DIR := .cache/ruff
export MYPY_CACHE_DIR := .cache/mypy

.PHONY: help
help: ## Print this help
	@awk 'BEGIN{FS=":.*## "} /^##@/{printf "\n%s\n",substr($$0,5)} /^[a-z-]+:.*## /{printf "  %-14s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

##@ Set up
.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is missing: apt-get install python3.11 python3.11-venv"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "venv is missing: apt-get install python3.11-venv"; exit 1; }

.venv/.run-installed: requirements.lock pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/.dev-installed: requirements-dev.lock .venv/.run-installed
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	@touch $@

.PHONY: setup
setup: .venv/.dev-installed ## Make .venv with everything development needs

.PHONY: lock
lock: ## Write the lock files anew from pyproject.toml
	$(BIN)/python -m app.locks

##@ Contract
.PHONY: protos
protos: .venv/.dev-installed ## Generate protos/gen from protos
	$(BIN)/python protos/generate.py

##@ Check
.PHONY: check
check: .venv/.dev-installed ## Static checks, under 60 s
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/mypy

.PHONY: fmt
fmt: .venv/.dev-installed ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: test
test: .venv/.dev-installed ## Every Python tier; T=path narrows it
	$(BIN)/pytest -n 2 $(T)
