"""The candidate files of a search: any assignment of schemes, built from one float32 source with the same rounding."""

import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_edge.data import TableOptions
from lstm_edge.precision_search.data import calibration_feeds, load_calibration
from lstm_edge.precision_search.measure import Built
from lstm_edge.precision_search.reference import InputRows
from lstm_edge.precision_search.space import Prefer
from lstm_edge_exporters.artifact import Artifact
from lstm_edge_exporters.onnx_graph.reading import with_weights
from lstm_edge_exporters.quantize import Convolutions, Scheme, quantize_bytes
from lstm_edge_exporters.quantize.calibration import Calibration, collect
from lstm_edge_exporters.quantize.compensate import calibrated_rounder
from lstm_edge_exporters.quantize.convolutions.statistics import Gathered
from lstm_edge_exporters.quantize.rounding import MatrixRounder, round_matrix
from lstm_edge_exporters.quantize.zero_blocks import Sparse
from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.artifact import read_model_bytes
from lstm_edge_runtime.errors import ArtifactError, IntegrityError, QuantizationError
from lstm_edge_runtime.reference_data import ReferenceData
from lstm_edge_runtime.session import Session

__all__ = ["Calibrated", "Composer", "Remembered", "Rounding", "built", "rounder_for"]


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What calibration data gave.

    Attributes:
        rounder: rounds the matrices.
        sha256: SHA-256 of the feeds.
        gathered: what they say about convolutions.
        reference: how the float inputs are distributed on them; None if the model has none.
    """

    rounder: MatrixRounder
    sha256: str
    gathered: Gathered
    reference: ReferenceData | None


class Composer:
    """Builds quantized files from one source; equal assignments of schemes give equal bytes.

    Attributes:
        source: the float32 file, including external data.
        gathered: what ``calibrate`` gathered of convolutions.
        calibration: what ``calibrate`` collected, None before it.
        calibration_sha256: SHA-256 of the feeds of ``calibrate``, None before it.
        roundings: the rounded matrices so far, None before ``calibrate``.
        runs: number of these feeds.
    """

    def __init__(self, source: bytes, *, sparse: Sparse = "auto", prefer: Prefer = "size") -> None:
        """Start with rounding to nearest.

        Args:
            source: the file.
            sparse: what is done with zero blocks.
            prefer: ``"size"``: the files of assignments leave them out wherever that is smaller, not only where a step
                is expected to be as fast.
        """
        self.source = source
        self._sparse, self._sparse_parts = sparse, sparse
        if sparse == "auto" and prefer == "size":
            self._sparse_parts = "smaller"
        self.calibration_sha256: str | None = None
        self.runs = 0
        self.gathered: Gathered | None = None
        self.calibration: Calibration | None = None
        self.roundings: Remembered | None = None
        self._rounder: MatrixRounder = round_matrix
        self._plain: dict[str, Artifact] = {}

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, sparse: Sparse = "auto", prefer: Prefer = "size") -> "Composer":
        """Read the source; the options are as in ``__init__``.

        Raises:
            ArtifactError, IntegrityError: the file cannot be read.
        """
        source = with_weights(read_model_bytes(path), Path(path).parent)
        try:
            Session(source, kernels="off")
        except (ArtifactError, IntegrityError) as error:
            # The parser sees only bytes, so the message gets the path here.
            raise type(error)(f"{os.fspath(path)}: {error}") from error
        return cls(source, sparse=sparse, prefer=prefer)

    def check_float32(self) -> None:
        """Refuse a quantized source.

        Raises:
            QuantizationError: the card says that the source is quantized.
        """
        card = Session(self.source, kernels="off").card
        if card is not None and card.quantization is not None:
            raise QuantizationError(
                f"the model is quantized already ({card.quantization.scheme}), expected the float32 file that it was "
                "made from"
            )

    def calibrate(
        self,
        feeds: Iterable[Mapping[str, Array]],
        *,
        compensate: bool = True,
        search_scales: bool = True,
        clip: bool = True,
        say: Callable[[str], None] = lambda _message: None,
    ) -> MatrixRounder:
        """Collect activations and use them for rounding from now on; reports the matrices without activations.

        Returns:
            The rounder, with a cache.

        Raises:
            DataError, InputError: there are too few feeds, or the feeds do not fit the model.
            QuantizationError: the model has no layer with activations.
        """
        counted = _Counted(feeds)
        calibration = collect(self.source, counted)
        for name, reason in calibration.missing.items():
            say(f"{name} is rounded without activations: {reason}")
        self.runs = counted.count
        return self.use(calibration, compensate=compensate, search_scales=search_scales, clip=clip)

    def use(
        self, calibration: Calibration, *, compensate: bool = True, search_scales: bool = True, clip: bool = True
    ) -> "Remembered":
        """Round by a calibration of this source from now on; the options are as in ``calibrate``."""
        self.calibration, self.calibration_sha256 = calibration, calibration.sha256
        self.gathered = calibration.convolutions
        rounder = calibrated_rounder(calibration, compensate=compensate, search_scales=search_scales, clip=clip)
        self._rounder = self.roundings = Remembered(rounder)
        return self.roundings

    def build(self, parts: Mapping[str, str]) -> Built:
        """Return the file of an assignment; the source itself if all parts stay float32.

        Raises:
            QuantizationError: a part or scheme is unknown, or a layer cannot have it.
        """
        if all(scheme == "float32" for scheme in parts.values()):
            return Built(data=self.source, saved=0)
        return built(self.artifact(parts))

    def plain(self, scheme: str, *, layers: str, pinned: Mapping[str, str]) -> Artifact:
        """Return the file that ``lstm-edge quantize --scheme SCHEME`` writes, byte for byte.

        Args:
            scheme: such as ``int8``.
            layers: ``"all"``, or ``"recurrent"``.
            pinned: fixed schemes, by part.

        Raises:
            QuantizationError: a part or scheme is unknown, or a layer cannot have it.
            CoverageError: a recurrent layer would stay float32.
        """
        if scheme not in self._plain:
            parts = {part: Scheme.parse(text) for part, text in pinned.items()}
            self._plain[scheme] = quantize_bytes(
                self.source, scheme=scheme, layers=layers, parts=parts, sparse=self._sparse
            )
        return self._plain[scheme]

    def artifact(self, parts: Mapping[str, str]) -> Artifact:
        """Return the file of an assignment with its card; ``parts`` is not empty.

        Raises:
            QuantizationError: a part or scheme is unknown, or a layer cannot have it.
        """
        return quantize_bytes(
            self.source,
            scheme=Scheme(kind="float32"),
            parts={part: Scheme.parse(text) for part, text in parts.items()},
            sparse=self._sparse_parts,
            rounder=self._rounder,
            calibration_sha256=self.calibration_sha256,
            convolutions=None if self.gathered is None else Convolutions(gathered=self.gathered, take="off"),
        )

    @property
    def sha256(self) -> str:
        """SHA-256 of the source, in hexadecimal."""
        return hashlib.sha256(self.source).hexdigest()


class _Counted:
    """An iterable that counts its items."""

    def __init__(self, feeds: Iterable[Mapping[str, Array]]) -> None:
        self.count, self._feeds = 0, feeds

    def __iter__(self) -> Any:
        for feed in self._feeds:
            self.count += 1
            yield feed


def built(artifact: Artifact) -> Built:
    """Return a quantized file as the search measures it."""
    assert artifact.card.quantization is not None
    saved = sum(row.bytes_before - row.bytes_after for row in artifact.card.quantization.coverage)
    return Built(data=artifact.data, saved=saved)


Rounding = tuple[tuple[str, Scheme, bytes], dict[str, Array]]


class Remembered:
    """A rounder with a cache, so that each matrix is rounded once.

    A search builds hundreds of files from the same few matrices, and compensated rounding of one of 512 x 2,048 takes
    seconds. ``known`` has the rounded matrices, in the order in which they were rounded or learned.
    """

    def __init__(self, rounder: MatrixRounder) -> None:
        self.known: dict[tuple[str, Scheme, bytes], dict[str, Array]] = {}
        self._rounder = rounder

    def __call__(self, name: str, weight: NDArray[np.float32], scheme: Scheme) -> dict[str, Array]:
        """Round a matrix float32 [K, N]; see ``MatrixRounder``."""
        content = hashlib.sha256(f"{weight.dtype} {weight.shape}".encode() + np.ascontiguousarray(weight).tobytes())
        key = (name, scheme, content.digest())
        if key not in self.known:
            self.known[key] = self._rounder(name, weight, scheme)
        return dict(self.known[key])

    def since(self, count: int) -> list[Rounding]:
        """Return all matrices but the first ``count``, for another process that rounds by the same calibration."""
        return list(itertools.islice(self.known.items(), count, None))

    def learn(self, roundings: Iterable[Rounding]) -> None:
        """Take matrices from ``since`` of another process."""
        for key, arrays in roundings:
            self.known.setdefault(key, arrays)


def rounder_for(
    path: str | os.PathLike[str],
    data: str,
    *,
    table: TableOptions | None = None,
    samples: int = 128,
    seed: int = 0,
    compensate: bool = True,
    search_scales: bool = True,
    clip: bool = True,
    say: Callable[[str], None] = lambda _message: None,
) -> Calibrated:
    """Calibrate the rounding of a model on data, for one scheme without a search.

    Args:
        path: the float32 file.
        data: see ``load_calibration``.
        table: how a table is read: roles of the columns, spacing of the steps, what becomes of what is missing.
        samples: number of sequences, or of chunks of text.
        seed: random seed of their selection.
        compensate: round each input of a matrix so that it compensates the errors of the inputs before it.
        search_scales: choose scales by the weighted squared error.
        clip: allow scales that clip outlier weights.
        say: called with one line for each stage.

    Returns:
        The rounder, and what else the data gave.

    Raises:
        LstmEdgeError: the errors of ``Composer.read`` and ``check_float32``, ``load_calibration``,
            ``calibration_feeds`` and ``Composer.calibrate``.
    """
    composer = Composer.read(path)
    composer.check_float32()
    known = load_calibration(data, table=table, say=say)
    say(f"collecting activations on {known.name}")
    session = Session(composer.source, kernels="off")
    rows = InputRows(session)
    feeds = rows.passing(calibration_feeds(session, known, samples, seed=seed))
    rounder = composer.calibrate(feeds, compensate=compensate, search_scales=search_scales, clip=clip, say=say)
    assert composer.calibration_sha256 is not None
    assert composer.gathered is not None
    return Calibrated(
        rounder=rounder,
        sha256=composer.calibration_sha256,
        gathered=composer.gathered,
        reference=rows.reference(known.name),
    )
