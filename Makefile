# Every target creates what it needs; `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# buf would make its cache wherever it runs.
export BUF_CACHE_DIR := $(CURDIR)/$(VENV)/buf-cache

.DEFAULT_GOAL := help
.PHONY: help setup demo dev test fuzz lint proto schema bench bench-stored bench-readers bench-pairs bench-peers lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create .venv with everything pinned

$(STAMP): requirements/dev.txt pyproject.toml
	@echo "Setting up $(VENV) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## Run a real checkout workflow on an embedded PostgreSQL
	@$(BIN)/tasker demo

dev: $(STAMP) ## PostgreSQL and both services in this terminal until Ctrl-C
	@$(BIN)/tasker dev --templates examples --handlers examples

test: $(STAMP) ## Run every test
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3

fuzz: $(STAMP) ## Send both servers what nobody would send (FUZZ_SECONDS=60, FUZZ_SEED)
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-60} PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -s tests/chaos/test_fuzzed_calls.py

lint: $(STAMP) ## Style, types, import rules, the contract and what is generated from it
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=. $(BIN)/lint-imports
	@$(BIN)/buf lint
	@$(BIN)/python proto/generate.py --check

proto: $(STAMP) ## Regenerate stubs, descriptor set and page of the contract
	@$(BIN)/python proto/generate.py

schema: $(STAMP) ## Regenerate the template schema in docs
	@$(BIN)/python -m tasker.domain.templates.editor_schema > docs/template.schema.json

bench: $(STAMP) ## Measure latency and throughput; writes benchmarks/latest.json
	@$(BIN)/python -m benchmarks.run

bench-stored: $(STAMP) ## The same on an empty and on a full database, in turns (BENCH_STORED=100000 finished tasks)
	@$(BIN)/python -m benchmarks.stored

bench-readers: $(STAMP) ## The same with and without old snapshots that stay open for five minutes of load
	@$(BIN)/python -m benchmarks.readers

bench-pairs: $(STAMP) ## The same on this checkout and on another one, in turns (BEFORE=path, with a .venv of its own)
	@$(BIN)/python -m benchmarks.pairs $(BEFORE)

bench-peers: $(STAMP) ## Tasker beside other engines on PostgreSQL (PEERS=river,dbos; BENCH_SCALE=0.2)
	@$(BIN)/python -m benchmarks.peers.run

lock: $(STAMP) ## Pin the requirement files anew
	@$(BIN)/python -m pip install --quiet pip-tools
	@$(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	  --no-header --strip-extras --allow-unsafe --annotation-style=line --extra dev --extra embedded \
	  -o requirements/dev.txt pyproject.toml

clean: ## Remove everything the targets made
	rm -rf $(VENV) .tasker .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build benchmarks/latest.json \
	  benchmarks/peers/latest.json benchmarks/peers/latest.svg
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
