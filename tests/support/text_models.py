"""Language models with a vocabulary, for tests of text: untrained, or as good as a table of next tokens."""

import functools

import onnx
from onnx import helper

from lstm_edge_runtime.artifact import GOLDEN_KEY, TRAILER_KEY, append_trailer
from lstm_edge_runtime.card import CARD_KEY, Text, parse_card, serialize_card
from lstm_edge_runtime.text import Vocabulary
from support import networks

__all__ = ["CHARACTERS", "exported_model", "quantized_model", "with_vocabulary"]

# As many tokens as networks.LanguageModel has logits.
CHARACTERS = Vocabulary(
    tokens=("\N{REPLACEMENT CHARACTER}", "<end>", "\n", " ", *"abcdefghijkm", "é"),
    text=Text(kind="character", unknown="\N{REPLACEMENT CHARACTER}", end="<end>"),
)


def with_vocabulary(data: bytes, vocabulary: Vocabulary | None, *, task: str = "language-model") -> bytes:
    """Return a file with this task and vocabulary in its card, without golden vectors."""
    model = onnx.ModelProto()
    model.ParseFromString(data)
    properties = {entry.key: entry.value for entry in model.metadata_props if entry.key != TRAILER_KEY}
    card = parse_card(properties[CARD_KEY]).replace(
        task=task,
        vocabulary=None if vocabulary is None else vocabulary.tokens,
        text=None if vocabulary is None else vocabulary.text,
    )
    properties.pop(GOLDEN_KEY, None)
    del model.metadata_props[:]
    helper.set_model_props(model, properties | {CARD_KEY: serialize_card(card)})
    return append_trailer(model.SerializeToString(deterministic=True))


@functools.cache
def exported_model() -> bytes:
    """Return an untrained float32 language model over CHARACTERS, made once a process."""
    return with_vocabulary(networks.exported("language-model"), CHARACTERS)


@functools.cache
def quantized_model() -> bytes:
    """Return the same in int8, made once a process."""
    return with_vocabulary(networks.quantized("language-model"), CHARACTERS)
