# A new machine needs a Rust toolchain, Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
export VIRTUAL_ENV := $(abspath $(VENV))
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1

PORT ?= 8000
TORTURE ?= --seed 1
# Most tests wait for other programs, so that two on each core keep it busy.
WORKERS ?= $(shell $(PYTHON) -c "import os; print(2 * (os.cpu_count() or 1))")
FUZZ_SECONDS ?= 20
FUZZ_TARGETS := scan event patch compact

.PHONY: serve demo test test-fast test-lowest lint bench fuzz torture wheel build fmt clean

serve: build ## Set up everything and serve demo agents at http://127.0.0.1:8000/, with threads in threads.db.
	$(BIN)/agentrunner serve agentrunner.demo.agents:agents --db threads.db --port $(PORT) --inspector

demo: build ## Set up everything and take the tour, on SQLite.
	$(BIN)/agentrunner demo

test: build wheel ## Set up everything and run the tests.
	cargo test --release --workspace --exclude agentrunner-python
	$(BIN)/pytest -m "not alone" --numprocesses $(WORKERS) --dist worksteal
	$(BIN)/pytest -m alone

test-fast: build ## Pass the tests that need no server, no node and no other program: in memory and on SQLite, under a minute.
	$(BIN)/pytest -m fast --numprocesses auto --dist worksteal tests/unit tests/parity tests/conformance

# The tools of the tests may be new.
test-lowest: wheel ## Run the fast tests, and those of Redis and PostgreSQL, with the oldest dependencies that are supported.
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/pip install --requirement tests/lowest.txt \
	  "$$(ls dist/*.whl)[cli,server,redis,postgres,openai,skills]" httpx hypothesis opentelemetry-sdk 'pytest>=9.2' pytest-xdist
	$(LOWEST)/bin/pytest -m "fast or redis or postgres" --numprocesses auto --dist worksteal \
	  --ignore tests/unit/runtime/test_pydantic_ai.py tests/unit tests/conformance

lint: build ## Check the code without running it.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest agentrunner._core
	cargo fmt --check
	cargo clippy --release --workspace --all-targets -- -D warnings

bench: build ## Print the README's table of measurements.
	$(BIN)/python -m benches

fuzz: ## Run each fuzz target for FUZZ_SECONDS, where cargo-fuzz and a nightly compiler are installed.
	@if cargo fuzz --version >/dev/null 2>&1 && cargo +nightly --version >/dev/null 2>&1; then \
	  for target in $(FUZZ_TARGETS); do \
	    cargo +nightly fuzz run --fuzz-dir rust/fuzz $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	  done; \
	else \
	  echo "fuzz: $(FUZZ_TARGETS) were not run, because cargo-fuzz or a nightly compiler is missing"; \
	fi

torture: build ## Run the fault campaigns in full, for hours, and write docs/torture.md; `make torture TORTURE="--only kill"`.
	$(BIN)/pip install --group torture
	PYTHONPATH=tests $(BIN)/python -m campaigns.torture $(TORTURE)

wheel: build ## Build one wheel in dist/ for every Python >= 3.11 on this platform.
	rm -rf dist
	$(BIN)/maturin build --release --strip --out dist

$(VENV)/tools: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --upgrade 'pip>=25.1'
	$(BIN)/pip install 'maturin>=1.16,<2'
	touch $@

# Compile the core into python/agentrunner, and install it with its extras and the group `dev`.
build: $(VENV)/tools
	$(BIN)/maturin develop --quiet --release --extras demo,server,redis,postgres,openai,skills

fmt: build
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	cargo fmt

clean:
	rm -rf target rust/fuzz/target dist $(VENV) $(LOWEST) tests/*/node_modules tests/node/*/node_modules examples/react/node_modules examples/react/dist
