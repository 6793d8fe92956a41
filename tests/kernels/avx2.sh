#!/usr/bin/env bash
# Check the golden files on an emulated x86-64 processor with AVX2 and without VNNI, whose sums of bytes saturate in 16
# bits; `make test-avx2`.
#   avx2.sh PYTHON                    PYTHON: one with the project, its export extra and the built kernels
# The emulator stays in .cache/qemu-x86-64.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 PYTHON" >&2; exit 2; }
python=$1
root=$(cd "$(dirname "$0")/../.." && pwd -P)
cache=$root/.cache/qemu-x86-64
if [ ! -x "$cache/qemu-x86_64-static" ]; then
  mkdir -p "$cache"
  (cd "$cache"
   apt-get download -q qemu-user-static || { apt-get update -q; apt-get download -q qemu-user-static; }
   dpkg-deb --fsys-tarfile qemu-user-static_*.deb | tar -x --strip-components=3 ./usr/bin/qemu-x86_64-static
   rm -f qemu-user-static_*.deb)
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" "$root/tests/kernels/make_golden.py" "$work/golden"
# The emulator runs the interpreter itself, without the virtual environment's link.
interpreter=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
packages=$("$python" -c 'import os, sys; print(os.pathsep.join(path for path in sys.path if path))')
# It names, on standard error, features of that processor that it does not emulate.
PYTHONPATH=$packages "$cache/qemu-x86_64-static" -cpu Haswell "$interpreter" "$root/tests/kernels/check_golden.py" \
  "$work/golden" avx2 2> >(grep -v "TCG doesn't support requested feature" >&2)
