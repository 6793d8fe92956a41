# Everything a fresh machine needs is set up by these targets themselves; see CONTRIBUTING.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check -c constraints.txt
TOOLS := build hatchling hypothesis import-linter mypy "pyright[nodejs]" pytest pytest-xdist ruff types-protobuf

.PHONY: benchmarks check clean demo docs docs-demo format test

# Installed again when the pins or the dependencies change; the code itself is installed editable.
$(VENV)/ready: constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(PIP_FLAGS) torch
	$(BIN)/pip install $(PIP_FLAGS) -e '.[cpu,export,train]' $(TOOLS)
	touch $@

demo: $(VENV)/ready  ## train, export, quantize, validate, stream and self-test on real data; prints one table
	$(BIN)/python -m lstm_edge.demo

test: $(VENV)/ready  ## all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/ready  ## linters, type checkers, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python  # else it looks into whatever python is first on the path
	$(BIN)/lint-imports

format: $(VENV)/ready  ## format the code and apply safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/ready  ## write docs/cli.md and the function digests again
	$(BIN)/python docs/generate.py

docs-demo: $(VENV)/ready  ## run the demo and put its table into README.md
	$(BIN)/python docs/generate.py --demo

benchmarks: $(VENV)/ready  ## measure the figures in docs/numbers.md again (three minutes)
	$(BIN)/python docs/generate.py --numbers

clean:  ## remove what the targets above made
	rm -rf $(VENV) build dist demo-out .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
