#!/usr/bin/env bash
# Compare the cross-built C library bit for bit with Python on emulated 64-bit ARM processors: `make test-c-arm64`.
#   c.sh PYTHON                       PYTHON: one with the project, its export extra, ziglang and cmake
# Every golden file of tests/kernels, and the models of tests/device with all that a file is for. The processors come
# from setup.sh, as for run.sh.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 PYTHON" >&2; exit 2; }
python=$(command -v "$1")
case $python in /*) ;; *) python=$PWD/$python ;; esac
cd "$(dirname "$0")/../.."
mkdir -p .cache
cache=$PWD/.cache/arm64
if [ ! -e "$cache/ready" ] || [ tests/arm64/setup.sh -nt "$cache/ready" ]; then
  tests/arm64/setup.sh "$cache" "$python" > "$cache.log" 2>&1 || { tail -n 20 "$cache.log" >&2; exit 1; }
fi
export ZIG_GLOBAL_CACHE_DIR=${ZIG_GLOBAL_CACHE_DIR:-$PWD/.cache/zig}
zig="'$python' -m ziglang c++"
"$python" runtime/c/build.py .cache/c-arm64 --compiler "$zig" --target aarch64-linux-gnu.2.28 > /dev/null
# The kernels of the Python side.
"$python" runtime/lstm_edge_runtime/kernels/build.py --output .cache/kernels-arm64 --compiler "$zig" \
  --target aarch64-linux-gnu.2.28 > /dev/null
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" tests/kernels/make_golden.py "$work/golden"
onnxruntime=$(echo "$cache"/root/usr/local/lib/python3*/dist-packages/onnxruntime/capi/libonnxruntime.so.*)
check() {  # 1: processor; 2: instruction set; 3: what LSTM_EDGE_ISA asks for
  echo "$1, C:"
  QEMU_CPU=$1 LSTM_EDGE_ISA=$3 LSTM_EDGE_LIBRARY=$PWD/.cache/kernels-arm64/liblstm_edge_kernels.so \
    "$cache/arm64-python" tests/c/check_golden.py .cache/c-arm64/lib/liblstm_edge.so "$onnxruntime" "$work/golden" "$2"
}
check cortex-a53 neon ""
check cortex-a72 neon ""
check cortex-a76 neon-dot ""
check neoverse-n1 neon-dot ""
check cortex-a53 portable portable
