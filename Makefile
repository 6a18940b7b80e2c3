# Each target sets up .venv the first time, from requirements.lock; nothing else is installed or changed on the machine.

PYTHON ?= $(firstword $(foreach v,3.11 3.12 3.13,$(shell command -v python$(v) 2>/dev/null)) python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
COVERAGE := $(BIN)/coverage
# One more than there are cores, since tests also wait: for servers to start, and for each other's runs.
WORKERS := $(shell expr $$(nproc) + 1)

.DEFAULT_GOAL := help
.PHONY: help run up status doctor test lint format bench lock clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is another one. Try: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "This Python has no venv module. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) (once, a minute or two)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: $(READY) ## send snapshots through the whole pipeline once and show what arrived
	@$(BIN)/wrm run

up: $(READY) ## run the Dagster UI, schedules and sensor until Ctrl-C
	@$(BIN)/wrm up

status: $(READY) ## show the newest snapshot, rows, dead letters and lag
	@$(BIN)/wrm status

doctor: $(READY) ## check the object store
	@$(BIN)/wrm doctor

# Measuring coverage makes tests take half as long again: it is left out where no component's figure depends on it.
UNMEASURED := $(addprefix wrm_pipeline_tests/unit/,deploy marts site)
test: $(READY) ## run all tests and hold each component to its coverage
	@$(COVERAGE) erase
	@$(COVERAGE) run -m pytest -n $(WORKERS) --dist loadfile wrm_pipeline_tests/unit $(UNMEASURED:%=--ignore=%)
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile wrm_pipeline_tests/integration $(UNMEASURED)
	@$(COVERAGE) combine --quiet
	@$(COVERAGE) report --include='wrm_pipeline/assets/*,wrm_pipeline/checks/*' --fail-under=80
	@$(COVERAGE) report --include='wrm_pipeline/automation/jobs.py,wrm_pipeline/automation/schedules.py,wrm_pipeline/automation/redrive.py,wrm_pipeline/automation/maintenance.py' --fail-under=80
	@$(COVERAGE) report --include='wrm_pipeline/automation/sensors.py,wrm_pipeline/automation/raw_cursor.py' --fail-under=80
	@$(COVERAGE) report --include='wrm_pipeline/resources/*' --fail-under=70
	@$(COVERAGE) report --include='wrm_pipeline/cli/*' --fail-under=80
	@$(COVERAGE) report --include='wrm_pipeline/cache/*,wrm_pipeline/contracts/*,wrm_pipeline/feed/*,wrm_pipeline/lake/*,wrm_pipeline/layers/*,wrm_pipeline/operations/*,wrm_pipeline/reports/*,wrm_pipeline/telemetry/*,wrm_pipeline/transform/*,wrm_pipeline/vault/*,wrm_pipeline/resilience.py,wrm_pipeline/settings.py' --fail-under=90

lint: $(READY) ## check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY) ## put the code into the project's style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY) ## time the pipeline against a naive way and a floor
	@$(BIN)/python -m bench

lock: $(READY) ## resolve requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-header --no-strip-extras --upgrade pyproject.toml --output-file requirements.lock

clean: ## remove the environment, local data and caches
	@rm -rf $(VENV) .wrm .coverage .coverage.* htmlcov .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
