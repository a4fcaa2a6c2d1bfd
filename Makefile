# Two commands do everything on a bare machine with Python and make: `make demo` and `make test`.
# With another Python, beside the first: `make test PYTHON=python3.13 VENV=.venv-3.13`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest/bin

.PHONY: demo test test-avx2 test-threads test-lowest hunt check format bench dist docs clean

demo: $(VENV)/installed
	$(BIN)/coterie demo

# Two tests at a time, one thread each: two threads each would wait for each other. Bytecode is kept, whatever the
# environment says: two workers and some twenty processes that tests start import the same.
ONE := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1
TESTS := $(ONE) $(BIN)/pytest -n 2 --dist loadscope

test: check
	$(TESTS)

# The tests again as on a processor without AVX-512 and bfloat16.
test-avx2: $(VENV)/installed
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(TESTS)

# The promises that every method keeps, with two threads.
test-threads: $(VENV)/installed
	OMP_NUM_THREADS=2 $(BIN)/pytest tests/contract tests/training

# The tests with other random draws than `make test` has, which draws the same each time.
hunt: $(VENV)/installed
	COTERIE_DRAWS=hunt $(TESTS)

# An old package warns of what a newer one that it needs gives up: not coterie's to mend.
OLD := -W ignore::DeprecationWarning -W 'ignore:Setuptools is replacing'

# The tests with the lowest version that pyproject.toml allows of each requirement; ONLY="tests/cli tests/data" for some.
test-lowest: .venv-lowest/installed
	$(ONE) $(LOWEST)/pytest -n 2 --dist loadscope $(OLD) $(ONLY)

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed
	$(BIN)/python benchmarks/kmeans.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/steps.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/metrics.py

# The site, in site/: warnings are errors, and nothing is asked of the network once the extra is installed.
docs: $(VENV)/docs-installed
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs site
	$(BIN)/python docs/_site/check_links.py site

# The wheel and the sdist, in dist/.
dist: $(VENV)/installed
	$(BIN)/python -m hatchling build

clean:
	rm -rf .venv .venv-* runs dist site

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

$(VENV)/docs-installed: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@

# uv, since pip has no way to take the lowest.
.venv-lowest/installed: pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	$(LOWEST)/pip install --quiet --upgrade pip uv
	$(LOWEST)/uv pip install --quiet --python $(LOWEST)/python --resolution lowest-direct --editable '.[dev,heif,medmnist,ray]'
	touch $@
