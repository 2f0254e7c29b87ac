# Everything a person types. Each target sets up what it needs; a second call does nothing again.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
TORCH := 2.13.0
# Any Python from 3.11 on: `make PYTHON=python3.12 run`.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
# An index that offers torch's CPU wheels, if your pip does not know one: `make TORCH_INDEX=https://… setup`.
TORCH_INDEX ?=
PIP_LOUD := $(BIN)/python -m pip --disable-pip-version-check install -c constraints.txt
PIP := $(PIP_LOUD) -qq
FROM := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
ARGS ?=
# Inputs of the fuzzer.
RUNS ?= 100000
# Tests run on every processor, and one more while others wait; one at a time with `make JOBS=0 test`.
JOBS ?= auto
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
# What Python compiled is kept: the tests start many processes, each of which would compile it again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test test-slow fuzz check format bench wire setup clean

help:
	@echo "make run         grow a small network on MNIST-1D and show what growing brought (ARGS='--epochs 300 --seed 7')"
	@echo "make test        run the tests (ARGS='-k lifecycle')"
	@echo "make test-slow   run the exhaustive ones"
	@echo "make fuzz        drive the codec with RUNS inputs of a coverage-guided fuzzer (RUNS=1000000, ARGS='--seed 2')"
	@echo "make check       format, lint, types, architecture, fast tests"
	@echo "make format      format, and mend what the linter can"
	@echo "make bench       measure against the budgets (ARGS='boundary --json out.json')"
	@echo "make wire        make contracts/leyline's generated files again, after a change of contracts/leyline.proto or a struct"
	@echo "make setup       only create $(VENV)"
	@echo "make clean       remove $(VENV) and caches"

run: setup
	@$(BIN)/python -m esper.run $(if $(ARGS),$(ARGS),--gflop 12 --compare)

test: setup
	$(PYTEST) $(ARGS)

test-slow: setup
	$(PYTEST) -m slow $(ARGS)
	HYPOTHESIS_PROFILE=thorough $(PYTEST) -m "hypothesis and not slow" $(ARGS)

fuzz: setup
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(PIP) -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz.wire --runs $(RUNS) $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -m "not slow and not real" $(ARGS)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m bench $(ARGS)

wire: setup
	$(BIN)/python -m contracts.leyline.generate

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "esper needs Python 3.11 or newer, and found none; name one: make PYTHON=/path/to/python3.11 setup" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "could not create $(VENV); on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }
	@echo "setting up $(VENV): torch $(TORCH) first (about 200 MB), then the rest ..."
	@$(BIN)/python -c 'import torch, sys; sys.exit(torch.__version__.split("+")[0] != "$(TORCH)")' 2>/dev/null \
		|| $(PIP) $(FROM) "torch==$(TORCH)+cpu" 2>/dev/null \
		|| { echo "no CPU-only wheel of torch $(TORCH) could be had (README, Installing, says how); taking the plain one:"; \
		     echo "with its CUDA libraries that is several GB and takes some minutes"; \
		     $(PIP_LOUD) $(FROM) "torch==$(TORCH)"; }
	@$(PIP) -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
