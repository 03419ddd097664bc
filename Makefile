# make bench: install, run the main comparison, write the report.
# make test:  install with test dependencies, then ruff, mypy, import contracts and pytest.
# make docs:  install with the documentation's dependencies, then build the site into build/site; fails on dead links.
# make pythons: a fresh install, quick tests and two runs with each of PYTHONS whose interpreter is here (path, pyenv, uv).
# make study: install, run all sweeps of docs/study.md, decide the claims. Hours, and resumable; STUDY_ARGS="--sweeps kl" runs one.
# make gpu:   test and measure on the GPU that is at hand (docs/gpu.md); GPU_ARGS="--device cpu --quick" rehearses it.

PYTHON ?= python3
VENV ?= .venv
SWEEP ?= main_table
RUNS ?= runs/$(SWEEP)
REPORT ?= report/$(SWEEP)
PYTHONS ?= 3.11 3.12 3.13
STUDY_OUT ?= report/study
STUDY_ARGS ?=
GPU_OUT ?= report/gpu
GPU_ARGS ?=
BIN := $(VENV)/bin

# Tiny models are fastest on one thread; jobs run side by side instead.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
export HF_HUB_OFFLINE ?= 1

.PHONY: bench study test docs gpu pythons install install-test install-docs clean

bench: install
	$(BIN)/emorl-bench --config-dir sweeps --config-name $(SWEEP) runs_dir=$(RUNS); status=$$?; \
	$(BIN)/emorl-report $(RUNS) --out $(REPORT) && exit $$status

study: install
	$(BIN)/python -m studies.claims run --runs runs/study --out $(STUDY_OUT) $(STUDY_ARGS)

test: install-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 --dist loadfile

docs: install-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

gpu: install-test
	$(BIN)/python -m benchmarks.gpu --out $(GPU_OUT) $(GPU_ARGS)

pythons:
	.ci/pythons $(PYTHONS)

install: $(VENV)/installed
install-test: $(VENV)/installed-test
install-docs: $(VENV)/installed-docs

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) runs report build
