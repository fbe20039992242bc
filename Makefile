# Everything here works in a fresh clone with nothing but make and Python >= 3.10.

PYTHON ?= python3
WORLD ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# A stamp says that an environment was made from these files; it is redone when they change.
NEEDS := pyproject.toml constraints.txt

# A worker a core; each has its share of the tests, and takes some of another's when it has nothing left to do.
PARALLEL := --numprocesses auto --dist worksteal

.PHONY: help play test lint format clean
.DEFAULT_GOAL := help

help:
	@echo "make play     open the default world (WORLD=name for another)"
	@echo "make test     check style and types and run the tests"
	@echo "make lint     check style and types only"
	@echo "make format   put the code into its standard form"
	@echo "make clean    remove the environment and what tools left behind"
	@echo "PYTHON=python3.12 make ... picks another Python (3.10 or newer)"

play: $(VENV)/.play
	$(BIN)/python play.py $(WORLD)

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PARALLEL)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find engine tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { \
		echo "error: no '$(PYTHON)' here; install Python 3.10 or newer, or name it: make PYTHON=/path/to/python" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "error: $$($(PYTHON) --version 2>&1) is too old; Loci needs 3.10 or newer: make PYTHON=python3.12" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: $(PYTHON) cannot make environments; install its venv module (Debian: python3-venv)" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.play: $(VENV)/.made $(NEEDS)
	@echo "installing what is missing (torch is large: this may take minutes)"
	$(PIP) install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(VENV)/.made $(NEEDS)
	@echo "installing what is missing (torch is large: this may take minutes)"
	$(PIP) install --quiet -c constraints.txt -e '.[doom,crafter,train,export,rl,dev]'
	@touch $@
