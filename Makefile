PYTHON ?= python3
BACKEND ?= BackgroundTasks
KEEP ?=
ONLY ?= bake background celery
RUN := .venv/bin/

.DEFAULT_GOAL := help
.PHONY: help demo test test-matrix screenshots release lint bench losses faults

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-13s%s\n", $$1, $$2 }' Makefile

demo: .venv/ready ## Render a project, run it, show what it does (BACKEND=Celery, KEEP=1)
	@$(RUN)python -m harness.demo "$(BACKEND)" $(if $(KEEP),--keep)

test: .venv/ready ## Prove every variant
	$(RUN)pytest

test-matrix: .venv/ready ## Test every variant on every Python, with the newest and the lowest dependencies
	$(RUN)pytest -m "matrix or not matrix" tests/test_matrix.py

screenshots: .venv/ready ## Make the README's pictures anew
	SCREENSHOTS=1 $(RUN)pytest -n0 -q tests/test_page.py -k picture

release: .venv/ready ## Check everything, then tag the version of pyproject.toml
	@$(RUN)python -m harness.release

lint: .venv/ready ## Check style, format and types of the template's own code
	$(RUN)ruff check benchmarks harness hooks tests
	$(RUN)ruff format --check benchmarks harness hooks tests
	$(RUN)mypy

bench: .venv/ready ## Measure beside the tutorial's code (ONLY=bake, background, celery or million; without it the first three)
	@$(RUN)uv run --quiet --group bench python -m benchmarks $(ONLY)

losses: .venv/ready ## Show what the tutorial's code loses on BackgroundTasks
	@$(RUN)python -m benchmarks.losses

faults: .venv/ready ## Show what faults of Redis and of workers do to a textbook's Celery
	@$(RUN)python -m benchmarks.faults

.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(RUN)python -m pip install --quiet uv
	$(RUN)uv sync --quiet
	@touch $@
