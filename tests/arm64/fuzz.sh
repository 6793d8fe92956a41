#!/usr/bin/env bash
# Nodes of the fuzzer (tests/fuzz/nodes.py) on emulated 64-bit ARM processors: the verdicts and bits of this machine's
# portable kernels, with UndefinedBehaviorSanitizer in trap mode, where a fault ends the process with SIGTRAP.
#   fuzz.sh PYTHON [SECONDS [SEED]]   PYTHON: one with the project, its export extra and ziglang; SECONDS (default 120)
#                                     for all of it, without the build: a fifth for the cases, two fifths a processor
# The processors come from setup.sh, as for run.sh. AddressSanitizer runs under QEMU, without its leak detection, but
# not with Python: importing numpy had not ended after ten minutes. So a program of the kernels alone runs under it,
# where there is a cross compiler that has it (Debian's g++-aarch64-linux-gnu; zig has none).
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 PYTHON [SECONDS [SEED]]" >&2; exit 2; }
python=$(command -v "$1")
case $python in /*) ;; *) python=$PWD/$python ;; esac
seconds=${2:-120}
seed=${3:-0}
cd "$(dirname "$0")/../.."
kernels=runtime/lstm_edge_runtime/kernels
mkdir -p .cache
cache=$PWD/.cache/arm64
if [ ! -e "$cache/ready" ] || [ tests/arm64/setup.sh -nt "$cache/ready" ]; then
  tests/arm64/setup.sh "$cache" "$python" > "$cache.log" 2>&1 || { tail -n 20 "$cache.log" >&2; exit 1; }
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
is_old() {  # whether a file is missing or older than a source
  [ ! -e "$1" ] || [ -n "$(find "$kernels" tests/kernels \( -name '*.h' -o -name '*.cpp' -o -name build.py \) -newer "$1")" ]
}

library=$PWD/.cache/kernels-arm64-trap/liblstm_edge_kernels.so
if is_old "$library"; then
  ZIG_GLOBAL_CACHE_DIR=${ZIG_GLOBAL_CACHE_DIR:-$PWD/.cache/zig} "$python" "$kernels/build.py" --output "${library%/*}" \
    --compiler "'$python' -m ziglang c++ -fsanitize=undefined -fsanitize-trap=undefined" \
    --target aarch64-linux-gnu.2.28 > /dev/null
fi
LSTM_EDGE_ISA=portable "$python" tests/fuzz/node_corpus.py "$work/corpus" --seconds "$((seconds / 5))" --seed "$seed"
for pair in cortex-a53:neon cortex-a76:neon-dot; do
  echo "${pair%:*}, undefined behaviour sanitizer:"
  QEMU_CPU=${pair%:*} LSTM_EDGE_ISA=${pair#*:} LSTM_EDGE_LIBRARY=$library PYTHONPATH=runtime \
    "$cache/arm64-python" tests/fuzz/node_replay.py "$work/corpus" "$((seconds * 2 / 5))"
done

if ! command -v aarch64-linux-gnu-g++ > /dev/null; then
  echo "no aarch64-linux-gnu-g++ here: the address sanitizer is left out"
  exit
fi
program=.cache/kernels-arm64-address/four_threads
if is_old "$program"; then
  "$python" "$kernels/build.py" --output "${program%/*}" --compiler aarch64-linux-gnu-g++ --sanitize address,undefined \
    --program tests/kernels/four_threads.cpp > /dev/null
fi
for cpu in cortex-a53 cortex-a76; do
  echo "$cpu, address and undefined behaviour sanitizers:"
  ASAN_OPTIONS=detect_leaks=0 "$cache/bin/qemu-aarch64-static" -cpu "$cpu" -L /usr/aarch64-linux-gnu \
    -E LD_LIBRARY_PATH=/usr/aarch64-linux-gnu/lib "$program"
done
