# `make demo` trains on a synthetic graph with two workers; `make test` checks and tests everything;
# `make docs` builds the site; `make wheels` builds what is handed out and tries it in clean environments.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
SOURCES := setup.cfg pyproject.toml constraints.txt

.PHONY: demo test lint docs wheels clean

demo: $(VENV)/.installed
	@rm -rf .demo/run
	@$(BIN)/bnsgcn train synthetic:nodes=20000 --parts 2 --run-dir .demo/run --layers 2 --epochs 40

test: $(VENV)/.installed-dev lint docs
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheels: $(VENV)/.installed-dev
	$(BIN)/python -m tests.packaging

clean:
	rm -rf .demo build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(SOURCES) | $(BIN)/python
	@echo "Installing into $(VENV); this takes a few minutes the first time."
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(SOURCES) | $(BIN)/python
	@echo "Installing into $(VENV), development tools included; this takes a few minutes the first time."
	$(PIP) install -c constraints.txt -e '.[dev,docs]'
	@touch $@ $(VENV)/.installed
