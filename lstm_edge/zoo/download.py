"""Fetches a recipe's archive with pip's, npm's or the standard library's download, and checks its digest."""

import hashlib
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from lstm_edge.zoo.recipe import Source
from lstm_edge_runtime.errors import ArtifactError, IntegrityError, MissingToolError, first_line
from lstm_edge_runtime.fresh_python import python_command

__all__ = ["check_digest", "fetch"]

_PIP = "import runpy; runpy.run_module('pip', run_name='__main__', alter_sys=True)"
# Seconds until a download is given up: 100 MB at 0.2 MB/s.
TIMEOUT_SECONDS = 600
# The largest archive of a recipe by URL; pip and npm have no limit, and none of their archives is above 40 MB.
MOST_BYTES = 1 << 30


def fetch(source: Source, folder: Path, progress: Callable[[str], None]) -> bytes:
    """Download an archive and return its bytes; nothing in it is run or installed.

    Args:
        source: what to fetch.
        folder: an empty temporary folder for pip or npm to write to.
        progress: called with a line before the download and one after it.

    Raises:
        MissingToolError: pip or npm is not installed.
        ArtifactError: the download failed; the message has the tool's own.
        IntegrityError: the digest is another one.
    """
    progress(f"downloading {source.label}")
    data = _ways()[source.registry](source, folder)
    check_digest(source.file, data, source.sha256)
    progress(f"downloaded {len(data):,} bytes, SHA-256 as in the recipe")
    return data


def check_digest(name: str, data: bytes, expected: str) -> None:
    """Refuse bytes whose SHA-256 is not the expected one.

    Raises:
        IntegrityError: with both digests.
    """
    got = hashlib.sha256(data).hexdigest()
    if got != expected:
        raise IntegrityError(
            f"{name}: SHA-256 is {got}, the recipe expects {expected}; nothing of it was used. The download is "
            "damaged, or the file was replaced after the recipe was written"
        )


def _ways() -> dict[str, Callable[[Source, Path], bytes]]:
    return {"pypi": _by_pip, "npm": _by_npm, "url": _by_url}


def _by_pip(source: Source, folder: Path) -> bytes:
    # --only-binary: pip would run the setup script of a source distribution.
    # --ignore-requires-python: the package is not installed, so its Python version does not matter.
    options = ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--dest", str(folder)]
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    wanted = f"{source.package}=={source.version}"
    command = python_command(_PIP, "download", *quiet, *options, wanted, packages=())
    return _run(command, "pip", source, folder)


def _by_npm(source: Source, folder: Path) -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise MissingToolError(f"npm is needed to fetch {source.label} and is not installed: apt-get install npm")
    options = ["--silent", "--ignore-scripts", "--pack-destination", str(folder)]
    return _run([npm, "pack", *options, f"{source.package}@{source.version}"], "npm", source, folder)


def _run(command: Sequence[str], tool: str, source: Source, folder: Path) -> bytes:
    try:
        done = subprocess.run(  # noqa: S603  # names that the recipe's forms allow, no shell
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(f"{source.label}: {tool} did not finish within {TIMEOUT_SECONDS} s; try again") from error
    if "No module named pip" in done.stderr:
        raise MissingToolError(
            f"pip is needed to fetch {source.label} and is not installed: apt-get install python3-pip"
        )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line.lower()] or [done.stderr.strip()]
        raise ArtifactError(
            f"{source.label}: {tool} could not download it ({said[-1][:300] or f'exit code {done.returncode}'}); check "
            "the network and the registry's address"
        )
    path = folder / source.file
    if not path.is_file():
        got = ", ".join(sorted(found.name for found in folder.iterdir())) or "nothing"
        raise ArtifactError(f"{source.label}: {tool} brought {got}, the recipe expects {source.file}")
    return path.read_bytes()


def _by_url(source: Source, _folder: Path) -> bytes:
    try:
        # The recipe's form allows http and https only.
        with urllib.request.urlopen(source.url, timeout=60) as answer:  # noqa: S310
            data: bytes = answer.read(MOST_BYTES + 1)
    except OSError as error:
        raise ArtifactError(f"{source.url}: the download failed ({first_line(error)}); check the network") from error
    if len(data) > MOST_BYTES:
        raise ArtifactError(f"{source.url}: the file has more than {MOST_BYTES:,} bytes, so it was not fetched")
    return data
