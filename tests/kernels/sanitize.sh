#!/usr/bin/env bash
# The kernel tests under AddressSanitizer and UndefinedBehaviorSanitizer, then four threads under ThreadSanitizer;
# `make test-sanitize`. Needs g++ and its sanitizer libraries.
#   sanitize.sh PYTHON                PYTHON: one with the project and its export extra
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 PYTHON" >&2; exit 2; }
python=$(command -v "$1")
case $python in /*) ;; *) python=$PWD/$python ;; esac
cd "$(dirname "$0")/../.."
kernels=runtime/lstm_edge_runtime/kernels
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" "$kernels/build.py" --compiler g++ --sanitize address,undefined --output "$work/address"
# Python is not instrumented, so the sanitizers come first into the process, and with them the C++ library whose
# exceptions they watch. Python's own leaks are not ours.
preload=$(for name in libasan.so libubsan.so libstdc++.so.6; do g++ -print-file-name="$name"; done | tr '\n' ' ')
sanitized() {  # 1: an instruction set, or "" for the best; the rest: arguments of python
  LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 LSTM_EDGE_ISA=$1 \
    LSTM_EDGE_LIBRARY=$work/address/liblstm_edge_kernels.so "$python" "${@:2}"
}
sanitized "" -m pytest -q -p no:cacheprovider tests/kernels/test_{answers,bits,column_sums,extremes,float32,gru,malformed,sparse}.py
# Where numbers and addresses are at their edges each set computes for itself.
for set in amx avx512vnni avxvnni avx2 portable; do
  if said=$(sanitized "$set" -c 'from lstm_edge_runtime.library import find_library; find_library()' 2>&1); then
    echo "$set:"
    sanitized "$set" -m pytest -q -p no:cacheprovider tests/kernels/test_{column_sums,extremes,float32,sparse}.py
  elif [[ $said == *"LSTM_EDGE_ISA asks for"* ]]; then
    echo "this processor has no $set"
  else
    echo "$said" >&2
    exit 1
  fi
done

# The sources of the library, compiled once more with the instrumentation, and a program that calls them.
"$python" "$kernels/build.py" --compiler g++ --sanitize thread --output "$work/thread" \
  --program tests/kernels/four_threads.cpp
# Address space randomization of newer kernels is more than older sanitizers can place their shadow memory in.
run=()
if setarch -R true 2> /dev/null; then run=(setarch -R); fi
for set in amx avx512vnni avxvnni avx2 portable; do
  LSTM_EDGE_ISA=$set "${run[@]}" "$work/thread/four_threads"
done
