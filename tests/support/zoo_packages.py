"""A recipe and its package, made locally: a wheel whose code must never run, a tarball, and their recipe as TOML."""

import hashlib
import io
import tarfile
import zipfile

__all__ = ["MEMBER", "npm_tarball", "recipe_text", "wheel", "zipped"]

MEMBER = "made_vad/data/model.onnx"
LICENCE = "made_vad-1.2.3.dist-info/licenses/LICENSE"
# A file that Python would run on import, and one that it would run in every process of the environment.
TRAP = b"raise SystemExit('code of a fetched package ran')\n"


def zipped(entries):
    """Return a zip archive of pairs of path and bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path, data in entries:
            archive.writestr(path, data)
    return stream.getvalue()


def wheel(model):
    """Return a wheel with a model, a licence, and traps in its code."""
    metadata = b"Metadata-Version: 2.1\nName: made-vad\nVersion: 1.2.3\nRequires-Python: >=99\n"
    tags = b"Wheel-Version: 1.0\nGenerator: made\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    return zipped([
        ("made_vad/__init__.py", TRAP),
        ("made_vad.pth", b"import made_vad\n"),
        (MEMBER, model),
        (LICENCE, b"Made licence"),
        ("made_vad-1.2.3.dist-info/METADATA", metadata),
        ("made_vad-1.2.3.dist-info/WHEEL", tags),
        ("made_vad-1.2.3.dist-info/RECORD", b""),
    ])  # fmt: skip


def npm_tarball(entries):
    """Return a gzipped tarball of pairs of path and bytes, or of a prepared header without bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for path, data in entries:
            if isinstance(path, tarfile.TarInfo):
                archive.addfile(path)
                continue
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def recipe_text(archive, model, *, sizes=(1, 1), least_db=20.0, **source):
    """Return a recipe for an archive; ``source`` replaces values of its source."""
    values = {
        "registry": "pypi",
        "package": "made-vad",
        "version": "1.2.3",
        "file": "made_vad-1.2.3-py3-none-any.whl",
        "sha256": hashlib.sha256(archive).hexdigest(),
        "member": MEMBER,
        "member_sha256": hashlib.sha256(model).hexdigest(),
        "member_bytes": len(model),
    } | source
    lines = [
        f"{key} = {value if isinstance(value, int) else chr(34) + value + chr(34)}" for key, value in values.items()
    ]
    return (
        'title = "made detector"\norigin = "https://made.example"\nlicence = "MIT"\n'
        f'licence_members = ["{LICENCE}"]\ncalibration = "none"\n\n[source]\n' + "\n".join(lines) + "\n\n[quantize]\n"
        f'scheme = "int8"\n\n[expected]\nfloat32_bytes = {sizes[0]}\nint8_bytes = {sizes[1]}\n'
        f"least_signal_to_noise_db = {least_db}\n"
    )
