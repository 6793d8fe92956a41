"""Files that ask for more than they are: gigabytes out of little, little that declares gigabytes, endless lines."""

import base64
import bz2
import functools
import gzip
import io
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from support.reader_cases import READERS, zip_members

__all__ = ["BOMBS"]

_MIB = 2**20
_CSV = b"sequence,step,target,a\n"


@functools.cache
def _deflated(mib: int) -> bytes:
    """Return that many MiB of zeros, raw deflate: a block that can be repeated."""
    packer = zlib.compressobj(9, wbits=-15)
    block = b"".join(packer.compress(bytes(_MIB)) for _ in range(32)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * (mib // 32) + zlib.compressobj(9, wbits=-15).flush()


def _zip_bomb(name: str, mib: int, declared: int, method: int = 8, start: bytes = b"") -> bytes:
    """An archive of one member that unpacks to that many MiB, whatever it declares; ``start`` is stored before it."""
    if method == 8:
        packed = b"\0" + struct.pack("<HH", len(start), len(start) ^ 0xFFFF) + start + _deflated(mib)
    else:
        squeeze: Any = bz2.BZ2Compressor() if method == 12 else lzma.LZMACompressor(lzma.FORMAT_ALONE, preset=0)
        packed = squeeze.compress(start)
        packed += b"".join(squeeze.compress(bytes(_MIB)) for _ in range(mib)) + squeeze.flush()
        packed = packed if method == 12 else b"\x09\x04\x05\x00" + packed[:5] + packed[13:]
    raw = name.encode()
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, method, 0, 33, 0, len(packed), declared, len(raw), 0)
    central = struct.pack(
        "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, method, 0, 33, 0, len(packed), declared, len(raw), 0, 0, 0, 0, 0, 0
    )
    body = local + raw + packed
    directory = central + raw
    return body + directory + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(directory), len(body), 0)


def _many_members(count: int, mib: int) -> bytes:
    """An honest archive of arrays, each of which may be read, and all together may not."""
    start = _npy_header(f"({mib * _MIB // 4},)")
    crc = functools.reduce(lambda value, _: zlib.crc32(bytes(_MIB), value), range(mib), zlib.crc32(start))
    packed = b"\0" + struct.pack("<HH", len(start), len(start) ^ 0xFFFF) + start + _deflated(mib)
    body = directory = b""
    for number in range(count):
        name = f"{number}.npy".encode()
        fields = (20, 0, 8, 0, 33, crc, len(packed), len(start) + mib * _MIB, len(name), 0)
        directory += struct.pack("<4sH", b"PK\1\2", 20) + struct.pack("<HHHHHIIIHH", *fields)
        directory += struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name
        body += struct.pack("<4sHHHHHIIIHH", b"PK\3\4", *fields) + name + packed
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + end


def _npy_header(shape: str, dtype: str = "<f4") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def _gzip_bomb(start: bytes, mib: int) -> bytes:
    return (
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff\0" + struct.pack("<HH", len(start), len(start) ^ 0xFFFF) + start + _deflated(mib)
    )


def _xz_bomb(piece: bytes, mib: int) -> bytes:
    return lzma.compress(piece * (16 * _MIB // len(piece)), preset=1) * (mib // 16)


def _golden_bomb(method: int) -> bytes:
    bomb = base64.b64encode(_zip_bomb("0.in.x.npy", 32, 100, method, _npy_header("(1,)"))).decode()
    return json.dumps({"tolerance": {"bodies": 1, "kernels": 1}, "npz": bomb}).encode()


def _tensors_bomb(shape: str, end: int) -> bytes:
    header = f'{{"a": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, {end}]}}}}'.encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


def _pt_bomb(change: Callable[[bytes], bytes]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(READERS["pt"]().data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    return zip_members(members | {name: change(members[name])}, 0)


def _endless_heap() -> bytes:
    """A Keras file whose heap of texts ends in free space of no bytes."""
    data = bytearray(READERS["h5"]().data)
    at = data.index(b"GCOL") + 16
    while index := int.from_bytes(data[at : at + 2], "little"):
        at += 16 + -(-int.from_bytes(data[at + 8 : at + 16], "little") // 8) * 8
    assert index == 0
    data[at + 8 : at + 16] = bytes(8)
    return bytes(data)


def _list_for_a_text() -> bytes:
    """A Keras file whose config is declared as a list of something, not as a text."""
    data = bytearray(READERS["h5"]().data)
    data[857] = 0x7F
    return bytes(data)


# By what it is: the reader that it is for, and the file.
BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "deflate, honest": (
        "npz", lambda: _zip_bomb("x.npy", 4096, 2**32 - 1, start=_npy_header("(1073741792,)"))
    ),
    "deflate, declares 100 bytes": ("npz", lambda: _zip_bomb("x.npy", 4096, 100, start=_npy_header("(3,)"))),
    "deflate, not an array": ("npz", lambda: _zip_bomb("x.npy", 4096, 2**32 - 1)),
    "deflate, data": ("npz data", lambda: _zip_bomb("x.npy", 4096, 2**32 - 1, start=_npy_header("(1073741792, 1)"))),
    "deflate, three members": ("npz", lambda: _many_members(3, 400)),
    "bzip2": ("npz", lambda: _zip_bomb("x.npy", 64, 100, 12, _npy_header("(3,)"))),
    "lzma": ("npz", lambda: _zip_bomb("x.npy", 64, 100, 14, _npy_header("(3,)"))),
    "golden, bzip2": ("golden", lambda: _golden_bomb(12)),
    "golden, lzma": ("golden", lambda: _golden_bomb(14)),
    "golden, deflate": ("golden", lambda: _golden_bomb(8)),
    "keras, deflate": ("keras", lambda: _zip_bomb("config.json", 2048, 2**31 - 1)),
    "keras, bzip2": ("keras", lambda: _zip_bomb("config.json", 64, 100, 12)),
    "header of 4 EB": ("npy", lambda: _npy_header("(1152921504606846976,)")),
    "header of negative axes": ("npy", lambda: _npy_header("(-1, 4)") + bytes(16)),
    "endless array of no bytes": ("npy", lambda: _npy_header("(1000000000000,)", "<U0")),
    "header in an archive": ("npz", lambda: zip_members({"x.npy": _npy_header("(1099511627776, 1024)") + bytes(4)})),
    "gz of zeros": ("gz", lambda: _gzip_bomb(b"a", 4096)),
    "gz of empty streams": ("gz", lambda: gzip.compress(b"", mtime=0) * 200_000),
    "xz of letters": ("xz", lambda: _xz_bomb(b"a", 8192)),
    "xz that declares 4 GB": ("xz", lambda: b"\x5d\0\0\0\xff" + b"\xff" * 8 + bytes(64)),
    "csv.gz of newlines": ("csv.gz", lambda: gzip.compress(_CSV) + gzip.compress(b"\n" * 16 * _MIB) * 64),
    "csv.gz of zeros": ("csv.gz", lambda: _gzip_bomb(_CSV, 4096)),
    "csv of newlines": ("csv", lambda: _CSV + b"\n" * 50 * _MIB),
    "csv of columns": ("csv", lambda: b",".join(b"%d" % i for i in range(1_000_000)) + b"\n1,2\n"),
    "csv of equal columns": ("csv", lambda: b"a," * 4_000_000 + b"b\n1,2\n"),
    "csv of one record": ("csv", lambda: _CSV + b'"a\n",' * 6_000_000),
    "csv of one line": ("csv", lambda: _CSV + b"1," * 20_000_000),
    "csv of one cell": ("csv", lambda: _CSV + b'"' + b"a" * 50 * _MIB),
    "jsonl of one line": ("jsonl", lambda: b'{"x": [[' + b"1," * 20_000_000),
    "jsonl of lists": ("jsonl", lambda: b'{"x": [' + b"[]," * 11_000_000),
    "jsonl of steps": ("jsonl", lambda: b'{"x": [' + b"[1]," * 8_000_000 + b'[1]], "y": 1}\n'),
    "jsonl of keys": ("jsonl", lambda: b"{" + b",".join(b'"%d":1' % i for i in range(500_000)) + b"}\n"),
    "jsonl of depth": ("jsonl", lambda: b'{"x": ' + b"[" * 5_000_000),
    "jsonl.gz of one line": ("jsonl.gz", lambda: _gzip_bomb(b'{"x": [[', 4096)),
    "jsonl.gz of newlines": ("jsonl.gz", lambda: gzip.compress(b"\n" * 16 * _MIB) * 64),
    "transcripts of one line": ("transcripts", lambda: b'{"text": "' + b"a" * 50 * _MIB),
    "stream of one line": ("stream lines", lambda: b"[" + b"0," * 20_000_000),
    "stream of lists": ("stream lines", lambda: b"[" + b"[]," * 10_000_000 + b"[]]\n"),
    "card of lists": ("card", lambda: b"[" + b"[]," * 20_000_000 + b"[]]"),
    "card of texts": ("card", lambda: b"[" + b'"aa",' * 12_000_000 + b"1]"),
    "card of 100 MB": ("card", lambda: b'"' + b"a" * 100_000_000),
    "safetensors, header of 4 EB": ("safetensors", lambda: struct.pack("<Q", 2**62) + bytes(64)),
    "safetensors, header of 90 MB": ("safetensors", lambda: struct.pack("<Q", 90 * _MIB) + b"[" * 90 * _MIB),
    "safetensors, tensor of 4 EB": ("safetensors", lambda: _tensors_bomb("[1099511627776, 1048576]", 8)),
    "safetensors, end of 4 EB": ("safetensors", lambda: _tensors_bomb("[2]", 2**62)),
    "checkpoint, header of zeros": ("checkpoint", lambda: struct.pack("<Q", 60 * _MIB) + bytes(60 * _MIB)),
    "pt, storage of 8 GB": ("pt", lambda: _pt_bomb(lambda pickle: pickle.replace(b"K\x10", b"J\xff\xff\xff\x7f", 1))),
    "pt, place of 4 Gi": ("pt", lambda: _pt_bomb(lambda pickle: pickle[:2] + b"}r\xff\xff\xff\xff" + pickle[2:])),
    "pt, bytearray of 32 GB": (
        "pt", lambda: _pt_bomb(lambda _: b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\0\0\0\0\x08\x85R.")
    ),
    "pt, deflate": ("pt", lambda: _zip_bomb("archive/data.pkl", 4096, 2**32 - 1)),
    "h5, heap without an end": ("h5", _endless_heap),
    "h5, list for a text": ("h5", _list_for_a_text),
    "journal of one line": ("journal", lambda: b'{"crc32": ' + b"1" * 20 * _MIB + b"\n"),
    "journal of lists": ("journal", lambda: b'{"crc32": [' + b"[]," * 20_000_000 + b"\n"),
}  # fmt: skip
