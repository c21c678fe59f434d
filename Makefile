# The front door. Each target installs what it needs (scripts/deps.sh) and builds into build/<preset>.
#   make demo        the main job on real input          make bench         the speed tables and plots
#   make test        all tests, in 20 to 25 minutes      make format        clang-format everything
#   make test-long   all tests under all sanitizers      make lint          clang-tidy
#   make install     into PREFIX                         make wheel         the Python package
#   make wheel-cuda  the same with CUDA kernels
#   make gpu-test    all that needs a GPU                make gpu-bench      times beside PyTorch
#   make clean       removes build/
SHELL := /bin/bash
.DEFAULT_GOAL := help
PREFIX ?= /usr/local
SOURCES = $(shell git ls-files -co --exclude-standard '*.h' '*.inc' '*.cpp' '*.cu' '*.cuh')

.PHONY: help
help:
	@sed -n '2,8s/^#//p' Makefile

.PHONY: demo
demo:
	@bash scripts/deps.sh build python
	@$(MAKE) --no-print-directory release
	@build/release/cli/heed demo
	@python3 scripts/demo.py

# The program and what it needs, without the tests.
.PHONY: release
release:
	@bash scripts/deps.sh build
	@echo "=== building (release)"
	@bash scripts/quiet.sh build/demo.log cmake --preset release \
	    -DHEED_BUILD_TESTS=OFF -DHEED_BUILD_BENCH=OFF
	@bash scripts/quiet.sh build/demo.log cmake --build --preset release --target heed_cli

.PHONY: test
test:
	@bash scripts/deps.sh build test python
	@python3 scripts/test.py $(STAGES)

.PHONY: test-long
test-long:
	@bash scripts/deps.sh build test python
	@python3 scripts/test.py --long $(STAGES)

# For the Python of PYTHON; into build/wheel/dist.
PYTHON ?= python3
.PHONY: wheel
wheel:
	@bash scripts/deps.sh build python
	@$(PYTHON) scripts/wheel.py

# The same with the CUDA kernels; needs nvcc, and takes some minutes more.
.PHONY: wheel-cuda
wheel-cuda:
	@bash scripts/deps.sh build python
	@$(PYTHON) scripts/wheel.py --cuda

.PHONY: bench
bench:
	@bash scripts/deps.sh build bench
	@cmake --preset release
	@cmake --build --preset release --target bench

# On a machine with nvcc, g++ and, in PYTHON, torch; nothing is installed. Exit 3: no GPU.
.PHONY: gpu-test
gpu-test:
	@$(PYTHON) tests/gpu/gpu_test.py

.PHONY: gpu-bench
gpu-bench:
	@$(PYTHON) bench/gpu_bench.py

.PHONY: format
format:
	@bash scripts/deps.sh lint
	@clang-format -i $(SOURCES)

.PHONY: format-check
format-check:
	@bash scripts/deps.sh lint
	@clang-format --dry-run --Werror $(SOURCES)

.PHONY: lint
lint:
	@bash scripts/deps.sh build test lint
	@cmake --preset lint
	@run-clang-tidy -quiet -p build/lint '$(CURDIR)/(src|io|verify|cli|examples)/.*'

.PHONY: install
install: release
	@cmake --build --preset release
	@cmake --install build/release --prefix $(PREFIX)

.PHONY: clean
clean:
	@rm -rf build
