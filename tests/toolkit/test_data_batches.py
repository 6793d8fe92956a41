"""Padding, truncation and bucketing; padding never changes an answer."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_edge.data import Dataset, bucketed_batches, collate
from lstm_edge.layers import LSTM
from lstm_edge.training.shifting import to_front, to_place
from lstm_edge_runtime.errors import DataError, InputError

LENGTHS = [4, 1, 7, 3, 7]
CELLS = {
    "standard": {},
    "projection": {"proj_size": 3},
    "bidirectional": {"bidirectional": True, "num_layers": 2},
    "diagonal": {"peephole": "diagonal"},
    "full, bidirectional": {"peephole": "full", "bidirectional": True},
}
# A batch's matrix products sum in another order than a single row's: seen 3e-7 at hidden 128, on values below 1.
ROUNDING = 2e-6


def dataset(lengths=LENGTHS, *, per_step=True, values=False, features=2):
    """Every number is another one, none is zero but those of the first step: a real zero is no padding."""
    steps = sum(lengths)
    x = np.arange(1, steps * features + 1, dtype=np.float32).reshape(steps, features)
    x[np.cumsum(lengths) - lengths] = 0
    count = steps if per_step else len(lengths)
    y = np.arange(1, count + 1)
    return Dataset(
        name="numbers",
        x=x,
        lengths=np.array(lengths),
        y=np.stack((y, -y), axis=1).astype(np.float32) if values else y,
        per_step=per_step,
    )


@pytest.mark.parametrize("pad", ["post", "pre", "random"])
@pytest.mark.parametrize("values", [False, True])
def test_a_padded_batch_holds_its_rows_and_zeros(pad, values):
    data, rows = dataset(values=values), [2, 1, 0]
    batch = collate(data, rows, pad=pad, rng=np.random.default_rng(0))
    assert batch.x.shape == (3, 7, 2)
    assert (batch.x.dtype, batch.y.dtype) == (np.float32, data.y.dtype)
    assert batch.lengths.tolist() == [7, 1, 4]
    for number, row in enumerate(rows):
        assert np.array_equal(batch.x[number][batch.mask[number]], data[row])
        assert np.array_equal(batch.y[number][batch.mask[number]], data.target(row))
    assert not batch.x[~batch.mask].any()
    assert not batch.y[~batch.mask].any()
    expected = {"post": [0, 0, 0], "pre": [0, 6, 3]}
    if pad in expected:
        assert batch.starts.tolist() == expected[pad]


@pytest.mark.parametrize(("truncate", "kept"), [("post", slice(0, 3)), ("pre", slice(4, 7))])
def test_truncation_keeps_one_end_of_steps_and_their_targets(truncate, kept):
    data = dataset()
    batch = collate(data, [2, 1], truncate=truncate, max_length=3)
    assert batch.lengths.tolist() == [3, 1]
    assert np.array_equal(batch.x[0], data[2][kept])
    assert np.array_equal(batch.y[0], data.target(2)[kept])


def test_random_truncation_reaches_every_window_and_keeps_targets_with_their_steps():
    data, seen = dataset(), set()
    generator = np.random.default_rng(0)
    for _ in range(100):
        batch = collate(data, [2], truncate="random", max_length=3, rng=generator)
        first = int(np.flatnonzero((data[2] == batch.x[0, 0]).all(axis=1))[0])
        assert np.array_equal(batch.x[0], data[2][first : first + 3])
        assert np.array_equal(batch.y[0], data.target(2)[first : first + 3])
        seen.add(first)
    assert seen == {0, 1, 2, 3, 4}


def test_random_padding_is_seeded_and_drawn_anew_each_epoch():
    data = dataset()

    def starts(epoch):
        return [
            collate(data, range(5), pad="random", rng=generator).starts.tolist()
            for generator in [np.random.default_rng([3, epoch])]
            for _ in range(40)
        ]

    assert starts(0) == starts(0) != starts(1)
    assert {start for draw in starts(0) for start in draw} == set(range(7))


def test_targets_of_sequences_stay_as_they_are():
    batch = collate(dataset(per_step=False, values=True), [4, 0], pad="pre", max_length=2)
    assert batch.y.tolist() == [[5, -5], [1, -1]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"pad": "left"}, "pad is 'left', expected post, pre, random"),
        ({"truncate": "left"}, "truncate is 'left', expected post, pre, random"),
        ({"max_length": 0}, "max_length is 0, expected 1 or more"),
        ({"pad": "random"}, "pad='random' needs random numbers: give rng, a numpy.random.Generator"),
        ({"truncate": "random", "max_length": 2}, "truncate='random' needs random numbers: give rng"),
    ],
)
def test_wrong_padding_gets_one_sentence(arguments, sentence):
    with pytest.raises(InputError, match="^" + re.escape(sentence)):
        collate(dataset(), [0], **arguments)


def test_a_batch_without_rows_is_refused():
    with pytest.raises(DataError, match=r"^data numbers: got no rows for a batch, expected at least one$"):
        collate(dataset(), [])


def run_padded(layer, batch, garbage):
    """Run a batch with ``garbage`` in its padding; returns outputs at their places, and both states."""
    x = torch.from_numpy(batch.x.copy())
    x[torch.from_numpy(~batch.mask)] = garbage
    starts, lengths = torch.from_numpy(batch.starts), torch.from_numpy(batch.lengths)
    y, (h, c) = layer(to_front(x, starts), lengths=lengths)
    return to_place(y, starts, lengths), h, c


@pytest.mark.parametrize("cell", CELLS, ids=list(CELLS))
def test_padding_never_changes_an_answer(cell):
    torch.manual_seed(0)
    layer = LSTM(3, 5, batch_first=True, **CELLS[cell])
    rng = np.random.default_rng(1)
    lengths = [9, 1, 6, 6, 2, 8, 9]
    data = Dataset(
        name="random",
        x=rng.normal(size=(sum(lengths), 3)).astype(np.float32),
        lengths=np.array(lengths),
        y=np.zeros(7, np.int64),
    )
    post = collate(data, range(7))
    y, h, c = run_padded(layer, post, 0.0)
    for pad, garbage in (("post", float("nan")), ("pre", float("nan")), ("random", 1e30), ("random", float("inf"))):
        batch = collate(data, range(7), pad=pad, rng=rng)
        y_padded, h_padded, c_padded = run_padded(layer, batch, garbage)
        # Exact, to the last bit: the same rows at the same batch size.
        assert torch.equal(h_padded, h)
        assert torch.equal(c_padded, c)
        assert torch.equal(y_padded[torch.from_numpy(batch.mask)], y[torch.from_numpy(post.mask)])
        assert not y_padded[torch.from_numpy(~batch.mask)].any()
    for row in range(7):
        alone, (h_alone, c_alone) = layer(torch.from_numpy(data[row].copy())[None])
        torch.testing.assert_close(y[row, : lengths[row]], alone[0], rtol=0, atol=ROUNDING)
        torch.testing.assert_close(h[:, row], h_alone[:, 0], rtol=0, atol=ROUNDING)
        torch.testing.assert_close(c[:, row], c_alone[:, 0], rtol=0, atol=ROUNDING)


def test_gradients_do_not_see_the_padding():
    torch.manual_seed(0)
    layer = LSTM(2, 4, batch_first=True)
    data, gradients = dataset(), []
    for pad in ("post", "pre"):
        layer.zero_grad()
        y, _, _ = run_padded(layer, collate(data, range(5), pad=pad), float("nan"))
        y.square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in layer.parameters()])
    # The sum over outputs runs in another order: seen 0 or one last bit of values up to 60.
    for post, pre in zip(*gradients, strict=True):
        torch.testing.assert_close(pre, post, rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=120),
    batch_size=st.integers(1, 17),
    seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 3),
)
def test_every_row_comes_once_an_epoch(lengths, batch_size, seed, epoch):
    batches = bucketed_batches(np.array(lengths), batch_size, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    sizes = sorted(len(batch) for batch in batches)
    assert sizes[1:] == [batch_size] * (len(sizes) - 1)
    assert 1 <= sizes[0] <= batch_size


def test_buckets_hold_similar_lengths_in_a_seeded_order():
    lengths = np.random.default_rng(0).integers(7, 30, size=2000)
    batches = bucketed_batches(lengths, 16, seed=5, epoch=2)
    again = bucketed_batches(lengths, 16, seed=5, epoch=2)
    other = bucketed_batches(lengths, 16, seed=5, epoch=3)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(batches, other, strict=True))
    wasted = 1 - lengths.sum() / sum(len(batch) * lengths[batch].max() for batch in batches)
    # 35 % without buckets.
    assert wasted < 0.08
    longest = [int(lengths[batch].max()) for batch in batches]
    assert longest != sorted(longest)
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


@pytest.mark.parametrize(
    ("size", "seed", "epoch", "name"), [(0, 0, 0, "batch_size"), (1, -1, 0, "seed"), (1, 0, -1, "epoch")]
)
def test_wrong_numbers_for_batches_are_refused(size, seed, epoch, name):
    with pytest.raises(InputError, match=f"^batches: {name} is "):
        bucketed_batches(np.array([1]), size, seed=seed, epoch=epoch)


@pytest.mark.parametrize("per_step", [False, True])
def test_a_subset_keeps_what_belongs_to_its_rows(per_step):
    data = dataset(per_step=per_step)
    data = Dataset(
        name="all",
        x=data.x,
        lengths=data.lengths,
        y=data.y,
        per_step=per_step,
        groups=np.arange(5),
        times=np.arange(5.0),
        ids=tuple("abcde"),
    )
    part = data.subset([3, 0], name="part")
    assert (part.name, part.ids, part.groups.tolist(), part.times.tolist()) == ("part", ("d", "a"), [3, 0], [3.0, 0.0])
    for place, row in enumerate((3, 0)):
        assert np.array_equal(part[place], data[row])
        assert np.array_equal(part.target(place), data.target(row))
    with pytest.raises(DataError, match="a subset without sequences"):
        data.subset([])


def labelled(y, labels):
    return Dataset(
        name="mine", x=np.ones((len(y), 1), np.float32), lengths=np.ones(len(y), np.int64), y=np.array(y), labels=labels
    )


@pytest.mark.parametrize(
    ("y", "own", "labels", "classes", "expected"),
    [
        # A file without "b" numbers "c" as 1; the model knows it as 2.
        ([0, 1], ("a", "c"), ("a", "b", "c"), 3, [0, 2]),
        ([2, 0], (), ("a", "b", "c"), 3, [2, 0]),
        ([0, 1], ("0", "3"), (), 4, [0, 3]),
        ([1, 0], (), (), 2, [1, 0]),
        # A name that no sequence has may be one that the model does not know.
        ([0, 0], ("a", "x"), ("b", "a"), 2, [1, 1]),
    ],
)
def test_classes_are_numbered_as_the_model_numbers_them(y, own, labels, classes, expected):
    data = labelled(y, own).for_model(labels, classes)
    assert (data.y.tolist(), data.labels) == (expected, labels)


@pytest.mark.parametrize(
    ("y", "own", "labels", "classes", "sentence"),
    [
        ([0, 1], ("a", "x"), ("a", "b"), 2, "the label 'x' was never seen in training; expected one of 'a', 'b'"),
        ([0, 2], (), ("a", "b"), 2, "the label 2 was never seen in training; expected one of 'a', 'b'"),
        ([0, 2], (), (), 2, "the label 2 was never seen in training; expected one of 0 to 1"),
        ([0], ("a",), (), 2, "the label 'a' was never seen in training; expected one of 0 to 1"),
    ],
)
def test_a_label_never_seen_is_refused(y, own, labels, classes, sentence):
    with pytest.raises(DataError, match="^" + re.escape(f"data mine: {sentence}") + "$"):
        labelled(y, own).for_model(labels, classes)


def test_values_have_no_classes():
    data = dataset(per_step=False, values=True)
    with pytest.raises(DataError, match=r"^data numbers: y is float32, expected integer classes$"):
        _ = data.classes
