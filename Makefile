# Everything a developer runs.  What a command needs, it makes first: each environment from
# the one lock of its name, and anew when the lock or the interpreter is another one.
PYTHON ?= python3
VENV := .venv
PARTS := .parts
BIN := $(VENV)/bin
SECONDS_AHEAD := 47520000
CARGO_AUDIT := cargo-audit@0.22.2
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test later mutate check format lint types e2e packaging wheel image imagecheck audit bench \
	native nativecheck lock derived protos clean keycloak oidc-provider kube $(VENV) .runtime $(PARTS) .native .audit .image .kube .oldest
help: ## what there is
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV):
	@$(PYTHON) requirements/install.py requirements/dev.txt $@ --project .

.runtime $(PARTS) .native .audit .image .kube .oldest: .%:
	@$(PYTHON) requirements/install.py requirements/$*.txt $@

keycloak: $(VENV) $(PARTS)
	@PYTHONPATH=tests $(BIN)/python -m support.keycloak

oidc-provider: $(VENV) $(PARTS)
	@PYTHONPATH=tests $(BIN)/python -m support.oidc_provider

demo: .runtime $(PARTS) ## the seed's request through a real Envoy, on embedded parts
	@.runtime/bin/python -m authz demo $(DEMO)

test: $(VENV) ## unit and integration tests
	@$(BIN)/pytest -n auto --ignore=tests/e2e --ignore=tests/packaging --ignore=tests/kube --ignore=tests/image $(TEST)

later: $(VENV) ## the tests on a day a year and a half from now; needs a C compiler
	@mkdir -p build
	@cc -shared -fPIC -o build/later.so tests/support/later.c
	@SECONDS_AHEAD=$(SECONDS_AHEAD) LD_PRELOAD=$(CURDIR)/build/later.so \
		$(BIN)/pytest -n auto --ignore=tests/e2e --ignore=tests/packaging --ignore=tests/kube --ignore=tests/image $(TEST)

mutate: $(VENV) ## break guards one by one in a copy of the tree, and see a test fail each time
	@PYTHONPATH=tests $(BIN)/python -m support.mutations

check: format lint types test ## what CI runs: format, lint, types, import rules, tests

format: $(VENV)
	@$(BIN)/ruff format --check --quiet . || { echo "run: $(BIN)/ruff format ."; exit 1; }

lint: $(VENV)
	@$(BIN)/ruff check --quiet .

types: $(VENV)
	@$(BIN)/mypy

e2e: keycloak oidc-provider .oldest ## a real Envoy, the newest and the oldest, a real Keycloak, oidc-provider, httpbin, grpcurl
	@$(BIN)/pytest -v --durations=10 tests/e2e $(TEST)
	@AUTHZ_ENVOY=$(CURDIR)/.oldest/bin/envoy $(BIN)/pytest -v tests/e2e/test_oldest_envoy.py tests/e2e/test_bootstrap_validates.py $(TEST)

kube: $(VENV) $(PARTS) .kube ## the Kubernetes manifests, in a real API server; needs Go, and builds for minutes once
	@CONTROL_PLANE=$$(tests/kube/build) && CONTROL_PLANE=$$CONTROL_PLANE \
		$(BIN)/pytest -v --durations=5 tests/kube $(TEST)

packaging: $(VENV) .runtime $(PARTS) .native .audit .image .kube .oldest ## each lock alone, the wheel, other users; makes environments
	@$(BIN)/pytest -v --durations=5 tests/packaging $(TEST)

image: ## the container image `authz`, with docker, podman or buildah; OPTIONS are the builder's own
	@deploy/image/build $(OPTIONS)

imagecheck: $(VENV) ## the image, built and run without a registry; needs root, buildah, podman, runc, mmdebstrap, Rust
	@$(BIN)/pytest -v --durations=5 tests/image $(TEST)

wheel: $(VENV) ## dist/authz-*.whl, to be installed beside what requirements/runtime.txt lists
	@$(BIN)/python -m hatchling build -t wheel

audit: .audit ## known vulnerabilities of what is locked; asks advisory databases
	@if command -v cargo >/dev/null && [ ! -x .audit/bin/cargo-audit ]; then \
		echo "==> building $(CARGO_AUDIT)"; cargo install --quiet --locked --root .audit $(CARGO_AUDIT); fi
	@.audit/bin/python requirements/audit.py $(AUDIT)

bench: $(VENV) $(PARTS) ## through a real Envoy, beside peers; writes docs/benchmarks.md
	@$(BIN)/python -m bench $(BENCH)

native: $(VENV) .native ## build the native transport into .venv; needs Rust, and nothing else does
	@command -v cargo >/dev/null || { echo "the native transport needs Rust (cargo): authz runs without it, over grpcio"; exit 1; }
	@echo "==> building the native transport into $(VENV)"
	@cd native && VIRTUAL_ENV=$(CURDIR)/$(VENV) ../.native/bin/maturin develop --quiet --locked --release

nativecheck: ## format and lint of the native transport; needs Rust
	@cd native && cargo fmt --check && cargo clippy --quiet --locked --release -- --deny warnings

lock: $(VENV) ## write requirements/*.txt anew
	@PATH=$(CURDIR)/$(BIN):$$PATH requirements/lock

derived: $(VENV) ## write anew what is derived from the code: the settings in the README, tests/cli/help.txt, the sidecar's Envoy, the chart's copies
	@PYTHONPATH=tests $(BIN)/python -m support.derived

protos: $(VENV) ## compile protos/ to the descriptor set that authz loads
	@$(BIN)/python -m grpc_tools.protoc -I protos --include_imports \
		--descriptor_set_out=authz/envoy/ext_authz.binpb envoy/service/auth/v3/external_auth.proto

clean: ## remove what make installed
	rm -rf $(VENV) .venv-* .runtime $(PARTS) .native .audit .image .kube .oldest build native/target
