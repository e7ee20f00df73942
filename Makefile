# The commands of the project, in the order of first use. `make help` prints them.
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

.PHONY: help setup test slow demo completejourney online_retail uci_credit chaos bench lock clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z_]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## make .venv with the locked packages and Delta's jars (needs Python 3.11 and Java 17; 2 minutes, 7 GB)

$(READY): requirements.lock pyproject.toml bin/setup jobs/lake/delta_jars.py
	@bin/setup

test: $(READY)  ## lint, format, types, and the tests that are not slow (.ci/run runs all)
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/mypy
	$(RUN)/pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --durations=15

slow: $(READY)  ## the tests that `make test` leaves out: cold JVMs, servers, kills, a full disk, two processes
	$(RUN)/pytest -m slow -n 2 --dist loadfile --no-loadscope-reorder --durations=15

demo: $(READY)  ## run a made-up company through the whole pipeline, two days (short: USERS=300 STEPS=30)
	@$(RUN)/python -m jobs.cli.demo --users $(USERS) $(if $(STEPS),--steps $(STEPS))

completejourney: $(READY)  ## run households of a real retailer through the pipeline (DATA=folder SEEDS=1 LABEL=coupon)
online_retail: $(READY)  ## run customers of a real gift shop through the pipeline (DATA, SEEDS)
uci_credit: $(READY)  ## run credit card clients of a real bank through the pipeline (DATA, SEEDS)
completejourney online_retail uci_credit:
	@$(RUN)/python -m examples.$@ $(DATA) $(if $(LABEL),--label $(LABEL)) $(if $(STEPS),--steps $(STEPS)) --seeds $(SEEDS)

chaos: $(READY)  ## kill jobs at random moments and compare the tables with an undisturbed run (KILLS=60 SEED=0)
	@$(RUN)/python -m tests.support.chaos --kills $(KILLS) --seed $(SEED)

bench: $(READY)  ## measure every job and write benchmarks/results (an hour; 20 GB of disk; REDIS=host:port adds a Redis)
	@$(RUN)/python -m benchmarks $(if $(REDIS),--redis $(REDIS))

lock:  ## resolve pyproject.toml into requirements.lock again; pins that still fit stay
	$(RUN)/uv pip compile --all-extras --generate-hashes --no-emit-index-url --no-annotate -q pyproject.toml \
		-o requirements.lock

clean:  ## remove the output of the demo, the examples and the checks (.venv stays)
	rm -rf demo completejourney online_retail uci_credit logs build spark-warehouse metastore_db derby.log *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
