# Every target makes the environment first when it is missing or older than its pins.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV   := .venv
RUN    := $(VENV)/bin/python
PYTEST := $(RUN) -m pytest
UNIT   := not notebooks and not browser and not slow and not gpu

.DEFAULT_GOAL := help
.PHONY: help env tutorial test test-all lab lint bench docs pictures wheel lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12
	@echo; echo "docs/architecture.md says where everything is, CONTRIBUTING.md how to change it."

env: $(VENV)/.ready ## make .venv from the pins in requirements.lock

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "The workbench needs Python 3.11 or newer; found " + sys.version.split()[0] + ". Install one, or name it: make PYTHON=/path/to/python3.11")'
	@echo "Making $(VENV) from requirements.lock (about 1.2 GB on disk) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

tutorial: env ## run the whole tutorial: notebooks 00 to 08, then runs/tutorial/report.html
	@$(RUN) -m workbench tutorial

test: env ## unit tests, every notebook once with quick parameters, the main clicks in a browser (17 min)
	$(PYTEST) -n 2 --dist loadfile -m "$(UNIT) and not timing"
	$(PYTEST) -m "$(UNIT) and timing"
	$(PYTEST) -n 2 --dist worksteal -m "(notebooks or browser) and not slow and not gpu"

test-all: env ## all tests that need no GPU: other parameter sets, every notebook in a browser, long runs (60 min)
	$(PYTEST) -m "not gpu"

lab: env ## open JupyterLab on the notebooks
	@$(RUN) -m workbench lab

lint: env ## ruff on code and notebooks, static types, who imports whom, no outputs in committed notebooks
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ty check workbench
	$(VENV)/bin/lint-imports --no-cache
	$(VENV)/bin/nbstripout --verify notebooks/*.ipynb

bench: env ## every ratio and accuracy figure that README quotes but those of a GPU and of CIFAR-10 (100 min)
	@for script in $(filter-out %/gpu_host.py %/photographs.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(RUN) $$script || exit 1; done

docs: env ## the documentation as a site in site/, with the notebooks executed (10 min the first time)
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet

pictures: env ## the screenshot, the chart and the table of both READMEs, from a study on this machine
	$(RUN) docs/pictures/make.py

wheel: env ## dist/*.whl, with the notebooks and the data inside
	$(RUN) -m hatchling build -t wheel

lock: ## pin the dependencies anew (needs uv)
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --extra dev pyproject.toml -o requirements.lock

clean: ## remove what runs have made; keeps .venv
	rm -rf runs workspace site dist .pytest_cache .ruff_cache
