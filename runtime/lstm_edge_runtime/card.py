"""The model card: the description that a model file holds of itself, as one frozen dataclass.

The file stores it as a JSON object under the ONNX metadata key ``lstm_edge``. ``parse_card`` refuses an unknown major
version, a missing key and a wrong type with the dotted path of the value. It keeps unknown keys, which a later minor
version may have added.

A dynamic axis is given by its name (``"batch"``, ``"time"``), a fixed axis by its size.
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
from lstm_edge_runtime.reference_data import ReferenceData

__all__ = [
    "BATCH",
    "CARD_KEY",
    "SCHEMA",
    "TIME",
    "Coverage",
    "FrontEnd",
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
    "batch_factor",
    "card_to_json",
    "parse_card",
    "serialize_card",
    "stored_scheme",
    "version_numbers",
]

CARD_KEY = "lstm_edge"
SCHEMA = "1.6"
BATCH = "batch"
TIME = "time"

# A tokenizer of 250,000 tokens takes about 17 million characters.
_LONGEST_CARD = MOST_JSON_CHARACTERS

_BATCH_PRODUCT = re.compile(r"batch\*([1-9][0-9]{0,8})")
_VERSION = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")

Extra = Mapping[str, Any]
Task = Literal["classification", "tagging", "forecast", "language-model", "generic"]


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output of the graph.

    ``dtype`` is the NumPy name (``float32``, ``int64``); ``axes`` holds the name of each dynamic axis and the
    size of each fixed axis, in order, for example ``("batch", "time", 12)``.
    ``range`` is the least and the largest value that the model is made for, if it is known: what is drawn at random
    (golden vectors, ``bench``, comparisons) stays within it. It does not limit what a caller may pass.
    """

    name: str
    dtype: str
    axes: tuple[str | int, ...]
    range: tuple[float, ...] | None = field(default=None, metadata={"since": 3})
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class StateSpec:
    """One explicit state: its graph input, its graph output, and its ``axes`` (directions, batch, size).

    ``kind`` is ``"h"`` or ``"c"``; ``module`` and ``layer`` name the layer that has the state. If a foreign file stores
    a state in another form (several layers or h and c in one tensor, the last samples of a convolution), ``kind`` is
    ``"packed"``, ``axes`` are those in the file, ``module`` is the name of the file's input and ``layer`` is 0.
    ``"cache"`` (since 1.4) is what an operation along time keeps of earlier steps, such as the last frames that a
    convolution saw; ``module`` is the name of its node.
    An axis that is a multiple of the batch is a product, ``"batch*3"`` (``batch_factor``). ``initial`` is ``"zeros"``,
    the only initial value that this version writes.
    ``nonnegative`` says that the values are at least 0, as those of a variance, and ``counts`` that they are whole
    numbers from 0, as those of a count: what is drawn at random is such a value. ``dtype`` is the NumPy name.
    """

    input: str
    output: str
    kind: Literal["h", "c", "packed", "cache"]
    module: str
    layer: int
    axes: tuple[str | int, ...]
    initial: Literal["zeros"] = "zeros"
    nonnegative: bool = field(default=False, metadata={"since": 3})
    counts: bool = field(default=False, metadata={"since": 4})
    dtype: Literal["float32", "int64", "int32"] = field(default="float32", metadata={"since": 4})
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """How the model can be streamed, or the reason why it cannot.

    ``every-step``: outputs of chunks, joined along time, are the outputs of the whole sequence.
    ``last-step``: some or all outputs have no time axis; after each chunk they equal the outputs of the
    sequence up to that point. ``each-call``: no input has a time axis, every call is one step of a stream.
    ``none``: chunks give other outputs than the whole sequence; ``reason`` says why.

    Most models give one output step for each input step. Otherwise a stream has ``first_gives`` output steps after
    ``first`` input steps, and ``gives`` more after every further ``every`` input steps; the input steps between are
    kept until the next ones complete an output. ``latency_steps`` is the number of input steps after it that an
    output step needs (look-ahead). ``end`` names the int64 [1] graph input that is 1 in the call that ends a sequence
    (and in a call with a whole sequence), so that the padding after the last step is applied, and 0 in others.
    """

    verdict: Literal["every-step", "last-step", "each-call", "none"]
    reason: str = ""
    latency_steps: int = field(default=0, metadata={"since": 4})
    first: int = field(default=1, metadata={"since": 4})
    first_gives: int = field(default=1, metadata={"since": 4})
    every: int = field(default=1, metadata={"since": 4})
    gives: int = field(default=1, metadata={"since": 4})
    end: str | None = field(default=None, metadata={"since": 4})
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One recurrent layer: cell, sizes (features), directions, and the operator that computes it.

    ``reset_after`` is for GRU: True if the reset gate is applied after the recurrent product (PyTorch, ONNX's
    ``linear_before_reset=1``), False if it is applied before; None for others. ``activation`` is for RNN: ``tanh`` or
    ``relu``; None for others.
    """

    name: str
    cell: Literal["lstm", "gru", "rnn"]
    peephole: Literal["none", "diagonal", "full"]
    input_size: int
    hidden_size: int
    projection_size: int
    directions: int
    operator: str
    reset_after: bool | None = field(default=None, metadata={"since": 1})
    activation: Literal["tanh", "relu"] | None = field(default=None, metadata={"since": 3})
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class Text:
    """How text is encoded as ids: the ``kind`` of vocabulary, and the unknown and end tokens, or None.

    ``tokenizer`` is the JSON text of the ``tokenizers`` package for ``bpe``, else None. The card's ``vocabulary``
    holds the tokens; the index of a token is its id.
    """

    kind: Literal["character", "byte", "word", "bpe"]
    unknown: str | None = None
    end: str | None = None
    tokenizer: str | None = None
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """What the graph computes from samples before the model: features, such as mel bands.

    ``input`` names the input of samples, float32 in [-1, 1] at ``rate_hz`` samples a second; ``text`` is the kind and
    all parameters as ``export --front-end`` takes them. The first frame takes ``first`` samples, each further one
    ``every`` more: frame j covers the samples from ``j * every`` to ``j * every + first - 1``.
    """

    input: str
    text: str
    rate_hz: int
    first: int
    every: int
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The quantization of one layer: its operator before, its scheme after, weight bytes before and after.

    ``density``: if a recurrent layer has int8 weights with zero blocks (16 cells by 4 inputs), for ``W`` and for ``R``
    the share of the blocks that is not zero.
    """

    layer: str
    operator: str
    scheme: str
    bytes_before: int
    bytes_after: int
    density: Mapping[str, float] = field(default_factory=dict, metadata={"since": 5})
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """The task's metric, measured on the finished file, with its confidence interval.

    ``data`` names the data set; ``low`` and ``high`` are the ends of the interval at ``confidence`` (0.95 for 95 %).
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
    """The quantization of a model: its schemes, the file that it was made from, and the measured metric.

    ``scheme`` is ``mixed`` if different schemes were requested for the layers. ``parent_sha256`` is the SHA-256 of the
    file before quantization. ``parts`` has the scheme of each layer, or of its matrices and gates if they differ, as
    compact texts that ``quantize`` accepts (``{"lstm.W": "int8", "lstm.R": "int4:128"}``); a card's ``int4`` without a
    block is read as ``int4:32``, which it meant when it was the default. ``calibration_sha256`` is
    the SHA-256 of the calibration data for rounding, ``metric`` the task's metric; each is None if there was none.
    ``inexact`` has, for each output (states too) that float32 sums of onnxruntime reach, the layers or nodes that sum:
    it may differ in its last bits with the batch, the chunks or the processor. Other outputs are the same to the bit
    for one row in any batch, chunks and number of threads. None in a file without int8 or int4 layers, or if unknown.
    """

    scheme: str
    parent_sha256: str
    coverage: tuple[Coverage, ...]
    parts: Mapping[str, str] = field(default_factory=dict, metadata={"since": 2})
    calibration_sha256: str | None = field(default=None, metadata={"since": 2})
    metric: Metric | None = field(default=None, metadata={"since": 2})
    inexact: Mapping[str, tuple[str, ...]] | None = field(default=None, metadata={"since": 4})
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The largest difference measured when the file was made, and the (batch, time) shapes that were compared.

    ``against`` names the model that the file was compared with; ``max_abs_difference`` and ``tolerance`` have the
    outputs' unit. ``tolerance`` is None if no limit applied (a quantized file against the file before quantization).
    ``refused`` lists shapes that the original module does not accept.
    """

    against: str
    max_abs_difference: float
    tolerance: float | None
    shapes: tuple[str, ...]
    refused: tuple[str, ...] = ()
    extra: Extra = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The description that a model file holds of itself; the module's docstring says how the file stores it.

    ``lengths`` names the int64 ``[batch]`` input of valid lengths, or is None. ``preprocessing`` documents what the
    graph does to its inputs, so that callers do not apply it again; ``front_end`` describes features that the graph
    computes of samples. ``text`` says how text is encoded as ids of ``vocabulary``. ``undetermined`` holds a sentence
    for each fact that could not be inferred from a foreign file.
    ``reference`` is the distribution of the inputs that ``Metrics`` compares a device's inputs with, or None.
    ``trained_for`` is the scheme of quantization-aware training as a compact text, or None.
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
    front_end: FrontEnd | None = field(default=None, metadata={"since": 4})
    trained_for: str | None = field(default=None, metadata={"since": 2})
    quantization: Quantization | None = None
    reference: ReferenceData | None = field(default=None, metadata={"since": 6})
    parity: Parity | None = None
    minimum_onnxruntime: str
    extra: Extra = field(default_factory=dict, compare=False)

    def replace(self, **changes: Any) -> "ModelCard":
        """Return a copy with the named fields changed."""
        return dataclasses.replace(self, **changes)

    def axis_of(self, spec: TensorSpec, name: str) -> int | None:
        """Return the position of the axis called ``name`` in ``spec``, or None."""
        return spec.axes.index(name) if name in spec.axes else None


def batch_factor(axis: str | int) -> int | None:
    """Return how many rows of a state's axis belong to one row of the batch; None for a number or another name.

    It is 1 for ``"batch"``. Where a module folds other axes into the batch of a recurrent layer, the axis is written as
    a product: ``"batch*3"`` gives 3.
    """
    if axis == BATCH:
        return 1
    match = _BATCH_PRODUCT.fullmatch(axis) if isinstance(axis, str) else None
    return None if match is None else int(match[1])


def stored_scheme(text: str) -> str:
    """Return a stored compact text of a scheme as versions now write it: ``int4`` alone meant blocks of 32."""
    return "int4:32" if text == "int4" else text


def card_to_json(card: ModelCard) -> dict[str, Any]:
    """Return the card as JSON values."""
    values: dict[str, Any] = encode(card)
    return values


def serialize_card(card: ModelCard) -> str:
    """Return the card as JSON text with sorted keys, so that equal cards give equal bytes."""
    return json.dumps(card_to_json(card), sort_keys=True, ensure_ascii=False, allow_nan=False)


def parse_card(text: str) -> ModelCard:
    """Read a card from JSON text.

    Raises:
        CardError: the text is not JSON or over a limit (64 million characters, a million lists and objects), the
            schema's major version is unknown, a key is missing or a value has the wrong type; the message holds the
            dotted path of the value.
    """
    if len(text) > _LONGEST_CARD:
        raise CardError(f"model card: {len(text)} characters, at most {_LONGEST_CARD} are read")
    try:
        document = parse_json(text)
    except ValueError as error:
        raise CardError(f"model card: not a JSON document ({error})") from error
    if not isinstance(document, dict):
        raise CardError(f"model card: card must be an object, got {type(document).__name__}")
    card: ModelCard = decode(ModelCard, document, "card", minor=_check_schema(document.get("schema")))
    return _with_blocks(card)


def _with_blocks(card: ModelCard) -> ModelCard:
    if card.trained_for == "int4":
        card = card.replace(trained_for=stored_scheme(card.trained_for))
    if card.quantization is None or "int4" not in card.quantization.parts.values():
        return card
    parts = {part: stored_scheme(text) for part, text in card.quantization.parts.items()}
    return card.replace(quantization=dataclasses.replace(card.quantization, parts=parts))


def version_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version of onnxruntime, at most three.

    Raises:
        CardError: the text does not begin with ``major.minor``.
    """
    parts = text.split("+", maxsplit=1)[0].split(".")[:3]
    if not all(map(_is_version_number, parts[:2])):
        raise CardError(f'model card: card.minimum_onnxruntime must be "major.minor", got {shortened(text)}')
    return tuple(int(part) for part in parts if _is_version_number(part))


def _is_version_number(part: str) -> bool:
    # At most nine digits, because Python refuses to parse integers of thousands of digits.
    return part.isascii() and part.isdecimal() and len(part) < 10


def _check_schema(schema: Any) -> int:
    """Refuse an unknown major version; return the minor version."""
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
