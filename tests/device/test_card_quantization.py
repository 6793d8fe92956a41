"""What the card says of quantization: kept in a round trip, defaults for older documents, refusals by path."""

import json
import math

import pytest

from lstm_edge_runtime.card import (
    SCHEMA,
    Coverage,
    Metric,
    ModelCard,
    Quantization,
    Streaming,
    card_to_json,
    parse_card,
    serialize_card,
)
from lstm_edge_runtime.errors import CardError
from lstm_edge_runtime.reference_data import FeatureHistogram, ReferenceData

CARD = ModelCard(
    inputs=(),
    outputs=(),
    streaming=Streaming(verdict="none"),
    minimum_onnxruntime="1.18",
    quantization=Quantization(
        scheme="mixed",
        parent_sha256="0" * 64,
        coverage=(
            Coverage(
                layer="lstm", operator="LSTM", scheme="W int8, R int4, block 32", bytes_before=800, bytes_after=150
            ),
        ),
        parts={"lstm.W": "int8", "lstm.R": "int4:32"},
        calibration_sha256="1" * 64,
        metric=Metric(name="accuracy", value=0.97, low=0.95, high=0.985, data="japanese-vowels", confidence=0.95),
    ),
    reference=ReferenceData(data="d", inputs={"x": (FeatureHistogram(edges=(-0.5, 1.25), counts=(1, 0, 7)),)}),
)
DOCUMENT = json.loads(serialize_card(CARD))
METRIC = DOCUMENT["quantization"]["metric"]
TEXT = "text of whole characters"
KEPT = "JSON of finite numbers, whole characters and few levels"


def edited(key, value):
    document = json.loads(json.dumps(DOCUMENT))
    document["quantization"][key] = value
    return json.dumps(document)


def test_a_round_trip_keeps_all():
    assert SCHEMA == "1.6"
    assert parse_card(serialize_card(CARD)) == CARD
    assert card_to_json(CARD)["quantization"]["parts"] == {"lstm.W": "int8", "lstm.R": "int4:32"}
    assert DOCUMENT["quantization"]["metric"] == {
        "name": "accuracy",
        "value": 0.97,
        "low": 0.95,
        "high": 0.985,
        "data": "japanese-vowels",
        "confidence": 0.95,
    }


@pytest.mark.parametrize("schema", ["1.0", "1.1"])
def test_an_older_document_has_the_defaults(schema):
    document = json.loads(json.dumps(DOCUMENT)) | {"schema": schema}
    for key in ("parts", "calibration_sha256", "metric"):
        del document["quantization"][key]
    quantization = parse_card(json.dumps(document)).quantization
    assert (quantization.parts, quantization.calibration_sha256, quantization.metric) == ({}, None, None)
    assert quantization.coverage == CARD.quantization.coverage
    for key in ("parts", "calibration_sha256", "metric"):
        quantization = {name: value for name, value in DOCUMENT["quantization"].items() if name != key}
        with pytest.raises(CardError, match=rf"^model card: card\.quantization\.{key} is missing$"):
            parse_card(json.dumps(DOCUMENT | {"quantization": quantization}))


def test_a_card_of_1_4_has_no_densities():
    document = json.loads(json.dumps(DOCUMENT)) | {"schema": "1.4"}
    for row in document["quantization"]["coverage"]:
        assert row.pop("density") == {}
    assert parse_card(json.dumps(document)).quantization.coverage == CARD.quantization.coverage
    with pytest.raises(CardError, match=r"coverage\[0\]\.density is missing"):
        parse_card(json.dumps(document | {"schema": "1.5"}))


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("parts", ["lstm"], "card.quantization.parts must be an object, got ['lstm']"),
        ("parts", None, "card.quantization.parts must be an object, got None"),
        ("parts", {"lstm": 8}, "card.quantization.parts['lstm'] must be a str, got 8"),
        ("calibration_sha256", 1, "card.quantization.calibration_sha256 must be a str, got 1"),
        ("metric", 0.97, "card.quantization.metric must be an object, got 0.97"),
        ("metric", {"name": "accuracy"}, "card.quantization.metric.value is missing"),
        # Of a key and of a value no more than 60 characters are shown; neither may break a line or a terminal.
        ("parts", {"l" * 10_000: 8}, f"card.quantization.parts['{'l' * 56}...] must be a str, got 8"),
        ("parts", {"\x1b[2J\n": 8}, r"card.quantization.parts['\x1b[2J\n'] must be a str, got 8"),
        (
            "metric",
            METRIC | {"value": 10**400},
            f"card.quantization.metric.value must be a finite number, got 1{'0' * 56}...",
        ),
        # What JSON can escape and UTF-8 cannot write: such a card could be read, but never written again.
        (
            "parts",
            {"lstm": "\ud800"},
            rf"card.quantization.parts['lstm'] must be {TEXT}, got '\ud800'",
        ),
        (
            "parts",
            {"\udfff": "int8"},
            rf"card.quantization.parts, a key, must be {TEXT}, got '\udfff'",
        ),
        ("later", math.inf, f"card.quantization['later'] must be {KEPT}, got inf"),
        ("later", ["\ud800"], rf"card.quantization['later'] must be {KEPT}, got ['\ud800']"),
    ],
)
def test_wrong_values_are_named(key, value, sentence):
    with pytest.raises(CardError) as caught:
        parse_card(edited(key, value))
    assert str(caught.value) == f"model card: {sentence}"


def test_an_axis_is_text_of_whole_characters():
    document = DOCUMENT | {"inputs": [{"name": "x", "dtype": "float32", "axes": ["\ud800", 3]}]}
    with pytest.raises(CardError, match=rf"^model card: card\.inputs\[0\]\.axes\[0\] must be {TEXT}, got "):
        parse_card(json.dumps(document))


def test_parts_are_written_in_one_order():
    """Equal cards are equal bytes, whatever order the request had."""
    other = {"lstm.R": "int4:32", "lstm.W": "int8"}
    assert list(other) != list(CARD.quantization.parts)
    text = edited("parts", other)
    assert serialize_card(parse_card(text)) == serialize_card(CARD)


def test_int4_of_an_earlier_card_is_read_as_blocks_of_32():
    """It was the text of the default block then; a request's ``int4`` has blocks of 128 now."""
    old = json.loads(edited("parts", {"lstm.R": "int4", "lstm.W": "int4:128", "head": "int4:32:zero"}))
    for schema in ("1.2", "1.4", "1.5"):
        card = parse_card(json.dumps(old | {"schema": schema, "trained_for": "int4"}))
        assert card.quantization.parts == {"lstm.R": "int4:32", "lstm.W": "int4:128", "head": "int4:32:zero"}
        assert card.trained_for == "int4:32"
        assert '"int4"' not in serialize_card(card)


def test_a_card_without_reference_data_is_one_of_1_5():
    document = json.loads(serialize_card(CARD))
    assert document["reference"] == {"data": "d", "inputs": {"x": [{"edges": [-0.5, 1.25], "counts": [1, 0, 7]}]}}
    del document["reference"]
    assert parse_card(json.dumps(document | {"schema": "1.5"})).reference is None
    with pytest.raises(CardError, match=r"card\.reference is missing"):
        parse_card(json.dumps(document))


@pytest.mark.parametrize(
    ("feature", "place"),
    [
        ({"edges": [1], "counts": [1, 0.5]}, r"\.counts\[1\] must be a int, got 0\.5"),
        ({"edges": ["a"], "counts": [1, 2]}, r"\.edges\[0\] must be a float, got 'a'"),
        ({"edges": [1]}, r"\.counts is missing"),
    ],
)
def test_wrong_reference_data_are_refused_with_their_place(feature, place):
    document = json.loads(serialize_card(CARD))
    document["reference"]["inputs"]["x"] = [feature]
    with pytest.raises(CardError, match=r"card\.reference\.inputs\['x'\]\[0\]" + place):
        parse_card(json.dumps(document))
