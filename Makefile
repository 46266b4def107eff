# make help says what there is. Everything is set up in .venv, once, and again when pyproject.toml changes.
# uv is used where it is on PATH, venv and pip where it is not.
#
#   make test ARGS="-k framing -x"     ARGS goes to the tool that the target runs
#   make demo PYTHON=/path/to/python   instead of the newest suitable Python on PATH

.DEFAULT_GOAL := help
.PHONY: help demo test check workers bench soak clean

ARGS ?=
PYTHON ?=
BIN := .venv/bin
SOAK_TIMEOUT ?= 3600
# Where it is set, each of some thousand processes that the tests start would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
LANGUAGES := $(patsubst workers/%/Makefile,%,$(wildcard workers/*/Makefile))
# Most tests wait for processes most of the time, so there are more of them at once than processors; files stay whole.
# Those with the most tests are the quickest, and come last: a long one at the end would keep one processor busy alone.
PYTEST = $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# A stamp outlives the interpreter it speaks of: .venv links to a Python that an upgrade may have taken away.
ifeq ($(shell test -x $(BIN)/python && echo there),)
$(shell rm -f .venv/.stamp-*)
endif

define create_venv
	@set -eu; python=; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3 python); do \
		if "$$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			python=$$("$$candidate" -c 'import sys; print(sys.executable)'); break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "mlports needs Python 3.11 or newer, and found none$(if $(PYTHON), at $(PYTHON), on PATH (tried python3.13 to python3.11, python3, python))." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; \
		exit 1; \
	fi; \
	echo "Setting up .venv with $$python ($$("$$python" -c 'import platform; print(platform.python_version())'))"; \
	rm -rf .venv; \
	if command -v uv >/dev/null 2>&1; then \
		uv venv --quiet --python "$$python" .venv; \
	elif ! "$$python" -m venv .venv; then \
		rm -rf .venv; \
		echo "$$python could not make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
		exit 1; \
	fi
endef

# The shell words that install what follows them into .venv.
# A .venv that uv made has no pip of its own, so one is put there when uv has gone since.
install = install() { \
		if command -v uv >/dev/null 2>&1; then uv pip install --quiet --compile-bytecode --python $(BIN)/python "$$@"; \
		else \
			$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null || return 1; \
			$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$@"; \
		fi; \
	}; install

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

demo: .venv/.stamp-run ## see it work: workers start, answer, crash and come back
	@$(BIN)/mlports demo $(ARGS)

test: .venv/.stamp-dev workers examples/node_modules/.stamp ## run the tests
	@$(PYTEST) $(ARGS)

check: .venv/.stamp-dev workers examples/node_modules/.stamp ## lint, format, types and tests
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(PYTEST) $(ARGS)

workers: $(LANGUAGES:%=worker-in-%) ## build the workers in other languages that this machine has the tools for

# One that cannot be built holds nobody up: its tests say why.
worker-in-%:
	@missing=$$($(MAKE) -s --no-print-directory -C workers/$* missing); \
	if [ -n "$$missing" ]; then echo "No workers in $*: not installed are" $$missing; \
	else $(MAKE) -s --no-print-directory -C workers/$* build || echo "the workers in $* could not be built" >&2; fi

bench: .venv/.stamp-bench workers ## measure it, beside other Python worker pools
	@$(BIN)/python -m benchmarks $(ARGS)

soak: .venv/.stamp-dev workers examples/node_modules/.stamp ## run the long tests, which `make test` leaves out
	@$(BIN)/python -m pytest -m soak --timeout=$(SOAK_TIMEOUT) $(ARGS)

clean: ## remove .venv and everything the tools left
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis examples/node_modules
	@for language in $(LANGUAGES); do $(MAKE) -s --no-print-directory -C workers/$$language clean; done
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(create_venv)

.venv/.stamp-run: pyproject.toml | $(BIN)/python
	@echo "Installing mlports with its models and speed extras"
	@$(install) -e '.[models,speed]'
	@touch $@

.venv/.stamp-dev: pyproject.toml | $(BIN)/python
	@echo "Installing mlports with all its extras but torch and those that the benchmarks need"
	@$(install) -e '.[models,speed,ml,tables,sql,onnx,mlflow,examples,dev]'
	@$(install) --no-deps recbole || echo "recbole, whose ratings an example reads, could not be installed" >&2
	@touch $@

# A table of films that examples read. Without it their tests say what is missing.
examples/node_modules/.stamp: examples/package.json
	@if ! command -v npm >/dev/null 2>&1; then echo "No table of films for the examples: npm is not installed"; \
	elif npm install --silent --no-audit --no-fund --prefix examples; then touch $@; \
	else echo "the table of films for the examples could not be installed" >&2; fi

# No stamp where a peer is missing: the next `make bench` tries it again.
.venv/.stamp-bench: .venv/.stamp-dev pyproject.toml
	@echo "Installing the peers to measure against"
	@missing=; \
	for peer in $$($(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"])'); do \
		$(install) "$$peer" || { missing=1; echo "bench: $$peer could not be installed, and is left out of the figures" >&2; }; \
	done; \
	if [ -z "$$missing" ]; then touch $@; fi
