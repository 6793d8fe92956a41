"""The checks read of a file what onnx and onnxruntime read of it, or refuse it: a differential test, field by field.

The fuzzer of the same name (tests/fuzz/walker.py) goes on for longer.
"""

import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fuzz"))
import walker

from lstm_edge_exporters.onnx_graph.reading import parse_model, with_weights
from lstm_edge_runtime.errors import ArtifactError


@pytest.mark.parametrize("name", list(walker.BASES))
def test_honest_files_are_read_alike(name: str) -> None:
    assert walker.check((name, walker.BASES[name], True)) == "meaning kept, accepted"


def test_seeded_changes_are_read_alike_or_refused() -> None:
    verdicts: Counter[str] = Counter()
    for number in range(400):
        verdict = walker.check(walker.make(0, number))
        assert not verdict.startswith("fault"), f"make(0, {number}): {verdict}"
        verdicts[verdict] += 1
    # Where everything is refused, nothing is compared.
    assert verdicts["meaning kept, accepted"] == 100
    assert verdicts["changed, accepted"] > 50
    assert verdicts["refused"] > 100


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(list(walker.BASES)),
    changes=st.lists(st.sampled_from(walker.CHANGES), min_size=1, max_size=3),
    random=st.randoms(use_true_random=False),
)
def test_any_changes_are_read_alike_or_refused(name: str, changes: list, random: Random) -> None:
    data, done = walker.BASES[name], [name]
    for change in changes:
        try:
            data = walker.changed(random, data, change, done)
        except (ValueError, RecursionError):
            break
    assert not walker.check((", ".join(done), data, False)).startswith("fault")


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(list(walker.BASES)),
    changes=st.lists(st.sampled_from(walker.KEEPING), min_size=1, max_size=3),
    random=st.randoms(use_true_random=False),
)
def test_changes_that_keep_the_meaning_are_accepted(name: str, changes: list, random: Random) -> None:
    data, done = walker.BASES[name], [name]
    for change in changes:
        data = walker.changed(random, data, change, done)
    assert walker.check((", ".join(done), data, True)) == "meaning kept, accepted"


def test_what_is_read_in_two_ways_is_not_rewritten(tmp_path: Path) -> None:
    """The same check stands before the parser of the onnx package: protobuf merges two graphs."""
    data = walker.BASES["no_card"]
    twice = data + b"\x3a\x0e\x0a\x0c\x22\x04Relu\x1a\x04more"
    for read in (parse_model, lambda data: parse_model(with_weights(data, tmp_path))):
        assert parse_model(data).graph.name
        with pytest.raises(ArtifactError, match="the model cannot be read: graph is given twice in the model; write"):
            read(twice)
