PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
KERNEL_SOURCE := lambdas/layer/kernel
KERNEL := build/kernel/.ready
UV_VERSION := $(shell sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements.lock)
SOURCES := lambdas/functions model_prep workflows tests benchmarks
VALIDATOR := build/node/node_modules/.bin/asl-validator
CHECKOV := build/checkov/bin/checkov
TRANSFORMED := build/transformed-template.json

.DEFAULT_GOAL := help
.PHONY: help setup demo test exact chaos e2e build bench lint format render lock clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) $(KERNEL) ## make .venv from the lock, with the command .venv/bin/lamella, and the compiled kernel

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lamella needs Python 3.11 or later: make PYTHON=python3.11 setup")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# With the system's compiler, or one from PyPI; without either, everything works, slowly, and says so.
$(KERNEL): $(wildcard $(KERNEL_SOURCE)/*.[ch]) $(KERNEL_SOURCE)/build.sh $(READY)
	@UV=$(BIN)/uv sh $(KERNEL_SOURCE)/build.sh $(shell uname -m) build/kernel && touch $@ \
		|| echo "the kernel was not compiled: runs take several times as long until 'make setup' finds a compiler" >&2

demo: $(READY) $(KERNEL) ## run the main job, end to end, on the embedded cloud
	$(BIN)/lamella demo

test: $(READY) $(KERNEL) ## run every test but the slowest, in two processes
	$(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

exact: $(READY) $(KERNEL) ## compare runs by every strategy over every channel with plain scipy, bit by bit (minutes)
	$(BIN)/python -m benchmarks.exact --quick

chaos: $(READY) $(KERNEL) ## disturb runs at random: each ends exactly or with an error that has a name (minutes)
	$(BIN)/python -m benchmarks.chaos --seeds 40

e2e: $(READY) $(KERNEL) ## deploy, run, update and delete with the official SAM and AWS command lines (minutes)
	$(BIN)/python -m pytest tests/e2e

build: $(READY) ## run `sam build` (AWS SAM CLI), and say how large each function is, unzipped, with its layer
	PATH="$(CURDIR)/$(BIN):$$PATH" sam build
	$(BIN)/python -m workflows.built_sizes

bench: $(READY) $(KERNEL) ## install the other libraries of `python -m benchmarks.kernel` (gigabytes) into build/bench
	$(BIN)/uv pip install --quiet --python $(BIN)/python --target build/bench --requirements benchmarks/requirements.txt

lint: $(READY) $(VALIDATOR) $(CHECKOV) ## check style, types, imports, the template and the state machine
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m workflows.lint_template --keep $(TRANSFORMED)
	$(CHECKOV) --config-file workflows/checkov/config.yaml --file $(TRANSFORMED)
	$(BIN)/python -m workflows.state_machine.render --check
	$(BIN)/python -m workflows.request_schema --check
	$(BIN)/python -m workflows.state_machine.validate $(VALIDATOR)

$(VALIDATOR): workflows/state_machine/validator/package-lock.json
	mkdir -p build/node
	cp workflows/state_machine/validator/package*.json build/node/
	npm ci --prefix build/node --silent --no-audit --no-fund
	@touch $@

$(CHECKOV): workflows/checkov/requirements.lock $(READY)
	$(BIN)/python -m venv --clear --without-pip build/checkov
	$(BIN)/uv pip sync --quiet --python build/checkov/bin/python --require-hashes workflows/checkov/requirements.lock
	@touch $@

format: $(READY) ## format the sources
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

render: $(READY) ## write the state machine and the schema of its input again from their Python
	$(BIN)/python -m workflows.state_machine.render
	$(BIN)/python -m workflows.request_schema

lock: $(READY) ## resolve the ranges of pyproject.toml again
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml -o lambdas/layer/requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --all-extras -c lambdas/layer/requirements.lock pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header workflows/checkov/requirements.in -o workflows/checkov/requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header $(KERNEL_SOURCE)/requirements.in -o $(KERNEL_SOURCE)/requirements.lock

clean: ## remove everything that was built or downloaded
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
