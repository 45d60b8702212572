# `make` alone lists the targets. Everything runs in .venv, which the first target that needs it makes.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo/run.py
ON_POSTGRES := --database postgresql --postgres container
GRPCURL := .tools/bin/grpcurl
GRPCURL_VERSION := v1.9.4

LOCK := pyproject.toml --universal --python-version 3.11 --custom-compile-command 'make lock'

# Folders are listed too: a proto that was removed changes its folder and nothing else. protos/ itself is not, because
# make would take it for the target of that name.
PROTOS := $(shell find protos -mindepth 1 -type d -o -name '*.proto')

.PHONY: help demo test faults fuzz load model test-postgres test-containers lint format protos serve up down demo-compose bench grpcurl clients lock clean

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-13s %s\n", $$1, $$2}'

demo: $(VENV)/.ready gen/.ready ## show one snapshot of a whole machine, from disks to rollback
	@$(BIN)/python $(DEMO)

test: $(VENV)/.ready gen/.ready ## run the tests (ARGS="tests/unit -k lease" for some of them)
	@echo "test: pytest"
ifdef ARGS
	@$(BIN)/python -m pytest $(ARGS)
else
	@$(BIN)/python -m pytest -n 2 --dist loadfile tests/unit tests/contract tests/e2e
	@$(BIN)/python -m pytest tests/model tests/faults tests/fuzz tests/load
endif

faults: $(VENV)/.ready gen/.ready ## kill, lose, repeat and refuse at every place of every saga; then model, fuzz and load (hours)
ifdef ARGS
	@$(BIN)/python -m pytest --by-hand $(ARGS)
else
	@$(BIN)/python -m pytest --by-hand tests/faults
	@$(MAKE) model fuzz load
endif

model: $(VENV)/.ready gen/.ready ## compare 50,000 random calls, clients at once and kills with the rules in Python (ARGS="--model-steps 5000")
	@$(BIN)/python -m pytest tests/model --model-steps 50000 $(ARGS)

fuzz: $(VENV)/.ready gen/.ready ## send 100,000 requests that nobody means to every RPC (ARGS="--fuzz-seed 1")
	@$(BIN)/python -m pytest tests/fuzz --database sqlite --fuzz-requests 100000 $(ARGS)

load: $(VENV)/.ready gen/.ready ## 64 clients for ten minutes, crowds, a thousand watchers (wants the machine for itself)
	@$(BIN)/python -m pytest --by-hand -s $(or $(ARGS),tests/load)

test-postgres: $(VENV)/.ready gen/.ready ## what has a database on PostgreSQL 15 in a container; without Docker, from a wheel
	@echo "test-postgres: pytest"
ifdef ARGS
	@$(BIN)/python -m pytest $(ON_POSTGRES) $(ARGS)
else
	@$(BIN)/python -m pytest $(ON_POSTGRES) tests/unit tests/contract
	@$(BIN)/python -m pytest $(ON_POSTGRES) tests/model tests/faults tests/fuzz tests/load
endif

test-containers: $(VENV)/.ready gen/.ready ## the deployment of deploy/ with replicas that are killed (needs Docker)
	@$(BIN)/python -m pytest $(or $(ARGS),tests/containers)

lint: $(VENV)/.ready gen/.ready ## ruff, mypy --strict and buf; changes nothing
	@echo "lint: ruff check"; $(BIN)/ruff check --quiet
	@echo "lint: ruff format"; $(BIN)/ruff format --check --quiet --diff
	@echo "lint: mypy --strict"; $(BIN)/mypy .
	@echo "lint: buf lint"; $(BIN)/buf lint
	@echo "lint: buf format"; $(BIN)/buf format --diff --exit-code

format: $(VENV)/.ready ## format Python and protos in place, with ruff's safe fixes
	@$(BIN)/ruff check --fix-only --quiet; $(BIN)/ruff format; $(BIN)/buf format --write

protos: $(VENV)/.ready ## generate gen/ from protos/ (the other targets do so when a proto changed)
	@$(BIN)/python hatch_build.py && touch gen/.ready

serve: $(VENV)/.ready gen/.ready ## start the three services on loopback, data in ./var
	@$(BIN)/stillpoint up

up: $(VENV)/.ready gen/.ready ## start a deployment in containers (needs Docker; ARGS="--scale compute_svc=2" for replicas)
	@STILLPOINT=$(BIN)/stillpoint deploy/up.sh $(ARGS)

down: ## stop the deployment; its data stays (ARGS=--volumes removes that too)
	@deploy/compose down $(ARGS)

demo-compose: $(VENV)/.ready gen/.ready ## the demo, against the deployment that `make up` started
	@deploy/demo.sh $(BIN)/python $(BIN)/stillpoint

bench: $(VENV)/.ready gen/.ready ## measure, and print the numbers
	@$(BIN)/python bench/machine_snapshot.py && $(BIN)/python bench/blockstore.py

grpcurl: $(GRPCURL) $(VENV)/.ready gen/.ready ## run the README's session with grpcurl and check what it prints (needs Go)
	@$(BIN)/python -m pytest tests/e2e/test_grpcurl.py

clients: $(VENV)/.ready gen/.ready ## run tests/clients: the main job from Go and TypeScript (needs Go 1.24, Node 20)
	@$(BIN)/python -m pytest $(or $(ARGS),tests/clients)

lock: $(VENV)/.ready ## choose new pins within pyproject.toml's ranges
	@$(BIN)/uv pip compile --quiet --upgrade $(LOCK) -o requirements.txt
	@$(BIN)/uv pip compile --quiet --upgrade $(LOCK) --extra dev -c requirements.txt -o requirements-dev.txt

clean: ## remove what was generated and cached; var/ (your data) stays
	rm -rf $(VENV) .tools gen build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -rf tests/clients/go/client tests/clients/*/gen tests/clients/typescript/dist tests/clients/typescript/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.ready: pyproject.toml requirements-dev.txt hatch_build.py scripts/make_venv.sh
	@sh scripts/make_venv.sh $(PYTHON) $(VENV)
	@touch $@

gen/.ready: $(PROTOS) hatch_build.py | $(VENV)/.ready
	@$(BIN)/python hatch_build.py
	@touch $@

$(GRPCURL):
	@echo "grpcurl: building $(GRPCURL_VERSION)"
	@GOBIN="$(CURDIR)/$(dir $@)" go install github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION)
