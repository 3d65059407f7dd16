# Everything a newcomer needs: `make demo` and `make test`. Each makes .venv on first use.
PYTHON ?= python3
FAISS ?= cpu
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY := PASSIVE

.PHONY: help demo test slow lint install clean

help:
	@echo 'make demo    retrieve, credit, opt out and prove it, on real text (TRAIN=1 trains the LM first, FAISS=gpu for a GPU)'
	@echo 'make test    the tests; make slow: those that take long'
	@echo 'make lint    style, types and the direction of imports'
	@echo 'make install only make .venv (PYTHON=python3.12 to choose the interpreter)'
	@echo 'make clean   take away .venv, .demo and caches'

demo: install
	$(BIN)/silo demo $(if $(TRAIN),--train)

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
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"SILO needs Python 3.11 or later; $(PYTHON) is {sys.version.split()[0]}. Try: make PYTHON=python3.12")'
	@echo 'Making $(VENV); about 1.7 GB on the disk, more where torch comes with CUDA …'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[$(FAISS),passages,portal,browser,report,test]'
	@touch $@

clean:
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
