# Two commands matter: `make demo` runs the main job, `make test` passes the tests. Both set up what they need.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
SEED ?=

.PHONY: help venv demo test lint unit integration lab bench docs rpm clean

help:
	@echo "make demo    two nodes on this machine, real work, two failovers (SEED=n repeats one)"
	@echo "make test    lint, types, unit and integration tests on a real Redis or Valkey"
	@echo "make lab     the package on nodes that boot a real systemd, 252 and 257 (as root)"
	@echo "make docs    the pages, with a reference made of the code, into build/site"
	@echo "make bench   speed beside a peer and beside Redis itself"
	@echo "make rpm     the package for RHEL 9.4+ and 10, into dist/ (RPM_WHEELS=dir: wheels that are there already)"
	@echo "make venv    set up $(VENV) for development"
	@echo "make clean   remove what these made"

venv: $(VENV)/.ready

# One stamp: made again when the project's requirements change.
$(VENV)/.ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "chargehand: Python 3.11, 3.12 or 3.13 is needed and was not found on PATH" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "chargehand: $(PYTHON) has no venv module: install it (Debian: python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' \
		&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[console,embedded]' --group dev \
		|| { echo "chargehand: the packages could not be installed: is a package index reachable? (pip's own words stand above)" >&2; exit 1; }
	@touch $@

demo: venv
	@$(BIN)/chargehand demo $(if $(SEED),--seed $(SEED))

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: venv
	$(BIN)/pytest tests/unit -q

integration: venv
	$(BIN)/pytest tests/integration -q -n 4 --dist loadfile

test: lint unit integration

# As root: it boots containers, and skips with a word where it cannot.
lab: venv
	$(BIN)/python -m pytest tests/lab -q

bench: venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench \
		|| { echo "chargehand: the peers could not be installed: is a package index reachable? (pip's own words stand above)" >&2; exit 1; }
	$(BIN)/python -m pytest tests/bench -q -s

# Every link and anchor leads somewhere, or it fails. No network.
docs: venv
	@$(BIN)/mkdocs build --strict
	@echo build/site/index.html

# Needs rpmbuild and a python3.12 (PYTHON312=path where it is not on PATH); offline once the wheels are there.
rpm: venv
	@$(BIN)/python packaging/rpm/build.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
