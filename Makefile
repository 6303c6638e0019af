# One word per thing to do. `make` alone lists them.

VENV := .venv
BIN := $(VENV)/bin
# Touched when the environment holds what the lock files say.
READY := $(VENV)/.location

.DEFAULT_GOAL := help
.PHONY: help setup run demo test bench chaos lint format clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A checkout that was moved needs its environment anew, and so may another Python
# (make run PYTHON=python3.13): deploy/setup.sh decides.
ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
else ifneq ($(PYTHON),)
ifneq ($(shell cat $(VENV)/.python 2>/dev/null),$(PYTHON))
.PHONY: $(READY)
endif
endif

$(READY): requirements-dev.lock pyproject.toml deploy/setup.sh
	@sh deploy/setup.sh $(VENV)

setup: $(READY) ## make the virtual environment and install the locked packages

run: setup ## start everything and keep it running: Ctrl-C stops it
	@$(BIN)/carnet up

demo: setup ## drive the main story through a running system
	@$(BIN)/carnet demo

test: setup ## run every test, with servers of their own (ARGS="-k name" to choose)
	@$(BIN)/carnet with-servers -- $(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

bench: setup ## measure how fast it is (ARGS="gateway" or ARGS=--quick; the whole takes 25 minutes)
	@$(BIN)/carnet bench run $(ARGS)

chaos: setup ## make everything fail and count what is lost (MINUTES=30, SEED= of an earlier run)
	@$(BIN)/carnet chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

lint: setup ## check style, types, import rules, event shapes and migrations
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/carnet event-shapes check
	$(BIN)/carnet with-servers -- $(BIN)/carnet check-migrations

format: setup ## put the code into its format
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

clean: ## remove the environment, caches and test data; a stack's own data stays
	rm -rf $(VENV) .carnet/test* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
