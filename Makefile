# Each goal sets up what it needs: a virtual environment in .venv and the project installed in it.
PYTHON ?= python3
BIN := .venv/bin
# A file's tests share what they set up, so they stay in one process; each process computes on one core.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile
READY := .venv/.ready

.PHONY: demo test test-all check format clean

demo: $(READY)
	$(BIN)/twoviews study sample

test: $(READY)
	$(PYTEST)

test-all: $(READY)
	$(PYTEST) -m "slow or not slow" --timeout 1800

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks tools

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $(READY)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
