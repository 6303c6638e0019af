# One word for each task. `make` lists them.

VENV := .venv
BIN := $(VENV)/bin
# Written when the environment has the packages of the lock files.
READY := $(VENV)/.location

.DEFAULT_GOAL := help
.PHONY: help setup run demo test bench chaos lint format clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# If the checkout was moved or another Python is named (make run PYTHON=python3.13),
# deploy/setup.sh creates the environment again.
ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
else ifneq ($(PYTHON),)
ifneq ($(shell cat $(VENV)/.python 2>/dev/null),$(PYTHON))
.PHONY: $(READY)
endif
endif

$(READY): requirements-dev.lock pyproject.toml deploy/setup.sh
	@sh deploy/setup.sh $(VENV)

setup: $(READY) ## create the virtual environment and install the locked packages

run: setup ## start everything; Ctrl-C stops it
	@$(BIN)/carnet up

demo: setup ## run the main story through a running system
	@$(BIN)/carnet demo

test: setup ## run every test, with their own servers (ARGS="-k name" selects some)
	@$(BIN)/carnet with-servers -- $(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

bench: setup ## measure the speed (ARGS="gateway" or ARGS=--quick; all takes 25 minutes)
	@$(BIN)/carnet bench run $(ARGS)

chaos: setup ## stop and disturb everything and count losses (MINUTES=30, SEED= of an earlier run)
	@$(BIN)/carnet chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

lint: setup ## check style, types, import rules, event shapes and migrations
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/carnet check-source
	$(BIN)/carnet event-shapes check
	$(BIN)/carnet mail-catalogues check
	$(BIN)/carnet with-servers -- $(BIN)/carnet check-migrations

format: setup ## format the code and apply safe fixes
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

clean: ## remove the environment, caches and test data, not the data of a stack
	rm -rf $(VENV) .carnet/test* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .schemathesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
