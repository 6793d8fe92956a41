#!/usr/bin/env bash
# Set up an emulated 64-bit ARM Python with numpy and onnxruntime on an x86-64 Debian or Ubuntu machine.
#   setup.sh TARGET_DIR PYTHON        PYTHON: a python with pip on this machine
# Then TARGET_DIR/arm64-python script.py; QEMU_CPU=cortex-a53|cortex-a72|cortex-a76|neoverse-n1 picks the processor
# (cortex-a72 without it). Never QEMU_CPU=max: its SME arithmetic is wrong in qemu 7.2.
# Needs no binfmt_misc and no chroot; root only if the apt lists must be refreshed. 130 MB, about 20 seconds.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: $0 TARGET_DIR PYTHON" >&2; exit 2; }
mkdir -p "$1"
target=$(cd "$1" && pwd -P)
host_python=$2
version=3.11
root=$target/root
rm -rf "$root" "$target/cpu"
mkdir -p "$root/usr/bin" "$target/bin" "$target/deb"

# 1. The emulator: one static binary out of a package; nothing is installed on the system.
if [ ! -x "$target/bin/qemu-aarch64-static" ]; then
  (cd "$target/deb"
   apt-get download -q qemu-user-static || { apt-get update -q; apt-get download -q qemu-user-static; }
   dpkg-deb --fsys-tarfile qemu-user-static_*.deb | tar -x -C "$target/bin" --strip-components=3 ./usr/bin/qemu-aarch64-static
   rm -f qemu-user-static_*.deb)
fi

# 2. The arm64 interpreter and its libraries.
. "$(dirname "$0")/apt.sh"
unpack_arm64 "$root" "python$version-minimal" "libpython$version-stdlib" libstdc++6
rm -rf "$target/deb"

# 3. aarch64 wheels of what a device has, resolved and unpacked by this machine's pip.
"$host_python" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
  --target "$root/usr/local/lib/python$version/dist-packages" --only-binary=:all: --implementation cp \
  --python-version "$version" --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
  --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 onnxruntime numpy

# 4. A view of the system for each processor with an ARM /proc/cpuinfo (qemu -L looks there first): without it
#    onnxruntime's cpuinfo library reads the x86 one, finds no ARM core and crashes at import.
count=$(nproc --all)
for entry in cortex-a53:0xd03 cortex-a72:0xd08 cortex-a76:0xd0b neoverse-n1:0xd0c; do
  view=$target/cpu/${entry%:*}
  mkdir -p "$view/proc" "$view/sys/devices/system/cpu"
  for item in "$root"/*; do ln -s "../../root/${item##*/}" "$view/"; done
  for list in possible present online; do echo "0-$((count - 1))" > "$view/sys/devices/system/cpu/$list"; done
  for ((i = 0; i < count; i++)); do
    printf 'processor\t: %d\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 3\n\n' "$i" "${entry#*:}"
  done > "$view/proc/cpuinfo"
done

# 5. The wrapper lies beside the interpreter, so that sys.executable (and so a subprocess) is the wrapper.
cat > "$root/usr/bin/arm64-python" <<EOF
#!/bin/sh
unset LD_LIBRARY_PATH LD_PRELOAD PYTHONHOME
cpu=\${QEMU_CPU:-cortex-a72}
view="$target/cpu/\${cpu%%,*}"
[ -d "\$view" ] || { echo "no such processor here: \$cpu" >&2; exit 2; }
exec "$target/bin/qemu-aarch64-static" -cpu "\$cpu" -L "\$view" -0 "$root/usr/bin/arm64-python" "$root/usr/bin/python$version" "\$@"
EOF
chmod +x "$root/usr/bin/arm64-python"
ln -sf root/usr/bin/arm64-python "$target/arm64-python"
"$target/arm64-python" -c 'import platform, numpy, onnxruntime as o; print(platform.machine(), numpy.__version__, o.__version__)'
touch "$target/ready"
