#!/usr/bin/env bash
# The C library under AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer over good and damaged files, then
# threads on one session under ThreadSanitizer; `make test-sanitize`. onnxruntime is not sanitized, and the kernels are
# not here: tests/kernels/sanitize.sh runs them under the same sanitizers.
#   sanitize.sh PYTHON                PYTHON: one with the project and its export extra
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 PYTHON" >&2; exit 2; }
python=$(command -v "$1")
case $python in /*) ;; *) python=$PWD/$python ;; esac
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
onnxruntime=$("$python" -c 'import sys; sys.path.insert(0, "tests"); from support.c_build import find_onnxruntime as f; print(f())')
"$python" tests/c/make_corpus.py files "$work/files"
program() {  # 1: name of the build; 2: flags; compiles exercise.cpp with both
  local folder
  folder=$("$python" tests/support/c_build.py "$1" "-DCMAKE_CXX_FLAGS=$2" "-DCMAKE_C_FLAGS=$2" \
    "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG" "-DLSTM_EDGE_KERNEL_FLAGS=-O1;-fno-sanitize=all")
  # shellcheck disable=SC2086  # flags are words
  g++ -std=c++17 -O1 -g $2 -Iruntime/c/include tests/c/exercise.cpp "$folder/liblstm_edge.a" -o "$work/$1" -ldl -lpthread
}

program address "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1"
# What onnxruntime keeps until the end of the process is not ours.
printf 'leak:libonnxruntime\n' > "$work/suppressions"
sanitized() {  # 1: an instruction set, or "" for the best; the rest: arguments
  ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 LSTM_EDGE_ISA=$1 \
    LSAN_OPTIONS=suppressions=$work/suppressions:print_suppressions=0 "$work/address" "$onnxruntime" "${@:2}"
}
sanitized "" "$work/files"
sanitized portable tests/device/models
sanitized "" tests/device/models/exported_int8.onnx 4

program thread "-fsanitize=thread -g1"
# Address space randomization of newer kernels is more than older sanitizers can place their shadow memory in.
run=()
if setarch -R true 2> /dev/null; then run=(setarch -R); fi
# onnxruntime's own synchronization is not instrumented; its frames are not reported. As the process ends it unlocks a
# mutex of its own that it locked before the sanitizer watched.
printf '%s\n' called_from_lib:libonnxruntime race:libonnxruntime mutex:libonnxruntime mutex:__run_exit_handlers \
  > "$work/thread-suppressions"
for model in exported_int8 exported_float32 kept_padded; do
  TSAN_OPTIONS=suppressions=$work/thread-suppressions "${run[@]}" "$work/thread" "$onnxruntime" "tests/device/models/$model.onnx" 4
done
