# The targets that people and CI run. `make` alone lists them.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# uv is ten times quicker; pip reads its own configuration of indexes and so works where uv does not.
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

.PHONY: help setup demo serve test check fix bench lock clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /  \1\t/'

# Each stamp stands for one locked set of packages in .venv; a newer lock file installs again.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "muster needs Python 3.11 or later; name one with: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Making .venv ..."
	@$(PYTHON) -m venv .venv

.venv/%.stamp: requirements/%.txt pyproject.toml | .venv/bin/python
	@echo "Installing the $* packages into .venv ..."
	@$(PIP) --require-hashes -r requirements/uv.txt
	@$(UV) --require-hashes -r requirements/$*.txt 2>.venv/uv.log \
		|| { echo "uv could not; trying pip, which takes longer ..."; \
		     $(PIP) --require-hashes -r requirements/$*.txt || { cat .venv/uv.log; exit 1; }; }
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

setup: .venv/server.stamp  ## make .venv with the server and the `muster` command in it

demo: .venv/demo.stamp  ## run real training jobs on a server of their own, and show them counted
	@$(BIN)/muster demo

serve: .venv/server.stamp  ## start a server on http://127.0.0.1:8080
	@$(BIN)/muster serve

# Where Python was told to keep nothing, each server that a test starts would be compiled anew. What
# takes longest goes first (tests/conftest.py), so that no worker is left with it at the end.
test: .venv/test.stamp  ## run every test
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 5 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

check: .venv/test.stamp  ## format, lint, types, layers
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: .venv/test.stamp  ## format, and mend what the linter can
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

bench: .venv/demo.stamp  ## measure; prints a table, writes bench/results/*.json
	@$(BIN)/python -m bench $(BENCH_ARGS)

lock: .venv/test.stamp  ## resolve requirements/*.txt again
	$(COMPILE) requirements/uv.in -o requirements/uv.txt
	$(COMPILE) pyproject.toml requirements/build.in -o requirements/server.txt
	$(COMPILE) pyproject.toml requirements/build.in --extra demo -o requirements/demo.txt
	$(COMPILE) pyproject.toml requirements/build.in requirements/test.in --extra demo --extra notebook --extra tensorboard -o requirements/test.txt
	$(COMPILE) requirements/mlflow.in -o requirements/mlflow.txt

clean:  ## remove what the targets made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/results
