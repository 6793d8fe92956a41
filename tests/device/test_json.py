"""JSON to dataclasses: every kind of field, read and refused with its path; what a later version wrote is kept."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from lstm_edge_runtime._json import decode, encode, shortened
from lstm_edge_runtime.errors import CardError


@dataclass(frozen=True, kw_only=True)
class Leaf:
    name: str
    later: int = field(default=7, metadata={"since": 2})
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, kw_only=True)
class Closed:
    """Without a field for unknown keys."""

    flag: bool


@dataclass(frozen=True, kw_only=True)
class Tree:
    kind: Literal["a", "b"]
    counts: Mapping[str, int]
    axes: tuple[str | int, ...]
    leaves: tuple[Leaf, ...]
    share: float
    maybe: Leaf | None
    closed: Closed
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)


TREE = Tree(
    kind="b",
    counts={"x": 3},
    axes=("batch", 2),
    leaves=(Leaf(name="é"), Leaf(name="", later=1)),
    share=0.5,
    maybe=None,
    closed=Closed(flag=True),
)
DOCUMENT = encode(TREE)


def read(document, minor=2):
    return decode(Tree, document, "tree", minor=minor)


def test_a_round_trip_keeps_every_kind_of_field() -> None:
    assert read(json.loads(json.dumps(DOCUMENT))) == TREE
    assert DOCUMENT["leaves"] == [{"name": "é", "later": 7}, {"name": "", "later": 1}]
    assert read(DOCUMENT | {"maybe": {"name": "z", "later": 0}}).maybe == Leaf(name="z", later=0)
    whole = read(DOCUMENT | {"share": 1})
    assert (whole.share, type(whole.share)) == (1.0, float)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": "c"}, "tree.kind must be one of 'a', 'b', got 'c'"),
        ({"kind": ["a"]}, "tree.kind must be one of 'a', 'b', got ['a']"),
        ({"kind": None}, "tree.kind must be one of 'a', 'b', got None"),
        ({"counts": {"x": "3"}}, "tree.counts['x'] must be a int, got '3'"),
        ({"counts": {"x": True}}, "tree.counts['x'] must be a int, got True"),
        ({"counts": []}, "tree.counts must be an object, got []"),
        ({"axes": "batch"}, "tree.axes must be a list, got 'batch'"),
        ({"axes": ["batch", 2.0]}, "tree.axes[1] must be str or int, got 2.0"),
        ({"axes": [True]}, "tree.axes[0] must be str or int, got True"),
        ({"axes": [None]}, "tree.axes[0] must be str or int, got None"),
        ({"leaves": {}}, "tree.leaves must be a list, got {}"),
        ({"leaves": [{"name": 1, "later": 1}]}, "tree.leaves[0].name must be a str, got 1"),
        ({"leaves": [[]]}, "tree.leaves[0] must be an object, got []"),
        ({"share": "0.5"}, "tree.share must be a float, got '0.5'"),
        ({"share": True}, "tree.share must be a float, got True"),
        ({"share": float("nan")}, "tree.share must be a finite number, got nan"),
        ({"share": 10**400}, f"tree.share must be a finite number, got 1{'0' * 56}..."),
        ({"maybe": {}}, "tree.maybe.name is missing"),
        ({"maybe": 5}, "tree.maybe must be an object, got 5"),
        ({"closed": {"flag": 1}}, "tree.closed.flag must be a bool, got 1"),
        ({"closed": {"flag": "\ud800"}}, "tree.closed.flag must be a bool, got '\\ud800'"),
        ({"axes": ["\ud800"]}, "tree.axes[0] must be text of whole characters, got '\\ud800'"),
        ({"later": {"a": "\ud800"}}, "tree['later'] must be JSON of finite numbers, whole characters and few levels,"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(change, sentence) -> None:
    with pytest.raises(CardError) as caught:
        read(DOCUMENT | change)
    assert str(caught.value).startswith(f"model card: {sentence}")


def test_a_key_that_came_later_may_be_missing_in_older_documents_only() -> None:
    document = DOCUMENT | {"leaves": [{"name": "a"}]}
    assert read(document, minor=1).leaves == (Leaf(name="a", later=7),)
    for minor in (2, 3):
        with pytest.raises(CardError, match=r"^model card: tree\.leaves\[0\]\.later is missing$"):
            read(document, minor=minor)
    with pytest.raises(CardError, match=r"^model card: tree\.kind is missing$"):
        read({key: value for key, value in DOCUMENT.items() if key != "kind"}, minor=0)


def test_unknown_keys_come_back_where_they_were() -> None:
    document = DOCUMENT | {"future": [1, {"b": None}]}
    document["leaves"] = [{"name": "a", "later": 1, "more": "x"}]
    tree = read(document)
    assert (tree.extra, tree.leaves[0].extra) == ({"future": [1, {"b": None}]}, {"more": "x"})
    assert encode(tree) == document
    # One that has nowhere to keep them forgets them; it is no reason to refuse the file.
    assert read(DOCUMENT | {"closed": {"flag": False, "more": 1}}).closed == Closed(flag=False)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a" * 58, repr("a" * 58)),  # 60 characters with its quotes
        ("a" * 59, "'" + "a" * 56 + "..."),
        ("\x1b[2J\n\u202e", r"'\x1b[2J\n\u202e'"),
        (10**5000, "a int"),
        (None, "None"),
    ],
    ids=("60", "61", "controls", "digits", "none"),
)
def test_a_message_shows_at_most_60_characters(value, shown) -> None:
    assert shortened(value) == shown
    assert len(shortened(value)) <= 60


def test_what_is_nested_too_deeply_to_be_shown_is_named_by_its_type() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert shortened(deep) == "a list"
