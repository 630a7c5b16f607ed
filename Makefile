# `make` or `make help` lists what there is.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

#: Which Python makes the environment, and which build of torch goes into it (with any options of pip).
export PYTHON ?= python3
export TORCH ?= torch==2.13.0

ifeq ($(origin PROMPT),undefined)
PROMPT := a sunset over a beach
endif

# What a person types is taken as it is: make would expand its dollars, and run what stands in $(shell ...).
override PROMPT := $(value PROMPT)
override OUT := $(value OUT)
export PROMPT OUT

BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: help
help: ## List what there is
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-16s %s\n' "$$name" "$$text"; done

.PHONY: demo
demo: install ## Draw PROMPT="a sunset over a beach" with a stack of its own; OUT=castle.png says where to
	@$(BIN)/easel demo $${OUT:+--out "$$OUT"} -- "$$PROMPT"

.PHONY: up
up: install ## Run the whole service here until Ctrl-C; ARGS="--workers 2" for more
	@$(BIN)/easel up $(ARGS)

.PHONY: test
test: install ## Run the tests against real servers; ARGS="-k name" for some
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: chaos
chaos: install ## Break everything at random 200 times under load, and look for what was lost; ARGS="--seed 2"
	@$(BIN)/python -m tests.chaos --kills 200 $(ARGS)

.PHONY: train
train: install ## Train the bundled model from nothing into .training/model, or go on where it was stopped
	@$(BIN)/python -m inference.postcard.training .training $(ARGS)

.PHONY: evaluate
evaluate: install ## Measure whether the bundled model draws what it is asked; ARGS="--model .training/model" for another
	@$(BIN)/python -m inference.postcard.evaluate --check $(ARGS)

.PHONY: check
check: install ## Lint, types, architecture, protos, reference, and all that is deployed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	scripts/check-protos
	scripts/check-reference
	@$(MAKE) --no-print-directory check-deploy

.PHONY: check-deploy
check-deploy: check-containers check-k8s check-deployment ## Containers, manifests, dashboards and rules

.PHONY: check-containers
check-containers: install ## Lint the Dockerfiles, compose.yaml and the scripts
	@scripts/check-containers

.PHONY: check-k8s
check-k8s: install ## Render k8s/ and validate what Kubernetes would get
	@scripts/check-k8s

.PHONY: check-deployment
check-deployment: install ## Try the rules, and see that dashboards are current
	@scripts/check-deployment

.PHONY: format
format: install ## Put the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: proto
proto: install ## Generate easel/v1 and easel/worker/v1 from protos/
	scripts/generate

.PHONY: reference
reference: install ## Write docs/reference anew, from protos, settings, metrics and commands
	$(BIN)/python -m scripts.reference docs/reference

.PHONY: deployment
deployment: install ## Write the dashboards anew, the rules for Kubernetes, and the permissions for NATS
	$(BIN)/python -m scripts.deployment .

.PHONY: pictures
pictures: install ## Draw the README's pictures anew, from real runs
	$(BIN)/python docs/pictures/terminal.py docs/pictures/demo.svg -- make demo
	$(BIN)/python -m inference.postcard.sheet docs/pictures/postcard.png
	$(BIN)/python docs/pictures/terminal.py --last 12 docs/pictures/test.svg -- make test

.PHONY: install
install: $(INSTALLED) ## Make .venv, which all of this shares; TORCH="torch==2.13.0 OPTIONS" picks a build

$(INSTALLED): requirements/lock.txt pyproject.toml scripts/install
	@scripts/install
	@touch $@

.PHONY: lock
lock: ## Choose versions anew, within what pyproject.toml allows; needs uv
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
		--extra dev --override requirements/overrides.in --no-emit-package torch \
		--custom-compile-command "make lock" --output-file requirements/lock.txt pyproject.toml requirements/torch.in
	@# What goes into each image: the same versions, and nothing else.
	for image in gateway:gateway worker:inference; do \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
			--extra $${image#*:} --extra exporters --constraint requirements/lock.txt --override requirements/overrides.in --no-emit-package torch \
			--custom-compile-command "make lock" --output-file requirements/$${image%:*}.txt \
			pyproject.toml $$([ $$image = gateway:gateway ] || echo requirements/torch.in) || exit; done
	for peer in litserve dramatiq; do \
		uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-annotate \
			--override requirements/overrides.in --no-emit-package torch --custom-compile-command "make lock" \
			--output-file bench/peers/$$peer.txt bench/peers/$$peer.in requirements/torch.in || exit; done

.PHONY: clean
clean: ## Remove what was built and cached, but neither .venv nor data
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
