"""Recipes as TOML files: read with every key checked, so that a wrong one is refused before anything is fetched."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lstm_edge_runtime.errors import DataError, InputError

__all__ = ["Expected", "Recipe", "Source", "parse_recipe", "read_recipe", "recipes"]

FOLDER = Path(__file__).parent / "recipes"
REGISTRIES = ("pypi", "npm", "url")
# Archives that any machine can use; the other wheels differ from platform to platform.
ENDINGS = {"pypi": ("-none-any.whl",), "npm": (".tgz",), "url": (".whl", ".zip", ".tgz", ".tar.gz", ".onnx")}

_SHA256 = re.compile(r"[0-9a-f]{64}")
# A package name goes to the command line of pip or npm: none may look like an option, a path or an address.
_PACKAGE = re.compile(r"(@[a-z0-9][a-z0-9._-]*/)?[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+-]*")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_URL = re.compile(r"https?://[^\s@]+")

# Key -> its type; a type that is a tuple means a list of texts.
_RECIPE = {"title": str, "origin": str, "licence": str, "calibration": str, "note": str, "licence_members": tuple}
_SOURCE = {
    **dict.fromkeys(("registry", "package", "version", "url", "file", "sha256", "member", "member_sha256"), str),
    "member_bytes": int,
}
_ADOPT = {
    **dict.fromkeys(("stateful", "sequence"), bool),
    **dict.fromkeys(("batch_axis", "time_axis", "task"), str),
    **dict.fromkeys(("fix", "inputs", "state", "labels"), tuple),
}
_QUANTIZE = {"scheme": str, "layer_kinds": str, "parts": tuple}
_EXPECTED = {"float32_bytes": int, "int8_bytes": int, "least_signal_to_noise_db": float}
_OPTIONAL = {"note", "package", "url", *_ADOPT, "layer_kinds", "parts"}
_WORDS = {str: "a text that is not empty", int: "a positive integer", float: "a number", bool: "true or false"}


@dataclass(frozen=True, kw_only=True)
class Source:
    """The archive that has the model, and the file within it.

    Attributes:
        registry: ``"pypi"``, ``"npm"`` or ``"url"``.
        package: the package's name there; empty for a URL.
        version: the exact version.
        url: the archive's address; empty for a package.
        file: the archive's file name.
        sha256: SHA-256 of the archive, hexadecimal.
        member: path of the ONNX file in the archive; the file name itself where no archive is fetched.
        member_sha256: SHA-256 of the ONNX file, hexadecimal.
        member_bytes: size of the ONNX file.
    """

    registry: str
    package: str = ""
    version: str
    url: str = ""
    file: str
    sha256: str
    member: str
    member_sha256: str
    member_bytes: int

    @property
    def label(self) -> str:
        """What is fetched, for messages and tables: ``silero-vad 6.2.3 from PyPI``."""
        where = {"pypi": "PyPI", "npm": "npm"}
        return f"{self.package} {self.version} from {where[self.registry]}" if self.package else self.url


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What running the recipe must give.

    Attributes:
        float32_bytes: size of the adopted file, kept to 2 %.
        int8_bytes: size of the quantized file, kept to 2 %.
        least_signal_to_noise_db: least ratio of the float32 file's answers to the quantized file's error, in dB.
    """

    float32_bytes: int
    int8_bytes: int
    least_signal_to_noise_db: float


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one published model becomes a float32 and an int8 file.

    Attributes:
        name: what ``lstm-edge zoo get`` is given.
        title: what the model does.
        origin: address of the project that made the model.
        licence: SPDX identifier of the model's licence.
        licence_members: paths of the licence texts in the archive.
        calibration: which data the quantization needs.
        note: what a user must know to call the model; may be empty.
        source: where the file is fetched.
        adopt: options of ``lstm_edge.adopt``.
        quantize: options of ``lstm_edge.quantize``.
        expected: sizes and the least signal to noise.
    """

    name: str
    title: str
    origin: str
    licence: str
    licence_members: tuple[str, ...]
    calibration: str
    note: str = ""
    source: Source
    adopt: Mapping[str, Any] = field(default_factory=dict)
    quantize: Mapping[str, Any] = field(default_factory=dict)
    expected: Expected

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        return asdict(self)


def recipes() -> tuple[Recipe, ...]:
    """Return all recipes of this package, by name.

    Raises:
        DataError: a recipe is malformed.
    """
    return tuple(parse_recipe(path.stem, path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.toml")))


def read_recipe(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        InputError: there is none; the message lists the names.
        DataError: the recipe is malformed.
    """
    known = sorted(path.stem for path in FOLDER.glob("*.toml"))
    if name not in known:
        raise InputError(f"the zoo has no recipe {name!r}, expected one of {', '.join(known)}; see lstm-edge zoo list")
    return parse_recipe(name, (FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def parse_recipe(name: str, text: str) -> Recipe:
    """Read a recipe.

    Args:
        name: the recipe's name, for messages.
        text: the TOML text.

    Raises:
        DataError: it is not TOML; a key is unknown, missing or of another type; or a value has a wrong form. The
            message names the key.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"recipe {name}: not TOML ({error})") from error
    tables = {part: values.pop(part, {}) for part in ("source", "adopt", "quantize", "expected")}
    source = Source(**_checked(name, "source", tables["source"], _SOURCE))
    _check_source(name, source)
    return Recipe(
        name=name,
        **_checked(name, "", values, _RECIPE),
        source=source,
        adopt=_checked(name, "adopt", tables["adopt"], _ADOPT),
        quantize=_checked(name, "quantize", tables["quantize"], _QUANTIZE),
        expected=Expected(**_checked(name, "expected", tables["expected"], _EXPECTED)),
    )


def _checked(name: str, part: str, values: Any, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table's values, lists as tuples, after every key and type was checked."""
    where = f"recipe {name}: " + (f"[{part}] " if part else "")
    if not isinstance(values, dict):
        raise DataError(f"{where}must be a table")
    for key in values:
        if key not in kinds:
            raise DataError(f"{where}has an unknown key {key!r}, expected some of {', '.join(kinds)}")
    for key in kinds:
        if key not in values and key not in _OPTIONAL:
            raise DataError(f"{where}lacks the key {key!r}")
    return {key: _typed(f"{where}{key}", value, kinds[key]) for key, value in values.items()}


def _typed(where: str, value: Any, kind: type) -> Any:
    if kind is tuple:
        if not (isinstance(value, list) and value and all(isinstance(one, str) and one for one in value)):
            raise DataError(f"{where} must be a list of texts, got {value!r}")
        return tuple(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind or value == "" or (isinstance(value, int) and kind is int and value <= 0):
        raise DataError(f"{where} must be {_WORDS[kind]}, got {value!r}")
    return value


def _check_source(name: str, source: Source) -> None:
    """Refuse a source whose texts could reach outside of what they are for."""
    where = f"recipe {name}: [source] "
    if source.registry not in REGISTRIES:
        raise DataError(f"{where}registry must be one of {', '.join(REGISTRIES)}, got {source.registry!r}")
    by_url = source.registry == "url"
    if by_url != bool(source.url) or by_url == bool(source.package):
        raise DataError(f"{where}registry {source.registry!r} needs {'url' if by_url else 'package'} and not the other")
    forms = {"version": _VERSION, "file": _FILE, "sha256": _SHA256, "member_sha256": _SHA256}
    forms |= {"url": _URL} if by_url else {"package": _PACKAGE}
    for key, form in forms.items():
        if not form.fullmatch(getattr(source, key)):
            raise DataError(f"{where}{key} must match {form.pattern}, got {getattr(source, key)!r}")
    if not source.file.endswith(ENDINGS[source.registry]):
        endings = " or ".join(ENDINGS[source.registry])
        raise DataError(f"{where}file must end in {endings}, got {source.file!r}")
