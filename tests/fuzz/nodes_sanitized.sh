#!/usr/bin/env bash
# The node fuzzer under AddressSanitizer and UndefinedBehaviorSanitizer, on each instruction set of this processor.
#   nodes_sanitized.sh PYTHON SECONDS [SEED]     PYTHON: one with the project and its export extra; SECONDS: for all sets
# Needs g++ and its sanitizer libraries. A report ends its process, which counts as a fault. The library stays in
# .cache/kernels-sanitized until a source of it is newer: the compiler takes half a minute.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: $0 PYTHON SECONDS [SEED]" >&2; exit 2; }
python=$(command -v "$1")
case $python in /*) ;; *) python=$PWD/$python ;; esac
seconds=$2
seed=${3:-0}
cd "$(dirname "$0")/../.."
kernels=runtime/lstm_edge_runtime/kernels
built=.cache/kernels-sanitized
library=$PWD/$built/liblstm_edge_kernels.so
if [ ! -e "$library" ] || [ -n "$(find "$kernels" \( -name '*.h' -o -name '*.cpp' -o -name build.py \) -newer "$library")" ]; then
  "$python" "$kernels/build.py" --compiler g++ --sanitize address,undefined --output "$built" > /dev/null
fi
# Python is not instrumented, so the sanitizers come first into the process, and with them the C++ library whose
# exceptions they watch. Python's own leaks are not ours; memory that cannot be had is an error that the kernels report.
preload=$(for name in libasan.so libubsan.so libstdc++.so.6; do g++ -print-file-name="$name"; done | tr '\n' ' ')
sanitized() {  # 1: instruction set; the rest: arguments of python
  LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1 \
    UBSAN_OPTIONS=print_stacktrace=1:abort_on_error=1 LSTM_EDGE_ISA=$1 LSTM_EDGE_LIBRARY=$library \
    PYTHONPATH=runtime "$python" "${@:2}"
}
sets=()
for set in amx avx512vnni avxvnni avx2 portable; do
  if said=$(sanitized "$set" -c 'from lstm_edge_runtime.library import find_library; find_library()' 2>&1); then
    sets+=("$set")
  elif [[ $said == *"LSTM_EDGE_ISA asks for"* ]]; then
    echo "this processor has no $set"
  else
    echo "$said" >&2
    exit 1
  fi
done
wrong=0
for set in "${sets[@]}"; do
  echo "$set, address and undefined behaviour sanitizers:"
  sanitized "$set" tests/fuzz/run.py nodes --seconds "$((seconds / ${#sets[@]}))" --seed "$seed" || wrong=1
done
exit "$wrong"
