# Everything a newcomer needs: `make demo` and `make test`. Each makes .venv on first use.
PYTHON ?= python3
FAISS ?= cpu
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test slow lint install clean

demo: install
	$(BIN)/silo demo

test: install
	$(BIN)/python -m pytest -n 2

slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[$(FAISS),test]'
	touch $@

clean:
	rm -rf $(VENV) .demo
