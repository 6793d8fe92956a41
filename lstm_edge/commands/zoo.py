"""``lstm-edge zoo``: published models, fetched, checked and made by a recipe."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lstm_edge.commands.adopt import adopt
from lstm_edge.commands.quantize import quantize
from lstm_edge.zoo.archive import read_members
from lstm_edge.zoo.download import check_digest, fetch
from lstm_edge.zoo.noise import signal_to_noise_db
from lstm_edge.zoo.recipe import Recipe, read_recipe, recipes
from lstm_edge_runtime.commands.device import check
from lstm_edge_runtime.errors import BudgetError, OutputError
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.writing import check_target, write_atomically

__all__ = ["ZooReport", "zoo_get", "zoo_list"]

AnyPath = str | os.PathLike[str]
# Sizes depend on the golden vectors, whose choice depends on onnxruntime's version.
SIZE_TOLERANCE = 0.02


@dataclass(frozen=True, kw_only=True)
class ZooReport:
    """What ``lstm-edge zoo get`` made.

    Attributes:
        name: the recipe.
        source: what was fetched.
        licence: SPDX identifier of the model's licence, which also applies to the files made of it.
        streaming: the card's verdict: ``"every-step"``, ``"each-call"``, ``"chunks"`` or ``"none"``.
        float32_path, quantized_path, licence_path: the files written.
        original_bytes, float32_bytes, quantized_bytes: sizes of the fetched and the written models.
        signal_to_noise_db: of the quantized file against the float32 one on made inputs, in dB.
        least_signal_to_noise_db: what the recipe requires.
        note: what a user must know to call the model.
    """

    name: str
    source: str
    licence: str
    streaming: str
    float32_path: str
    quantized_path: str
    licence_path: str
    original_bytes: int
    float32_bytes: int
    quantized_bytes: int
    signal_to_noise_db: float
    least_signal_to_noise_db: float
    note: str

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


def zoo_list() -> tuple[Recipe, ...]:
    """Return the recipes of published models; implements ``lstm-edge zoo list``.

    Raises:
        DataError: a recipe is malformed.
    """
    return recipes()


def zoo_get(name: str, *, output: AnyPath | None = None, progress: Callable[[str], None] | None = None) -> ZooReport:
    """Fetch a published model, verify it, and make a float32 and an int8 file; implements ``lstm-edge zoo get``.

    Nothing of what is fetched is installed or run. Files are written only when all checks passed.

    Args:
        name: the recipe's name, one of ``zoo_list()``.
        output: the folder to write to, which is made if it is missing; None: the name, in the current folder.
        progress: called with one line for each step of the work.

    Returns:
        The paths and sizes of the files, and how far int8 is from float32.

    Raises:
        InputError: there is no such recipe.
        MissingToolError: pip or npm is not installed.
        ArtifactError: the download failed, or the archive is malformed.
        IntegrityError: a SHA-256 is not the recipe's.
        ParityError: the adopted file's answers differ from the original's, or a self-test failed.
        BudgetError: a size or the signal to noise is not what the recipe expects.
        OutputError: the folder cannot be written.
    """
    return make(read_recipe(name), output=output, progress=progress or (lambda _line: None))


def make(recipe: Recipe, *, output: AnyPath | None, progress: Callable[[str], None]) -> ZooReport:
    """Run one recipe; see ``zoo_get``."""
    folder = _folder(Path(recipe.name if output is None else output))
    names = (f"{recipe.name}.onnx", f"{recipe.name}.int8.onnx", f"{recipe.name}.LICENSE.txt")
    targets = [check_target(folder / name) for name in names]
    with tempfile.TemporaryDirectory(prefix="lstm-edge-zoo-") as scratch:
        made = Path(scratch)
        model, licence = _fetched(recipe, made, progress)
        original, float32, quantized = (made / name for name in ("original.onnx", *names[:2]))
        write_atomically(original, model, durable=False)
        verdict = adopt(original, float32, **recipe.adopt, progress=progress).card.streaming.verdict
        quantize(float32, quantized, **recipe.quantize, progress=progress)
        progress("checking both files")
        for path in (float32, quantized):
            check(path).check()
        noise_db = signal_to_noise_db(Session(float32), Session(quantized))
        contents = [float32.read_bytes(), quantized.read_bytes(), licence]
    _check_expected(recipe, len(contents[0]), len(contents[1]), noise_db)
    for target, data in zip(targets, contents, strict=True):
        write_atomically(target, data)
    return ZooReport(
        name=recipe.name,
        source=recipe.source.label,
        licence=recipe.licence,
        streaming=verdict,
        float32_path=str(targets[0]),
        quantized_path=str(targets[1]),
        licence_path=str(targets[2]),
        original_bytes=len(model),
        float32_bytes=len(contents[0]),
        quantized_bytes=len(contents[1]),
        signal_to_noise_db=round(noise_db, 2),
        least_signal_to_noise_db=recipe.expected.least_signal_to_noise_db,
        note=recipe.note,
    )


def _folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: the folder cannot be made ({error.strerror or error})") from error
    return folder


def _fetched(recipe: Recipe, scratch: Path, progress: Callable[[str], None]) -> tuple[bytes, bytes]:
    """Return the verified ONNX file, and the licence texts joined."""
    source, folder = recipe.source, scratch / "download"
    folder.mkdir()
    data = fetch(source, folder, progress)
    wanted = (source.member, *recipe.licence_members)
    found = read_members(data, source.file, wanted, most_bytes=source.member_bytes)
    model = found[source.member]
    check_digest(source.member, model, source.member_sha256)
    return model, b"\n\n".join(found[path] for path in recipe.licence_members)


def _check_expected(recipe: Recipe, float32_bytes: int, int8_bytes: int, noise_db: float) -> None:
    expected = recipe.expected
    pairs = (("float32", float32_bytes, expected.float32_bytes), ("int8", int8_bytes, expected.int8_bytes))
    for kind, got, wanted in pairs:
        if abs(got - wanted) > SIZE_TOLERANCE * wanted:
            raise BudgetError(
                f"{recipe.name}: the {kind} file has {got:,} bytes, the recipe expects {wanted:,} within "
                f"{SIZE_TOLERANCE:.0%}; nothing was written"
            )
    if noise_db < expected.least_signal_to_noise_db:
        raise BudgetError(
            f"{recipe.name}: signal to noise of int8 against float32 is {noise_db:.1f} dB, the recipe expects at least "
            f"{expected.least_signal_to_noise_db:g} dB; nothing was written"
        )
