# make up      install into .venv and start everything; ARGS="--port 9000" is passed on
# make test    install what tests need and run all of them; ARGS="-k policy" goes to pytest
# make lint    style, types and layers only
# make audit   look the installed dependencies up in the list of known vulnerabilities
# make clean   remove .venv and caches (never var/, where the data is)

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

# onnxruntime reports its use to its maker unless told not to.
export ORT_DISABLE_TELEMETRY := 1

# The first interpreter that is new enough; PYTHON=/path/to/python overrides.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.PHONY: up install test lint audit clean
.DELETE_ON_ERROR:

up: $(VENV)/.installed
	@$(BIN)/moderation up $(ARGS)

install: $(VENV)/.installed

test: lint
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: $(VENV)/.installed
	@$(BIN)/python .ci/audit.py $(ARGS)

clean:
	rm -rf $(VENV) .venv-audit build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .grimp_cache

# Stamps: a second `make` installs again only when pyproject.toml or the set of packages has changed.
$(VENV)/.installed: pyproject.toml $(wildcard */__init__.py) | $(VENV)/.created
	@echo "Installing into $(VENV); the first time takes a minute or two."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml $(wildcard */__init__.py) | $(VENV)/.created
	@echo "Installing into $(VENV), with what the tests need."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $(VENV)/.installed $@

# An environment that works already is kept, whoever made it.
$(VENV)/.created:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Moderation needs Python 3.11 or newer. Install it, or name it: make PYTHON=/path/to/python" >&2; exit 1; fi
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
		echo "$(PYTHON) can't make a virtual environment. On Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	@touch $@
