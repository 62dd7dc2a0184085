# Hunqi. Plain `make` prints the targets. A fresh Debian 12 with make and Python 3.11 is enough for all of them.

.DEFAULT_GOAL := help

LISTEN ?= 127.0.0.1:5000
DATA ?= .run/hunqi
UP ?=
LOG ?= .run/access.log
T ?= tests
BIN := .venv/bin
RUNTIME := .venv/.runtime-installed
DEVELOPMENT := .venv/.development-installed
CODE := src tests $(wildcard tools)

.PHONY: help up down sample mirror demo test check format bench bench-cluster bench-elastic soak fresh test-engines lock packages clean

help: ## print this
	@echo "Hunqi: make TARGET"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/  \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do \
	    printf '  %-14s %s\n' $$target "$$text"; done
	@echo
	@echo "  make up DATA=$(DATA) UP=\"--http-port 8080 --https-port 8443\""
	@echo "      where its data lies; UP takes the options of hunqi up"
	@echo "  make mirror LISTEN=$(LISTEN) DATA=$(DATA) LOG=$(LOG)"
	@echo "      these are its values; LOG takes a line for each request"
	@echo "  make mirror DOCKER_IO=http://127.0.0.1:5001"
	@echo "      an upstream elsewhere; also GHCR_IO, QUAY_IO, REGISTRY_K8S_IO, ..."

up: $(RUNTIME) ## run the platform: accelerator, control, agent, gateway (installs Docker on Debian, as root)
	@$(BIN)/hunqi up --data "$(DATA)" $(UP) || { \
	    echo 'Options of hunqi up go into UP: make up UP="--http-port 8080 --https-port 8443"' >&2; exit 1; }
	@echo "The sample app: make sample"

down: ## stop it; apps and the gateway go on serving
	@exec $(BIN)/hunqi down --data "$(DATA)"

sample: $(RUNTIME) ## make the images of examples/shop from Debian packages, into the accelerator that runs
	@exec $(BIN)/python tools/sample --data "$(DATA)"

mirror: $(RUNTIME) ## run the image accelerator alone, in the foreground (Ctrl-C stops it)
	@mkdir -p "$(DATA)" "$(dir $(LOG))"
	@exec $(BIN)/hunqi mirror serve --listen "$(LISTEN)" --data "$(DATA)/mirror" --access-log "$(LOG)"

demo: $(RUNTIME) packages ## show it at work, without any network: one pull twice, timed and counted
	@exec $(BIN)/python tools/demo.py

# Tests start hundreds of Pythons: where the environment forbids it, none would keep what it has compiled.
unexport PYTHONDONTWRITEBYTECODE

# Most tests wait more than they work: two workers would leave half of two cores idle.
FAST := $(BIN)/python -m pytest -n 4 --dist loadgroup --no-loadscope-reorder
REAL := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test: $(DEVELOPMENT) packages ## every test, real clients included (T=tests/unit for some)
ifeq ($(T),tests)
	$(BIN)/python -m compileall -q -j 2 src
	failed=0; \
	$(FAST) tests/fault tests/contract tests/unit || failed=1; \
	$(REAL) tests/real || failed=1; \
	exit $$failed
else
	$(if $(findstring tests/real,$(T)),$(REAL),$(FAST)) $(T)
endif

check: $(DEVELOPMENT) ## linters, strict types, import contracts
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: $(DEVELOPMENT) ## put the code into the house format
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

bench: $(DEVELOPMENT) packages ## measure against docker-registry and nginx; writes docs/benchmarks.md (B="--only cold --rounds 2" for some)
	$(BIN)/python -m tools.bench $(B)

bench-cluster: $(DEVELOPMENT) packages ## measure the platform on three machines under load, as root (B="--only deploys --share 0.2" for some)
	$(BIN)/python -m tools.bench_cluster $(B)

bench-elastic: $(DEVELOPMENT) packages ## measure gray release and elastic scaling on three machines, as root (B="--only split --share 0.2" for some)
	$(BIN)/python -m tools.bench_elastic $(B)

soak: $(DEVELOPMENT) packages ## ten minutes of mixed load with faults (S="--minutes 60" for more)
	$(BIN)/python -m tools.soak $(S)

fresh: ## everything on a Debian that has nothing, in namespaces of this machine, as root (ten minutes)
	@sh tools/fresh.sh

test-engines: $(DEVELOPMENT) packages ## the tests of the engine on newer Docker, fetched beside this machine's, as root (E=28 for one)
	@sh tools/test-engines.sh $(E)

lock: $(DEVELOPMENT) ## renew the locked dependencies from pyproject.toml
	sh tools/lock.sh $(BIN)/uv

packages: # Debian packages that real clients and registries come from
	@sh tools/debian-packages.sh tests/testbed/packages.txt

clean: ## remove the environment and what runs left behind
	rm -rf .venv .run .pytest_cache .ruff_cache .hypothesis build dist

$(RUNTIME): requirements.lock pyproject.toml tools/venv.sh
	@sh tools/venv.sh requirements.lock
	@touch $@

# The development lock holds the other one: one installation serves both.
$(DEVELOPMENT): requirements-dev.lock pyproject.toml tools/venv.sh
	@sh tools/venv.sh requirements-dev.lock
	@touch $@ $(RUNTIME)
