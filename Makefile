# Two commands are enough: `make run` and `make test`. Both make what they need in .venv.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
export PYTHONPATH := exporter

# Without a token, the built-in simulated account stands in for BorgBase.
DEMO := $(if $(BORGBASE_TOKEN)$(BORGBASE_TOKEN_FILE)$(BORGBASE_TOKEN_DIR)$(findstring --token,$(ARGS)),,--demo)

.PHONY: run stack check test lint format docs previews screenshots bench soak lock clean

run: .venv/runtime.stamp  ## start the exporter; ARGS="--poll.interval 5m" hands it flags
	@exec $(BIN)/python -m borgbase_exporter serve $(DEMO) $(ARGS)

stack: .venv/dev.stamp  ## the exporter with Prometheus and Alertmanager, without containers
	@exec $(BIN)/python -m deploy.stack $(DEMO) $(ARGS)

check: .venv/runtime.stamp  ## poll once and print what was found
	@exec $(BIN)/python -m borgbase_exporter check $(DEMO) $(ARGS)

test: .venv/dev.stamp  ## run all the tests, on all cores; ARGS="-k decode" hands pytest options
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest --numprocesses=auto --dist=loadfile $(ARGS)
	@$(BIN)/python -m coverage combine --quiet && $(BIN)/python -m coverage report

lint: .venv/dev.stamp  ## linters and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/runtime.stamp  ## write the pages that are generated from the code
	$(BIN)/python docs/generate.py
	$(BIN)/python -m dashboards.generate

previews: .venv/dev.stamp requirements-preview.txt  ## draw the dashboards for docs/
	$(PIP) -r requirements-preview.txt
	$(BIN)/python -m dashboards.preview

screenshots: .venv/dev.stamp  ## take the pictures of the status page for docs/
	$(BIN)/python -m tests.browser.screenshots

bench: .venv/dev.stamp  ## measure scrapes and polls against other exporters, in one run
	$(BIN)/python -m tests.bench $(ARGS)

soak: .venv/dev.stamp  ## minutes of random faults and scrapes; ARGS="--minutes 3"
	$(BIN)/python -m tests.soak $(ARGS)

# Spelt with = signs: Renovate reads the commands from the files' headers, and understands no others.
LOCK := uv pip compile --quiet --universal --generate-hashes --upgrade pyproject.toml
lock:  ## renew the locked versions; needs uv
	$(LOCK) --output-file=requirements.txt
	$(LOCK) --group=dev --constraint=requirements.txt --output-file=requirements-dev.txt
	$(LOCK) --group=preview --constraint=requirements-dev.txt --output-file=requirements-preview.txt

clean:
	rm -rf .venv .cache .coverage* htmlcov dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/runtime.stamp: requirements.txt | .venv/bin/python
	$(PIP) -r requirements.txt
	@touch $@

.venv/dev.stamp: requirements-dev.txt .venv/runtime.stamp
	$(PIP) -r requirements-dev.txt
	@touch $@
