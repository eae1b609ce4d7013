# make demo   install into .venv and show what agentmem does
# make test   run the tests
# Another interpreter than python3: make test PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
# Tests that run at the same time; with -n 0 in PYTEST_ARGS they run in one process, for a debugger.
WORKERS ?= 3

# Whose tests run before every change lands, of those that are here.
CI_FRAMEWORKS := $(filter langgraph anthropic,$(basename $(notdir $(wildcard tests/conformance/*.toml))))

BIN := $(VENV)/bin

.PHONY: demo test test-slow test-long conformance conformance-ci lint types docs wheel clean

demo: $(VENV)/installed
	@$(BIN)/agentmem demo

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# What takes more than two seconds each: kills, races, crowds, state machines. It also builds a wheel and installs it into
# a fresh environment, which needs the package registry.
test-slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m slow -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# Some of the tests with many more examples, others each time: before a release, and after changes to what they
# test.
test-long: $(VENV)/installed-dev
	AGENTMEM_HYPOTHESIS=long $(BIN)/python -m pytest -m long --timeout 3000 -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# The frameworks' own tests against our adapters, each in an environment of its own: FRAMEWORKS="langgraph" for some.
conformance: $(VENV)/installed-dev
	$(BIN)/python tests/conformance $(FRAMEWORKS)

conformance-ci: $(VENV)/installed-dev
	@$(MAKE) conformance FRAMEWORKS="$(CI_FRAMEWORKS) --if-installable"

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/deptry agentmem stress

types: $(VENV)/installed-dev
	$(BIN)/pyright --pythonpath $(BIN)/python

# Rewrites the generated parts of the documentation.
docs: $(VENV)/installed-dev
	$(BIN)/python docs/generate.py

wheel: $(VENV)/installed
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) dist build .pytest_cache .ruff_cache

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "agentmem needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 || true)" >&2; \
		echo "Name another one, for example: make $(or $(MAKECMDGOALS),demo) PYTHON=python3.12" >&2; \
		exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); \
		echo "'$(PYTHON)' cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; }

$(VENV)/installed: pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "Installing agentmem into $(VENV) (once, about a minute)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# Dependency groups need pip 25.1.
$(VENV)/installed-dev: $(VENV)/installed
	@echo "Installing the development tools into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@
