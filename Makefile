# Works with GNU make 3.81 (macOS) and later: no .ONESHELL, no newer functions. No target needs root.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

.DEFAULT_GOAL := help
# Tests start daemons and measure time, so targets do not run side by side.
.NOTPARALLEL:
.PHONY: help setup demo test test-full lint type bench proto clean

help:
	@echo "make setup      make $(VENV) with everything below (says first what it downloads)"
	@echo "make demo       train the FedMeld demonstration on real daemons on this machine"
	@echo "make test       the tests for every change"
	@echo "make test-full  the slow tests, and those that need network emulation"
	@echo "make lint       style, format and import rules"
	@echo "make type       static types"
	@echo "make bench      run the scripts in bench/"
	@echo "make proto      regenerate orbitrain/v1 from proto/"
	@echo "make clean      remove caches and build leftovers (keeps $(VENV) and runs/)"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@PYTHON="$(PYTHON)" sh tools/make_venv.sh

demo: $(STAMP)
	$(BIN)/orbitrain run deploy/scenarios/fedmeld-demo.toml

test: $(STAMP)
	$(BIN)/python -m pytest -m "not full and not netem"

# pytest answers 5 when no test carries the markers; with strict markers that cannot be a misspelling.
test-full: $(STAMP)
	@echo '$(BIN)/python -m pytest -m "full or netem"'; \
	status=0; $(BIN)/python -m pytest -m "full or netem" || status=$$?; \
	if [ $$status -eq 5 ]; then echo "test-full: there are no slow tests yet"; exit 0; fi; \
	exit $$status

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

type: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP)
	@for script in bench/*.py; do \
	    if [ ! -e "$$script" ]; then echo "bench: there are no scripts in bench/ yet"; break; fi; \
	    echo "$(BIN)/python $$script"; $(BIN)/python "$$script" || exit 1; \
	done

proto: $(STAMP)
	$(BIN)/python tools/regenerate_proto.py

clean:
	rm -rf build dist *.egg-info .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -path ./$(VENV) -prune -o -path ./runs -prune -o -type d -name __pycache__ -exec rm -rf {} +
