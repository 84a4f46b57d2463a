# What a newcomer needs. Every target sets up and builds what it needs first, and is quick when nothing changed.
#   make demo     the 1000-network model against everything its users would try
#   make test     all tests and checks; the last line counts them
#   make build    build/bin/pfcn-opt, build/bin/pfcn-run and an importable pfcn in .venv/bin/python
#   make format   rewrite C++ and Python in the project's style
#   make docs     docs/reference: the dialect, the passes and the pipelines
#   make clean    remove what was built (not .venv)
.PHONY: setup build demo test format docs clean
.DEFAULT_GOAL := build

PYTHON := .venv/bin/python
JOBS ?= $(shell nproc)
# ccache, where there is one, makes a second checkout or a cleaned build quick.
export CMAKE_C_COMPILER_LAUNCHER = $(shell command -v ccache)
export CMAKE_CXX_COMPILER_LAUNCHER = $(shell command -v ccache)

setup:
	@tools/dev/setup

build: setup
	@test -e build/build.ninja || cmake --preset default
	@cmake --build build -j $(JOBS)

demo: build
	@$(PYTHON) -m pfcn.bench seed

test: build
	@$(PYTHON) test/run_all.py

format: setup
	@git ls-files -z '*.cpp' '*.h' | xargs -0 -r clang-format-22 -i
	@.venv/bin/ruff check --fix-only --quiet
	@.venv/bin/ruff format

docs: build
	@$(PYTHON) tools/dev/reference.py

clean:
	rm -rf build python/pfcn/_C*.so python/*.dist-info
