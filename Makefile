# make demo     the lab: a throwaway stack, faults in it, and what diagnose says about them
# make test     everything that has to hold before a change is merged
# make help     every target
#
# Environments: .venv is made by the python3 of this machine (on Debian 12: Python 3.11, so ansible-core 2.19), and
# .venv-newest by the newest Python found, where there is a newer one.

VENV ?= .venv
ifndef PYTHON
PYTHON := $(shell command -v python3 || echo python3)
endif
INVENTORY ?= inventory/this_host.yml
ARGS ?=
PYTEST_ARGS ?=

export PATH := $(abspath $(VENV))/bin:$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# What is not a playbook of this checkout finds the collection by its name.
bench docs integration lint molecule newest-pytest newest-sanity pytest sanity units: export ANSIBLE_COLLECTIONS_PATH := \
	$(CURDIR)/playbooks/collections:$(HOME)/.ansible/collections:/usr/share/ansible/collections
# Without compiled files, each process compiles all tests anew.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 18

.PHONY: setup
setup: ## make the virtual environment with what a controller needs
	@tests/tools/setup $(VENV) requirements.txt $(PYTHON)

.PHONY: setup-test
setup-test: ## the same, with what the tests need
	@tests/tools/setup $(VENV) requirements-test.txt $(PYTHON)

.PHONY: demo
demo: setup ## bring up the lab, break it, diagnose it
	@tests/lab/demo.sh

.PHONY: diagnose
diagnose: setup ## diagnose hosts: make diagnose INVENTORY=... ARGS='-e ...'
	@ansible-playbook playbooks/diagnose.yml -i $(INVENTORY) $(ARGS)

.PHONY: remediate
remediate: setup ## act on what is found: make remediate INVENTORY=... ARGS='--check --diff -e ...'
	@ansible-playbook playbooks/remediate.yml -i $(INVENTORY) $(ARGS)

.PHONY: prepare
prepare: setup ## install the client libraries on hosts: make prepare INVENTORY=... ARGS='--check'
	@ansible-playbook playbooks/prepare.yml -i $(INVENTORY) $(ARGS)

.PHONY: test
test: ## all that has to hold: every target below
	@# The tests on servers run without the linters, as some of them measure time. Every step runs, whatever failed before it.
	@mkdir -p .cache; : >.cache/steps; status=0; \
	$(MAKE) --jobs=2 timed-setup-test newest-setup || status=2; \
	$(MAKE) timed-pytest || status=2; \
	$(MAKE) --keep-going --jobs=4 --output-sync=line timed-newest-sanity timed-lint timed-sanity newest-molecule || status=2; \
	exit $$status

# Molecule diagnoses a healthy stack, so it runs after the tests, which inject faults.
.PHONY: newest-molecule
newest-molecule:
	@status=0; $(MAKE) timed-newest-pytest || status=2; $(MAKE) timed-molecule || status=2; exit $$status

# A step of `make test`, with a line in .cache/steps: what it is, its seconds, how it ended.
timed-%:
	@started=$$(date +%s); ended=passed; $(MAKE) $* || ended=failed; \
	printf '%-14s %5d s  %s\n' $* $$(($$(date +%s) - started)) $$ended >>.cache/steps; \
	[ $$ended = passed ]

.PHONY: lint
lint: setup-test ## style and coherence of Python, YAML, Ansible, shell and documentation
	@tests/tools/lint

.PHONY: sanity
sanity: setup-test ## ansible-test sanity; with CI=true, for every Python found here
	@tests/tools/sanity $(ARGS)

.PHONY: newest newest-setup newest-sanity newest-pytest
newest: newest-sanity newest-pytest ## sanity, unit tests and playbooks with the newest Python and ansible-core
newest-setup:
	@tests/tools/newest setup $(PYTHON)
newest-sanity: setup-test
	@tests/tools/newest sanity
newest-pytest: setup-test
	@tests/tools/newest pytest

.PHONY: format
format: setup-test ## lay out the Python files
	@ruff check --quiet --fix --exit-zero . && ruff format .

.PHONY: docs
docs: setup-test ## write docs/checks.md and docs/rights.md, and build the documentation site
	@python -m tests.tools.catalogue
	@python -m tests.tools.docsite

.PHONY: units
units: setup-test ## unit tests: no server, no network
	@python -m pytest tests/unit $(PYTEST_ARGS)

.PHONY: integration
integration: setup-test ## tests against the real servers of the lab
	@python -m pytest tests/integration $(PYTEST_ARGS)

.PHONY: pytest
pytest: setup-test
	@# On a new machine, engine and images take minutes to make: beside the unit tests, which come first then.
	@mkdir -p .cache; tests/lab/lab setup >.cache/lab-setup.log 2>&1 &
	@# Each process collects all tests: compile them first.
	@for part in unit integration; do python -m pytest tests/$$part --collect-only -qq >/dev/null 2>&1 & done; wait
	@# Tests wait for servers more than they compute: five processes keep two cores busy.
	@python -m pytest tests/unit tests/integration --numprocesses 5 --reruns 2 --reruns-delay 2 --durations 10 $(PYTEST_ARGS)

.PHONY: molecule
molecule: setup-test ## the molecule scenarios, over a stack of their own
	@rm -rf .cache/molecule  # what a run that was stopped half-way believes to exist
	@MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.cache/molecule molecule test --all

.PHONY: bench
bench: setup ## time the modules, the evaluation, and a diagnosis of one host and of a fleet; fail if a goal is missed
	@failed=; for bench in tests/bench/bench_*.py; do echo "--- $$bench"; python $$bench || failed="$$failed $$bench"; done; \
	  [ -z "$$failed" ] || { echo "bench: failed:$$failed" >&2; exit 1; }

.PHONY: lab-up
lab-up: setup ## start the lab
	@tests/lab/lab up

.PHONY: lab-down
lab-down: ## stop the lab and remove what it made
	@tests/lab/lab down

.PHONY: clean
clean: ## remove what was built here, the virtual environments included
	@rm -rf .venv* .cache .ansible .pytest_cache .ruff_cache tests/output
