# Everything happens in the environment .venv, made on first use; nothing else needs to be installed but Python.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt
INSTALLED := $(VENV)/.installed
INSTALLED_TEST := $(VENV)/.installed-test
INSTALLED_DOC := $(VENV)/.installed-doc
INPUTS := pyproject.toml constraints.txt Makefile

export MPLBACKEND ?= Agg

.DEFAULT_GOAL := help
.PHONY: help demo test test-long baselines faults fuzz lint docs bench clean

help:  ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/'

demo: $(INSTALLED)  ## sections of a synthetic organ into a volume: demo/volume.h5ad, .png and .html
	$(BIN)/isost demo --out demo

test: $(INSTALLED_TEST)  ## run the tests, with coverage
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

test-long: $(INSTALLED_TEST)  ## random sections through the public functions, 25 times as many as in the tests
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest tests/test_any_sections.py

baselines: $(INSTALLED_TEST)  ## draw the pictures anew that the tests compare with; look at them before you commit
	ISOST_NEW_BASELINES=1 $(BIN)/python -m pytest -q tests/pl/test_images.py

faults: $(INSTALLED)  ## kill isost 50 times at random moments: does it end as if it had not been?
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore benchmarks/faults.py

fuzz: $(INSTALLED_TEST)  ## damaged and hostile files, 25 times as many as in the tests
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest tests/test_hostile_files.py

lint: $(INSTALLED_TEST)  ## style, types, and which room may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: $(INSTALLED_DOC)  ## the documentation, its tutorials run: docs/_build/html/index.html
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -q -W --keep-going docs docs/_build/html

bench: $(INSTALLED)  ## time and memory of every stage, by cells per section, and how they grow
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/stages.py

clean:  ## remove the environment and everything made in it
	rm -rf $(VENV) demo dist build docs/_build docs/api/generated .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("isost needs Python 3.11 or newer, this is %d.%d; try: make PYTHON=python3.12" \
	  % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): $(INPUTS) | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(INSTALLED_TEST): $(INPUTS) | $(BIN)/python
	$(PIP) -e '.[test]'
	@touch $@ $(INSTALLED)

$(INSTALLED_DOC): $(INPUTS) | $(BIN)/python
	$(PIP) -e '.[doc]'
	@touch $@ $(INSTALLED)
