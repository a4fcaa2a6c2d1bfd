# Two commands do everything on a bare machine with Python and make: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-avx2 test-threads hunt check format bench dist docs clean

demo: .venv/installed
	$(BIN)/coterie demo

# Two tests at a time, one thread each: two threads each would wait for each other.
TESTS := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadscope

test: check
	$(TESTS)

# The tests again as on a processor without AVX-512 and bfloat16.
test-avx2: .venv/installed
	ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(TESTS)

# The promises that every method keeps, with two threads.
test-threads: .venv/installed
	OMP_NUM_THREADS=2 $(BIN)/pytest tests/contract tests/training

# The tests with other random draws than `make test` has, which draws the same each time.
hunt: .venv/installed
	COTERIE_DRAWS=hunt $(TESTS)

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/installed
	$(BIN)/python benchmarks/kmeans.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/metrics.py

# The site, in site/: warnings are errors, and nothing is asked of the network once the extra is installed.
docs: .venv/docs-installed
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs site
	$(BIN)/python docs/_site/check_links.py site

# The wheel and the sdist, in dist/.
dist: .venv/installed
	$(BIN)/python -m hatchling build

clean:
	rm -rf .venv runs dist site

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

.venv/docs-installed: .venv/installed
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@
