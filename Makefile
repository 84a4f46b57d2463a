# What a newcomer needs. Every target sets up and builds what it needs first, and is quick when nothing changed.
#   make demo     the 1000-network model against everything its users would try
#   make test     all tests and checks; the last line counts them
#   make build    build/bin/pfcn-opt, build/bin/pfcn-run and an importable pfcn in .venv/bin/python
#   make sanitize the lit and C++ tests under address, undefined-behaviour and thread sanitizers
#   make fuzz     random models against eager: COUNT=20000, or TIME=600 (seconds), from SEED=0
#   make format   rewrite C++ and Python in the project's style
#   make docs     docs/reference: the dialect, the passes and the pipelines
#   make clean    remove what was built (not .venv)
.PHONY: setup build demo test sanitize fuzz format docs clean
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

fuzz: build
	@PYTHONPATH=python $(PYTHON) test/fuzz/fuzz.py --seed $(or $(SEED),0) $(if $(COUNT),--count $(COUNT) \
	  --seconds $(or $(TIME),1000000),--seconds $(or $(TIME),600))

format: setup
	@git ls-files -z '*.cpp' '*.h' | xargs -0 -r clang-format-22 -i
	@.venv/bin/ruff check --fix-only --quiet
	@.venv/bin/ruff format

# LLVM is not instrumented; test/sanitizers.py says what that means. Takes two builds and apt-get install libclang-rt-22-dev.
sanitize: setup
	@for preset in asan tsan; do \
	  cmake --preset $$preset > build-$$preset.log 2>&1 || { cat build-$$preset.log; exit 1; }; rm build-$$preset.log; \
	  cmake --build build-$$preset -j $(JOBS) --target pfcn-opt pfcn-unittests && \
	  .venv/bin/lit -sv build-$$preset/test && \
	  (eval "$$(.venv/bin/python test/sanitizers.py)" && build-$$preset/bin/pfcn-unittests) || exit 1; \
	done
	eval "$$(.venv/bin/python test/sanitizers.py)" && PFCN_BUILD=build-asan $(PYTHON) test/fuzz/mutate_mlir.py
	cmake --build build-tsan -j $(JOBS) --target _C
	eval "$$(.venv/bin/python test/sanitizers.py)" && LD_PRELOAD=$$(clang-22 -print-file-name=libclang_rt.tsan-x86_64.so) \
	  $(PYTHON) -m pytest -q -n0 -o pythonpath=build-tsan/python test/python/test_load.py -k thread

docs: build
	@$(PYTHON) tools/dev/reference.py

clean:
	rm -rf build python/pfcn/_C*.so python/*.dist-info
