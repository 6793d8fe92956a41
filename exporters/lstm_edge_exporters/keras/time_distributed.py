"""TimeDistributed: a layer, or a whole model, at every step alike. Letters: B batch, T time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lstm_edge_exporters.keras.config import MODELS, wrapped
from lstm_edge_exporters.keras.merging import ELEMENTWISE
from lstm_edge_exporters.keras.options import Options
from lstm_edge_exporters.keras.recurrent import RecurrentCore
from lstm_edge_exporters.keras.shapes import Built, Call, Source
from lstm_edge_exporters.keras.signatures import signature_of
from lstm_edge_exporters.keras.values import Arguments, Value, bind

__all__ = ["build_time_distributed"]

# Layers that treat every position alike anyway: they run on [B, T, F] as it is.
EVERY_POSITION = (
    "Dense",
    "Activation",
    "LayerNormalization",
    "BatchNormalization",
    "Rescaling",
    "LeakyReLU",
    "ELU",
    "ReLU",
    "Dropout",
    "SpatialDropout1D",
    "GaussianDropout",
    "AlphaDropout",
    "GaussianNoise",
    "ActivityRegularization",
    "Identity",
)
# Layers that look at masks, which Keras would give them one step at a time.
LOOK_AT_MASKS = (
    "LSTM",
    "GRU",
    "SimpleRNN",
    "Bidirectional",
    "Softmax",
    "TimeDistributed",
    "GlobalAveragePooling1D",
    "Attention",
    "AdditiveAttention",
    "MultiHeadAttention",
    "Concatenate",
    *ELEMENTWISE,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class _EveryStep:
    """The layer on x as it is, or on the steps as rows of a longer batch; the mask goes on."""

    inner: Call
    options: Options
    as_it_is: bool

    def __call__(self, module: nn.Module, given: Arguments) -> Value:
        """Call the layer."""
        x: Tensor = given.first.tensor
        if self.as_it_is:
            answer: Any = self.inner(module, _on(x, self.options))
            return Value(tensor=answer.tensor, mask=given.first_mask)
        answer = self.inner(module, _on(x.flatten(0, 1), self.options))
        found = answer if isinstance(answer, Value) else answer[0]
        return Value(tensor=found.tensor.unflatten(0, (x.shape[0], x.shape[1])), mask=given.first_mask)


def _kinds(kind: str, module: nn.Module | None) -> Iterator[str]:
    """Yield the class of a layer, and those of the layers in it if it is a model."""
    yield kind
    for step in getattr(module, "steps", ()):
        inner = module.get_submodule(step.module) if module is not None and step.module is not None else None
        yield from _kinds(step.options.kind, inner)


def _on(x: Tensor, options: Options) -> Arguments:
    return bind(options, signature_of(options.class_name), (Value(tensor=x),), {})


def build_time_distributed(options: Options, source: Source) -> Built:
    """Build a TimeDistributed around any layer that takes one tensor, or around a model of one input and output."""
    given = source.lanes[0].one(options)
    if given.tensor.ndim < 3:
        raise options.refuse("it takes [batch, features], expected [batch, time, features]")
    inner = wrapped(options, "layer")
    kind = inner.kind
    options.finish()
    if kind == "Embedding":
        raise options.refuse("it wraps an Embedding, which takes ids of any shape: leave TimeDistributed out")
    lanes = tuple(_on(lane.one(options).tensor.flatten(0, 1), inner) for lane in source.lanes)
    place = source.place.wrapped("layer", inner.name, model=kind in MODELS)
    built = source.build(inner, options.values.get("layer"), source.inside(place, lanes))
    for layer in built.module.modules() if built.module is not None else ():
        if isinstance(layer, RecurrentCore):
            # Each step of the outer sequence is a sequence by itself: nothing goes on from call to call.
            layer.starts_anew = layer.starts_inside = True
    looks = next((entry for entry in _kinds(kind, built.module) if entry in LOOK_AT_MASKS), None)
    if looks is not None and source.lanes[0].first_mask is not None:
        raise options.refuse(
            f"it gets a mask of steps, which the {looks} in it cannot take, in Keras either: put what makes the mask "
            "behind it"
        )
    if len(built.endings) > 1:
        raise options.refuse("the layer in it returns several tensors, expected one")
    call = _EveryStep(inner=built.call, options=inner, as_it_is=kind in EVERY_POSITION)
    return Built(module=built.module, call=call, notes=built.notes)
