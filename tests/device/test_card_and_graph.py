"""A card is refused when it is damaged or contradicts its graph, with the dotted path of the culprit."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import get_args

import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_edge_runtime.card import SCHEMA, Task, TensorSpec, parse_card, serialize_card
from lstm_edge_runtime.contract import read_contract
from lstm_edge_runtime.errors import CardError
from lstm_edge_runtime.session import Session

MODELS = Path(__file__).parent / "models"
BARE = (MODELS / "no_card.onnx").read_bytes()
TAGGER = Session(MODELS / "tagger.onnx")
CARD = json.loads(serialize_card(TAGGER.card)) | {"schema": SCHEMA}


def paths(value, path=()):
    """Every place in a JSON document."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


def edit(path, value=None, *, remove=False):
    document = copy.deepcopy(CARD)
    target = document
    for key in path[:-1]:
        target = target[key]
    if remove:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return document


PLACES = list(paths(CARD))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(PLACES), JSON)
def test_any_wrong_value_is_a_card_error_or_a_valid_card(path, value):
    try:
        card = parse_card(json.dumps(edit(path, value)))
    except CardError as error:
        assert str(error).startswith("model card: card")  # noqa: PT017  # either outcome is right
    else:
        assert parse_card(serialize_card(card)) == card


@pytest.mark.parametrize("path", [p for p in PLACES if isinstance(p[-1], str)], ids=str)
def test_a_missing_key_is_named(path):
    dotted = "card" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    with pytest.raises(CardError) as caught:
        parse_card(json.dumps(edit(path, remove=True)))
    assert str(caught.value) == f"model card: {dotted} is missing"


def test_keys_that_a_document_is_too_old_to_have_get_their_defaults():
    document = copy.deepcopy(CARD)
    for key in ("text", "undetermined"):
        del document[key]
    for layer in document["layers"]:
        del layer["reset_after"], layer["activation"]
    card = parse_card(json.dumps(document | {"schema": "1.0"}))
    assert (card.text, card.undetermined, card.layers[0].reset_after) == (None, (), None)
    with pytest.raises(CardError, match=r"card\.layers\[0\]\.reset_after is missing"):
        parse_card(json.dumps(document | {"schema": "1.1"}))


def test_a_layers_activation_is_needed_from_1_3_on():
    document = edit(("layers", 0, "activation"), remove=True)
    assert parse_card(json.dumps(document | {"schema": "1.2"})).layers[0].activation is None
    with pytest.raises(CardError, match=r"card\.layers\[0\]\.activation is missing"):
        parse_card(json.dumps(document | {"schema": "1.3"}))


@pytest.mark.parametrize("schema", ["2.0", "0.9", "1", "one.zero", 1.0, None, "", "1." + "9" * 5000])
def test_an_unknown_version_is_refused(schema):
    with pytest.raises(CardError, match=r"card\.schema"):
        parse_card(json.dumps(edit(("schema",), schema)))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1]", "card must be an object, got list"),
        ('"text"', "card must be an object, got str"),
        ("null", "card must be an object, got NoneType"),
        ("{", "not a JSON document ("),
        ("[" * 200_000, "not a JSON document ("),
        ("{}", "card.schema is missing"),
        ('{"schema": null}', "card.schema is missing"),
        ('{"schema": 1.2}', 'card.schema must be "major.minor", got 1.2'),
        ('{"schema": "1.2.3"}', """card.schema must be "major.minor", got '1.2.3'"""),
        ('{"schema": "2.0"}', "card.schema is 2.0, this version reads 1.x; update lstm-edge to open the file"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_card_at_all_is_refused(text, sentence):
    with pytest.raises(CardError) as caught:
        parse_card(text)
    assert str(caught.value).startswith(f"model card: {sentence}")


def test_a_text_of_more_than_64_million_characters_is_not_read(monkeypatch):
    text = serialize_card(TAGGER.card)
    monkeypatch.setattr("lstm_edge_runtime.card._LONGEST_CARD", len(text))  # private: the limit itself takes 4 GB
    assert parse_card(text) == TAGGER.card
    with pytest.raises(CardError, match=rf"^model card: {len(text) + 1} characters, at most {len(text)} are read$"):
        parse_card(text + " ")


def test_a_word_that_is_not_one_of_the_known_ones_is_refused():
    with pytest.raises(
        CardError, match=r"^model card: card\.layers\[0\]\.cell must be one of 'lstm', 'gru', 'rnn', got 'ltc'$"
    ):
        parse_card(json.dumps(edit(("layers", 0, "cell"), "ltc")))


@pytest.mark.parametrize("task", get_args(Task))
def test_every_task_is_read(task):
    assert parse_card(json.dumps(edit(("task",), task))).task == task


def test_another_task_is_refused():
    with pytest.raises(CardError, match=r"^model card: card\.task must be one of 'classification', .*, got 'walking'$"):
        parse_card(json.dumps(edit(("task",), "walking")))


def test_a_card_is_written_with_sorted_keys_and_its_own_characters():
    text = serialize_card(TAGGER.card.replace(labels=("é", "漢")))
    assert '"labels": ["é", "漢"]' in text
    document = json.loads(text)
    assert list(document) == sorted(document)
    with pytest.raises(ValueError, match="not JSON compliant"):
        serialize_card(TAGGER.card.replace(extra={"later": float("nan")}))


def test_axes_are_found_by_name():
    spec = TAGGER.card.inputs[0]
    assert [TAGGER.card.axis_of(spec, axis) for axis in ("batch", "time", "features")] == [0, 1, None]


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(PLACES), JSON)
def test_a_session_opens_or_says_that_the_card_is_at_fault(with_metadata, path, value):
    data = with_metadata(BARE, "lstm_edge", json.dumps(edit(path, value)))
    try:
        session = Session(data)
    except CardError as error:
        assert str(error).startswith("model card: card")  # noqa: PT017  # either outcome is right
    else:
        assert session.card is not None


def state(field):
    return ("states", 1, field)


def stepping(field):
    return ("streaming", field)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("inputs", 0, "name"), "y", r"card\.inputs\[0\]\.name is 'y', the graph has the inputs x, lstm\.0\.h"),
        (("inputs", 0, "dtype"), "float64", r"card\.inputs\[0\]\.dtype is 'float64', the graph's 'x' has 'float32'"),
        (("inputs", 0, "axes"), ["batch", "time"], r"card\.inputs\[0\]\.axes is \['batch', 'time'\], the graph's 'x'"),
        (("inputs", 0, "axes"), ["batch", "time", 4], r"card\.inputs\[0\]\.axes is \['batch', 'time', 4\]"),
        (("inputs", 0, "axes"), ["batch", "time", "n"], r"card\.inputs\[0\]\.axes is \['batch', 'time', 'n'\]"),
        (("inputs", 0, "axes"), ["batch", 0, 3], r"a fixed axis has at least 1 element"),
        (("inputs",), [], r"card\.inputs does not mention the graph's input 'x'"),
        (("outputs",), [], r"card\.outputs does not mention the graph's output 'logits'"),
        (("outputs", 0, "dtype"), "int64", r"card\.outputs\[0\]\.dtype is 'int64', the graph's 'logits' has 'float32'"),
        (("outputs", 0, "axes"), ["batch", "time", 5], r"card\.outputs\[0\]\.axes is"),
        (state("input"), "lstm.7.c", r"card\.states\[1\]\.input is 'lstm\.7\.c', the graph has the inputs"),
        (state("output"), "lstm.7.c", r"card\.states\[1\]\.output is 'lstm\.7\.c', the graph has the outputs"),
        (state("input"), "lstm.0.h", r"card\.states names a tensor twice: 'lstm\.0\.h'"),
        (state("axes"), [1, "batch", 6], r"card\.states\[1\]\.axes is \[1, 'batch', 6\], the graph's 'lstm\.0\.c'"),
        (state("axes"), [1, "rows", 5], r"only 'batch' or a multiple of it, such as 'batch\*3', may be dyn"),
        (("lengths",), "lengths", r"card\.lengths is 'lengths', the graph has the inputs"),
        (
            ("lengths",),
            "x",
            r"card\.lengths 'x' is float32 \['batch', 'time', 3\] in the graph, expected int64 \[batch\]",
        ),
        (stepping("first"), 0, r"card\.streaming\.first is 0, expected 1 to 65,536"),
        (stepping("first_gives"), 65_537, r"card\.streaming\.first_gives is 65537, expected 1 to 65,536"),
        (stepping("every"), -1, r"card\.streaming\.every is -1, expected 1 to 65,536"),
        (stepping("gives"), 10**30, r"card\.streaming\.gives is 10+, expected 1 to 65,536"),
        (stepping("latency_steps"), -1, r"card\.streaming\.latency_steps is -1, expected 0 to 65,536"),
        (stepping("end"), "end", r"card\.streaming\.end is 'end', the graph has the inputs x"),
        (
            stepping("end"),
            "x",
            r"card\.streaming\.end 'x' is float32 \['batch', 'time', 3\] in the graph, expected int64",
        ),
        (("minimum_onnxruntime",), "new", r"card\.minimum_onnxruntime must be \"major\.minor\", got 'new'"),
    ],
)
def test_a_card_that_contradicts_its_graph_is_refused(with_metadata, path, value, sentence):
    with pytest.raises(CardError, match=sentence):
        Session(with_metadata(BARE, "lstm_edge", json.dumps(edit(path, value))))


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("kept_padded", {"end": None}, r"card\.inputs does not mention the graph's input 'end'"),
        ("each_call", {"every": 2}, r"card\.streaming\.every is 2, but no input has an axis called 'time'"),
        ("each_call", {"end": "gain"}, r"card\.streaming\.end is 'gain', but no input has an axis called 'time'"),
    ],
)
def test_how_a_stream_counts_agrees_with_the_graph(name, changes, sentence):
    session = Session(MODELS / f"{name}.onnx")
    card = session.card.replace(streaming=dataclasses.replace(session.card.streaming, **changes))
    with pytest.raises(CardError, match=sentence):
        read_contract(session.onnxruntime_session, card)


@pytest.mark.parametrize("role", ["inputs", "states", "lengths"])
def test_the_end_of_a_sequence_is_an_input_for_itself(role):
    session = Session(MODELS / "kept_padded.onnx")
    ends = {
        "inputs": (*session.card.inputs, TensorSpec(name="end", dtype="int64", axes=(1,))),
        "states": session.card.states,
        "lengths": "end",
    }
    card = session.card.replace(**{role: ends[role]})
    if role == "states":
        state = dataclasses.replace(card.states[0], input="end")
        with pytest.raises(CardError, match=r"card\.states\[0\]\.input 'end' has dtype int64, the card says float32"):
            read_contract(session.onnxruntime_session, card.replace(states=(state, *card.states[1:])))
        return
    with pytest.raises(CardError, match=rf"card\.streaming\.end is 'end', which card\.{role} names too"):
        read_contract(session.onnxruntime_session, card)


def test_the_unchanged_card_is_accepted(with_metadata):
    assert Session(with_metadata(BARE, "lstm_edge", json.dumps(CARD))).card == TAGGER.card.replace(schema=SCHEMA)


def test_a_newer_onnxruntime_than_ours_is_noted(with_metadata):
    document = edit(("minimum_onnxruntime",), "99.0")
    session = Session(with_metadata(BARE, "lstm_edge", json.dumps(document)))
    assert (
        f"the model was made for onnxruntime 99.0 or later, this is {onnxruntime.__version__}: update onnxruntime"
        in session.notes
    )


def test_unknown_keys_survive(with_metadata):
    session = Session(with_metadata(BARE, "lstm_edge", json.dumps(CARD | {"schema": "1.7", "future": [1]})))
    assert json.loads(serialize_card(session.card))["future"] == [1]
