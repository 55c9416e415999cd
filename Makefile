# Everything lives in .venv; Python 3.11 or newer, pip and make are all that must be there before.
# `make help` prints the lines that begin with a target and two hashes.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage check chaos chaos-proof bench lint format clean

BIN := .venv/bin
READY := .venv/.hodei-ready
PYTEST_ARGS ?=
JOBS ?= 2
SEEDS ?= 1-20
SAGAS ?= 200
KILLS ?= 20
CHAOS_ARGS ?=
BENCH_ARGS ?=

help: ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)$$/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

setup: $(READY) ## make .venv with the pinned dependencies (skipped while it is up to date)

demo: $(READY) ## start the embedded system, run jobs and sagas on it, print a summary, stop everything
	@$(BIN)/hodei demo

test: $(READY) ## run the tests on embedded servers, JOBS at a time (PYTEST_ARGS="-k name" for some of them)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(PYTEST_ARGS)

coverage: $(READY) ## run the tests and measure every process; prints the table and what is left out, fails below 90 %
	@rm -rf build/coverage
	@tests=0; $(BIN)/coverage run -m pytest -n $(JOBS) --dist loadgroup $(PYTEST_ARGS) || tests=$$?; \
	$(BIN)/python -m tests.harness.coverage_report && exit $$tests

check: $(READY) ## format, lint, strict types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

chaos: $(READY) ## kill, pause and cut off a real system by seed (SEEDS=1-20 SAGAS=200 KILLS=20; an hour), write docs/chaos.md
	@$(BIN)/python -m tests.chaos --seeds $(SEEDS) --sagas $(SAGAS) --kills $(KILLS) --report docs/chaos.md $(CHAOS_ARGS)

chaos-proof: $(READY) ## plant defects, one for each promise: each must be caught
	@$(BIN)/python -m tests.chaos.proof --report docs/chaos.md

bench: $(READY) ## ours beside the bare Celery chain and others, in alternating runs (BENCH_ARGS="throughput --only bare,ours"; --write: the docs)
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

lint: $(READY) ## the linter alone, mending what it can
	@$(BIN)/ruff check --fix .

format: $(READY) ## format the code
	@$(BIN)/ruff format .

clean: ## remove .venv, caches and build results (data in .hodei stay)
	@rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@set -e; \
	good='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'; \
	python=''; \
	for candidate in $(PYTHON) python3.11 python3.12 python3.13 python3 python; do \
		if command -v "$$candidate" >/dev/null 2>&1 && "$$candidate" -c "$$good" >/dev/null 2>&1; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "make: no Python 3.11 or newer with venv and pip was found; install one, or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	if ! $(BIN)/python -c "$$good" >/dev/null 2>&1; then rm -rf .venv; "$$python" -m venv .venv; fi; \
	echo "installing the pinned dependencies into .venv ..."; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'; \
	touch $@
