.DEFAULT_GOAL := help
.PHONY: help setup web run serve test check format docs asyncapi map bench soak drill sdk screenshots standins cluster clean
UV := scripts/uv
WORKERS ?= 3
# Hundreds of processes are started: without the bytecode of earlier ones, each compiles all modules.
unexport PYTHONDONTWRITEBYTECODE

help:  ## Show what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## Install what is missing: Python packages, PostgreSQL, Mosquitto, Keycloak (root or sudo)
	@scripts/bootstrap

web: setup web/dist/index.html  ## Build the web page into web/dist

web/dist/index.html: web/node_modules/.whole $(shell find web/src web/index.html web/vite.config.ts -type f)
	@scripts/npm web run --silent build

web/node_modules/.whole: web/package-lock.json | setup
	@scripts/npm web ci --silent
	@touch $@

run: web  ## The main job, visibly, on a real stack; then it stays up (ONCE=1: not; DEVICE=c, micropython)
	@$(UV) run --frozen python -m dev.story $(if $(ONCE),--once) $(if $(DEVICE),--device $(DEVICE))

serve: web  ## The system, to stay: its data in a folder, its ports the same at each start (ARGS="--data FOLDER")
	@$(UV) run --frozen python -m dev.serve $(ARGS)

test: web  ## All tests (in three processes with servers of their own; WORKERS=0: in one), and beside them all checks
	@mkdir -p .run
	@( $(MAKE) --no-print-directory check >.run/check.log 2>&1 || { cat .run/check.log; exit 1; } ) & check=$$!; \
	$(UV) run --frozen pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS); \
	tests=$$?; wait $$check && exit $$tests

check: setup web/node_modules/.whole  ## Style, types, import contracts, words, C without warnings, the page's small tests
	@$(UV) run --frozen ruff check .
	@$(UV) run --frozen ruff format --check --quiet .
	@$(UV) run --frozen mypy
	@$(UV) run --frozen lint-imports --no-cache
	@$(UV) run --frozen python -m tools.words
	@$(MAKE) --no-print-directory -s -C sdk/c
	@scripts/npm web run --silent check

format: web/node_modules/.whole  ## Format the code and mend what can be mended
	@$(UV) run --frozen ruff check --fix .
	@$(UV) run --frozen ruff format .
	@scripts/npm web run --silent format

docs: setup  ## Make anew what is made of the code: the API's documents, tables, test vectors, the page's types
	@$(UV) run --frozen python -m tools

asyncapi: docs

map: setup  ## What each folder is for (docs/map.md has the modules too)
	@$(UV) run --frozen python -m tools.tree

bench:  ## How fast it is, against baselines of the same run (ARGS="configuration --json FILE")
	@scripts/bootstrap bench
	@$(UV) run --frozen python -m dev.bench $(ARGS)

soak: setup  ## Whether memory stays flat with 1000 simulated devices for 10 minutes (ARGS="--devices 100 --minutes 3")
	@$(UV) run --frozen python -m dev.soak $(ARGS)

drill: setup  ## Whether 1000 simulated devices come through the loss of each server, and an update (ARGS="broker --away-s 10")
	@$(UV) run --frozen python -m dev.drill $(ARGS)

sdk:  ## What the device in C takes of a board: flash, memory, stack (a compiler for RISC-V is unpacked)
	@scripts/bootstrap sdk
	@$(UV) run --frozen pytest -q -n 0 tests/sdk/test_c_limits.py

screenshots: web  ## Take the pictures in docs/screenshots/ anew (needs Chromium)
	@$(UV) run --frozen python -m tests.web.screenshots

standins: setup  ## The tests of compose, or ARGS, on an engine of its own (root; installs docker.io, debootstrap with apt)
	@scripts/with-docker-standins $(UV) run --frozen pytest $(if $(ARGS),$(ARGS),tests/compose)

cluster: setup  ## The main jobs on two nodes of RMQTT (needs rmqttd, see docs/scaling.md)
	@$(UV) run --frozen pytest tests/cluster $(ARGS)

clean:  ## Remove what tools left in this folder; the cache of downloads stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .run htmlcov .coverage
	@rm -rf tests/asyncapi/node_modules tests/s3/node_modules web/node_modules web/dist sdk/c/build
	@find . -name __pycache__ -prune -exec rm -rf {} +
