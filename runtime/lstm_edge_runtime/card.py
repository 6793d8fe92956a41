"""The model card: what a model file says about itself, as one frozen dataclass.

It travels as a JSON object under the ONNX metadata key ``lstm_edge``. ``parse_card`` refuses an unknown
major version, a missing key or a wrong type with the dotted path of the culprit, and keeps keys that a
later minor version may have added.

Axes are given by name where they are dynamic (``"batch"``, ``"time"``) and by number where they are fixed.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lstm_edge_runtime._json import decode, encode, shortened
from lstm_edge_runtime.errors import CardError
from lstm_edge_runtime.reading import MOST_JSON_CHARACTERS, parse_json

__all__ = [
    "BATCH",
    "CARD_KEY",
    "SCHEMA",
    "TIME",
    "Coverage",
    "Layer",
    "Metric",
    "ModelCard",
    "Parity",
    "Quantization",
    "StateSpec",
    "Streaming",
    "Task",
    "TensorSpec",
    "Text",
    "card_to_json",
    "parse_card",
    "serialize_card",
]

CARD_KEY = "lstm_edge"
SCHEMA = "1.2"
BATCH = "batch"
TIME = "time"

# A tokenizer of 250,000 tokens takes about 17 million characters.
_LONGEST_CARD = MOST_JSON_CHARACTERS

_VERSION = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")

Extra = Mapping[str, Any]
Task = Literal["classification", "tagging", "forecast", "language-model", "generic"]


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output of the graph.

    ``dtype`` is NumPy's name (``float32``, ``int64``); ``axes`` holds a name for each dynamic axis and a
    number for each fixed one, in order, for example ``("batch", "time", 12)``.
    """

    name: str
    dtype: str
    axes: tuple[str | int, ...]
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class StateSpec:
    """One explicit state: the input it enters by, the output it leaves by, float32 ``axes`` (directions, batch, size).

    ``kind`` is ``"h"`` or ``"c"``; ``module`` and ``layer`` say whose state it is. A state that a foreign file keeps
    in a form of its own (several layers or h and c in one tensor, a convolution's last samples) is ``"packed"``, with
    whatever axes it has there, the name of the file's input as ``module`` and layer 0. ``initial`` is ``"zeros"``, the
    only initial value that this version writes.
    """

    input: str
    output: str
    kind: Literal["h", "c", "packed"]
    module: str
    layer: int
    axes: tuple[str | int, ...]
    initial: Literal["zeros"] = "zeros"
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """How the model may be fed piece by piece, and why not where it may not.

    ``every-step``: outputs of chunks, joined along time, are the whole sequence's outputs.
    ``last-step``: outputs have no time axis (or not all have one); after each chunk they are what the whole
    sequence up to there gives. ``each-call``: no input has a time axis, every call is one step of a stream.
    ``none``: chunks give other answers than the whole; ``reason`` says why.
    """

    verdict: Literal["every-step", "last-step", "each-call", "none"]
    reason: str = ""
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One recurrent layer: cell, sizes (features), directions, and the operator that carries it.

    ``reset_after`` is for GRU: True where the reset gate acts after the recurrent product (PyTorch, ONNX's
    ``linear_before_reset=1``), False where it acts before; None for LSTM.
    """

    name: str
    cell: Literal["lstm", "gru"]
    peephole: Literal["none", "diagonal", "full"]
    input_size: int
    hidden_size: int
    projection_size: int
    directions: int
    operator: str
    reset_after: bool | None = field(default=None, metadata={"since": 1})
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class Text:
    """How text becomes ids: ``kind``, and the tokens that stand for anything unknown and for an end, where there are.

    ``tokenizer`` is the JSON text of the ``tokenizers`` package for ``bpe``, else None; the tokens themselves are the
    card's ``vocabulary``, the place of a token is its id.
    """

    kind: Literal["character", "byte", "word", "bpe"]
    unknown: str | None = None
    end: str | None = None
    tokenizer: str | None = None
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What quantization did to one layer: its operator before, its scheme after, weight bytes before and after."""

    layer: str
    operator: str
    scheme: str
    bytes_before: int
    bytes_after: int
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The task's metric as it was measured on the finished file, with the interval that holds it.

    ``data`` names the data set; ``low`` and ``high`` bound the value at ``confidence`` (0.95 for 95 %).
    """

    name: str
    value: float
    low: float
    high: float
    data: str
    confidence: float
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """What quantization did, from which file, and what is known of the result.

    ``scheme`` is ``mixed`` where layers differ by request. ``parent_sha256`` is that of the file it was made from.
    ``parts`` has the scheme of each layer, or of its matrices and gates where they differ, as compact texts that
    ``quantize`` takes again (``{"lstm.W": "int8", "lstm.R": "int4:128"}``). ``calibration_sha256`` is that of the data
    that rounding was calibrated with, ``metric`` the task's; both None where there was none.
    """

    scheme: str
    parent_sha256: str
    coverage: tuple[Coverage, ...]
    parts: Mapping[str, str] = field(default_factory=dict, metadata={"since": 2})
    calibration_sha256: str | None = field(default=None, metadata={"since": 2})
    metric: Metric | None = field(default=None, metadata={"since": 2})
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The worst difference seen when the file was made, and over which (batch, time) shapes.

    ``against`` says what it was compared with; ``max_abs_difference`` and ``tolerance`` have the outputs' unit.
    ``tolerance`` is None where the difference was measured without a verdict (a quantized file against its parent).
    ``refused`` lists shapes that the original module itself does not accept.
    """

    against: str
    max_abs_difference: float
    tolerance: float | None
    shapes: tuple[str, ...]
    refused: tuple[str, ...] = ()
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a model file says about itself; see the module's docstring for how it travels.

    ``lengths`` names the int64 ``[batch]`` input of valid lengths, if there is one. ``preprocessing`` documents
    what the graph itself does to its inputs: nobody applies it twice. ``text`` says how text becomes the ids that
    ``vocabulary`` lists. ``undetermined`` names, in sentences, what could not be inferred from a foreign file.
    ``trained_for`` is the scheme that the model's training was aware of, as a compact text, None where of none.
    ``minimum_onnxruntime`` is the oldest onnxruntime that runs the file.
    """

    schema: str = SCHEMA
    task: Task = "generic"
    producer: str = ""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    states: tuple[StateSpec, ...] = ()
    lengths: str | None = None
    streaming: Streaming
    layers: tuple[Layer, ...] = ()
    labels: tuple[str, ...] | None = None
    vocabulary: tuple[str, ...] | None = None
    text: Text | None = field(default=None, metadata={"since": 1})
    undetermined: tuple[str, ...] = field(default=(), metadata={"since": 1})
    preprocessing: tuple[str, ...] = ()
    trained_for: str | None = field(default=None, metadata={"since": 2})
    quantization: Quantization | None = None
    parity: Parity | None = None
    minimum_onnxruntime: str
    extra: Extra = field(default_factory=dict, compare=False)

    def replace(self, **changes: Any) -> "ModelCard":
        """Return a copy with the named fields changed."""
        return dataclasses.replace(self, **changes)

    def axis_of(self, spec: TensorSpec, name: str) -> int | None:
        """Return the position of the axis called ``name`` in ``spec``, or None."""
        return spec.axes.index(name) if name in spec.axes else None


def card_to_json(card: ModelCard) -> dict[str, Any]:
    """Return the card as JSON values."""
    values: dict[str, Any] = encode(card)
    return values


def serialize_card(card: ModelCard) -> str:
    """Return the card as JSON text: sorted keys, so that equal cards are equal bytes."""
    return json.dumps(card_to_json(card), sort_keys=True, ensure_ascii=False, allow_nan=False)


def parse_card(text: str) -> ModelCard:
    """Read a card from JSON text.

    Raises:
        CardError: the text is not JSON or over a bound (64 million characters, a million lists and objects), the
            schema's major version is unknown, a key is missing or a value has the wrong type; the message holds the
            dotted path of the culprit.
    """
    if len(text) > _LONGEST_CARD:
        raise CardError(f"model card: {len(text)} characters, at most {_LONGEST_CARD} are read")
    try:
        document = parse_json(text)
    except ValueError as error:
        raise CardError(f"model card: not a JSON document ({error})") from error
    if not isinstance(document, dict):
        raise CardError(f"model card: card must be an object, got {type(document).__name__}")
    return decode(ModelCard, document, "card", minor=_check_schema(document.get("schema")))


def _check_schema(schema: Any) -> int:
    """Refuse a major version that is not ours; returns the minor one."""
    if schema is None:
        raise CardError("model card: card.schema is missing")
    known_major = SCHEMA.split(".", maxsplit=1)[0]
    if not isinstance(schema, str) or not _VERSION.fullmatch(schema):
        raise CardError(f'model card: card.schema must be "major.minor", got {shortened(schema)}')
    if schema.split(".", maxsplit=1)[0] != known_major:
        raise CardError(
            f"model card: card.schema is {schema}, this version reads {known_major}.x; "
            "update lstm-edge to open the file"
        )
    return int(schema.split(".")[1])
