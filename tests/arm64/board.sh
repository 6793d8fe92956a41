#!/usr/bin/env bash
# Make two roots of an emulated 64-bit ARM board, which tests/support/emulated_board.py enters through an SSH server.
#   board.sh CACHE PYTHON             CACHE: what setup.sh made; PYTHON: one with ziglang and cmake
# CACHE/boards/device: busybox, lstm-edge-device and onnxruntime. CACHE/boards/python: dash, coreutils, grep, and Python
# with onnxruntime and lstm-edge-runtime. 300 MB; a minute after the C library is compiled.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 CACHE PYTHON" >&2; exit 2; }
cache=$(cd "$1" && pwd -P)
python=$(command -v "$2")
case $python in /*) ;; *) python=$PWD/$python ;; esac
cd "$(dirname "$0")/../.."
version=3.11
boards=$cache/boards
packages=lib/python$version/dist-packages
export ZIG_GLOBAL_CACHE_DIR=${ZIG_GLOBAL_CACHE_DIR:-$PWD/.cache/zig}
zig="'$python' -m ziglang c++"
target=aarch64-linux-gnu.2.28
rm -f "$boards/ready"
"$python" runtime/c/build.py .cache/c-arm64 --compiler "$zig" --target $target > /dev/null
"$python" runtime/lstm_edge_runtime/kernels/build.py --output .cache/kernels-arm64 --compiler "$zig" --target $target > /dev/null

# 1. What comes from elsewhere, once.
if [ ! -e "$boards/base-ready" ] || [ tests/arm64/board.sh -nt "$boards/base-ready" ]; then
  rm -rf "$boards" && mkdir -p "$boards/device" "$boards/python"
  . tests/arm64/apt.sh
  unpack_arm64 "$boards/device" busybox-static libstdc++6
  cp -a "$cache/root/." "$boards/python"
  unpack_arm64 "$boards/python" dash coreutils grep
  mkdir -p "$boards/device/bin"
  "$cache/bin/qemu-aarch64-static" "$boards/device/bin/busybox" --list | while read -r applet; do
    [ "$applet" = busybox ] || ln -sf busybox "$boards/device/bin/$applet"
  done
  for board in device python; do
    root=$boards/$board
    mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/root" "$root/srv" "$root/sys" "$root/tmp" "$root/usr/local/bin"
  done
  cp "$cache"/root/usr/local/$packages/onnxruntime/capi/libonnxruntime.so.* \
    "$boards/device/usr/lib/aarch64-linux-gnu/libonnxruntime.so.1"
  [ -e "$boards/python/bin/sh" ] || ln -s dash "$boards/python/bin/sh"
  touch "$boards/base-ready"
fi

# 2. What this checkout has.
install -m 0755 .cache/c-arm64/bin/lstm-edge-device "$boards/device/usr/local/bin/lstm-edge-device"
project=$boards/python/opt/lstm-edge
rm -rf "$project" && mkdir -p "$project"
cp -r runtime/lstm_edge_runtime "$project"
cp .cache/kernels-arm64/*.so "$project/lstm_edge_runtime/kernels/"
cat > "$boards/python/usr/local/bin/lstm-edge" <<END
#!/bin/sh
PYTHONPATH=/opt/lstm-edge exec /usr/bin/python$version -m lstm_edge_runtime "\$@"
END
chmod +x "$boards/python/usr/local/bin/lstm-edge"
touch "$boards/ready"
