# make quickstart: everything from a clean clone. make test: what tests need, then the tests.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DIR    ?= wrenfield

.PHONY: help setup quickstart test test-slow check clean

help:            ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed          ## Make .venv with quintet in it

quickstart: setup                  ## Train, evaluate and serve the sample company (DIR=wrenfield)
	$(BIN)/quintet quickstart $(DIR)

test: $(VENV)/.installed-dev       ## Lint, type-check and test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

test-slow: $(VENV)/.installed-dev  ## The tests that take minutes
	$(BIN)/pytest -m slow

clean:                             ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(BIN)/python
	$(BIN)/pip install --disable-pip-version-check --quiet --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.installed
	$(BIN)/pip install --disable-pip-version-check --quiet --editable '.[dev]'
	touch $@
