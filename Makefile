# Everything here needs only Python 3.11 or newer (with its venv module) and make. The first target that needs them sets up `.venv`
# from requirements/*.lock; later runs find it ready.

SHELL := /bin/sh
.DEFAULT_GOAL := help
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
export GATEWAY_VENV := $(abspath $(VENV))

# The interpreter to make `.venv` from: PYTHON if given, else the first that starts, is new enough and can make environments.
PYTHON ?=
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.13 python3.12 python3.11 python3.14 python3 python)
define bootstrap
@for candidate in $(CANDIDATES); do \
  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
    exec "$$candidate" scripts/bootstrap.py $(1); \
  fi; \
done; \
echo "Python 3.11 or newer with its venv module is needed (tried: $(CANDIDATES))." >&2; \
echo "Install it (Debian and Ubuntu: python3 and python3-venv), or name one: make PYTHON=/path/to/python3" >&2; \
exit 1
endef
PINNED := requirements/build.lock pyproject.toml scripts/bootstrap.py

.PHONY: help demo test test-ci check format bench soak lock clean

help: ## Show this list
	@echo "make demo     watch one warm transfer and one hospital fast-track between real processes (ARGS=\"--once --json FILE\")"
	@echo "make test     run the tests, on SQLite and on a PostgreSQL that the tests start themselves (ARGS=\"tests/unit -k WORD\")"
	@echo "make check    lint, format, types, import rules, architecture, and that nothing flows that was not approved"
	@echo "make format   put the code into its one format"
	@echo "make test-ci  run the long tests that 'make test' leaves out"
	@echo "make bench    measure throughput, latency, start and memory against the naive build (ARGS=\"--quick --check\")"
	@echo "make soak     kill, load and fuzz the hub at length (SOAK_SCALE=0.1 for a tenth)"
	@echo "make lock     bring requirements/*.lock up to pyproject.toml, keeping versions (ARGS=--upgrade for the newest)"
	@echo "make clean    remove .venv, caches and what the demo wrote"

$(VENV)/.runtime.stamp: requirements/runtime.lock $(PINNED)
	$(call bootstrap,runtime)

$(VENV)/.dev.stamp: requirements/dev.lock requirements/runtime.lock $(PINNED)
	$(call bootstrap,dev)

demo: $(VENV)/.runtime.stamp
	@$(BIN)/gateway demo $(ARGS)

test: $(VENV)/.dev.stamp
	@$(BIN)/python scripts/test.py $(ARGS)

test-ci: $(VENV)/.dev.stamp
	@$(BIN)/python -m pytest -m "ci" $(ARGS)

check: $(VENV)/.dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/unit/test_architecture.py
	$(BIN)/gateway policy check

format: $(VENV)/.dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev.stamp
	@$(BIN)/python -m tests.bench.run $(ARGS)

soak: $(VENV)/.dev.stamp
	@$(BIN)/python -m pytest -m soak -s $(ARGS)

# The index address is left out of the lock files: whoever installs chooses the index.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command "make lock" $(ARGS)
lock: $(VENV)/.dev.stamp
	$(COMPILE) pyproject.toml --group dev -o requirements/dev.lock
	$(COMPILE) pyproject.toml -c requirements/dev.lock -o requirements/runtime.lock
	$(COMPILE) requirements/build.in -c requirements/dev.lock -o requirements/build.lock

clean:
	rm -rf tests/clients/javascript/node_modules .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist var *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
