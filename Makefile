.DEFAULT_GOAL := help
.PHONY: help setup web web-types run test check format docs bench screenshots standins clean
UV := scripts/uv

help:  ## Show what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## Install what is missing: Python packages, PostgreSQL, Mosquitto, Keycloak (root or sudo)
	@scripts/bootstrap

web: setup web/dist/index.html  ## Build the web page into web/dist

web/dist/index.html: web/node_modules/.whole $(shell find web/src web/index.html web/vite.config.ts -type f)
	@scripts/npm run --silent build

web/node_modules/.whole: web/package-lock.json | setup
	@scripts/npm ci --silent
	@touch $@

web-types: setup  ## Write the page's types anew from the protocol
	@$(UV) run --frozen python -m shared.typescript

run: web  ## The main job, visibly, on a real stack; then it stays up (ONCE=1 ends after the story)
	@$(UV) run --frozen python -m tests.e2e.story $(if $(ONCE),--once)

test: web check  ## All checks and all tests
	@$(UV) run --frozen pytest $(ARGS)

check: setup web/node_modules/.whole  ## Style, types, import contracts, and the page's own small tests
	@$(UV) run --frozen ruff check .
	@$(UV) run --frozen ruff format --check --quiet .
	@$(UV) run --frozen mypy
	@$(UV) run --frozen lint-imports --no-cache
	@scripts/npm run --silent check

format: web/node_modules/.whole  ## Format the code and mend what can be mended
	@$(UV) run --frozen ruff check --fix .
	@$(UV) run --frozen ruff format .
	@scripts/npm run --silent format

docs: setup  ## Draw the state diagram in docs/rotation.md anew
	@$(UV) run --frozen python -m services.rotator.diagram

bench: setup  ## How fast 50 devices get an image over each road (ARGS="--devices 10 --json FILE")
	@$(UV) run --frozen python -m tests.bench $(ARGS)

screenshots: web  ## Take the pictures in docs/screenshots/ anew (needs Chromium)
	@$(UV) run --frozen python -m tests.web.screenshots

standins: setup  ## The integration tests on containers made from Debian packages (root, starts its own engine)
	@scripts/with-docker-standins $(UV) run --frozen pytest tests/integration $(ARGS)

clean:  ## Remove what tools left in this folder; the cache of downloads stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .run htmlcov .coverage web/node_modules web/dist
