# Everything a person or CI does with this checkout.  `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# The interpreter that makes .venv; the locks are compiled for 3.11.
PYTHON ?= $(shell for name in python3.11 python3; do \
              $$name -c '' 2>/dev/null && echo $$name && break; done)
# Arguments for `ringfence demo`, for example `make demo DEMO='--pilot 200'`.
DEMO ?=
# Arguments for `pip-compile`, for example `make lock LOCK=--upgrade`; pins stay where they are else.
LOCK ?=
# Test processes; every test file stays in one of them.  `make test WORKERS=` uses none.
WORKERS ?= -n 2 --dist loadfile

BIN := .venv/bin
CODE := $(wildcard src tests bench examples)
TYPED := src $(wildcard bench/*.py)
PIP := $(BIN)/python -m pip --disable-pip-version-check
PIP_INSTALL := $(PIP) install -qq --compile

# Several processes share the cores: two spinning thread pools are slower than one thread each.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- set-up -------------------------------------------------------------------------------------

.PHONY: setup
setup: .venv/ringfence-installed ## install the locked packages, torch and ringfence into .venv

# Made anew when a lock changes, so that no package lingers which the lock no longer names.
.venv/packages-installed: requirements/dev.txt requirements/torch.txt
	@test -n "$(PYTHON)" || { echo "no Python found: install Python 3.11, or name it:" \
	    "make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "expected Python" \
	    "3.11 or newer, got $$($(PYTHON) --version 2>&1) from $(PYTHON); name another:" \
	    "make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(PIP_INSTALL) --only-binary :all: --require-hashes -r requirements/dev.txt
	$(PIP_INSTALL) --only-binary :all: -r requirements/torch.txt
	@touch $@

# Offline: the build backend is among the locked packages.
.venv/ringfence-installed: .venv/packages-installed pyproject.toml
	$(PIP_INSTALL) --no-index --no-deps --no-build-isolation --editable .
	$(PIP) check
	@touch $@

# ---- use ----------------------------------------------------------------------------------------

.PHONY: demo
demo: setup ## four regions and a hub on this machine; writes build/demo.json
	@mkdir -p build
	$(BIN)/ringfence demo $(DEMO)

.PHONY: bench
bench: setup ## measure the border and the law; writes build/bench-*.json
	@mkdir -p build
	$(BIN)/python bench/border.py
	$(BIN)/python bench/law.py

# ---- judge --------------------------------------------------------------------------------------

.PHONY: test
test: setup ## run the fast tests
	$(BIN)/python -m pytest $(WORKERS)

.PHONY: test-all
test-all: setup ## run every test, slow and end-to-end ones too
	$(BIN)/python -m pytest $(WORKERS) -m ''

.PHONY: lint
lint: setup ## check format, style, types and floors
	$(BIN)/ruff format --check --quiet $(CODE)
	$(BIN)/ruff check --quiet $(CODE)
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports

# Two steps of one recipe, not two prerequisites: `make -j check` must not mix their output.
.PHONY: check
check: setup ## lint and every test: what CI runs
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test-all

# ---- change -------------------------------------------------------------------------------------

.PHONY: format
format: setup ## rewrite the code in the one format
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

# The two smaller locks start as copies of the large one, so that all three hold the same pins.
COMPILE := CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/pip-compile --quiet --strip-extras \
    --allow-unsafe --generate-hashes --no-emit-index-url --no-emit-find-links \
    --no-emit-trusted-host --no-emit-options pyproject.toml

.PHONY: lock
lock: setup ## compile requirements/*.txt from pyproject.toml and requirements/dev.in
	$(COMPILE) $(LOCK) requirements/dev.in --extra hub --extra demo --extra dev \
	    --output-file requirements/dev.txt
	cp requirements/dev.txt requirements/hub.txt
	$(COMPILE) --extra hub --output-file requirements/hub.txt
	cp requirements/dev.txt requirements/gateway.txt
	$(COMPILE) --output-file requirements/gateway.txt

.PHONY: clean
clean: ## remove what make made, .venv included
	rm -rf .venv build dist src/*.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
