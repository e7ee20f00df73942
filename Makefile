# What there is to do, in the order in which you would do it. `make help` prints it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
READY := .venv/.ready
RUN := .venv/bin
USERS ?= 2000
STEPS ?=
DATA ?=
KILLS ?= 60
SEED ?= 0
SEEDS ?= 1
LABEL ?=

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHON

.PHONY: help setup test demo completejourney online_retail uci_credit chaos bench lock clean

help:  ## show this
	@awk -F ':.*## ' '/^[a-z_]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv with the locked packages and Delta's jars (Python 3.11, Java 17; 2 minutes, 7 GB)

$(READY): requirements.lock pyproject.toml bin/setup jobs/lake/delta_jars.py
	@bin/setup

test: $(READY)  ## lint, format, types and the tests that are not slow (.ci/run runs those too)
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/mypy
	$(RUN)/pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --durations=15

demo: $(READY)  ## a made-up company through the whole line, two days (USERS=300 STEPS=30 for a quick look)
	@$(RUN)/python -m jobs.cli.demo --users $(USERS) $(if $(STEPS),--steps $(STEPS))

completejourney: $(READY)  ## a real retailer's households through the line (DATA=folder of its tables SEEDS=1 LABEL=coupon)
online_retail: $(READY)  ## a real gift shop's customers through the line (DATA, SEEDS)
uci_credit: $(READY)  ## a real bank's credit card clients through the line (DATA, SEEDS)
completejourney online_retail uci_credit:
	@$(RUN)/python -m examples.$@ $(DATA) $(if $(LABEL),--label $(LABEL)) $(if $(STEPS),--steps $(STEPS)) --seeds $(SEEDS)

chaos: $(READY)  ## kill every job again and again, and compare with a line that nobody disturbed (KILLS=60 SEED=0)
	@$(RUN)/python -m benchmarks.chaos --kills $(KILLS) --seed $(SEED)

bench: $(READY)  ## measure every job against what bounds it, into benchmarks/results (an hour; 20 GB of disk)
	@$(RUN)/python -m benchmarks

lock:  ## resolve pyproject.toml into requirements.lock again, keeping what still fits
	$(RUN)/uv pip compile --all-extras --generate-hashes --no-emit-index-url --no-annotate -q pyproject.toml \
		-o requirements.lock

clean:  ## remove what the demo, the examples and the checks wrote (.venv stays)
	rm -rf demo completejourney online_retail uci_credit logs build spark-warehouse metastore_db derby.log *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
