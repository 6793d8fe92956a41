"""What a card or a caller declares is not made: axes and batches that no memory holds are refused in one sentence."""

import json
from pathlib import Path

import numpy as np
import pytest

from lstm_edge_runtime.artifact import append_trailer
from lstm_edge_runtime.card import SCHEMA, serialize_card
from lstm_edge_runtime.errors import ArtifactError, CardError, InputError
from lstm_edge_runtime.session import Session

MODELS = Path(__file__).parent / "models"
BARE = (MODELS / "no_card.onnx").read_bytes()
TAGGER = Session(MODELS / "tagger.onnx")
CARD = serialize_card(TAGGER.card)


def opened(card: dict, with_metadata) -> Session:
    return Session(with_metadata(BARE, "lstm_edge", json.dumps(card | {"schema": SCHEMA})))


@pytest.mark.parametrize("size", [2**25, 2**40, 2**62, 10**30, 10**4000])
@pytest.mark.parametrize("place", ["states", "inputs", "outputs"])
def test_an_axis_that_no_memory_holds_is_refused_with_its_path(place: str, size: int, with_metadata) -> None:
    card = json.loads(CARD)
    axes = card[place][0]["axes"]
    # One row of an input or output may take 1 GiB, all states of a row 256 MiB.
    axes[axes.index("batch")] = size if place == "states" else size * 8
    with pytest.raises(CardError, match=rf"card\.{place}\[0\]\.axes is .*bytes"):
        opened(card, with_metadata)


def test_states_are_counted_together(with_metadata) -> None:
    card = json.loads(CARD)
    for state in card["states"]:
        state["axes"][1] = 2**28 // (4 * 5) // 2 + 2
    with pytest.raises(CardError, match=r"card\.states\[1\]\.axes is .*the states of one row take"):
        opened(card, with_metadata)


@pytest.mark.parametrize("rows", [2**40, 2**62, 10**30])
def test_rows_that_no_memory_holds_are_an_input_error(rows: int) -> None:
    with pytest.raises(InputError, match=r"the states of .* rows cannot be made"):
        TAGGER.initial_state(rows)


@pytest.mark.parametrize("version", ["1." + "9" * 5000, "9" * 10 + ".1", "²", "", "1.x"])
def test_a_version_that_is_no_version_is_a_card_error(version: str, with_metadata) -> None:
    with pytest.raises(CardError, match=r"card\.minimum_onnxruntime must be"):
        opened(json.loads(CARD) | {"minimum_onnxruntime": version}, with_metadata)


@pytest.mark.parametrize(
    "entry", [b"\x0a\x01a\x12\x01\xff", b"\x0a\x01\xff\x12\x01a", b"\x0a\x09lstm_edge\x12\x02\xc3("]
)
def test_metadata_that_is_no_text_is_refused(entry: bytes) -> None:
    data = append_trailer(BARE + b"\x72" + bytes([len(entry)]) + entry)
    with pytest.raises(ArtifactError):
        Session(data)


def test_a_batch_of_a_number_is_kept_as_a_promise(with_metadata) -> None:
    """The bound is no wish for small models: axes of a number go on to work."""
    card = json.loads(CARD)
    for place in ("inputs", "outputs", "states"):
        for spec in card[place]:
            spec["axes"] = [2 if axis == "batch" else axis for axis in spec["axes"]]
    session = opened(card, with_metadata)
    outputs, _ = session.run(np.zeros((2, 3, 3), np.float32), session.initial_state(2))
    assert outputs["logits"].shape[0] == 2
