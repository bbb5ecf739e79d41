# `make quickstart` and `make test` do all the set-up they need; see README.md.
PYTHON ?= python3
VENV   ?= .venv
CONFIG ?= jobs/configs/quickstart.yaml
BIN    := $(VENV)/bin

RUN := $(VENV)/.run-installed
DEV := $(VENV)/.dev-installed

.DEFAULT_GOAL := help
.PHONY: help setup quickstart serve test lint format bench clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(RUN) ## make the virtual environment and install the pinned packages

# torch brings what its build needs (CPU or CUDA); everything else is pinned in full and installed as listed.
$(RUN): requirements/run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %d.%d; set PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q "$$(grep '^torch==' requirements/run.txt)" -c requirements/run.txt
	$(BIN)/pip install -q --no-deps -r requirements/run.txt
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): $(RUN) requirements/dev.txt
	$(BIN)/pip install -q --no-deps -r requirements/dev.txt
	@touch $@

quickstart: $(RUN) ## run the whole path on the built-in corpus; ends with a report
	$(BIN)/python jobs/pipeline.py $(CONFIG)

serve: $(RUN) ## serve the quickstart's index on http://127.0.0.1:8000
	$(BIN)/python jobs/serve.py $(CONFIG)

test: $(DEV) ## run the tests
	$(BIN)/python -m pytest

lint: $(DEV) ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(DEV) ## let ruff put the code in order
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(DEV) ## the design of the quickstart, variant by variant, on the dev questions (an hour)
	$(BIN)/python benchmarks/quickstart_design.py

clean: ## remove the virtual environment and the runs
	rm -rf $(VENV) runs
