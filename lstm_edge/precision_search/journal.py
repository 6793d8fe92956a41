"""The journal of a search: one line of JSON for each measurement, from which an interrupted search continues.

The first line identifies the search (``identity``): SHA-256 of the source and the data, options, seed and versions.
Each further line is one measurement. Every line has a checksum (``crc32`` of the rest of its object as JSON with sorted
keys) and is flushed before the search continues. A last line that an interruption truncated is dropped; a damaged
earlier line is refused.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from lstm_edge_runtime.errors import ArtifactError, InputError, OutputError
from lstm_edge_runtime.reading import open_file, parse_json, read_bytes, translated
from lstm_edge_runtime.writing import check_target

__all__ = ["Journal"]

# Version 2: says whether the outputs are numbers, and has the plain files.
VERSION = "2"
# A measurement takes about 500 bytes.
MOST_BYTES = 2**28
START = b'{"crc32": '
Parts = Mapping[str, str]


class Journal:
    """Measurements by kind (``file``, ``tuning``, ``held-out``) and by the schemes of the parts."""

    def __init__(self, path: Path, identity: Mapping[str, Any], *, resume: bool) -> None:
        """Start a journal, or continue one.

        Args:
            path: the file of the journal.
            identity: JSON values that the measurements depend on.
            resume: continue the existing journal.

        Raises:
            OutputError: the path cannot be written, or has an interrupted search and ``resume`` is False.
            InputError: there is nothing to resume.
            ArtifactError: the journal is damaged, or belongs to another search.
        """
        self.path = path
        self._known: dict[str, dict[str, Any]] = {}
        check_target(path)
        if path.exists() and not resume:
            raise OutputError(
                f"{path}: this is the journal of an interrupted search; continue it with --resume, or delete the file"
            )
        if resume and not path.is_file():
            raise InputError(f"{path}: no such file, so there is nothing to resume; leave --resume out")
        complete = self._read(json.loads(json.dumps(identity))) if resume else 0
        try:
            self._file: TextIO = path.open("r+" if resume else "x", encoding="utf-8", newline="\n")
            self._file.seek(complete)
            self._file.truncate()
        except OSError as error:  # a link to a file that does not exist, too
            raise OutputError(f"{path}: the journal cannot be written ({error.strerror})") from error
        if not complete:
            self._line({"version": VERSION, "identity": dict(identity)})

    def __len__(self) -> int:
        return len(self._known)

    @property
    def is_worth_keeping(self) -> bool:
        """Whether the journal has a verdict; files alone are quickly rebuilt."""
        return any(not key.startswith('["file"') for key in self._known)

    def get(self, what: str, parts: Parts) -> dict[str, Any] | None:
        """Return a measurement, or None."""
        return self._known.get(_key(what, parts))

    def put(self, what: str, parts: Parts, values: Mapping[str, Any]) -> dict[str, Any]:
        """Record a measurement (JSON values without NaN), flush it to disk, and return the values."""
        self._line({"what": what, "parts": dict(parts), "values": dict(values)})
        self._known[_key(what, parts)] = dict(values)
        return dict(values)

    def close(self) -> None:
        """Close the file; it stays for a later ``resume``."""
        self._file.close()

    def remove(self) -> None:
        """Delete the file once the result is written."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _line(self, values: Mapping[str, Any]) -> None:
        self._file.write(
            json.dumps(dict(values) | {"crc32": _checksum(values)}, sort_keys=True, allow_nan=False) + "\n"
        )
        self._file.flush()

    def _read(self, identity: dict[str, Any]) -> int:
        """Read the lines; returns the number of bytes of complete lines."""
        complete = 0
        with (
            translated(ArtifactError, f"{self.path}: the journal cannot be read"),
            open_file(self.path, ArtifactError) as file,
        ):
            lines = read_bytes(file, MOST_BYTES).splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            try:
                if not line.endswith(b"\n"):
                    raise ValueError("no end of line")
                values = parse_json(line)
                entry = None if number == 1 else (_key(values["what"], values["parts"]), dict(values["values"]))
                version, found = (values["version"], values["identity"]) if number == 1 else (VERSION, identity)
                if version == VERSION and values.pop("crc32") != _checksum(values):
                    raise ValueError("its checksum does not match its contents")
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError, MemoryError) as error:
                # An interruption leaves a prefix of a line; a first line with another prefix belongs to another kind of
                # file.
                if not line.endswith(b"\n") and (number > 1 or START.startswith(line[: len(START)])):
                    break
                raise ArtifactError(
                    f"{self.path}: line {number} of {len(lines)} is damaged ({error}); delete the file to start again"
                ) from error
            if version != VERSION:
                raise ArtifactError(
                    f"{self.path}: version is {version!r}, this version of lstm-edge reads {VERSION!r}, whose "
                    "measurements differ; delete the file to start again"
                )
            self._check_identity(found, identity)
            if entry is not None:
                self._known[entry[0]] = entry[1]
            complete += len(line)
        return complete

    def _check_identity(self, found: Any, expected: dict[str, Any]) -> None:
        known = found if isinstance(found, dict) else {}
        for key in sorted(expected.keys() | known.keys()):
            mine, theirs = (json.dumps(side.get(key), sort_keys=True) for side in (expected, known))
            if mine != theirs:
                raise ArtifactError(
                    f"{self.path}: it is the journal of another search: {key} was {_short(theirs)}, now it is "
                    f"{_short(mine)}; give the same options and data, or delete the file"
                )


def _checksum(values: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(dict(values), sort_keys=True, allow_nan=False).encode())


def _key(what: str, parts: Parts) -> str:
    return json.dumps([what, sorted(parts.items())])


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
