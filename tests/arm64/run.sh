#!/usr/bin/env bash
# Check the aarch64 wheel's kernels byte for byte against the NumPy model, on emulated processors; `make test-arm64`.
#   run.sh PYTHON WHEEL               PYTHON: one with the project and its export extra
# ARM64_PROCESSORS: pairs of a processor of qemu and the instruction set that it must use; all four without it.
# What is downloaded stays in .cache/arm64 (made again when setup.sh changes).
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 PYTHON WHEEL" >&2; exit 2; }
python=$1
wheel=$2
here=$(cd "$(dirname "$0")" && pwd -P)
mkdir -p "$here/../../.cache"
cache=$(cd "$here/../../.cache" && pwd -P)/arm64
if [ ! -e "$cache/ready" ] || [ "$here/setup.sh" -nt "$cache/ready" ]; then
  "$here/setup.sh" "$cache" "$python" > "$cache.log" 2>&1 || { tail -n 20 "$cache.log" >&2; exit 1; }
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" "$here/../kernels/make_golden.py" "$work/golden"
# pip refuses a wheel whose tags are not this platform's.
"$python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --target "$work/site" \
  --only-binary=:all: --implementation cp --python-version 3.11 --platform manylinux_2_28_aarch64 "$wheel"
for pair in ${ARM64_PROCESSORS:-cortex-a53:neon cortex-a72:neon cortex-a76:neon-dot neoverse-n1:neon-dot}; do
  echo "${pair%:*}:"
  QEMU_CPU=${pair%:*} PYTHONPATH="$work/site" "$cache/arm64-python" "$here/../kernels/check_golden.py" \
    "$work/golden" "${pair#*:}"
done
# The products alone, with the largest numbers and every remainder. They are linked as the kernels are, and for no
# processor in particular: zig then takes the C++ library that it compiled for the wheel, which takes minutes.
kernels=$here/../../runtime/lstm_edge_runtime/kernels
zig() {
  ZIG_GLOBAL_CACHE_DIR=${ZIG_GLOBAL_CACHE_DIR:-$here/../../.cache/zig} "$python" -m ziglang c++ \
    -target aarch64-linux-gnu.2.28 -O3 -std=c++17 -fPIC "$@"
}
for part in neon:generic:cortex-a53 neon_dot:generic+dotprod:cortex-a76; do
  IFS=: read -r name features cpu <<< "$part"
  for source in "$kernels/scratch.cpp" "$here/products.cpp"; do
    zig -mcpu="$features" -ffp-contract=off -DSOURCE="\"isa_$name.cpp\"" -DNAMESPACE="$name" -I"$kernels" \
      -c "$source" -o "$work/$(basename "$source").o"
  done
  zig -shared -pthread -Wl,--gc-sections -static-libstdc++ -static-libgcc -Wl,--strip-all "$work"/*.o -o "$work/products.so"
  echo "$name, products:"
  QEMU_CPU=$cpu "$cache/arm64-python" -c 'import ctypes, sys; sys.exit(ctypes.CDLL(sys.argv[1]).main(0, None))' \
    "$work/products.so"
done
# The portable code, and one int8 model file from end to end: card, golden vectors, self-test.
LSTM_EDGE_ISA=portable PYTHONPATH="$work/site" "$cache/arm64-python" "$here/../kernels/check_golden.py" "$work/golden" portable
PYTHONPATH="$work/site" "$cache/arm64-python" - "$here/../device/models/exported_int8.onnx" <<'EOF'
import sys
from lstm_edge_runtime import Session, self_test
session = Session(sys.argv[1], kernels="required")
report = self_test(session)
print(f"self-test with kernels ({session.kernels}): worst difference {report.worst:.3g}, passed: {report.passed}")
sys.exit(not report.passed)
EOF
program=$work/site/lstm_edge_runtime/c/bin/lstm-edge-device
[ -e "$program" ] || { echo "this wheel has no C library; make test-c-arm64 tests it"; exit 0; }
# The program in the wheel, with the onnxruntime of the emulated Python.
onnxruntime=$(echo "$cache"/root/usr/local/lib/python3*/dist-packages/onnxruntime/capi/libonnxruntime.so.*)
"$cache/bin/qemu-aarch64-static" -cpu cortex-a72 -L "$cache/cpu/cortex-a72" -E LSTM_EDGE_ONNXRUNTIME="$onnxruntime" \
  "$program" check "$here/../device/models/exported_int8.onnx"
