"""Fuzzes every reader of files: damaged bytes, made-up fields with the right checksums around them, and bombs.

A case is the name of a reader (tests/support/reader_cases.py) and the bytes of a file. Its label makes it again: the
seed and the number of the case.
"""

import base64
import functools
import gzip
import io
import itertools
import json
import lzma
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from sandbox import Tally, run_cases
from support.reader_bombs import BOMBS
from support.reader_cases import READERS, Reader, attempt, scratch_folder, zip_members

__all__ = ["check_case", "fuzz", "mutant", "reader"]

Case = tuple[str, bytes]
# Numbers as JSON, NumPy's headers and CSV write them, that are at a limit of something.
Mutate = Callable[[random.Random, bytes], bytes]
_NUMBERS = (
    b"0", b"-1", b"1", b"255", b"65536", b"2147483648", b"1099511627776", b"9223372036854775808", b"-0.0", b"1e400",
    b"1e39", b"NaN", b"-Infinity", b"1" + b"0" * 30, b"1" + b"0" * 400, b"9" * 5000, b"1_0", b"0x7", b"1.5", b"3L",
    "٣".encode(),
)  # fmt: skip
_TOKENS = (
    b"null", b"true", b'""', b"[]", b"{}", b'"\\ud800"', b'"\xff"', b'"\\u0000"', b"[" * 2000, b"(1,", b"()", b"'<f4'",
    b"'|O'", b"'<U0'", b"'<U99999999'", b"'>c16'", b"'<M8[ns]'", b"\x00", b"\r", b"\n\n", b'"', b"\xef\xbb\xbf",
    b"__metadata__", b"../x",
)  # fmt: skip
_WORDS = re.compile(
    rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE]-?[0-9]+)?|\"[^\"]{0,40}\"|'[^']{0,40}'|true|null|False|True|\([^)]*\)"
)


@functools.cache
def reader(name: str) -> Reader:
    """Return a reader; its good file is made once."""
    return READERS[name]()


def _damage(random_: random.Random, data: bytes) -> bytes:
    """Change some bytes wherever they are."""
    changed = bytearray(data)
    for _ in range(random_.choice((1, 1, 1, 2, 4, 16))):
        at = random_.randrange(len(changed) + 1)
        kind = random_.randrange(7)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << random_.randrange(8)
        elif kind == 1 and at < len(changed):
            changed[at] = random_.choice((0, 1, 0x7F, 0x80, 0xFF, random_.randrange(256)))
        elif kind == 2:
            del changed[at : at + random_.choice((1, 2, 8, 100))]
        elif kind == 3:
            changed[at:at] = random_.randbytes(random_.choice((1, 2, 8)))
        elif kind == 4:
            changed[at:at] = changed[at : at + random_.choice((4, 40, 400))]
        elif kind == 5:
            form = random_.choice(("<H", "<I", "<Q", ">I"))
            limit = 2 ** (8 * struct.calcsize(form))
            value = random_.choice((0, 1, limit - 1, limit // 2, limit // 2 - 1, 2**20 % limit, 2**31 % limit))
            changed[at : at + struct.calcsize(form)] = struct.pack(form, value)
        elif random_.randrange(4) == 0:
            del changed[at:]
    return bytes(changed)


def _words(random_: random.Random, data: bytes) -> bytes:
    """Put other numbers, texts and brackets in the place of those that are there."""
    for _ in range(random_.choice((1, 1, 2, 5))):
        found = list(_WORDS.finditer(data))
        if not found:
            return _damage(random_, data)
        place = random_.choice(found)
        new = random_.choice((*_NUMBERS, *_TOKENS, random_.choice(found)[0], random_.choice(found)[0] * 2))
        data = data[: place.start()] + new + data[place.end() :]
    return data


def _zip(random_: random.Random, data: bytes) -> bytes:
    """Change what is inside the members, and pack them again; now and then by another method or twice."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    name = random_.choice(list(members))
    members[name] = random_.choice((_damage, _words, _header))(random_, members[name])
    if random_.randrange(8) == 0:
        members[random_.choice((name + "x", "../x", "x.npy", "y", "é" * 20, "a/"))] = members[name]
    if random_.randrange(8) == 0:
        del members[random_.choice(list(members))]
    method = random_.choice((0, 8, 8, 8, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    packed = zip_members(members, method)
    return _damage(random_, packed) if random_.randrange(8) == 0 else packed


def _header(random_: random.Random, data: bytes) -> bytes:
    """Change the header of an array (.npy) or of tensors (.safetensors), with the length that it then has."""
    if data.startswith(b"\x93NUMPY"):
        size = int.from_bytes(data[8:10], "little")
        header = _words(random_, data[10 : 10 + size])[:65535]
        return data[:8] + len(header).to_bytes(2, "little") + header + data[10 + size :]
    size = int.from_bytes(data[:8], "little")
    if size > len(data):
        return _damage(random_, data)
    header = _words(random_, data[8 : 8 + size])
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _golden(random_: random.Random, data: bytes) -> bytes:
    document = json.loads(data)
    packed = _zip(random_, base64.b64decode(document["npz"]))
    return json.dumps(document | {"npz": base64.b64encode(packed).decode()}).encode()


def _packed(
    pack: Callable[[bytes], bytes], unpack: Callable[[bytes], bytes]
) -> Callable[[random.Random, bytes], bytes]:
    def mutate(random_: random.Random, data: bytes) -> bytes:
        packed = pack(_words(random_, unpack(data)))
        return packed + random_.choice((b"", b"", b"", b"\0" * 8, packed, b"x", packed[:9]))

    return mutate


_gzip = _packed(functools.partial(gzip.compress, compresslevel=1, mtime=0), gzip.decompress)
_xz = _packed(functools.partial(lzma.compress, preset=0), lzma.decompress)


def _journal(random_: random.Random, data: bytes) -> bytes:
    """Change a line, with the checksum that it then has."""
    lines = data.splitlines()
    at = random_.randrange(len(lines))
    try:
        values = json.loads(_words(random_, lines[at]))
        values.pop("crc32", None)
        crc = zlib.crc32(json.dumps(values, sort_keys=True, allow_nan=False).encode())
        lines[at] = json.dumps(values | {"crc32": crc}, sort_keys=True).encode()
    except (ValueError, AttributeError, TypeError, RecursionError):
        return _words(random_, data)
    return b"\n".join(lines) + b"\n"


# By reader: what changes a file at its fields, beside changes of any bytes.
_FIELDS: dict[str, Mutate] = {
    "npy": _header,
    **dict.fromkeys(("npz", "npz stored", "state", "npz data", "npz data, more", "keras", "pt"), _zip),
    **dict.fromkeys(("checkpoint", "safetensors", "training state"), _header),
    **dict.fromkeys(("csv.gz", "jsonl.gz", "gz"), _gzip),
    "golden": _golden,
    "xz": _xz,
    "journal": _journal,
}
# Slow ones (5 and 10 ms each) get fewer cases.
_NAMES = [name for name in READERS for _ in range(1 if name in ("card in a model", "h5", "keras") else 4)]


def mutant(seed: int, number: int) -> Case:
    """Return the case of a label."""
    random_ = random.Random(f"{seed}:{number}")
    name = random_.choice(_NAMES)
    fields = _FIELDS.get(name, _words)
    return name, random_.choice((fields, fields, _damage))(random_, reader(name).data)


def fuzz(seed: int, until: float, least: int) -> Tally:
    """Run the bombs, each in its own process, then mutants until the time is over; see run.py."""
    torch.set_num_threads(1)
    for name in READERS:
        reader(name)
    tally = Tally()
    with scratch_folder() as folder:
        check = functools.partial(check_case, folder)
        for label, (name, make) in BOMBS.items():
            run_cases(check, [(f"bomb {label!r}", (name, make()))], until=float("inf"), tally=tally)
        cases = ((f"seed {seed}, case {number}", mutant(seed, number)) for number in itertools.count())
        run_cases(check, cases, until=until, tally=tally, least=least)
    return tally


def check_case(folder: Path, case: Case) -> str:
    """Write the case's file and read it; a warning is on the user's screen, and a fault as an error is."""
    name, data = case
    path = folder / f"file{reader(name).suffix}"
    path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return attempt(reader(name), path)
    finally:
        path.unlink()
