# Needs Python 3.11 or newer and make; everything else goes into .venv and _build.
# Windows: see README.md (plain venv and pip, no make).

PYTHON ?= python3
CONSTRAINTS ?= -c constraints.txt
PIP_FLAGS ?=
NB ?=
PROFILE ?= lite
CORES ?= 2
JOBS ?= 2
# The recheck picks among the chapters whose header states at most so many minutes, see docs/decisions.
RECHECK_MINUTES ?= 4
PICK ?=
MINUTES ?= 9
ACCEPT ?=
REPO ?=

BIN := .venv/bin
READY := .venv/.ready
SITE := _build/html/index.html

# Real cohorts, where a data folder lies beside the checkout; the series runs without them too.
ifndef SEGCONF_DATA
ifneq ($(wildcard ../shared/data),)
export SEGCONF_DATA := $(abspath ../shared/data)
endif
endif

# The packages are installed uncompiled: what is imported is compiled once, not in every process anew.
export PYTHONDONTWRITEBYTECODE :=

NOTEBOOKS := $(sort $(wildcard notebooks/[0-9]*.py))
ALL := $(NOTEBOOKS:notebooks/%.py=_build/executed/%.ipynb)
# First the chapter that trains the networks which most others need, and beside it those that can do without;
# last the shortest ones, so that no core waits long at the end.
EARLY := $(foreach n,02 07 01 90 12 09 03,$(filter _build/executed/$(n)_%,$(ALL)))
LATE := $(foreach n,10 11,$(filter _build/executed/$(n)_%,$(ALL)))
EXECUTED := $(EARLY) $(filter-out $(EARLY) $(LATE),$(ALL)) $(LATE)
WANTED := $(if $(NB),$(patsubst notebooks/%.py,_build/executed/%.ipynb,$(wildcard notebooks/$(NB)*.py)),$(EXECUTED))
# What a notebook's result can depend on; the command line is not among it.
PACKAGE := $(filter-out $(addprefix segconf_lite/,archives.py classroom.py cli.py _commands.py doctor.py grid.py),\
  $(shell find segconf_lite -name '*.py'))
BOOK := $(shell find book -type f)
# Small networks gain little from a second core, so JOBS notebooks run at a time, each on its share of the cores.
# A single notebook (NB=01) has them all.
SHARE = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$$($(BIN)/python -c \
  'import os; print(max(1, (os.cpu_count() or 1) // $(JOBS)))')}
AT_ONCE = $(if $(filter 1,$(words $(WANTED))),,-j$(JOBS))
THREADS = $(if $(filter -j%,$(MAKEFLAGS)),$(SHARE))
# glibc keeps the memory it was given, see segconf_lite/notebook.py.
KEEP = MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=4000000000
ON_A_DEVICE = tests/models tests/confidence tests/fragility tests/stress tests/test_device_contract.py \
  tests/test_chapters_on_device.py
# Cells of one notebook, and tests of one file, stay together and in order.
WORKERS = -n $(JOBS) --dist loadfile

# Tests of what `make run` and `make render` have made.
AFTER_THE_SERIES = $(addprefix --ignore=tests/,test_browser.py test_executed.py test_site.py)

.DEFAULT_GOAL := help
.PHONY: help book run classroom test lab check coverage pretend claims clean distclean notebooks networks setup facts nbval \
  params render gates browser recheck alone retarget gpu series picture quizzes editions bench bench-check torture slides
.SECONDARY:
.DELETE_ON_ERROR:

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## make .venv and install the tested set of packages

book: $(READY) ## run the series, render the book, say where it opens
	@$(MAKE) -k -j$(JOBS) --no-print-directory $(SITE)
	@echo "The book is at $(SITE)"

run: $(READY) ## run the series (NB=01: that notebook only); finished ones are not run again
	$(if $(WANTED),,$(error no notebook fits notebooks/$(NB)*.py))
	@$(MAKE) -k $(AT_ONCE) --no-print-directory $(WANTED)
	@echo "Executed notebooks are in _build/executed/"

classroom: $(READY) ## run the series once, and pack its trained networks for other computers: _build/classroom.zip
	@$(MAKE) --no-print-directory run
	$(BIN)/segconf store pack _build/classroom.zip --chapters $(basename $(notdir $(NOTEBOOKS)))

lab: $(READY) ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir=notebooks

check: $(READY) ## quick loop: lint, spelling, types, unit tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(SHARE) $(KEEP) $(BIN)/pytest -q $(WORKERS) tests $(AFTER_THE_SERIES)

coverage: $(READY) ## branch coverage of the package by its unit tests; a page a module in _build/coverage
	$(SHARE) $(KEEP) $(BIN)/pytest -q $(WORKERS) --cov --cov-report=term --cov-report=html:_build/coverage \
	  tests $(AFTER_THE_SERIES)

pretend: $(READY) ## tests of what runs on a GPU, on a pretended one
	$(SHARE) $(KEEP) $(BIN)/pytest -q $(WORKERS) --pretend-device $(ON_A_DEVICE)

test: check ## everything: check, and then series
	@$(MAKE) --no-print-directory series

series: $(READY) ## all of test beyond check: a pretended GPU, the notebooks twice, one claim anew, the book in a browser
	@$(MAKE) --no-print-directory pretend
	@$(MAKE) --no-print-directory run
	@$(MAKE) --no-print-directory facts
	@$(MAKE) --no-print-directory nbval
	@$(MAKE) --no-print-directory recheck
	@$(MAKE) --no-print-directory render
	@$(MAKE) --no-print-directory gates

facts: $(READY) # what the executed notebooks say of themselves must be true
	$(BIN)/pytest -q -p no:cacheprovider tests/test_executed.py

nbval: $(READY) # run the notebooks as committed; an error in any cell fails
	$(if $(NOTEBOOKS),$(SHARE) $(KEEP) $(BIN)/pytest -q -p no:cacheprovider $(WORKERS) --nbval-lax --nbval-cell-timeout=1200 $(NOTEBOOKS:.py=.ipynb))

render: $(READY) # render the executed notebooks, whether or not anything changed
	$(BIN)/python book/build.py

gates: $(READY) # the rendered book: links, weight, and a few pages in a headless browser
	$(BIN)/pytest -q -rs -n $(JOBS) --dist load -m "not long" tests/test_site.py tests/test_browser.py

browser: $(READY) ## every page of the rendered book in a headless browser (many minutes)
	$(BIN)/pytest -q -rs -n $(JOBS) --dist load tests/test_site.py tests/test_browser.py

notebooks: $(READY) ## write the .ipynb twins from the .py files, without outputs
	$(BIN)/jupytext --quiet --update --to ipynb $(NOTEBOOKS)
	$(BIN)/jupyter nbconvert --log-level=WARN --clear-output --inplace $(NOTEBOOKS:.py=.ipynb)

networks: $(READY) ## all methods on networks of other libraries and forms (minutes), as a table of the book
	$(BIN)/python benchmarks/networks.py

quizzes: $(READY) ## the quizzes for a learning platform, in the GIFT format: _build/teaching/quizzes.gift
	$(BIN)/python book/teaching_pages.py

slides: $(READY) ## slides and a one-page handout of every executed chapter, in _build/teaching/slides
	$(BIN)/python book/slides.py

editions: $(READY) ## notebooks for students, for the book and for teachers, in _build/teaching
	$(BIN)/python book/editions.py

claims: $(READY) ## run what the registered claims need (hours), judge them (ACCEPT=1 replaces what is stored); goes on
	$(BIN)/snakemake --snakefile workflow/Snakefile --cores $(CORES) --keep-going --rerun-triggers mtime \
	  --nolock --rerun-incomplete --quiet rules --config profile=$(PROFILE)
	$(BIN)/segconf claims judge --profile $(PROFILE) $(if $(ACCEPT),--accept)

params: $(READY) ## run each chapter at two settings other than the book's, small (NB=04: that chapter only)
	$(BIN)/python benchmarks/params.py $(NB) --jobs $(JOBS)

gpu: $(READY) ## run tests and series on a card (or here) for MINUTES, write book/results/gpu_series.csv; goes on where it stopped
	$(BIN)/python benchmarks/gpu.py --minutes $(MINUTES)

bench: $(READY) ## measure what methods, searches, metrics, reports and the start cost; on a quiet machine, records the ratios
	$(BIN)/python benchmarks/bench/check.py --all

bench-check: $(READY) ## the smallest sizes again; fails where a ratio is 25 % worse than recorded
	$(BIN)/python benchmarks/bench/check.py

torture: $(READY) ## kills, damage, wrong arguments, hostile names, determinism for MINUTES each; book/results/torture.csv
	$(BIN)/python benchmarks/torture/kill.py --n 500 --minutes $(MINUTES) --store; killed=$$?; \
	$(BIN)/python benchmarks/torture/damage.py --n 2000 --minutes $(MINUTES) --store; damaged=$$?; \
	$(BIN)/python benchmarks/torture/inputs.py --minutes $(MINUTES) --store; given=$$?; \
	$(BIN)/python benchmarks/torture/names.py --store; named=$$?; \
	$(BIN)/python benchmarks/torture/equal.py --store; equal=$$?; \
	exit $$((killed + damaged + given + named + equal))

recheck: $(READY) # train and measure one stored claim of a quick chapter again; the commit (or PICK=hex) chooses which
	$(BIN)/segconf claims recheck --profile lite --minutes $(RECHECK_MINUTES) $(if $(PICK),--pick $(PICK))

alone: $(READY) ## every chapter with the installed wheel only, in an empty folder; what pip would do on Colab
	ALONE=1 $(SHARE) $(KEEP) $(BIN)/pytest -q -rs --durations=0 -n $(JOBS) tests/test_alone.py

retarget: $(READY) ## write repository (REPO=organisation/name) and version into cells, badges and links
	$(BIN)/python book/retarget.py $(REPO)
	@$(MAKE) --no-print-directory notebooks

picture: $(READY) # draw docs/picture.svg, the picture of the README
	$(BIN)/python docs/picture.py

clean: ## remove everything built (trained models in the cache folder stay)
	rm -rf _build

distclean: clean ## remove .venv too
	rm -rf .venv

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { echo "No $(PYTHON) here. Install Python 3.11 or newer, or name it: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments. On Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (one to three minutes the first time)"
	@# Compiling all that is installed takes as long as installing it; most of it is never imported.
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-compile $(PIP_FLAGS) $(CONSTRAINTS) -e ".[all]"
	@touch $@

_build/executed/%.ipynb: notebooks/%.py $(PACKAGE) $(READY)
	@$(THREADS) $(BIN)/segconf run $< --out $@

$(SITE): $(EXECUTED) $(BOOK) $(READY)
	@$(BIN)/python book/build.py
