# `make report` and `make test` need make and Python 3.11, 3.12 or 3.13, nothing else.
# Both create .venv from requirements.lock if it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# By module: the scripts in bin name the directory in which they were installed.
PYTHON_HERE := $(BIN)/python -P -m
KVT := $(PYTHON_HERE) kvt
PIP := $(PYTHON_HERE) pip install -qq --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.PHONY: help report test check notebooks lint format types spell benchmark versions upgrade lab lock clean

help: ## list these targets
	@sed -n 's/^\([a-z]*\):[^#]*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

report: $(VENV)/installed ## run every notebook and write reports/
	@$(KVT) report

# Distribute whole files: a notebook's cells share a kernel, a module its fixtures.
# conftest.py sorts the longest files to the front; xdist must keep that order.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test: $(VENV)/installed ## run the unit tests and every committed notebook
	@$(PYTEST)

check: lint types spell ## look quickly: lint, types, spelling, unit tests without notebooks
	@$(PYTEST) tests -m "not slow and not long and not wide"

notebooks: $(VENV)/installed ## run the committed notebooks again and store outputs and results
	@set -e; for notebook in $$(grep -l '^    "results_path: ' notebooks/*.ipynb); do \
	  results="$(CURDIR)/notebooks/results/$$(basename $$notebook .ipynb).json"; \
	  $(KVT) run $$notebook -p results_path "$$results" --output build/executed.ipynb; \
	done
	@set -e; for notebook in notebooks/*.ipynb; do \
	  $(KVT) run $$notebook --output build/executed.ipynb; \
	  mv build/executed.ipynb $$notebook; \
	done

lint: $(VENV)/installed ## check modules and notebooks with ruff
	@$(PYTHON_HERE) ruff check
	@$(PYTHON_HERE) ruff format --check

format: $(VENV)/installed ## format modules and notebooks, and fix what ruff can fix
	@$(PYTHON_HERE) ruff check --fix
	@$(PYTHON_HERE) ruff format

types: $(VENV)/installed ## check the types of kvt/
	@$(PYTHON_HERE) mypy

spell: $(VENV)/installed ## check the spelling of code and prose
	@$(PYTHON_HERE) codespell_lib

benchmark: $(VENV)/installed ## measure speed, one benchmark after the other
	@set -e; for script in $$(grep -l '^def main' benchmarks/*.py); do \
	  $(BIN)/python -m benchmarks.$$(basename $$script .py); \
	done

versions: $(VENV)/installed ## measure which releases of TensorFlow and Keras agree
	@$(BIN)/python -m benchmarks.versions

upgrade: $(VENV)/installed ## say what the newest releases would change, touching no pin
	@$(BIN)/python -m benchmarks.upgrade

lab: $(VENV)/installed ## open the notebooks in JupyterLab
	@$(PYTHON_HERE) jupyter lab notebooks

# Fewest forks: a package has the same version on every Python, so that results are equal.
# uv keeps the versions of the old lock where they still fit; delete a package's lines to
# let that package move. Even an outdated .venv will do, because it only provides uv.
lock: | $(if $(wildcard $(BIN)/uv),,$(VENV)/locked) ## resolve pyproject.toml into requirements.lock and environment.yml
	@$(PYTHON_HERE) uv pip compile --quiet --universal --python-version 3.11 \
	  --fork-strategy fewest --extra test --extra dev --generate-hashes --no-header \
	  --no-emit-index-url --no-emit-find-links \
	  --output-file requirements.lock pyproject.toml
	@{ sed '/- pip:/q' environment.yml; \
	   sed -n 's/^\([a-z0-9].*[^ ]\) *\\$$/      - \1/p' requirements.lock; \
	   echo '      - -e .'; } > environment.yml.new
	@mv environment.yml.new environment.yml

clean: ## remove .venv, caches and logs
	rm -rf $(VENV) build/cache .hypothesis .mypy_cache .pytest_cache .ruff_cache logs notebooks/logs
	find . -name __pycache__ -prune -exec rm -rf {} +

# There are two stamps because a change to pyproject.toml alone does not require a new
# .venv. Each stamp is written last, so that an interrupted installation starts over.
# An environment belongs to one directory: in a moved or copied checkout, its scripts
# would start the original's Python, and its kernels run the original's code.
here := $(shell pwd -P)
was := $(or $(shell cat $(VENV)/installed 2>/dev/null),$(here))
ifneq ($(was),$(here))
moved := FORCE
endif

$(VENV)/installed: $(VENV)/locked pyproject.toml $(moved)
	@$(if $(moved),sed -i.old "s|$(was)/|$(here)/|" $$(grep -lIF "$(was)/" $(BIN)/*); rm -f $(BIN)/*.old)
	@$(PIP) --no-deps --no-build-isolation --editable .
	@echo "$(here)" > $@

FORCE:

# Wheels only: building a package would download and run code that the lock does not hash.
$(VENV)/locked: requirements.lock $(BIN)/python
	$(require_python)@echo "making $(VENV) from requirements.lock (3 GB with TensorFlow; a minute or two)…"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) --require-hashes --only-binary :all: --requirement requirements.lock
	@touch $@

# No recipe: an environment without its interpreter counts as out of date.
$(BIN)/python:

# Valid in Python 2 as well, so that an old Python can report its version.
python_version = $(shell $(PYTHON) -c \
  'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)
require_python = $(if $(filter 3.11.% 3.12.% 3.13.%,$(python_version)),,$(error \
  kvt needs Python 3.11, 3.12 or 3.13; $(PYTHON) is \
  $(or $(python_version),not installed): name another, \
  as in `make $(or $(firstword $(MAKECMDGOALS)),report) PYTHON=python3.12`))
