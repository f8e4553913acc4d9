# The front door. `make help` lists what there is; the build itself is CMakeLists.txt.

LUA ?= luajit
ARGS ?=
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
MOONLET_WERROR ?= OFF
CUDA_ARCH ?= 80-real;90
ROCK_TREE ?= build/rock
ROCK_LUA ?= 5.1

# Sanitized kernels take their time to compile: these are enough to see vectors of two widths.
SANITIZED_ISAS ?= baseline;$(if $(shell grep -m1 avx512vl /proc/cpuinfo 2>/dev/null),avx512,avx2)

configure = cmake -S . -Wno-dev -DMOONLET_WERROR=$(MOONLET_WERROR)
configure_asan = $(configure) -B build/asan -DMOONLET_TESTS=ON -DMOONLET_SANITIZE=address \
  "-DMOONLET_ISAS=$(SANITIZED_ISAS)"
compile = cmake --build $(1) -j$(JOBS) -- --no-print-directory

.PHONY: all help deps demo docs test test-asan test-tsan test-arm64 fuzz cuda test-gpu bench-gpu \
  gpu-bundle rock bench bench-peer lint clean

all: moonlet.lua                      ## build the library for every Lua found
	@scripts/install-packages run build
	@$(configure) -B build > /dev/null
	@$(call compile,build)

# LuaJIT looks for ./?.lua; scripts/moonlet.lua says what this one does.
moonlet.lua: scripts/moonlet.lua
	@cp $< $@

help:                                 ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile
	@echo "LUA=lua5.1 or lua5.4 chooses another Lua for demo and test; ARGS=... goes to the program."

deps:                                 ## install the Debian packages for everything below
	@scripts/install-packages run build demo test

demo:                                 ## train a VGG on Fashion-MNIST, minutes
	@scripts/install-packages run build demo
	@$(MAKE) --no-print-directory all
	$(LUA) examples/train_vgg.lua $(ARGS)

test: moonlet.lua                     ## run all specs
	@scripts/install-packages run build demo test
	@$(configure) -B build -DMOONLET_TESTS=ON > /dev/null
	@$(call compile,build)
	@LUA=$(LUA) scripts/run-specs $(ARGS)

test-asan: moonlet.lua                ## the specs under AddressSanitizer and UBSan
	@scripts/install-packages run build demo test
	@$(configure_asan) > /dev/null
	@$(call compile,build/asan)
	@scripts/run-sanitized address $(ARGS)

test-tsan: moonlet.lua                ## the specs of threads under ThreadSanitizer
	@scripts/install-packages run build demo test
	@$(configure) -B build/tsan -DMOONLET_TESTS=ON -DMOONLET_SANITIZE=thread \
	  -DMOONLET_LUAS=lua5.4 -DMOONLET_ISAS=baseline > /dev/null
	@$(call compile,build/tsan)
	@scripts/run-sanitized thread $(ARGS)

test-arm64: moonlet.lua               ## operators' specs, cross-built, under qemu (an hour)
	@scripts/test-arm64 $(ARGS)

fuzz: moonlet.lua                     ## drawn arguments for every operator, a minute, sanitized
	@scripts/install-packages run build demo test
	@$(configure_asan) > /dev/null
	@$(call compile,build/asan)
	@scripts/run-sanitized fuzz $(ARGS)

docs: all                             ## write the reference in docs/ from the source
	$(LUA) scripts/make-docs.lua

cuda:                                 ## build the CUDA plug-in (needs nvcc)
	@scripts/install-packages build
	@$(configure) -B build -DMOONLET_CUDA=ON \
	  "-DCMAKE_CUDA_ARCHITECTURES=$(CUDA_ARCH)" > /dev/null
	@$(call compile,build) cuda

test-gpu: cuda all                    ## all that a GPU can prove, under ten minutes
	@scripts/test-gpu $(ARGS)

bench-gpu: cuda all                   ## the table on a GPU, beside PyTorch where python3 has it
	@scripts/bench-gpu $(ARGS)

gpu-bundle: CUDA_ARCH = 90-real
gpu-bundle: cuda all                  ## one folder to carry to a GPU machine without the rest
	@scripts/install-packages run build demo test
	@scripts/gpu-bundle

rock:                                 ## build the rock into ROCK_TREE for Lua ROCK_LUA
	@scripts/install-packages run build demo test
	JOBS=$(JOBS) luarocks --lua-version $(ROCK_LUA) make --tree $(ROCK_TREE)

build/ceilings: bench/ceilings.c | all
	@$(CC) -O3 -march=native -o $@ $< -ldl -lpthread

bench: all build/ceilings             ## the measurements of bench/
	@for file in bench/*.lua; do echo "== $$file"; $(LUA) $$file $(ARGS) || exit 1; done

bench-peer: all                       ## the table beside PyTorch and others (downloads 6 GB)
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && python3 -m venv "$$folder" \
	  && "$$folder/bin/pip" install -q torch torchvision onnx onnxscript onnxruntime openvino \
	  && $(LUA) bench/networks.lua --peer "$$folder/bin/python" $(ARGS)

lint:                                 ## luacheck
	@scripts/install-packages test
	luacheck -q .

clean:                                ## remove what was built
	rm -rf build build.luarocks moonlet.lua
