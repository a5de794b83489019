# pathssl: what you can make.
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help env demo test test-slow lint

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

env: $(STAMP)  ## build .venv: exact tested versions, CPU-only cuCIM, benchmark peers

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "pathssl needs Python 3.11 or newer, and '$(PYTHON)' is not one: install it, or name yours with 'make env PYTHON=/path/to/python3.11'." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "'$(PYTHON)' has no venv module: install it first (on Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@[ "$$(df -Pk . | awk 'NR == 2 {print $$4}')" -gt 8000000 ] || \
	    { echo "The environment takes about 7 GB, and this disk has less than 8 GB free: $$PWD." >&2; exit 1; }
	@echo "Building .venv (PyTorch alone is 5 GB; a few minutes) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[cucim,dev,bench]' >.venv/install.log 2>&1 || \
	    { tail -n 15 .venv/install.log >&2; echo "Installation failed; the lines above say why (whole log: .venv/install.log). Then 'make env' again." >&2; exit 1; }
	@# --no-deps: cuCIM declares CuPy and the CUDA libraries, which reading slides on CPUs does not need
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps "$$(grep ^cucim-cu13 constraints.txt)" >>.venv/install.log 2>&1 || \
	    echo "cuCIM could not be installed (it has wheels for Linux only); slides will be read by OpenSlide, at about 40 % of the speed." >&2
	@touch $(STAMP)

demo: env  ## two arms by two seeds on synthetic slides, then the page that compares them (15 minutes on 2 cores)
	@$(BIN)/python train.py experiment=demo hydra/launcher=local -m
	@$(BIN)/python -m pathssl report outputs/demo

test: lint  ## the fast tests, with lint (under 5 minutes)
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

test-slow: env  ## the slow tests: clusters, kills, browsers, whole studies
	@$(BIN)/python -m pytest -q -n 2 --dist loadgroup -m "slow and not alone"
	@$(BIN)/python -m pytest -q -m alone

lint: env  ## ruff: style and unused arguments
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .
