# Every target sets up .venv itself; nothing is needed but Python 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin
SEEDS ?= 100
FROM ?= 1
ARGS ?=
# Read once, before the installation, so that the demo can say how long a stranger waited.
ifndef SUBLEDGER_STARTED_AT
SUBLEDGER_STARTED_AT := $(shell date +%s.%N)
endif
export SUBLEDGER_STARTED_AT

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo serve check test test-all bench simulate fuzz sweep mutants model \
	lock

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup:
	@$(PYTHON) bootstrap.py

setup-dev:
	@$(PYTHON) bootstrap.py --dev

demo: setup ## an online cinema does six months of business, then keeps serving
	@$(BIN)/subledger demo $(ARGS)

serve: setup ## everything in one process, on an embedded PostgreSQL
	@$(BIN)/subledger serve $(ARGS)

check: setup-dev ## ruff, mypy, import contracts, purity of the core, sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/purity.py
	$(BIN)/python tools/sizes.py

test: setup-dev ## the tests, at most 8 minutes
	$(BIN)/python -m pytest -m "not long" -n 2 --dist worksteal --durations 15 $(ARGS)

test-all: setup-dev ## the long lanes, at most 25 minutes
	$(BIN)/python -m pytest -m long -n 2 --dist worksteal --durations 40 $(ARGS)

fuzz: setup-dev ## every property of the core with 100,000 examples: a night's work
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest tests/core -n 2 $(ARGS)

sweep: setup-dev ## kill the process wherever money comes in; the table goes to docs/sweep.md
	$(BIN)/python -m tests.kill.sweep --write docs/sweep.md $(ARGS)

mutants: setup-dev ## take the guards away one at a time: something has to go red for each
	$(BIN)/python -m tests.mutants $(ARGS)

model: setup-dev ## search the protocols of collecting, capturing and refunding; how many states
	$(BIN)/python -m tests.model

simulate: setup-dev ## SEEDS=n FROM=first: seeded shops of three months and twenty customers, each judged
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --from $(FROM) $(ARGS)

bench: setup-dev ## every benchmark; figures go to benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks.renewals
	$(BIN)/python -m benchmarks.access
	$(BIN)/python -m benchmarks.rating
	$(BIN)/python -m benchmarks.webhooks
	$(BIN)/python -m benchmarks.charges
	$(BIN)/python -m benchmarks.buy

lock: setup-dev ## write the lock files anew (no addresses in them)
	$(BIN)/uv pip compile -q pyproject.toml --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 -o requirements.lock
	$(BIN)/uv pip compile -q pyproject.toml --extra dev --generate-hashes --no-emit-index-url \
		--no-header --python-version 3.11 -o requirements-dev.lock
