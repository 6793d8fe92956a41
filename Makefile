# The targets set up everything that a fresh machine needs; see CONTRIBUTING.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check -c constraints.txt
KERNELS := runtime/lstm_edge_runtime/kernels
# The C++ files of the C library but those of others in third_party.
C_LIBRARY = $(wildcard $(addprefix runtime/c/,include/*.h include/*.hpp src/*.h src/*.cpp device/*.h device/*.cpp))
C_TESTS = $(wildcard tests/c/*.h tests/c/*.c tests/c/*.cpp examples/c/*/*.c examples/c/*/*.cpp)
LIBRARY := $(KERNELS)/liblstm_edge_kernels.so
TOOLS := build clang-format cmake hatchling hypothesis import-linter keras lightning mypy ninja pre-commit prometheus-client "pyright[nodejs]" pytest pytest-cov pytest-xdist \
  pyyaml ruff types-protobuf ziglang
SITE_TOOLS := "mkdocs<2" mkdocs-material "mkdocstrings[python]"
# Installs Debian's Chromium with fonts if it is missing and the user is root.
CHROMIUM := command -v chromium >/dev/null || test "$$(id -u)" != 0 || \
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; }
# Installs Debian's compilers for both architectures, or mmdebstrap, if they are missing and the user is root.
DEB_COMPILERS := command -v x86_64-linux-gnu-g++ aarch64-linux-gnu-g++ > /dev/null || test "$$(id -u)" != 0 || \
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends g++-x86-64-linux-gnu g++-aarch64-linux-gnu; }
MMDEBSTRAP := command -v mmdebstrap > /dev/null || test "$$(id -u)" != 0 || \
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends mmdebstrap; }

.PHONY: bench-c bench-drift bench-kernels bench-metrics bench-peers bench-pool bench-session bench-sparse-rule benchmarks c c-cross check clean coverage deb demo docs docs-adopting docs-boards docs-caches docs-cells docs-convolutions docs-demo docs-denoiser docs-distillation docs-language-model docs-limits docs-quantization docs-quantize-aware docs-report docs-scale docs-selection docs-sparse docs-stuck-streams docs-training-speed docs-zoo format kernel-model kernels release-check silero test test-arm64 test-avx2 test-c test-c-arm64 test-c-fuzz test-c-long test-deb test-fuzz test-keras test-kernels test-long test-metrics-soak test-onnxruntime-versions test-pool-soak test-postgresql test-quick test-report test-sanitize test-select-kills test-silero test-soak test-wheels test-zoo wheels

# Reinstalls when the pins or the dependencies change; the code itself is installed editable.
$(VENV)/ready: constraints.txt pyproject.toml runtime/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(PIP_FLAGS) torch
	$(BIN)/pip install $(PIP_FLAGS) -e ./runtime -e '.[cpu,export,keras,train,report,postgresql,text,parquet,audio,sign,model-signing,deploy]' $(TOOLS)
	touch $@

demo: $(VENV)/ready  ## train, export, quantize, validate, stream and self-test on real data; print one table
	$(BIN)/python -m lstm_edge.demo

# What has a target of its own is not run twice: .ci/run calls these too.
OWN_TARGETS := --ignore tests/c --ignore tests/fleet --ignore tests/report --ignore tests/site --ignore tests/kernels \
  --ignore tests/exporters/test_silero.py --ignore-glob 'tests/exporters/test_keras*.py'

test: $(VENV)/ready $(LIBRARY)  ## run all tests but the long ones and those with a target of their own (ten minutes on two cores)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not long" $(OWN_TARGETS)

test-kernels: $(VENV)/ready $(LIBRARY)  ## compare the kernels bit for bit with their models, with each instruction set of this processor (two minutes)
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not long" tests/kernels

test-keras: $(VENV)/ready $(LIBRARY)  ## compare exported Keras files with Keras' own answers (two minutes)
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not long" tests/exporters/test_keras*.py

test-long: $(VENV)/ready $(LIBRARY)  ## run the tests of the benchmark commands, of --scheme auto, of torchrun, and the rows of long tables that make test leaves out (an hour)
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m long --ignore tests/c --ignore tests/fleet --ignore tests/site --ignore tests/packaging

test-wheels: $(VENV)/ready $(LIBRARY)  ## build the wheels, and try them where neither torch nor onnx is (minutes)
	$(BIN)/python -m pytest -n 2 --dist loadfile -q -m long tests/packaging

test-quick: $(VENV)/ready $(LIBRARY)  ## run the tests of under a second each, for the edit-and-test loop (a minute of one core)
	$(BIN)/python -m pytest -n 0 -q -m "not slow and not long"

coverage: $(VENV)/ready $(LIBRARY)  ## measure which lines and branches the tests reach; print the files below nine tenths (ten minutes)
	$(BIN)/python -m pytest -n 2 --dist worksteal -q --cov --cov-report=term:skip-covered --cov-report=html:.cache/coverage --ignore tests/site

# The editable install compiles the kernels; this rule compiles them again when a source changes. Without a compiler
# everything runs on the function bodies.
$(LIBRARY): $(wildcard $(KERNELS)/*.cpp $(KERNELS)/*.h $(KERNELS)/build.py) | $(VENV)/ready
	-$(BIN)/python $(KERNELS)/build.py

kernels: $(LIBRARY)  ## compile the kernels for this machine

c: $(VENV)/ready  ## build the C library and lstm-edge-device for this machine into .cache/c/installed (a minute)
	$(BIN)/python runtime/c/build.py .cache/c/installed --folder .cache/c/make

c-cross: $(VENV)/ready  ## cross-build the C library with zig for x86-64, 64-bit and 32-bit ARM and glibc 2.28 into .cache/c/MACHINE/installed (ten minutes)
	$(BIN)/python .ci/c_cross.py

deb: $(VENV)/ready  ## build the Debian packages of the C library for amd64 and arm64 into dist (five minutes); as root, install Debian's compilers
	$(DEB_COMPILERS)
	$(BIN)/python .ci/deb.py dist

test-deb: deb  ## install the packages in a fresh Debian 12 and use them there, arm64 on an emulated processor (three minutes, root); as root, install mmdebstrap
	$(MMDEBSTRAP)
	test -e .cache/arm64/ready || tests/arm64/setup.sh .cache/arm64 $(BIN)/python
	$(BIN)/python -m pytest -q tests/packaging/debian_root.py

test-c: $(VENV)/ready $(LIBRARY)  ## build the C library and run its tests but the long ones (three minutes)
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not long" tests/c

test-c-long: $(VENV)/ready $(LIBRARY)  ## run the long tests of the C library: the whole corpus, golden files, mutants, examples
	$(BIN)/python -m pytest -n 2 --dist worksteal -q -m long tests/c

test-c-arm64: $(VENV)/ready  ## compare the cross-built C library bit for bit with Python on four emulated processors
	tests/arm64/c.sh $(BIN)/python

wheels: $(VENV)/ready  ## build the wheels: lstm-edge-runtime with the C library for x86-64 and 64-bit ARM, cross-compiled with zig, and lstm-edge
	$(BIN)/python .ci/wheels.py dist

release-check: $(VENV)/ready wheels  ## build both distributions in a fresh Debian 12, install each one and those of `make wheels` there, run the device tests (twenty minutes, root); as root, install mmdebstrap
	$(MMDEBSTRAP)
	$(BIN)/python .ci/release_check.py dist/lstm_edge_runtime-*_$$(uname -m).whl dist/lstm_edge-*-any.whl

test-arm64: $(VENV)/ready  ## compare the aarch64 wheel's kernels byte for byte on four emulated processors (six minutes)
	LSTM_EDGE_C_LIBRARY=0 $(BIN)/python .ci/wheels.py .cache/wheels aarch64
	tests/arm64/run.sh $(BIN)/python .cache/wheels/lstm_edge_runtime-*-manylinux_2_28_aarch64.whl

test-avx2: $(VENV)/ready $(LIBRARY)  ## compare the kernels and int8 convolutions byte for byte on an emulated processor without VNNI (four minutes)
	tests/kernels/avx2.sh $(BIN)/python

docs-convolutions: $(VENV)/ready $(LIBRARY)  ## regenerate the tables in docs/convolutions.md (half a minute, a quiet machine; needs GTCRN's files, see docs/denoiser.md)
	$(BIN)/python benchmarks/silero.py --fetch
	$(BIN)/python benchmarks/convolutions.py --write

test-silero: $(VENV)/ready $(LIBRARY)  ## adopt and quantize a published detector's files and test them on real speech (a minute; downloads 13 MB once)
	$(BIN)/python benchmarks/silero.py --fetch
	$(BIN)/python -m pytest -q tests/exporters/test_silero.py

test-zoo: $(VENV)/ready $(LIBRARY)  ## run every recipe of the zoo, and its tests (downloads 105 MB from PyPI; not in CI)
	$(BIN)/python benchmarks/zoo.py > /dev/null
	$(BIN)/python -m pytest -q tests/toolkit/test_zoo.py

docs-zoo: $(VENV)/ready $(LIBRARY)  ## run every recipe of the zoo and write the table in docs/zoo.md
	$(BIN)/python benchmarks/zoo.py --write

# The trainers' libraries are in an environment of their own, which sees the packages of .venv.
.cache/robotics/ready: examples/robotics/requirements.txt tests/robotics/environment.py | $(VENV)/ready
	$(BIN)/python tests/robotics/environment.py .cache/robotics
	touch $@

.PHONY: test-robotics
test-robotics: .cache/robotics/ready $(LIBRARY)  ## train policies of sb3-contrib and rsl_rl for seconds, export them and compare with the trainers (two minutes; downloads 15 MB once)
	.cache/robotics/bin/python -m pytest -q tests/robotics/policies.py

.PHONY: docs-robotics
docs-robotics: .cache/robotics/ready $(LIBRARY)  ## train the policies of examples/robotics and fill docs/robotics.md (three minutes, a quiet machine)
	.cache/robotics/bin/python benchmarks/robotics.py --write

test-sanitize: $(VENV)/ready  ## run the kernel tests and the C library under the address, undefined behaviour and thread sanitizers
	tests/kernels/sanitize.sh $(BIN)/python
	tests/c/sanitize.sh $(BIN)/python

# FUZZ_SECONDS: time of all fuzzers together. FUZZ_LEAST: cases that each of the first three runs in any case.
# C_FUZZ_SECONDS: time of the sanitized fuzzer of test-c-fuzz; the comparison has a quarter of it.
FUZZ_SECONDS ?= 600
C_FUZZ_SECONDS ?= 60
FUZZ_LEAST ?= 0
test-fuzz: $(VENV)/ready $(LIBRARY)  ## fuzz the readers of untrusted files and the kernels under sanitizers and on emulated ARM (ten minutes)
	$(BIN)/python tests/fuzz/run.py walker artifact readers --seconds $$(($(FUZZ_SECONDS) * 3 / 10)) --least $(FUZZ_LEAST)
	tests/fuzz/nodes_sanitized.sh $(BIN)/python $$(($(FUZZ_SECONDS) * 3 / 10))
	tests/arm64/fuzz.sh $(BIN)/python $$(($(FUZZ_SECONDS) / 5))

test-c-fuzz: $(VENV)/ready $(LIBRARY)  ## compare the readers of C and Python on damaged files, and fuzz the C readers under sanitizers (C_FUZZ_SECONDS, and under a minute to compile)
	$(BIN)/python tests/fuzz/run.py agreement --seconds $$(($(C_FUZZ_SECONDS) / 4))
	tests/c/fuzz.sh $(BIN)/python $(C_FUZZ_SECONDS)

SOAK_SECONDS ?= 600
test-soak: $(VENV)/ready $(LIBRARY)  ## run streams of every kind beside noise and threads: equal bits, constant memory (ten minutes)
	$(BIN)/python tests/soak/soak.py --seconds $(SOAK_SECONDS)

test-pool-soak: $(VENV)/ready $(LIBRARY)  ## push 5,000,000 frames through a pool of 500 streams that come and go, from Python and from C: equal bits, constant memory (four minutes)
	$(BIN)/python tests/soak/pool_soak.py
	$(BIN)/python tests/soak/pool_soak.py --c

test-metrics-soak: $(VENV)/ready $(LIBRARY)  ## stream 5,000,000 steps through a pipe with metrics on: exact counts, constant memory (five minutes)
	$(BIN)/python tests/soak/metrics_soak.py

test-select-kills: $(VENV)/ready  ## kill a selection at ten random points and compare its result with an uninterrupted one (five minutes)
	$(BIN)/python -m pytest -q tests/soak/selection_kills.py

test-onnxruntime-versions: $(LIBRARY)  ## run the device tests and compare the kernels' bits and the C library on onnxruntime 1.18 to the current version
	tests/kernels/onnxruntime_versions.sh $(BIN)/python $(LIBRARY)

test-postgresql: $(VENV)/ready $(LIBRARY)  ## share a study and a search among processes on a real PostgreSQL server, one of them killed; as root, install Debian's package
	test -n "$$(ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null)" || command -v initdb >/dev/null || \
	  { test "$$(id -u)" = 0 || { echo "no PostgreSQL server here: install Debian's postgresql, or run this as root" >&2; exit 1; }; \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql; }
	$(BIN)/python -m pytest tests/toolkit/test_selection_study.py tests/toolkit/test_workers_postgresql.py

.PHONY: test-fleet
test-fleet: $(VENV)/ready $(LIBRARY)  ## run the tests of deploy, bundle and validate --on but the long ones (a minute)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not long" tests/fleet

.PHONY: test-deploy
test-deploy: $(VENV)/ready $(LIBRARY)  ## deploy to real OpenSSH servers, kill deploys at every step (five minutes); as root, install Debian's openssh-server
	test -x /usr/sbin/sshd || command -v sshd >/dev/null || test "$$(id -u)" != 0 || \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends openssh-server; }
	$(BIN)/python -m pytest -q -n 2 --dist worksteal --ignore tests/fleet/test_emulated_board.py tests/fleet

.PHONY: test-board
test-board: $(VENV)/ready $(LIBRARY)  ## deploy to emulated 64-bit ARM boards with nothing but a shell and the runtime (three minutes after the C library is compiled, root); as root, install Debian's openssh-server
	test -x /usr/sbin/sshd || command -v sshd >/dev/null || test "$$(id -u)" != 0 || \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends openssh-server; }
	test -e .cache/arm64/ready || tests/arm64/setup.sh .cache/arm64 $(BIN)/python
	tests/arm64/board.sh .cache/arm64 $(BIN)/python
	$(BIN)/python -m pytest -q tests/fleet/test_emulated_board.py

.PHONY: test-bundle
test-bundle: $(VENV)/ready $(LIBRARY)  ## take RAUC bundles and Mender artifacts apart and install them (half a minute); as root, install Debian's tools
	command -v rauc mksquashfs mender-artifact mender busybox > /dev/null || test "$$(id -u)" != 0 || \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends rauc squashfs-tools mender-artifact mender-client busybox-static; }
	$(BIN)/python -m pytest -q -n 2 --dist worksteal tests/fleet/test_bundle.py tests/fleet/test_bundle_tools.py

test-report: $(VENV)/ready  ## test the HTML report in a real browser (a minute); as root, install Debian's Chromium
	$(CHROMIUM)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal tests/report tests/toolkit/test_report*.py

# Only these two targets need the site's tools.
$(VENV)/site: constraints.txt | $(VENV)/ready
	$(BIN)/pip install $(PIP_FLAGS) $(SITE_TOOLS)
	touch $@

.PHONY: site
site: $(VENV)/site  ## build the documentation site into .cache/site, which needs no server; a broken link is an error (half a minute)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

.PHONY: test-site
test-site: $(VENV)/site $(LIBRARY)  ## run every code block of the tutorials, and check the site's links, structure, search and width (five minutes); as root, install Debian's Chromium
	$(CHROMIUM)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile tests/site

check: $(VENV)/ready  ## run linters, type checkers and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(KERNELS)/*.h $(KERNELS)/*.cpp tests/kernels/*.cpp benchmarks/*.cpp \
	  $(C_LIBRARY) $(C_TESTS)
	$(MAKE) --jobs 2 --output-sync check-mypy check-pyright
	$(BIN)/lint-imports

.PHONY: check-mypy check-pyright
check-mypy: $(VENV)/ready
	$(BIN)/mypy

check-pyright: $(VENV)/ready
	$(BIN)/pyright --pythonpath $(BIN)/python  # otherwise pyright uses the first python on the path

format: $(VENV)/ready  ## format the code and apply safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(KERNELS)/*.h $(KERNELS)/*.cpp tests/kernels/*.cpp benchmarks/*.cpp $(C_LIBRARY) $(C_TESTS)

docs: $(VENV)/ready  ## regenerate docs/cli/, the function digests, and the tables from docs/boards/ and docs/peers.md
	$(BIN)/python docs/generate.py

docs-demo: $(VENV)/ready  ## run the demo and put its table into README.md
	$(BIN)/python docs/generate.py --demo

docs-selection: $(VENV)/ready  ## select on Japanese Vowels and fill docs/selection.md (fifteen minutes, a quiet machine)
	$(BIN)/python docs/generate.py --selection

docs-limits: $(VENV)/ready  ## draw and fill docs/limits-of-lstms.md (ten minutes, a quiet machine)
	$(BIN)/python docs/generate.py --limits

docs-scale: $(VENV)/ready $(LIBRARY)  ## measure the speed-up of two processes at training, selection and search; fills docs/scale.md (ten minutes, a quiet machine)
	$(BIN)/python docs/generate.py --scale

docs-cells: $(VENV)/ready  ## compare the three cells at one number of parameters in docs/training.md (ten minutes)
	$(BIN)/python docs/generate.py --cells

docs-distillation: $(VENV)/ready  ## train students with and without a teacher for docs/training.md (fifteen minutes)
	$(BIN)/python docs/generate.py --distillation

docs-training-speed: $(VENV)/ready  ## compare the throughput of training with a bare loop in docs/training.md (a minute, a quiet machine)
	$(BIN)/python docs/generate.py --training-speed

docs-stuck-streams: $(VENV)/ready  ## measure stuck streams for docs/limits-of-lstms.md (two hours; ten minutes with trained models in KEEP)
	$(BIN)/python docs/generate.py --stuck-streams $(KEEP)

docs-language-model: $(VENV)/ready  ## train the King James models with both recipes; fill docs/training.md (forty minutes, a quiet machine)
	$(BIN)/python docs/generate.py --language-model $(KEEP)

docs-sparse: $(VENV)/ready  ## train sparse and dense models for docs/sparse.md and draw them (three quarters of an hour, a quiet machine; models are kept in KEEP)
	$(BIN)/python docs/generate.py --sparse $(KEEP)

docs-quantize-aware: $(VENV)/ready  ## fine-tune the King James model for int4 in docs/training.md (half an hour, a quiet machine)
	$(BIN)/python docs/generate.py --quantize-aware $(KEEP)

docs-quantization: $(VENV)/ready  ## measure what quantization costs for docs/quantization.md (an hour, a quiet machine; models are kept in KEEP)
	$(BIN)/python docs/generate.py --quantization $(or $(KEEP),.cache/models)

docs-boards: $(VENV)/ready  ## make the table of docs/boards.md from the reports in docs/boards/
	$(BIN)/python docs/generate.py --boards

docs-report: $(VENV)/ready  ## draw the picture of the example report, docs/images/quantization-report.png
	$(CHROMIUM)
	$(BIN)/python docs/report_picture.py

benchmarks: $(VENV)/ready  ## regenerate the figures in docs/numbers.md (three minutes)
	$(BIN)/python docs/generate.py --numbers

docs-adopting: $(VENV)/ready $(LIBRARY)  ## measure what adopting costs and write it into docs/adopt.md
	$(BIN)/python benchmarks/silero.py --fetch
	$(BIN)/python benchmarks/adopting.py --write

docs-denoiser: $(VENV)/ready $(LIBRARY)  ## regenerate the tables in docs/denoiser.md (needs GTCRN's files, see there)
	$(BIN)/python benchmarks/denoiser.py --write

docs-caches: $(VENV)/ready $(LIBRARY)  ## regenerate the table of forms in docs/caches.md
	$(BIN)/python benchmarks/caches.py --write

silero: $(VENV)/ready $(LIBRARY)  ## regenerate the table in docs/silero.md
	$(BIN)/python benchmarks/silero.py --write

bench-kernels: $(LIBRARY)  ## compare the kernels with onnxruntime and with their limits (four minutes, a quiet machine)
	$(BIN)/python benchmarks/kernels.py

bench-sparse-rule: $(LIBRARY)  ## sparse int8 against dense, by cells and density (three minutes)
	$(BIN)/python benchmarks/sparse_rule.py

bench-peers: $(VENV)/ready $(LIBRARY)  ## compare with every other runtime and fill docs/peers.md (ten minutes, a quiet machine; half an hour the first time)
	$(BIN)/python benchmarks/silero.py --fetch
	$(BIN)/python benchmarks/peers/run.py --write

# Installs Debian's LLVM tools if llvm-mca is missing and the user is root: version 19, or where there is none the default.
kernel-model: $(VENV)/ready  ## predict the cycles of the ARM kernels' inner loops with llvm-mca; the table of docs/kernels.md (a minute; BEFORE=commit to compare)
	ls $(subst :, ,$(PATH)) 2>/dev/null | grep -q '^llvm-mca' || test "$$(id -u)" != 0 || { apt-get update -qq && \
	  { apt-get install -y -qq --no-install-recommends llvm-19 || apt-get install -y -qq --no-install-recommends llvm; }; }
	$(BIN)/python benchmarks/arm_model.py --write $(if $(BEFORE),--before $(BEFORE))

bench-session: $(VENV)/ready $(LIBRARY)  ## compare Session.run and Stream.push with onnxruntime alone, and measure resident memory (two minutes)
	$(BIN)/python benchmarks/session.py
	$(BIN)/python benchmarks/memory.py

bench-c: $(VENV)/ready $(LIBRARY)  ## compare a push from C with one from Python and with onnxruntime alone, and fill docs/c.md (five minutes, a quiet machine)
	$(BIN)/python docs/generate.py --c

bench-metrics: $(VENV)/ready $(LIBRARY)  ## compare a watched stream with a plain one: at most 3 % (a minute, a quiet machine)
	$(BIN)/python benchmarks/metrics.py

bench-drift: $(VENV)/ready $(LIBRARY)  ## print the drift of changed inputs, and put the table into docs/watch.md (a minute)
	$(BIN)/python benchmarks/drift.py --write

bench-pool: $(VENV)/ready $(LIBRARY)  ## count the live streams that one core keeps up with, and fill docs/pool.md (three minutes, a quiet machine)
	$(BIN)/python docs/generate.py --pool

clean:  ## remove the files that the targets above create
	rm -rf $(VENV) $(LIBRARY) .cache build dist demo-out .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
