"""Python and the C library agree on files, good and damaged: accepted or refused, sentences, cards, bits."""

import json
from collections.abc import Iterator
from typing import Any

import onnx
import pytest
from support.c_agreement import compare_file, outcome
from support.c_card_cases import paths, with_value
from support.c_damage import damaged_bytes, damaged_cards, damaged_golden, damaged_graphs, with_card
from support.c_library import Library
from support.c_models import made_models, stored_models
from support.hostile_files import FILES, NAMES, named

from lstm_edge_runtime.artifact import TRAILER_BYTES, append_trailer
from lstm_edge_runtime.card import CARD_KEY

# Of the whole corpus; the issue asks for 200.
LEAST_FILES = 600
QUICK = ("exported_int8", "kept_padded", "last_step", "no_card", "two_inputs", "language_model")
# They take half a gigabyte, or seconds, on either side.
TOO_LARGE = ("card of 100 MB", "golden of 100 MB")


def hostile() -> Iterator[tuple[str, bytes]]:
    for name, make in FILES.items():
        if name not in TOO_LARGE and not name.startswith("constant "):
            data = make()
            yield name, data
            yield f"{name}, signed", append_trailer(data)


def damaged(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    for make in (damaged_bytes, damaged_cards, damaged_golden, damaged_graphs):
        for what, changed in make(data):
            yield f"{name}: {what}", changed


def check(library: Library, files: dict[str, bytes], kernels: tuple[str, ...] = ("auto",)) -> None:
    problems = [
        f"{name} (kernels {choice}): {problem}"
        for name, data in files.items()
        for choice in kernels
        for problem in compare_file(library, data, kernels=choice)
    ]
    assert not problems, f"{len(problems)} differences:\n" + "\n".join(problems[:60])


@pytest.mark.parametrize("kernels", ["auto", "off"])
def test_stored_files_agree(library, kernels):
    check(library, stored_models(QUICK), (kernels,))


def test_some_damaged_files_agree(library):
    files = dict(damaged("exported_int8", stored_models(("exported_int8",))["exported_int8"]))
    check(library, {name: data for number, (name, data) in enumerate(files.items()) if number % 3 == 0})


@pytest.mark.parametrize("name", ["exported_int8", "two_inputs", "language_model"])
def test_tolerances_of_single_outputs_agree(library, name):
    files = {what: data for what, data in damaged_golden(stored_models((name,))[name]) if "own tolerance" in what}
    checked = {what.rpartition(", ")[2]: outcome(library.open(data).check) for what, data in files.items()}
    passed = {what: report.passed for what, (error, report) in checked.items() if not error}
    assert passed["a smaller one that is met"] is passed["one that is larger than all"] is True
    assert passed["a smaller one that is not met"] is passed["zero"] is False
    check(library, files)


@pytest.mark.long
def test_the_whole_corpus_agrees(library):
    good = stored_models() | made_models()
    check(library, good, ("auto", "off", "required"))
    bad = dict(hostile())
    for name in ("exported_int8", "gru int8", "lstm lengths float32", "kept_padded", "two int8"):
        bad |= dict(damaged(name, good[name]))
    assert len(good) + len(bad) >= LEAST_FILES
    check(library, bad, ("auto", "off"))


@pytest.mark.parametrize("where", ["input", "output", "axis"])
def test_a_name_with_nul_is_refused(library, where):
    """onnxruntime's C interface ends a name at its first NUL, so the whole one is read from the file."""
    data = named(NAMES["nul"], where)()
    assert "ArtifactError" in outcome(lambda: library.open(data))
    check(library, {where: data, f"{where}, signed": append_trailer(data)})


@pytest.mark.parametrize("more", ["\0\x1b[31m\n\u202e", "\u0661", "+\0", ".\0"])
def test_no_text_of_a_card_reaches_a_message_as_it_is(library, more):
    """A sentence of C ends at its first NUL, and a terminal obeys an escape sequence."""
    data = stored_models(("exported_int8",))["exported_int8"]
    card = json.loads({entry.key: entry.value for entry in onnx.load_from_string(data).metadata_props}[CARD_KEY])
    texts = {path: value for path, value in leaves(card) if isinstance(value, str)}
    assert len(texts) > 30
    files = {
        str(path): with_card(data, json.dumps(with_value(card, path, value + more))) for path, value in texts.items()
    }
    twice = with_value(card, ("inputs",), [card["inputs"][0] | {"name": more}] * 2)
    files["a name that is given twice"] = with_card(data, json.dumps(twice))
    files["a later version"] = with_card(data, json.dumps(card | {"minimum_onnxruntime": "99.9." + more}))
    for name, changed in files.items():
        error, found = outcome(lambda changed=changed: library.open(changed))
        said = [found] if error else found.notes
        assert all(sentence.isprintable() for sentence in said), (name, said)
    check(library, files)


def test_what_onnxruntime_quotes_is_printable(library):
    """It repeats an attribute of a file, which may be any bytes."""
    model = onnx.load_from_string(stored_models(("two_inputs",))["two_inputs"][:-TRAILER_BYTES])
    attribute = next(a for node in model.graph.node for a in node.attribute if a.s in (b"forward", b"bidirectional"))
    files = {}
    for value in (b"forwar\xe4", b"\xd6\x1b[31m\t\xed\xa0\x80", "\u202e\x85\u2028".encode(), b"\xf0\x9f\x98"):
        attribute.s = value
        data = append_trailer(model.SerializeToString())
        error, sentence = outcome(lambda data=data: library.open(data))
        assert error == "ArtifactError"
        assert sentence.isprintable()
        files[repr(value)] = data
    check(library, files)


def test_an_output_that_is_listed_twice_is_one(library):
    model = onnx.load_from_string(stored_models(("no_card",))["no_card"])
    model.graph.output.append(model.graph.output[0])
    check(library, {"twice": append_trailer(model.SerializeToString())}, ("auto", "off"))


def leaves(card: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for path in paths(card):
        value = card
        for key in path:
            value = value[key]
        yield path, value
