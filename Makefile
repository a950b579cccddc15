# Two commands are enough: `make run` and `make test`. Both make what they need in .venv.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
PYTEST := $(BIN)/python -m pytest
ALL := --numprocesses=auto --dist=loadfile --no-loadscope-reorder -m "not go"

CHART := deploy/helm/borgbase-exporter

# Without a token, the built-in simulated account stands in for BorgBase.
DEMO := $(if $(BORGBASE_TOKEN)$(BORGBASE_TOKEN_FILE)$(BORGBASE_TOKEN_DIR)$(findstring --token,$(ARGS)),,--demo)

.PHONY: run stack check test test-go test-grafana quick lint format docs previews screenshots chart bench soak lock clean
run stack check docs previews screenshots bench soak: export PYTHONPATH := exporter

run: .venv/runtime.stamp  ## start the exporter; ARGS="--poll.interval 5m" passes flags
	@exec $(BIN)/python -m borgbase_exporter serve $(DEMO) $(ARGS)

stack: .venv/dev.stamp  ## the exporter with Prometheus and Alertmanager, without containers
	@exec $(BIN)/python -m deploy.stack $(DEMO) $(ARGS)

check: .venv/runtime.stamp  ## poll once and print what was found
	@exec $(BIN)/python -m borgbase_exporter check $(DEMO) $(ARGS)

# With CI=true coverage is measured, which takes a fifth longer.
test: .venv/dev.stamp  ## all tests that need Python and Debian's packages; ARGS=tests/api runs those alone
ifdef ARGS
	$(PYTEST) $(ARGS)
else ifdef CI
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest $(ALL)
	@$(BIN)/python -m coverage combine --quiet && $(BIN)/python -m coverage report
else
	$(PYTEST) $(ALL)
endif

test-go: .venv/dev.stamp  ## the tests that need Go: chart, compose file and workflows
	$(PYTEST) -m go $(ARGS)

quick: .venv/dev.stamp  ## the tests for between two changes: those without external programs
	$(PYTEST) --quiet --numprocesses=auto -m "not programs and not go and not slow" $(ARGS)

lint: .venv/dev.stamp  ## linters and types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

format: .venv/dev.stamp
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

docs: .venv/runtime.stamp  ## write the pages and dashboards that are generated from the code
	$(BIN)/python docs/generate.py
	$(BIN)/python -m dashboards.generate

test-grafana: .venv/dev.stamp  ## what Grafana's own packages make of the dashboards; needs npm and 800 MB
	$(PYTEST) tests/dashboards/as_drawn.py $(ARGS)

previews: .venv/dev.stamp  ## take the dashboards' pictures for docs/ with Grafana's own packages; needs npm
	$(BIN)/python -m tests.dashboards.pictures

screenshots: .venv/dev.stamp  ## take the pictures of the status page for docs/
	$(BIN)/python -m tests.browser.screenshots

chart:  ## put the rules and dashboards into the chart, to install or package it
	rm -rf "$(CHART)/files"
	mkdir -p "$(CHART)/files/rules" "$(CHART)/files/dashboards"
	cp deploy/prometheus/rules/*.yml "$(CHART)/files/rules"
	cp dashboards/*.json "$(CHART)/files/dashboards"

bench: .venv/dev.stamp  ## measure scrapes, also of other servers, and polls, in one run
	$(BIN)/python -m bench $(ARGS)

soak: .venv/dev.stamp  ## minutes of random faults and scrapes; ARGS="--minutes 3"
	$(BIN)/python -m bench.soak $(ARGS)

# Written with = signs: Renovate reads the commands from the files' headers and expects these.
LOCK := uv pip compile --quiet --universal --generate-hashes --upgrade pyproject.toml
lock:  ## update the locked versions; needs uv
	$(LOCK) --output-file=requirements.txt
	$(LOCK) --group=dev --constraint=requirements.txt --output-file=requirements-dev.txt

clean:
	rm -rf .venv .cache .coverage* htmlcov dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# venv makes pip last: without it, .venv is what an earlier failure left, and is made anew.
.venv/bin/pip:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv || { rm -rf .venv; \
		echo "$(PYTHON) cannot create a virtual environment. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

.venv/runtime.stamp: requirements.txt | .venv/bin/pip
	$(PIP) -r requirements.txt
	@touch $@

.venv/dev.stamp: requirements-dev.txt .venv/runtime.stamp
	$(PIP) -r requirements-dev.txt
	@touch $@
