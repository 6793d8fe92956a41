#!/usr/bin/env bash
# Fuzz what the C library reads, under AddressSanitizer and UndefinedBehaviorSanitizer: trailer, protobuf, card, golden
# vectors, archives (fuzz_target.cpp). With clang's libFuzzer where there is one, else with fuzz_driver.cpp and g++.
#   fuzz.sh PYTHON [SECONDS [SEED]]   PYTHON: one with the project and its export extra; SECONDS without the build
# An input that ends the process is kept in .cache/c-fuzz-crash; `fuzz_driver INPUT` runs it again.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 PYTHON [SECONDS [SEED]]" >&2; exit 2; }
python=$(command -v "$1")
case $python in /*) ;; *) python=$PWD/$python ;; esac
seconds=${2:-60}
seed=${3:-0}
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" tests/c/make_corpus.py seeds "$work/seeds"
crash=$PWD/.cache/c-fuzz-crash
rm -f "$crash"*
includes="-Iruntime/c/include -Iruntime/c/src -Iruntime/c/third_party"
checks="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1"
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=0:max_allocation_size_mb=1024:hard_rss_limit_mb=3000
export UBSAN_OPTIONS=print_stacktrace=1
if echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
   clang++ -fsanitize=fuzzer,address -x c++ - -o "$work/probe" 2> /dev/null; then
  # shellcheck disable=SC2086  # flags are words
  folder=$(CXX=clang++ "$python" tests/support/c_build.py libfuzzer "-DCMAKE_CXX_FLAGS=$checks -fsanitize=fuzzer-no-link" \
    "-DCMAKE_C_COMPILER=clang" "-DCMAKE_C_FLAGS=$checks -fsanitize=fuzzer-no-link")
  # shellcheck disable=SC2086
  clang++ -std=c++17 -O1 $checks -fsanitize=fuzzer $includes tests/c/fuzz_target.cpp "$folder/liblstm_edge.a" \
    -o "$work/fuzz" -ldl -lpthread
  "$work/fuzz" "$work/seeds" -max_total_time="$seconds" -seed="$((seed + 1))" -timeout=20 -rss_limit_mb=3000 \
    -max_len=65536 -artifact_prefix="$crash-" -print_final_stats=1 -verbosity=0
else
  folder=$(CXX=g++ "$python" tests/support/c_build.py fuzz "-DCMAKE_CXX_FLAGS=$checks -fsanitize-coverage=trace-pc" \
    "-DCMAKE_C_FLAGS=$checks -fsanitize-coverage=trace-pc" -DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY)
  # shellcheck disable=SC2086
  g++ -std=c++17 -O1 $checks $includes tests/c/fuzz_target.cpp tests/c/fuzz_driver.cpp "$folder/liblstm_edge.a" \
    -o "$work/fuzz" -ldl -lpthread
  cp "$work/fuzz" .cache/c-fuzz-driver
  "$work/fuzz" "$work/seeds" "$seconds" "$seed" "$crash"
fi
