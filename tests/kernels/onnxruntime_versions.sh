#!/usr/bin/env bash
# Load the kernels' library, pass the device tests and compare the C library with Python on old and new onnxruntime;
# `make test-onnxruntime-versions`.
#   onnxruntime_versions.sh PYTHON LIBRARY [VERSION ...]   PYTHON: one with the project and its export extra
# The environments stay in .cache/onnxruntime-VERSION.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: $0 PYTHON LIBRARY [VERSION ...]" >&2; exit 2; }
python=$1
library=$(realpath "$2")
shift 2
root=$(cd "$(dirname "$0")/../.." && pwd -P)
current=$("$python" -c 'import onnxruntime; print(onnxruntime.__version__)')
[ $# -gt 0 ] || set -- 1.18.1 1.20.1 1.23.2 "$current"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" "$root/tests/kernels/make_golden.py" "$work/golden"
c_library=$("$python" "$root/tests/support/c_build.py" build)/liblstm_edge.so
cd "$root"
failed=()
# Every version is checked, whatever an earlier one gave.
attempt() { "$@" || failed+=("onnxruntime $version: $(basename "$2" .py)"); }
for version in "$@"; do
  environment=$root/.cache/onnxruntime-$version
  if [ ! -e "$environment/ready" ]; then
    mkdir -p "$root/.cache"
    "$python" -m venv "$environment"
    # onnxruntime 1.18 was built for NumPy 1.
    case $version in 1.18.*) numpy='numpy<2' ;; *) numpy=numpy ;; esac
    "$environment/bin/pip" install --quiet --disable-pip-version-check "onnxruntime==$version" "$numpy" pytest hypothesis
    touch "$environment/ready"
  fi
  echo "onnxruntime $version:"
  export LSTM_EDGE_LIBRARY=$library
  PYTHONPATH=runtime attempt "$environment/bin/python" tests/kernels/check_golden.py "$work/golden"
  attempt "$environment/bin/pytest" tests/device -q -p no:cacheprovider
  shared=$(find "$environment"/lib -name 'libonnxruntime.so.*' | head -n 1)
  if [ -z "$shared" ] && command -v npm > /dev/null; then
    # Old wheels have no shared library; Node's package of the same minor version has.
    (cd "$environment" && npm pack --silent "onnxruntime-node@${version%.*}.0" > /dev/null &&
     tar -xzf onnxruntime-node-*.tgz -C lib --wildcards '*/linux/x64/libonnxruntime.so.*' && rm onnxruntime-node-*.tgz)
    shared=$(find "$environment"/lib -name 'libonnxruntime.so.*' | head -n 1)
  fi
  if [ -z "$shared" ]; then
    echo "no libonnxruntime.so in the wheel and no npm: the C library is left out"
    continue
  fi
  attempt "$environment/bin/python" tests/c/check_golden.py "$c_library" "$shared" "$work/golden"
done
[ ${#failed[@]} -eq 0 ] || { printf 'failed: %s\n' "${failed[@]}" >&2; exit 1; }
