"""The search for the cheapest mix, against brute force; the journal; the three roles of the data."""

import dataclasses
import itertools
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.budget_worlds import World

from lstm_edge.precision_search.data import load_roles
from lstm_edge.precision_search.journal import Journal
from lstm_edge.precision_search.measure import Evaluation
from lstm_edge.precision_search.search import Trial, frontier
from lstm_edge.precision_search.space import SearchPart, mix_of, parts_of, search_axes
from lstm_edge_runtime.errors import ArtifactError, DataError, InputError, OutputError

# What the issue asks for on a model that is small enough to try every mix.
NEAR = 1.02


@pytest.mark.parametrize("seed", range(12))
def test_where_every_mix_may_be_tried_the_answer_is_the_best(seed):
    # The real sizes differ from the predicted ones by up to 3,000, more than many options differ by.
    world = World(seed, 3, 4, overhead=3_000)
    search = world.search(1.5, 64, overhead=4_000)
    assert search.exhaustive
    best = search.best()
    assert best.cost == world.cheapest(1.5)
    assert world.high(best.mix) <= 1.5
    assert len(world.calls) <= 64
    without = {best.mix}
    assert search.best(1.0, without).cost == world.cheapest(1.5, without=without)
    assert search.best(0.5, without).cost == world.cheapest(1.5, 0.5, without)


def test_what_cannot_be_the_cheapest_is_neither_built_nor_judged():
    world = World(3, 3, 4)
    search = world.search(1.5, 64, overhead=0.0)
    best = search.best()
    assert best.cost == world.cheapest(1.5)
    assert len(world.calls) < 64
    assert all(trial.cost <= best.cost for trial in search.trials.values())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("parts", "schemes", "most"), [(3, 3, 14), (3, 6, 60), (5, 5, 60)])
def test_a_bounded_search_comes_within_2_percent_of_the_best(seed, parts, schemes, most):
    world = World(seed, parts, schemes)
    search = world.search(1.5, most)
    assert not search.exhaustive
    best = search.best()
    assert world.high(best.mix) <= 1.5
    assert best.cost <= NEAR * world.cheapest(1.5)
    assert len(world.calls) <= most
    assert len(set(world.calls)) == len(world.calls)


def test_a_bounded_search_keeps_something_back_for_a_second_answer():
    world = World(0, 6, 6)
    search = world.search(1.5, 30)
    first = search.best()
    spent = len(world.calls)
    assert spent <= 24
    second = search.best(0.5, {first.mix})
    assert world.high(second.mix) <= 0.75
    assert len(world.calls) <= 30


@pytest.mark.slow
def test_the_search_is_deterministic():
    runs = []
    for _ in range(2):
        world = World(5, 6, 6)
        runs.append((world.search(1.5, 50).best(), world.calls))
    assert runs[0] == runs[1]


def test_nothing_passes_is_none():
    for most in (27, 12):
        world = World(0, 3, 3)
        search = world.search(-1.0, most)
        assert search.best() is None
        assert len(world.calls) <= most


def test_what_is_known_is_not_measured_again_and_the_ceiling_is_no_answer():
    world = World(1, 3, 3)
    known = [Trial(mix=mix, cost=world.cost(mix), high=world.high(mix)) for mix in ((0, 0, 0), (1, 1, 1), (2, 2, 2))]
    search = world.search(1e9, 24, known=known, overhead=0.0)
    assert search.exhaustive
    assert search.best().mix == (2, 2, 2)
    assert not world.calls
    # Everything passes, but nothing is cheaper than the cheapest.
    assert world.search(1e9, 27, ceiling=world.cost((2, 2, 2))).best() is None
    assert world.search(1e9, 12, ceiling=world.cost((2, 2, 2))).best() is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(2, 5))
def test_the_frontier_is_what_no_mix_beats(seed, parts, schemes):
    world = World(seed, parts, schemes)
    search = world.search(1.0, 1)
    points = frontier(world.axes())
    values = [search.predicted(mix) for mix in points]
    assert values == sorted(values)
    for mix in itertools.product(range(schemes), repeat=parts):
        cost, loss = search.predicted(mix)
        beaten = [other for other in values if other[0] <= cost + 1e-6 and other[1] <= loss + 1e-9]
        assert beaten, mix
    for one, other in itertools.pairwise(values):
        assert one[0] <= other[0]
        assert one[1] > other[1]


def test_a_frontier_that_grows_too_large_is_thinned_out(monkeypatch):
    world = World(2, 6, 6)
    whole = frontier(world.axes())
    monkeypatch.setattr("lstm_edge.precision_search.search.MOST_POINTS", 10)
    thin = frontier(world.axes())
    assert len(thin) <= 40 < len(whole)
    assert thin[0] == whole[0]
    assert thin[-1] == whole[-1]


IDENTITY = {"source": "ab", "seed": 0, "parts": {}}
PARTS = {"lstm.R": "int4:128", "head": "int8"}


def test_a_journal_is_read_back_to_the_bit(tmp_path):
    path = tmp_path / "out.search"
    journal = Journal(path, IDENTITY, resume=False)
    values = {"value": 0.1 + 0.2, "high": None, "passed": True}
    assert journal.put("tuning", PARTS, values) == values
    # On the disk before the journal is closed: a search that is killed keeps it.
    assert len(path.read_text().splitlines()) == 2
    again = Journal(path, IDENTITY, resume=True)
    assert again.get("tuning", dict(reversed(PARTS.items()))) == values
    assert again.get("held-out", PARTS) is None
    assert again.get("tuning", {"head": "int8"}) is None
    again.remove()
    journal.close()
    assert not path.exists()


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_cut_last_line_is_dropped_and_the_journal_goes_on(tmp_path, cut):
    path = tmp_path / "out.search"
    journal = Journal(path, IDENTITY, resume=False)
    journal.put("file", {}, {"bytes": 1})
    journal.put("file", PARTS, {"bytes": 2})
    journal.close()
    path.write_bytes(path.read_bytes()[:-cut])
    again = Journal(path, IDENTITY, resume=True)
    assert (again.get("file", {}), again.get("file", PARTS)) == ({"bytes": 1}, None)
    again.put("file", PARTS, {"bytes": 3})
    again.close()
    third = Journal(path, IDENTITY, resume=True)
    assert (len(third), third.get("file", PARTS)) == (2, {"bytes": 3})
    third.close()
    assert [json.loads(line).get("what") for line in path.read_text().splitlines()] == [None, "file", "file"]


def test_a_damaged_earlier_line_is_refused(tmp_path):
    path = tmp_path / "out.search"
    journal = Journal(path, IDENTITY, resume=False)
    journal.put("file", {}, {"bytes": 1})
    journal.put("file", PARTS, {"bytes": 2})
    journal.close()
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1][:-9] + "\n" + lines[2])
    with pytest.raises(ArtifactError, match=r"out\.search: line 2 of 3 is damaged \(.*\); delete the file to start"):
        Journal(path, IDENTITY, resume=True)


@pytest.mark.parametrize("content", [b"a letter of mine\n", b"a letter of mine", b"{}\n", b"a\nb"])
def test_a_file_of_someone_else_is_not_overwritten(tmp_path, content):
    path = tmp_path / "out.search"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"line 1 of \d is damaged"):
        Journal(path, IDENTITY, resume=True)
    assert path.read_bytes() == content


@pytest.mark.parametrize("cut", [0, 5, 30])
def test_a_journal_that_was_cut_in_its_first_line_starts_anew(tmp_path, cut):
    path = tmp_path / "out.search"
    Journal(path, IDENTITY, resume=False).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    Journal(path, IDENTITY, resume=True).close()
    assert path.read_bytes() == whole


def test_a_changed_number_is_damage_too(tmp_path):
    path = tmp_path / "out.search"
    journal = Journal(path, IDENTITY, resume=False)
    journal.put("tuning", {}, {"drop": 0.25})
    journal.put("tuning", PARTS, {"drop": 0.5})
    journal.close()
    path.write_text(path.read_text().replace("0.25", "0.75"))
    with pytest.raises(ArtifactError, match=r"line 2 of 3 is damaged \(its checksum does not match its contents\)"):
        Journal(path, IDENTITY, resume=True)


def test_another_searchs_journal_is_refused_with_the_first_difference(tmp_path):
    path = tmp_path / "out.search"
    Journal(path, IDENTITY, resume=False).close()
    sentence = (
        f"{path}: it is the journal of another search: seed was 0, now it is 1; give the same options and data, or "
        "delete the file"
    )
    with pytest.raises(ArtifactError, match="^" + re.escape(sentence) + "$"):
        Journal(path, IDENTITY | {"seed": 1}, resume=True)
    path.write_text(path.read_text().replace('"version": "2"', '"version": "1"'))
    sentence = (
        "version is '1', this version of lstm-edge reads '2', whose measurements differ; delete the file to start"
    )
    with pytest.raises(ArtifactError, match=sentence):
        Journal(path, IDENTITY, resume=True)


def test_an_interrupted_search_is_never_overwritten_and_none_is_not_resumed(tmp_path):
    path = tmp_path / "out.search"
    with pytest.raises(InputError, match=r"no such file, so there is nothing to resume; leave --resume out$"):
        Journal(path, IDENTITY, resume=True)
    Journal(path, IDENTITY, resume=False).close()
    before = path.read_bytes()
    with pytest.raises(
        OutputError, match=r"this is the journal of an interrupted search; continue it with --resume, or delete"
    ):
        Journal(path, IDENTITY, resume=False)
    assert path.read_bytes() == before


def rows_of(dataset):
    return {row.tobytes() for row in dataset}


def made(tmp_path, count, *, name="data.npz", seed=0, **more):
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 5, count)
    x = random.normal(size=(int(lengths.sum()), 3)).astype(np.float32)
    np.savez(tmp_path / name, x=x, lengths=lengths, y=np.arange(count) % 3, **more)
    return str(tmp_path / name)


def test_a_file_is_cut_once_by_the_seed_and_no_sample_is_in_both(tmp_path):
    data = made(tmp_path, 61)
    roles = load_roles(data, None, metric="accuracy", seed=3)
    assert not rows_of(roles.tuning) & rows_of(roles.held_out)
    assert len(roles.tuning) + len(roles.held_out) == 61
    assert roles.calibration is roles.tuning
    counts = [np.bincount(side.y) for side in (roles.tuning, roles.held_out)]
    assert np.abs(counts[0] - counts[1]).max() <= 1, "every class in both halves"
    again = load_roles(data, None, metric="accuracy", seed=3)
    assert rows_of(again.held_out) == rows_of(roles.held_out)
    assert rows_of(load_roles(data, None, metric="accuracy", seed=4).held_out) != rows_of(roles.held_out)


def test_groups_stay_whole_and_the_later_half_in_time_is_held_out(tmp_path):
    roles = load_roles(made(tmp_path, 60, groups=np.arange(60) // 5), None, metric="accuracy")
    assert not set(roles.tuning.groups) & set(roles.held_out.groups)
    times = np.random.default_rng(1).permutation(60)
    roles = load_roles(made(tmp_path, 60, times=times), None, metric="accuracy")
    assert roles.tuning.times.max() < roles.held_out.times.min()


def test_bundled_data_keep_their_own_parts():
    roles = load_roles("japanese-vowels", None, metric="accuracy")
    assert [side.name for side in (roles.tuning, roles.held_out)] == ["japanese-vowels:train", "japanese-vowels:test"]
    roles = load_roles("king-james", None, metric="perplexity")
    names = [side.name for side in (roles.calibration, roles.tuning, roles.held_out)]
    assert names == ["king-james:train", "king-james:validation", "king-james:test"]
    roles = load_roles("king-james:test", None, metric="perplexity")
    assert len(roles.tuning) + len(roles.held_out) == 206_893
    assert not roles.held_out.text.startswith(roles.tuning.text[:200])


def test_held_out_data_that_were_tuned_on_are_refused(tmp_path):
    data, other = made(tmp_path, 40), made(tmp_path, 40, name="other.npz", seed=1)
    assert load_roles(data, other, metric="accuracy").held_out.name == other
    for one, two in ((data, data), ("king-james:test", "king-james")):
        with pytest.raises(InputError, match=r"are the same samples, or one is part of the other; expected samples"):
            load_roles(one, two, metric="accuracy" if one == data else "perplexity")


def test_too_few_samples_are_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"^data .*one half \(seed 0\): has 16 sequences, expected 20 or more to verify"
    ):
        load_roles(made(tmp_path, 34), None, metric="accuracy")
    text = tmp_path / "short.txt"
    text.write_text("".join(np.random.default_rng(0).choice(list("abcdef "), 15_000)))
    with pytest.raises(DataError, match=r"short.txt, first half: has 7,500 characters, expected 10,000 or more"):
        load_roles(str(text), None, metric="perplexity")


def alone(part, scheme, *, saved, value=1.0, drop=0.0, high=0.0, snr_db=40.0):
    """One part alone at one scheme, as the workbench finds it."""
    known = {"number": 1, "stage": "sensitivity", "bytes": 9, "step_us": None, "parts": {part: scheme}}
    return Evaluation(**known, saved=saved, value=value, drop=drop, high=high, snr_db=snr_db)


def axes_of(parts, found, allowed=1.0):
    base = Evaluation(number=1, stage="sensitivity", parts={}, bytes=9, saved=0, step_us=None, value=1.0)
    known = {(next(iter(e.parts)), next(iter(e.parts.values()))): e for e in found}
    return search_axes(parts, known, base=base, prefer="size", allowed=allowed)


def test_two_names_of_one_rounding_are_one_option_and_the_layers_own_name_is_taken():
    parts = [
        SearchPart(part=f"lstm.{m}", layer="lstm", kind="recurrent", schemes=("int8", "int4", "int4:128")) for m in "WR"
    ]
    found = [alone("lstm.W", "int8", saved=60, value=1.1), alone("lstm.R", "int8", saved=600, value=1.1)]
    # W has 12 inputs: a block of 128 is one of 32 there, R has 40.
    found += [alone("lstm.W", scheme, saved=80, value=1.2) for scheme in ("int4", "int4:128")]
    found += [alone("lstm.R", "int4", saved=800, value=1.2), alone("lstm.R", "int4:128", saved=850, value=1.2)]
    axes = axes_of(parts, found)
    assert [len(axis.options) for axis in axes] == [3, 4]
    assert [option.cost for option in axes[1].options] == [0, -600, -800, -850]
    assert parts_of((2, 3), axes, {}) == {"lstm.W": "int4:128", "lstm.R": "int4:128"}
    assert parts_of((2, 2), axes, {}) == {"lstm.W": "int4", "lstm.R": "int4"}
    gates = [dataclasses.replace(axes[0], part=f"lstm.W.{gate}") for gate in "ifgo"]
    assert set(parts_of((2, 2, 2, 2, 3), [*gates, axes[1]], {}).values()) == {"int4:128"}
    assert parts_of((2, 0), axes, {"head": "float16"}) == {"head": "float16", "lstm.W": "int4"}
    assert mix_of({"lstm.R": "int4:128"}, axes) == (0, 3)
    assert mix_of({"lstm.W": "int4:128"}, axes) == (2, 0), "another name of int4"
    assert mix_of({"lstm.W": "int4:32:zero"}, axes) is None


def test_a_convolution_joins_only_where_it_is_harmless():
    parts = [
        SearchPart(part=kind, layer=kind, kind=kind, schemes=("float16", "int8")) for kind in ("convolution", "linear")
    ]
    found = [alone(kind, "float16", saved=5, drop=0.05, high=0.1, snr_db=80.0) for kind in ("convolution", "linear")]
    found += [alone(kind, "int8", saved=7, drop=0.05, high=0.11, snr_db=50.0) for kind in ("convolution", "linear")]
    schemes = {axis.part: [option.scheme for option in axis.options] for axis in axes_of(parts, found)}
    assert schemes == {"convolution": ["float32", "float16"], "linear": ["float32", "float16", "int8"]}


def test_what_the_metric_does_not_show_is_ordered_by_the_noise():
    part = SearchPart(part="head", layer="head", kind="linear", schemes=("float16", "int8", "int4"))
    found = [alone("head", "float16", saved=5, snr_db=80.0), alone("head", "int8", saved=7, snr_db=50.0, drop=-0.2)]
    [axis] = axes_of([part], [*found, alone("head", "int4", saved=9, snr_db=30.0)], allowed=2.0)
    losses = [option.loss for option in axis.options]
    assert losses == sorted(set(losses))
    assert losses[-1] == pytest.approx(0.01 * 2.0), "never more than a hundredth of the budget"
