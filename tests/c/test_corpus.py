"""Python and the C library agree on files, good and damaged: accepted or refused, sentences, cards, bits."""

from collections.abc import Iterator

import pytest
from support.c_agreement import compare_file, outcome
from support.c_damage import damaged_bytes, damaged_cards, damaged_golden, damaged_graphs
from support.c_library import Library
from support.c_models import made_models, stored_models
from support.hostile_files import FILES, NAMES, named

from lstm_edge_runtime.artifact import append_trailer

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
