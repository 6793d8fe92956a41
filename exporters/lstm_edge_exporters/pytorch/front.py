"""A captured module gets its front end: graph, description and comparison go from features to samples."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx

from lstm_edge_exporters.front_end.attach import Place, attach, place_of
from lstm_edge_exporters.front_end.proof import prove
from lstm_edge_exporters.front_end.request import FrontEnd
from lstm_edge_exporters.front_end.words import card_of, sentence_of
from lstm_edge_exporters.onnx_graph.writing import to_proto
from lstm_edge_exporters.pytorch.capture import Captured
from lstm_edge_exporters.verify.cases import Comparison
from lstm_edge_exporters.verify.inputs import InputMaker
from lstm_edge_exporters.verify.open_model import OpenModel
from lstm_edge_runtime.card import ModelCard

__all__ = ["Fronted", "with_front_end"]


@dataclass(frozen=True, kw_only=True)
class Fronted:
    """A captured module with its front end, and what goes on working on it."""

    front_end: FrontEnd
    place: Place
    captured: Captured
    proto: onnx.ModelProto
    model: OpenModel
    maker: InputMaker
    compared: Comparison

    def described(self, card: ModelCard) -> ModelCard:
        """Return the card with the front end in it."""
        return card.replace(
            front_end=card_of(self.front_end, self.place.samples.name),
            preprocessing=(sentence_of(self.front_end, self.place.samples.name), *card.preprocessing),
        )


def with_front_end(
    captured: Captured,
    front_end: FrontEnd,
    model: OpenModel,
    maker: InputMaker,
    compared: Comparison,
    *,
    plain: bool,
    say: Callable[[str], None],
) -> Fronted:
    """Put a front end before a captured module, whose graph is changed in place, and prove the result.

    Args:
        captured: the captured module, which takes features.
        front_end: the parameters.
        model: the captured module, open.
        maker: makes its inputs.
        compared: its comparison with the original.
        plain: inline the functions.
        say: called with a line for each thing that is being done.

    Raises:
        InputError: no input takes the features; the message says which were expected.
        ParityError: the file's answers are not those of the model on the features.
    """
    taken = {spec.name for spec in captured.outputs} | {
        name for spec in captured.states for name in (spec.input, spec.output)
    }
    place = place_of(front_end, captured.inputs, lengths=captured.lengths, taken=taken)
    say(f"putting {front_end.text} before {place.features.name}: the file takes {place.samples.name}")
    outputs = attach(captured.model, front_end, place, captured.outputs)
    inputs = tuple(place.samples if spec == place.features else spec for spec in captured.inputs)
    proto = to_proto(captured.model, plain=plain)
    whole = OpenModel.of(proto.SerializeToString(deterministic=True))
    maker = maker.with_input(place.features.name, place.samples)
    return Fronted(
        front_end=front_end,
        place=place,
        captured=replace(captured, inputs=inputs, outputs=outputs),
        proto=proto,
        model=whole,
        maker=maker,
        compared=prove(front_end, place, whole, model, maker, states=captured.states, compared=compared),
    )
