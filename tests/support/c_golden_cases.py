"""Golden vectors and archives of arrays, good and damaged, for Python and C."""

import base64
import io
import json
import random
import struct
import zipfile
import zlib
from typing import Any

import numpy as np

__all__ = ["DESCRS", "HEADERS", "ONE", "damaged", "documents", "npy", "packed", "with_header"]


def npy(shape: str = "(1,)", dtype: str = "<f4", data: bytes = b"\0\0\x40\x40", fortran: str = "False") -> bytes:
    """Return an .npy file with a header of that text."""
    return with_header(f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode(), data)


def with_header(header: bytes, data: bytes = b"\0\0\x40\x40") -> bytes:
    """Return an .npy file with these bytes as its header."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


# One vector whose expected output is 3.
ONE = {f"0.{part}.npy": npy() for part in ("in.x", "out.y")}

DESCRS = [
    order + kind + number
    for kind in "biufcSUO?"
    for number in ("", "0", "1", "2", "4", "8", "08", "16", "32", "536870911", "536870912", "999999999")
    for order in ("", ">", "|")
]

_GOOD = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"
HEADERS = [
    _GOOD,
    b'{"shape": (1L,), \'descr\': "=f4",\t\'fortran_order":\xa0False}\x85\n',
    *(_GOOD.replace(b"(1,)", shape) for shape in (b"()", b"(1)", b"(,)", b"(1,,)", b"(1, 1)", b"( 1 , )", b"(1 1,)")),
    *(
        _GOOD.replace(b"(1,)", shape)
        for shape in (b"(L)", b"(0,)", b"(1000000000000000000,)", b"(-1,)", b"(0,9" + b"9" * 18)
    ),
    *(_GOOD.replace(b"1,", b"1," * axes) for axes in (64, 65)),
    *(_GOOD.replace(b"(1,)", shape) for shape in (b"(100000000000000000,100000000000000000,0)", b"(0,0,3)")),
    *(_GOOD.replace(b"(1,)", shape) for shape in (b"(2147483648,2147483648,0)", b"(1,\x85 x\xe9\xff)", b"[1]")),
    *(_GOOD.replace(b"'<f4'", text) for text in (b"'S0'", b"None", b"'<f4", b"<f4", b"[('a', 'f4')]", b"'<f4\n'")),
    *(_GOOD.replace(b"False", text) for text in (b"True", b"0", b"'False'", b"false")),
    *(
        _GOOD.replace(b", }", text)
        for text in (b"}", b",,}", b", ", b" ", b", } ", b", }x", b", 'shape': (1,)}", b", 'x': 1}")
    ),
    *(
        b"",
        b"{}",
        b"{",
        b"\xff\xfe",
        b"x" * 100,
        b"'" * 90,
        b"\xa0{\x1c'descr': 'f'}",
        b"{'shape': (1,), 'shape': (1,), }",
    ),
    b"{'descr': 'S0', 'fortran_order': False, 'shape': (1000000, 1000000, 1000000, 1000000)}",
    b"{" + b" " * 10_000,
]


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, **changes: Any) -> str:
    """Return golden vectors with these members in their archive, and other values in their JSON."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return _text(buffer.getvalue(), **changes)


def _text(archive: bytes, **changes: Any) -> str:
    document = {"tolerance": {"bodies": 1e-5, "kernels": 1e-5}, "npz": base64.b64encode(archive).decode()}
    return json.dumps(document | changes)


def documents() -> list[str]:
    """Return texts of golden vectors: other JSON, base64 and tolerances; other names, headers, dtypes and archives."""
    texts = ["", "[]", '"x"', "5", "null", "{}", "[" * 2000, "NaN", "x" * 65537, "é" * 65536, "é" * 65537, "1" * 5000]
    texts += ['{"tolerance": {"bodies": 1}}', '{"tolerance": 1}', '{"tolerance": {"bodies": 1, "kernels": 1}}']
    texts += [packed(ONE, npz=value) for value in (5, None, [], True, "é", *_BASE64)]
    numbers = (
        -1,
        0,
        -0.0,
        1,
        0.03,
        0.031,
        1e-5,
        float("nan"),
        float("inf"),
        10**400,
        10**30,
        1e308,
        True,
        None,
        "1",
        [1] * 30,
    )
    texts += [packed(ONE, tolerance={"bodies": number, "kernels": 1e-5}) for number in numbers]
    texts += [packed(ONE, tolerance={"bodies": 1e-5, "kernels": number}) for number in numbers]
    for outputs in (*({"y": number} for number in numbers), {"other": 1e-5}, {"é'": 0}, {}, None, [1], "y", 5, True):
        texts.append(packed(ONE, tolerance={"bodies": 1e-2, "kernels": 1e-5, "outputs": outputs}))
    texts += [packed(_named(name)) for name in _NAMES]
    texts += [packed(ONE | {"0.in.x.npy": with_header(header)}) for header in HEADERS]
    texts += [packed(ONE | {"0.out.y.npy": npy(dtype=dtype, data=bytes(range(1, 17)))}) for dtype in DESCRS]
    texts += [packed(ONE | {"0.out.y.npy": array}) for array in _arrays()]
    texts += [
        packed(ONE | {"0.in.x.npy": data})
        for data in (b"", b"garbage", b"\x93NUMPY", b"\x93NUMPY\x03\x00\0\0", npy()[:-1])
    ]
    texts += [packed({"0.in.x.npy": bytes(17 * 2**20)}), packed({"a": bytes(9 * 2**20), "b": bytes(9 * 2**20)})]
    texts += [
        packed({}),
        packed(ONE, zipfile.ZIP_STORED),
        packed(ONE, zipfile.ZIP_BZIP2),
        packed(ONE, zipfile.ZIP_LZMA),
    ]
    texts += [packed(ONE | {"1.in.x.npy": npy(), "1.out.y@3.npy": npy()}, tolerance={"bodies": 0.29, "kernels": 0})]
    return texts + [_text(archive) for archive in _archives()]


_BASE64 = [
    *("", "=", "A", "AA", "AAA", "AA=", "AA==", "AAA=", "AA==A", "AAAA=", "AAAA==", "AAAA====", "=AAA", "A=AA", "AA=A"),
    *(
        "AA=A=",
        "A A=",
        "AA\n==",
        "AAAAA",
        "AA==AA==",
        "AA===",
        "AAA==",
        "A=",
        "A==",
        "AAAA\n",
        "====",
        "AA=\n=",
        "AAAAA=",
    ),
    *("AAAAA==", "A*", "AB=*", "ABCDE*", "AB==*", "=*", "AAA*=", "UEsF", "-_A=", "AAAA\x00"),
]

_NAMES = [
    *(
        "surprise",
        "0.in.z.npy",
        "0.in.npy",
        "0.in..npy",
        "00.in.x.npy",
        "1.in.x.npy",
        "0.both.x.npy",
        "1000000.in.x.npy",
    ),
    *("0.in.é\n\u2028.npy", "0.out.y@2.npy", "0.out.y@0.npy", "0.out.@5.npy", "0.out.a@b@7.npy", "0.in.x.npy.npy"),
    *("0.out.y@9999999999999999.npy", "0.out.y@10000000000000000.npy", "0.in.x@3.npy", "0.in.x.npz", "-1.in.x.npy"),
    *("x" * 300, "0.in." + "x" * 90 + ".npy", "a  b'\"", "\u0660.in.x.npy", "0.IN.x.npy", "999999.out.x.npy"),
]


def _named(name: str) -> dict[str, bytes]:
    return ONE | {name: npy()}


def _arrays() -> list[bytes]:
    def saved(array: Any) -> bytes:
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()

    block = np.arange(24).reshape(2, 3, 4)
    made = [
        saved(np.asarray(block, dtype)) for dtype in ("f2", "f4", "f8", ">f4", ">i2", "u1", "i8", "u8", "bool", ">f8")
    ]
    made += [saved(np.asfortranarray(block.astype(dtype))) for dtype in ("f4", ">i2", "i1")]
    extremes = (np.array([np.inf, -np.nan, 7.5], dtype) for dtype in ("f2", "f4", "f8"))
    made += [saved(array) for array in (*extremes, np.array([-(2**63)]), np.zeros((0, 3), "f4"), np.float32(1))]
    return [*made, saved(np.array([6e-8, 65504], "f2")), saved(np.zeros((3, 0), "f4", order="F"))]


def _archives() -> list[bytes]:
    """Archives that zipfile does not write."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in ONE.items():
            archive.writestr(name, data)
    good = buffer.getvalue()
    end, entry, header = good.rfind(b"PK\5\6"), good.find(b"PK\1\2"), 0
    made = [
        b"",
        b"PK",
        good[:-1],
        good[end:],
        b"before" + good,
        good + b"comment",
        good[:-2] + b"\3\0abc",
        good[: end + 10],
    ]

    def put(at: int, form: str, *values: int) -> None:
        data = bytearray(good)
        struct.pack_into("<" + form, data, at, *values)
        made.append(bytes(data))

    for at, form, value in [
        *((end + 12, "L", value) for value in (0, 1, 2**21, 2**21 + 1, 2**32 - 1)),
        *((end + 16, "L", value) for value in (0, entry + 1, 2**32 - 1)),
        *((entry + at, "H", value) for at in (8, 10, 28, 30, 32) for value in (0, 1, 8, 12, 0x20, 0x40, 0x800, 0xFFFF)),
        *((entry + at, "L", value) for at in (16, 20, 24, 42) for value in (0, 1, 60, 100, 2**24, 2**32 - 1)),
        *((entry + 6, "B", value) for value in (63, 64, 255)),
        *((entry, "L", 0), (header, "L", 0), (header + 6, "H", 0x800), (header + 26, "H", 3), (header + 28, "H", 9)),
        *((header + 30, "B", value) for value in (0, 0x81, 0xFF)),
        *((entry + 46, "B", value) for value in (0, 0x81, 0xFF)),
    ]:
        put(at, form, value)
    return [*made, *_with_zip64(good, entry, end), *_deflated()]


def _with_zip64(good: bytes, entry: int, end: int) -> list[bytes]:
    """Archives with zip64 records and extra fields, right and wrong."""
    made = []
    for size, offset, disk, signature in [
        *((end - entry, entry, 0, b"PK\6\6"), (end - entry, 0, 0, b"PK\6\6"), (end - entry, 2**63 + 5, 0, b"PK\6\6")),
        *((2**63, entry, 0, b"PK\6\6"), (end - entry, entry, 1, b"PK\6\6"), (end - entry, entry, 0, b"PK\6\5")),
        *((end - entry, 2**64 - 1, 0, b"PK\6\6"), (0, entry, 0, b"PK\6\6")),
    ]:
        record = struct.pack("<4sQ2H2L4Q", signature, 44, 45, 45, 0, 0, 2, 2, size, offset)
        locator = struct.pack("<4sLQL", b"PK\6\7", disk, end, 1)
        made.append(good[:end] + record + locator + good[end:])
    for size, extra in [
        *((24, struct.pack("<2HQ", 1, 8, 140)), (24, struct.pack("<2HQ", 1, 8, 2**63)), (24, struct.pack("<2H", 1, 0))),
        *(
            (24, struct.pack("<2HL", 1, 4, 9)),
            (20, struct.pack("<2HQ", 1, 8, 9)),
            (42, struct.pack("<2HQ", 1, 8, 2**64 - 1)),
        ),
        *(
            (42, struct.pack("<2HQ", 1, 8, 0)),
            (42, struct.pack("<2H", 1, 0)),
            (24, b"\1\0\x09"),
            (24, struct.pack("<2H", 7, 9)),
        ),
        *((20, struct.pack("<2HL", 1, 0, 1)), (24, struct.pack("<4HQ", 9, 0, 1, 8, 140))),
    ]:
        data = bytearray(good)
        struct.pack_into("<H", data, entry + 30, len(extra))
        struct.pack_into("<L", data, entry + size, 0xFFFFFFFF)
        name_end = entry + 46 + struct.unpack_from("<H", data, entry + 28)[0]
        data[name_end:name_end] = extra
        struct.pack_into("<L", data, end + len(extra) + 12, end - entry + len(extra))
        made.append(bytes(data))
    return made


def _deflated() -> list[bytes]:
    """Archives whose deflated bytes are longer, shorter or others than their headers say."""
    made = []
    data = npy("(4096,)", data=bytes(16384))
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    stream = packer.compress(data) + packer.flush()
    unended = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = unended.compress(data) + unended.flush(zlib.Z_SYNC_FLUSH)
    random_part = np.random.default_rng(1).bytes(9000)
    for deflated, size, crc in [
        *((stream, len(data), zlib.crc32(data)), (stream, 80, zlib.crc32(data[:80])), (stream, 80, zlib.crc32(data))),
        *((stream, 2**20, zlib.crc32(data)), (parts, len(data), zlib.crc32(data)), (parts, 2**22, zlib.crc32(data))),
        *((stream[:-3], len(data), zlib.crc32(data)), (stream + b"more", len(data), zlib.crc32(data))),
        *((parts + b"\7\7", len(data), zlib.crc32(data)), (parts + b"\7", 80, zlib.crc32(data[:80])), (b"", 0, 0)),
        *((random_part, 100, 0), (b"\xff" + stream, len(data), 0), (b"\1\4\0\xfb\xff", 4, 0), (b"\5" + stream, 9, 1)),
    ]:
        name = b"0.in.x.npy"
        head = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 33, crc, len(deflated), size, len(name), 0) + name
        entry = struct.pack(
            "<4s4B4H3L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 8, 0, 33, crc, len(deflated), size, 10, 0, 0, 0, 0, 0, 0
        )
        start = len(head) + len(deflated)
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry) + 10, start, 0)
        made += [head + deflated + entry + name + end, head + deflated[:9] + entry + name + end]
    return made


def damaged(archive: bytes, draw: random.Random) -> bytes:
    """Return an archive with one to three bytes changed, or bytes removed or added."""
    data = bytearray(archive)
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(data))
        kind = draw.randrange(8)
        if kind == 0:
            del data[at : at + draw.randrange(1, 9)]
        elif kind == 1:
            data[at:at] = draw.randbytes(draw.randrange(1, 9))
        else:
            data[at] = draw.choice([0, 1, 255, draw.randrange(256), data[at] ^ 1 << draw.randrange(8)])
        if not data:
            break
    return bytes(data)
