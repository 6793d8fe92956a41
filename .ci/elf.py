"""What the build scripts check in a compiled file: its processor, the glibc that it needs, its libraries."""

import re
import struct

__all__ = ["MACHINES", "needed_glibc", "needed_libraries", "problems"]

# Machine -> e_machine in the header of an ELF file.
MACHINES = {"x86_64": 62, "aarch64": 183, "armv7": 40}
# e_flags of 32-bit ARM: floats are passed in registers of the floating-point unit.
_HARD_FLOAT = 0x400
_DYNAMIC, _NEEDED, _STRING_TABLE = 6, 1, 5


def problems(data: bytes, machine: str, glibc: tuple[int, int]) -> list[str]:
    """Return the defects of a compiled file: another processor, a newer glibc than wanted, or a C++ library.

    Args:
        data: the ELF file.
        machine: a key of ``MACHINES``.
        glibc: the newest version that it may need.
    """
    found = []
    if int.from_bytes(data[18:20], "little") != MACHINES[machine]:
        found.append(f"is not for {machine}")
    elif machine == "armv7" and not int.from_bytes(data[36:40], "little") & _HARD_FLOAT:
        found.append("does not pass floats in registers (hard float)")
    needed = needed_glibc(data)
    if needed is None or needed > glibc:
        found.append(f"needs glibc {needed}, expected at most {glibc}")
    if re.search(rb"GLIBCXX_|libstdc\+\+\.so|libc\+\+\.so|libgcc_s\.so", data):
        found.append("needs a C++ library, which a device may lack")
    return found


def needed_glibc(data: bytes) -> tuple[int, int] | None:
    """Return the newest version of glibc whose symbols an ELF file uses, or None if it uses none."""
    asked = {(int(a), int(b)) for a, b in re.findall(rb"GLIBC_(\d+)\.(\d+)", data)}
    return max(asked, default=None)


def needed_libraries(data: bytes) -> list[str]:
    """Return the shared libraries that a 64-bit ELF file names (``DT_NEEDED``), in order.

    Raises:
        ValueError: the file is not a 64-bit little-endian ELF file.
    """
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    (headers,) = struct.unpack_from("<Q", data, 40)
    _, count = struct.unpack_from("<HH", data, 58)
    # Of a section: name, type, flags, address, offset, size, link, info, alignment, size of an entry.
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, headers + 64 * index) for index in range(count)]
    libraries = []
    for _, kind, _, _, offset, size, link, *_ in sections:
        if kind != _DYNAMIC:
            continue
        names = sections[link][4]
        for tag, value in struct.iter_unpack("<QQ", data[offset : offset + size]):
            if tag == _NEEDED:
                libraries.append(data[names + value : data.index(b"\0", names + value)].decode())
    return libraries
