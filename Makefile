# Two commands, nothing before them: `make search` and `make test`. Python 3.11+ and make are enough.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
TRIALS ?= 200
export OMP_NUM_THREADS = 1
# A search and the tests start many processes: without bytecode each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help search test thorough faults check format lint types docs site site-serve bench bench-gpu bench-scale bench-search clean

help:
	@echo "make search   install into $(VENV) and run a real search of $(TRIALS) trials on handwritten digits"
	@echo "make test     install and run the tests, those against a real PostgreSQL included (tests/README.md)"
	@echo "make thorough run all of them, with all random examples"
	@echo "make faults   kill, freeze and fill what a search needs, in full; write docs/reliability.md"
	@echo "make check    what CI runs: format, lint, types, make thorough"
	@echo "make docs     write docs/commands.md from the commands"
	@echo "make site     the documents as pages: build/site; make site-serve shows them while you write"
	@echo "make bench    measure speed against what people write by hand: docs/speed.md (an hour)"
	@echo "make bench-gpu   seven short measurements of a GPU, in one command: docs/speed.md"
	@echo "make bench-scale  64 workers on one PostgreSQL: connections, waiting, coordination (some minutes)"
	@echo "make bench-search   compare samplers and pruners in simulated searches: docs/search.md (hours; QUICK=1: minutes)"
	@echo "make clean    remove $(VENV) and the caches"

# The stamps hold the pins they were installed with: a changed pyproject or constraints installs again.
$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Parsimony needs Python 3.11 or newer: make PYTHON=python3.13")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

$(VENV)/.search: $(VENV)/.made pyproject.toml constraints.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.search
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'
	@touch $@

# Digits are 8x8 pixels; 4 million multiply-accumulates an image keep a trial at seconds on a CPU core.
search: $(VENV)/.search
	@echo "Digits are 8x8 pixels: networks of at most 4 million multiply-accumulates, 6 epochs a trial."
	$(BIN)/search launch --trials $(TRIALS) --data digits --max-macs 4_000_000 --out best.json --report report.html
	$(BIN)/search verify best.json

# Three processes on two cores: tests of faults wait for much of their time.
PYTEST := $(BIN)/python -m pytest -n 3 --dist worksteal

test: $(VENV)/.dev
	$(PYTEST)

thorough: $(VENV)/.dev
	$(PYTEST) --thorough -rs

# In full, one after another, for the figures of docs/reliability.md: best as root, on an idle machine.
faults: $(VENV)/.dev
	@mkdir -p build && rm -f build/faults.jsonl
	$(BIN)/python -m pytest -m faults --faults full --faults-json build/faults.jsonl
	$(BIN)/python docs/reliability.py build/faults.jsonl

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m pytest --thorough tests/test_docstrings.py

types: $(VENV)/.dev
	$(BIN)/mypy

check: lint types thorough

docs: $(VENV)/.dev
	$(BIN)/python docs/render.py

site: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/site/index.html"

site-serve: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.speed $(BENCH)

bench-gpu: $(VENV)/.dev
	@mkdir -p build
	$(BIN)/python -m benchmarks.speed.gpu $(BENCH) --json build/gpu.json

bench-scale: $(VENV)/.dev
	$(BIN)/python -m benchmarks.speed --only scale $(BENCH)

# Goes on where a run was broken off: build/search.jsonl holds one line a search. OPTUNAHUB=DIR: a copy of
# OptunaHub's registry, whose samplers are compared too where the package optunahub is installed.
HUB = $(if $(OPTUNAHUB),--optunahub $(OPTUNAHUB))
bench-search: $(VENV)/.dev
	@mkdir -p build
ifdef QUICK
	$(BIN)/python -m benchmarks.simulated --quick $(HUB)
else
	$(BIN)/python -m benchmarks.simulated --rows build/search.jsonl --out benchmarks/results/search.json $(HUB)
	$(BIN)/python -m benchmarks.simulated.ranking
	$(BIN)/python -m benchmarks.simulated.document
endif

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
