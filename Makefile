# make quickstart: everything from a clean clone. make test: what tests need, then the tests.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip install --disable-pip-version-check --quiet
TORCH  := torch>=2.9,<2.14
DIR    ?= wrenfield

.PHONY: help setup quickstart test test-slow docs lock image image-cuda clean

help:            ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.installed          ## Make .venv with quintet in it

quickstart: setup                  ## Train, evaluate and serve the sample company (DIR=wrenfield)
	$(BIN)/quintet quickstart $(DIR)

test: $(VENV)/.installed-dev       ## Lint, type-check and test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile

test-slow: $(VENV)/.installed-dev  ## The tests that take minutes
	$(BIN)/pytest -m slow

docs: $(VENV)/.installed-docs      ## The documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open build/site/index.html"

lock:                              ## Pin what the images install (needs uv; UPGRADE=1 takes what is newest)
	uv --config-file deploy/uv.toml pip compile $(if $(UPGRADE),--upgrade) --output-file deploy/requirements.txt pyproject.toml

image:                             ## Build the image for CPUs, quintet:cpu (needs Docker)
	docker build --file deploy/Dockerfile --target cpu --tag quintet:cpu .

image-cuda:                        ## Build the image for NVIDIA GPUs, quintet:cuda (needs Docker)
	docker build --file deploy/Dockerfile --target cuda --tag quintet:cuda .

clean:                             ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Quintet needs Python 3.11 or newer; name one: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "On Debian and Ubuntu, venv is a package of its own: apt install python3-venv"; exit 1; }

# TORCH_INDEX names another index for PyTorch alone, such as that of its CPU builds.
$(VENV)/.installed: pyproject.toml $(BIN)/python
	@echo "Installing Quintet in $(VENV) (PyTorch alone is several GB with CUDA; silent until it is done)"
	$(if $(TORCH_INDEX),$(PIP) --index-url $(TORCH_INDEX) '$(TORCH)')
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.installed-docs: pyproject.toml $(VENV)/.installed
	$(PIP) --editable '.[docs]'
	@touch $@
