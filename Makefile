# `make repro` runs the pipeline and `make test` the tests; both set up .venv on their first run. `make help` lists all.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
# Tests of team, store and cluster are skipped without these: make install EXTRAS=dev,predict,demo,team,store,cluster
EXTRAS ?= dev,predict,demo
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# An unpacked download is no git repository, and DVC runs in it only with this setting.
ifeq ($(shell git rev-parse --git-dir 2>/dev/null || ls -d .git 2>/dev/null),)
export DVC_GLOBAL_CONFIG_DIR := $(CURDIR)/.dvc/without_git
endif

.DEFAULT_GOAL := help
.PHONY: help install repro speedrun speedrun-fast speedrun-full study check coverage test all-tests test-servers soak lint wheel ui demo report backfill lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(VENV)/installed ## create .venv with the exact versions of constraints.txt

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=python3.11")'
	@$(PYTHON) -c 'import bz2, ctypes, sqlite3, ssl, zlib' || { echo 'error: this Python was built without a library that is needed (above): make PYTHON=another-python3.11' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

repro: install ## run the whole pipeline and show its table
	dvc repro
	@cat outputs/reports/ablation.md

# --force: a training in DVC's cache may have run alongside others, or on fewer threads.
SPEEDRUN = dvc exp run --temp --force -S 'grid.models=[baseline]' \
	-S data.source=archive -S "data.path=\"$$(realpath -- "$$ARCHIVE" | sed 's/"/\\"/g')\"" -S data.expect=$(EXPECT)
EXPECT ?= fer2013
export ARCHIVE
speedrun: speedrun-fast speedrun-full ## train both recipes on FER-2013 and time them: make speedrun ARCHIVE=path/to/fer2013.tar.gz

speedrun-fast: SEEDS := 0,1,2
speedrun-full: SEEDS := 0
speedrun-fast speedrun-full: speedrun-%: install
	@test -e "$$ARCHIVE" || { echo 'error: say where your copy of FER-2013 is: make $@ ARCHIVE=path/to/fer2013.tar.gz' >&2; exit 1; }
	-@dvc exp remove --quiet $@ 2>/dev/null
	$(SPEEDRUN) --name $@ -S recipe=$* -S 'grid.seeds=[$(SEEDS)]'
	fer speedrun $@

# In the order of study.yaml, with the data that params.yaml names. What is there is not made again.
study: install ## search, train and report every block of study.yaml, then write the study
	@for block in $$(sed -n 's/^  \([A-Z][0-9]*\):$$/\1/p' study.yaml); do \
	  fer search --block $$block && fer sweep --block $$block && fer report --block $$block || exit 1; \
	done
	fer report

check: install lint ## lint, types and the fast tests: before every commit
	pytest -n 2 --dist loadgroup -m 'not slow and not medium' -q

coverage: install ## which lines of pipeline and stages the tests run, without those that run whole pipelines
	pytest -n 2 --dist loadgroup -m 'not slow' -q --cov

test: install ## lint, types and every test but those of a group's servers
	@$(MAKE) --no-print-directory -j 2 lint all-tests # types are checked on one core

all-tests: install
	pytest -n 2 --dist loadgroup -m 'not servers'

test-servers: install ## the tests of PostgreSQL, S3, SSH, Slurm's jobs and served models
	pytest -n 2 --dist loadgroup -m servers

# Each is a row of docs/reliability.md, which says which of them go on where they were stopped.
SOAKS = "parsers --cases 5000" archives "pictures --cases 1000" parameters kills experiments server disk
soak: install ## look for faults at scale: an hour or two
	@failed=; for search in $(SOAKS); do \
	  echo "== python -m tests.soak.$$search"; python -m tests.soak.$$search || failed="$$failed $${search%% *}"; \
	done; if [ "$$failed" ]; then echo "faults:$$failed" >&2; exit 1; else echo 'no faults'; fi

lint: install ## ruff, mypy and codespell
	ruff check .
	ruff format --check .
	mypy
	codespell

wheel: install ## build the wheel, install it into an environment of its own, import every module
	rm -rf .wheel
	python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir .wheel .
	$(PYTHON) -m venv .wheel/env
	.wheel/env/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt .wheel/*.whl
	.wheel/env/bin/python -I tests/wheel.py
	.wheel/env/bin/fer --help >/dev/null

PORT ?= 5000
ui: install ## open the MLflow dashboard on port 5000, or another: make ui PORT=5001
	@python -c 'import socket, sys; sys.exit(socket.socket().connect_ex(("127.0.0.1", int(sys.argv[1]))) == 0)' '$(PORT)' || \
		{ echo 'error: port $(PORT) is taken by another program (on macOS port 5000 by AirPlay): make ui PORT=5001' >&2; exit 1; }
	mlflow ui --backend-store-uri sqlite:///mlflow.db --port $(PORT)

demo: install ## open a page to try the model: photographs or the camera, on this machine alone
	fer demo

report: install ## write the study from the runs in results/fer2013
	fer report

backfill: install ## restore MLflow runs that are missing
	fer backfill

lock: install ## write the versions in .venv to constraints.txt
	@{ echo '# Exact versions of what `make` and CI install, direct and indirect, with PyTorch for the CPU; refreshed by `make lock`.'; \
	   pip freeze --exclude-editable | sed -E 's/ @ file.*//; s/\+cpu$$//'; } > constraints.txt

clean: install ## remove outputs, checkpoints and .machine; nothing that the pipeline did not write
	fer clean
