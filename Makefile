# Everything a developer or operator runs first. `make help` lists the targets.
#
#   make run PYTHON=python3.12            another interpreter (only for a new .venv)
#   make run LISTEN=127.0.0.1:50052       another address for the node; METRICS=127.0.0.1:9465 for its metrics
#   make test PYTEST="-k tokens -x"       more arguments for pytest

PYTHON ?= python3
VENV := .venv
LISTEN ?= 127.0.0.1:50051
METRICS ?= 127.0.0.1:9464
PYTEST ?=

export PYTHON VENV

BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
SOURCES := $(wildcard ext/verifier/*.pyx ext/verifier/*.pxd ext/verifier/*.h)
PROTOS := $(wildcard proto/verifier/v1/*.proto proto/verifier/admin/v1/*.proto)

.DEFAULT_GOAL := help
.PHONY: help run test build lint format bench campaign gateways sanitize coverage proto docs clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 18

run: build  ## install, build, make a demo store, serve it and verify keys
	@exec $(BIN)/python scripts/demo.py --listen $(LISTEN) --metrics $(METRICS)

test: build  ## run the whole suite, on all cores
	@scripts/setup.sh tests
	$(BIN)/python -m pytest -m "not campaign and not gateways" -n logical $(PYTEST)

build: $(STAMPS)/built  ## install what is missing and build the extension; leaves .venv/bin/verifier

lint: $(STAMPS)/installed  ## ruff, mypy and buf
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy scripts
	cd proto && $(abspath $(BIN))/buf lint

format: $(STAMPS)/installed  ## let ruff put imports in order and fix what it can
	$(BIN)/ruff check --fix .

bench: build  ## measure against the budgets and peers; writes bench-results/
	$(BIN)/python -m loadtest.bench

campaign: build  ## run the long tests that the suite leaves out
	$(BIN)/python -m pytest -m campaign $(PYTEST)

gateways: build  ## install Envoy, NGINX, HAProxy, Caddy, Traefik and test each with a real node
	@scripts/gateways.sh install || echo "verifier: going on WITHOUT what is named above" >&2
	@scripts/gateways.sh versions
	$(BIN)/python -m pytest -m gateways -rs -v tests/gateways $(PYTEST)

sanitize: build  ## run the hot path's tests under AddressSanitizer and UndefinedBehaviorSanitizer
	scripts/instrumented.sh sanitize $(PYTEST)

coverage: build  ## run the suite on a gcov build and print the coverage of ext/ by module
	scripts/instrumented.sh coverage $(PYTEST)

proto: $(STAMPS)/installed  ## generate verifier/v1 and verifier/admin/v1 from the .proto files
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS)

docs: build  ## generate docs/cli.md from the commands
	$(BIN)/python scripts/cli_reference.py docs/cli.md

clean:  ## remove everything that was built or installed here; stores under run/ stay
	rm -rf $(VENV) .venv-gateways build dist bench-results *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f verifier/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: each says that a step was done after the files it depends on last changed.

$(STAMPS)/venv: scripts/setup.sh
	@scripts/setup.sh system
	@scripts/setup.sh venv
	@mkdir -p $(@D) && touch $@

$(STAMPS)/installed: $(STAMPS)/venv pyproject.toml setup.py
	@scripts/setup.sh install
	@touch $@

# Incremental: only modules whose sources changed are translated and compiled again.
$(STAMPS)/built: $(STAMPS)/installed $(SOURCES)
	@$(BIN)/python setup.py -q build_ext --inplace
	@touch $@
