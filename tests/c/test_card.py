"""The C library reads the cards that Python reads, as the same JSON, and refuses the others with the same sentence."""

import json
import math
import random
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.c_card_cases import TEXTS, VALUES, damaged_text, full_card, graph_and_card, mutated, paths, with_value
from support.c_parts import answer_of, call_part

from lstm_edge_runtime.card import parse_card, serialize_card
from lstm_edge_runtime.contract import read_contract
from lstm_edge_runtime.errors import printable
from lstm_edge_runtime.state import state_shape

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests" / "exporters" / "card_golden.json").read_text())
CARD = full_card(GOLDEN)
PLACES = [path for path in paths(CARD) if path]
SEEDS = st.integers(0, 2**32)


def assert_same(text: str) -> str:
    """Compare what both give for a text; return "ok" or the class of the refusal."""
    python = answer_of(lambda: serialize_card(parse_card(text)))
    assert answer_of(lambda: call_part("card", text.encode()).decode()) == python
    return python[0]


def test_a_full_card_is_the_same_json() -> None:
    assert assert_same(json.dumps(CARD)) == "ok"
    assert assert_same(json.dumps(CARD, ensure_ascii=False, indent=2) + "\n ") == "ok"


def test_every_place_without_its_value() -> None:
    assert {assert_same(json.dumps(with_value(CARD, path))) for path in PLACES} == {"ok", "CardError"}


@pytest.mark.parametrize("first", range(7))
def test_every_place_with_other_values(first: int) -> None:
    for number, path in enumerate(PLACES):
        assert_same(json.dumps(with_value(CARD, path, VALUES[(number + 4 * first) % len(VALUES)])))


@pytest.mark.parametrize("minor", [0, 1, 2, 3, 4, 5, 6, 999_999_999])
def test_older_and_newer_minor_versions(minor: int) -> None:
    schema = {"schema": f"1.{minor}"}
    assert_same(json.dumps(CARD | schema))
    for key in ("text", "undetermined", "trained_for", "front_end"):
        assert_same(json.dumps(with_value(CARD | schema, (key,))))
    assert assert_same(json.dumps(CARD | schema | {"later": [1e22, {"é": None}], "extra": 1})) == "ok"


def test_texts_that_are_no_card() -> None:
    assert {assert_same(text) for text in TEXTS} == {"CardError"}


def test_a_key_that_is_there_twice_has_its_last_value() -> None:
    text = json.dumps(CARD)
    for more in ('"task": "tagging", ', '"zz": 1, "yy": 2, "zz": [], ', '"zz": NaN, "zz": 1, '):
        assert assert_same(text.replace("{", "{" + more, 1)) == "ok"
        assert_same(text.replace('"trained_for"', more + '"trained_for"'))


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_any_change_of_a_card(seed: int) -> None:
    draw = random.Random(seed)
    text = json.dumps(mutated(CARD, draw), ensure_ascii=True)
    assert_same(text if draw.random() < 0.7 else damaged_text(text, draw))


@pytest.mark.long
@settings(max_examples=5000, deadline=None)
@given(SEEDS)
def test_many_changes_of_a_card(seed: int) -> None:
    draw = random.Random(seed)
    text = json.dumps(mutated(CARD, draw))
    assert_same(text if draw.random() < 0.7 else damaged_text(text, draw))


def contract_of(request: dict[str, Any]) -> str:
    """Return the contract of a graph as JSON; onnxruntime shows an axis without a name as None."""

    def nodes(role: str) -> list[Any]:
        return [
            SimpleNamespace(name=n["name"], type=n["type"], shape=[None if a == "" else a for a in n["axes"]])
            for n in request[role]
        ]

    session: Any = SimpleNamespace(get_inputs=lambda: nodes("inputs"), get_outputs=lambda: nodes("outputs"))
    contract = read_contract(session, None if request["card"] is None else parse_card(request["card"]))
    tensors = {
        role: [
            {"name": spec.name, "dtype": spec.dtype, "axes": [saturated(axis) for axis in spec.axes]} for spec in specs
        ]
        for role, specs in (("inputs", contract.inputs), ("outputs", contract.outputs))
    }
    states = {"states": [s.input for s in contract.states], "shapes": [state_shape(s, 7) for s in contract.states]}
    return json.dumps(tensors | states | {"lengths": contract.lengths, "end": contract.end}, sort_keys=True)


def saturated(axis: Any) -> Any:
    """An output of unknown rank may have any size in the card; the C library keeps what int64 holds."""
    return axis if isinstance(axis, str) else max(-(2**63), min(2**63 - 1, axis))


def assert_same_contract(seed: int) -> None:
    request = graph_and_card(GOLDEN, random.Random(seed))
    c = answer_of(lambda: json.dumps(json.loads(call_part("contract", json.dumps(request).encode())), sort_keys=True))
    assert c == answer_of(lambda: contract_of(request))


def test_graphs_and_cards() -> None:
    for seed in range(300):
        assert_same_contract(seed)


@pytest.mark.long
@settings(max_examples=5000, deadline=None)
@given(SEEDS)
def test_many_graphs_and_cards(seed: int) -> None:
    assert_same_contract(seed)


def utf8_error(data: bytes) -> str:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return str(error)
    return ""


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=()), max_size=12), st.binary(max_size=6), st.floats())
def test_text_is_written_as_python_does(text: str, data: bytes, number: float) -> None:
    def said(part: str, given: bytes) -> str:
        return call_part(part, given).decode("utf-8", "surrogatepass")

    encoded = text.encode("utf-8", "surrogatepass")
    if encoded.decode("utf-8", "surrogatepass") == text:
        assert said("repr", encoded) == repr(text)
        assert said("ascii", encoded) == ascii(text)
        assert said("printable", encoded) == str(text.isprintable())
    assert said("repr of bytes", data) == repr(data)
    assert said("UTF-8", data) == utf8_error(data)
    for shown in (data, data + encoded + data):
        assert said("shown", shown) == printable(shown.decode("utf-8", "backslashreplace"))
    for value in (number, 2.0 ** (hash(number) % 2000 - 1000), math.nextafter(number, 0)):
        packed = struct.pack("d", value)
        assert [said(part, packed) for part in ("float", "g", ".3g")] == [repr(value), f"{value:g}", f"{value:.3g}"]


def test_the_generated_tables_are_those_of_python() -> None:
    command = [sys.executable, str(ROOT / "runtime" / "c" / "generate.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
