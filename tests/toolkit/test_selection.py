"""Folds, limits, the choice, and the whole of `lstm-edge select` on a small set."""

import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from lstm_edge.amounts import parse_amount, parse_sizes
from lstm_edge.checkpoint import load_checkpoint
from lstm_edge.cli import app
from lstm_edge.data import Dataset, load
from lstm_edge.training import TrainingOptions
from lstm_edge.training.selection import (
    Architecture,
    Candidate,
    Limits,
    SelectionReport,
    SelectionSettings,
    check_held_out,
    choose,
    choose_split,
    make_folds,
    plot_selection,
    select,
    study_name,
)
from lstm_edge.training.selection.candidates import score
from lstm_edge.training.selection.report import check_limits
from lstm_edge_runtime.errors import BudgetError, DataError, InputError
from lstm_edge_runtime.metrics import get_metric


def data(samples=24, *, task="classification", groups=None, times=None, classes=2, seed=0):
    """Sequences of 2 to 5 steps; the class is the sign of the first feature's mean, or of each step."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 6, samples)
    x = rng.normal(size=(int(lengths.sum()), 3)).astype(np.float32)
    per_step = task == "tagging"
    y = np.arange(len(x) if per_step else samples) % classes
    return Dataset(
        name="small",
        x=x,
        lengths=lengths,
        y=y.astype(np.float32) if task == "forecast" else y,
        per_step=per_step,
        groups=groups,
        times=times,
    )


def covered(folds):
    return sorted(np.concatenate([fold.test for fold in folds]).tolist())


@pytest.mark.parametrize(
    ("split", "task"), [("stratified", "classification"), ("plain", "tagging"), ("plain", "forecast")]
)
def test_every_sequence_judges_once_and_never_trains_its_own_fold(split, task):
    dataset = data(task=task)
    folds = make_folds(dataset, folds=4, split=split, seed=1)
    assert covered(folds) == list(range(24))
    for fold in folds:
        assert sorted([*fold.train, *fold.test]) == list(range(24))
        if split == "stratified":
            assert np.bincount(dataset.y[fold.test]).tolist() == [3, 3]
    again = make_folds(dataset, folds=4, split=split, seed=1)
    other = make_folds(dataset, folds=4, split=split, seed=2)
    assert all(np.array_equal(a.test, b.test) for a, b in zip(folds, again, strict=True))
    assert not all(np.array_equal(a.test, b.test) for a, b in zip(folds, other, strict=True))


@pytest.mark.parametrize("task", ["classification", "tagging", "forecast"])
def test_a_group_is_never_on_both_sides(task):
    groups = np.repeat(np.arange(6), 4)
    folds = make_folds(data(task=task, groups=groups), folds=3, split="grouped", seed=0)
    assert covered(folds) == list(range(24))
    for fold in folds:
        assert not set(groups[fold.train]) & set(groups[fold.test])


def test_the_split_in_time_judges_only_what_comes_after():
    times = np.random.default_rng(0).permutation(24).astype(np.float64)
    folds = make_folds(data(task="forecast", times=times), folds=3, split="time", seed=0)
    assert len(folds) == 3
    for fold in folds:
        assert times[fold.train].max() < times[fold.test].min()


@pytest.mark.parametrize(
    ("arguments", "split"),
    [
        ({}, "stratified"),
        ({"groups": np.repeat(np.arange(6), 4)}, "grouped"),
        ({"task": "tagging"}, "plain"),
        ({"task": "forecast"}, "plain"),
        ({"task": "forecast", "times": np.arange(24.0)}, "time"),
        ({"times": np.arange(24.0)}, "stratified"),
    ],
)
def test_the_data_ask_for_their_split(arguments, split):
    assert choose_split(data(**arguments)) == split


def test_groups_and_times_of_a_forecast_are_a_dilemma():
    both = data(task="forecast", groups=np.zeros(24, np.int64), times=np.arange(24.0))
    with pytest.raises(DataError, match=r"^data small: has groups and times; give the split, grouped or time$"):
        choose_split(both)


@pytest.mark.parametrize("task", ["classification", "tagging"])
def test_a_class_that_a_fold_would_only_hold_out_is_refused_before_anything_is_trained(task, tmp_path):
    # Six groups; the class is in two of them, one for each fold to train on.
    groups = np.repeat(np.arange(6), 4)
    plain = data(task=task, groups=groups)
    owners = np.repeat(groups, plain.lengths) if plain.per_step else groups
    settings = SelectionSettings(hidden=(4,), folds=2, split="grouped", options=TrainingOptions(epochs=1))
    refused = []
    for pair in itertools.combinations(range(6), 2):
        y = plain.y.copy()
        for group in pair:
            y[np.flatnonzero(owners == group)[0]] = 2
        dataset = replace(plain, y=y, labels=("a", "b", "rare"))
        try:
            folds = make_folds(dataset, folds=2, split="grouped", seed=0)
        except DataError:
            continue  # the class is in one fold alone
        try:
            check_held_out(dataset, folds, settings.options, seed=0)
        except DataError:
            refused.append(dataset)
    said = []
    sentence = (
        r"^data small, fold [12]: the class 'rare' is only in the 4 sequences that are held out \(whole groups\), so"
    )
    with pytest.raises(DataError, match=sentence):
        select(refused[0], settings, storage=f"sqlite:///{tmp_path / 's.sqlite3'}", say=said.append)
    # Nothing was exported, timed or trained.
    assert said == []


@pytest.mark.parametrize(
    ("arguments", "split", "folds", "sentence"),
    [
        ({"classes": 9}, "stratified", 3, "the class 6 has 2 sequences, fewer than the 3 folds; use fewer folds"),
        ({"task": "tagging"}, "stratified", 3, "the stratified split needs a class for each sequence; use plain or"),
        ({}, "grouped", 3, "the grouped split needs groups, one for each sequence; there are none"),
        ({}, "time", 3, "the split in time needs times, one for each sequence; there are none"),
        ({"groups": np.repeat([0, 1], 12)}, "grouped", 3, "has 2 groups, too few for 3 folds"),
        ({"task": "forecast"}, "plain", 25, "has 24 sequences, too few for 25 folds"),
        ({"task": "forecast", "times": np.arange(24.0)}, "time", 24, "has 24 sequences, too few for 24 folds"),
        ({"classes": 24}, "plain", 2, "is missing from the training part of fold 1; use another number of folds"),
    ],
)
def test_data_that_cannot_be_split_so_get_one_sentence(arguments, split, folds, sentence):
    with pytest.raises(DataError, match=r"^data small: .*" + re.escape(sentence)):
        make_folds(data(**arguments), folds=folds, split=split, seed=0)


def candidate(hidden, scores, size, step=10.0, *, within=True):
    return Candidate(
        architecture=Architecture(hidden=hidden, layers=1),
        parameters=hidden,
        int8_bytes=size,
        step_us=step,
        streamed=True,
        within_limits=within,
        scores=tuple(scores),
    )


def test_mean_and_standard_error_are_those_of_the_folds():
    one = candidate(8, (0.9, 1.0, 0.8, 0.9), 1)
    assert one.mean == pytest.approx(0.9, abs=1e-12)
    # Deviations 0, 0.1, -0.1, 0: variance 0.02 / 3, over 4 folds.
    assert one.standard_error == pytest.approx((0.02 / 3 / 4) ** 0.5, abs=1e-12)


@pytest.mark.parametrize(
    ("metric", "means", "expected"),
    [
        # The best is 64, its standard error 0.02: 0.96 is within it, 0.95 not.
        ("accuracy", (0.95, 0.96, 0.98), 32),
        ("accuracy", (0.96, 0.96, 0.98), 16),
        ("accuracy", (0.99, 0.96, 0.98), 16),
        ("mean-squared-error", (0.43, 0.42, 0.40), 32),
        ("mean-squared-error", (0.95, 0.96, 0.40), 64),
    ],
)
def test_the_smallest_within_one_standard_error_is_chosen(metric, means, expected):
    # Two folds at mean ± 0.02 have a standard error of 0.02.
    candidates = [
        candidate(hidden, (mean - 0.02, mean + 0.02), hidden * 1000)
        for hidden, mean in zip((16, 32, 64), means, strict=True)
    ]
    best, chosen = choose(candidates, get_metric(metric))
    assert chosen.architecture.hidden == expected
    assert best.architecture.hidden == (16 if means[0] == 0.99 else 64)


def test_what_is_over_a_limit_is_neither_best_nor_chosen():
    candidates = [candidate(16, (0.80, 0.82), 1000), candidate(64, (0.98, 0.99), 9000, within=False)]
    best, chosen = choose(candidates, get_metric("accuracy"))
    assert best is chosen is candidates[0]


def test_limits_that_nothing_meets_name_the_smallest_and_the_fastest():
    candidates = [candidate(16, (), 5000, 9.0, within=False), candidate(64, (), 9000, 8.0, within=False)]
    with pytest.raises(BudgetError) as caught:
        check_limits(candidates, Limits(max_bytes=1000, max_step_us=7.5))
    assert str(caught.value) == (
        "select: no candidate is within the limits (1,000 bytes and 7.5 µs a step): the smallest, 16 x 1, has "
        "5,000 bytes, the fastest, 64 x 1, takes 8.0 µs a step. Nothing was written"
    )
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(("text", "value"), [("100k", 1e5), ("1.5M", 1.5e6), ("50", 50.0), ("7.5", 7.5)])
def test_amounts_have_suffixes(text, value):
    assert parse_amount("--max-bytes", text) == value


@pytest.mark.parametrize("text", ["", "0", "-1", "100K", "1e3", "nan", "k"])
def test_other_amounts_are_refused(text):
    with pytest.raises(InputError, match=f"^--max-bytes is {text!r}, expected a number above 0, such as 50, 100k"):
        parse_amount("--max-bytes", text)


def test_lists_of_sizes():
    assert parse_sizes("--hidden-sizes", "16, 32") == (16, 32)
    for text in ("", "16,", "a", "1.5", "-3"):
        with pytest.raises(InputError, match=r"^--hidden-sizes is .*, expected integers separated by commas"):
            parse_sizes("--hidden-sizes", text)
    for wrong in ((8, 8), (0,), ()):
        with pytest.raises(InputError, match=r"^select: hidden is "):
            SelectionSettings(hidden=wrong)


def test_a_study_is_named_after_data_and_settings_but_not_the_grid():
    settings = SelectionSettings(hidden=(8,))
    name = study_name(data(), settings, "stratified")
    assert re.fullmatch("lstm-edge-select-[0-9a-f]{16}", name)
    assert study_name(data(), SelectionSettings(hidden=(8, 16), layers=(1, 2)), "stratified") == name
    others = [
        study_name(data(seed=1), settings, "stratified"),
        study_name(data(groups=np.zeros(24, np.int64)), settings, "stratified"),
        study_name(data(), settings, "plain"),
        study_name(data(), SelectionSettings(hidden=(8,), seed=1), "stratified"),
        study_name(data(), SelectionSettings(hidden=(8,), folds=4), "stratified"),
        study_name(data(), SelectionSettings(hidden=(8,), metric="cross-entropy"), "stratified"),
        study_name(data(), SelectionSettings(hidden=(8,), model={"peephole": "full"}), "stratified"),
        study_name(data(), SelectionSettings(hidden=(8,), options=TrainingOptions(epochs=3)), "stratified"),
    ]
    assert len({name, *others}) == 9


def test_the_score_is_over_valid_steps_in_the_data_sets_own_order():
    import torch

    dataset = data(task="tagging")

    class Echo(torch.nn.Module):
        """Right in the first step of each row, else class 5: what is right depends on every mask and order."""

        def forward(self, x, lengths):
            logits = torch.zeros(*x.shape[:2], 6)
            logits[..., 5] = 1
            logits[:, 0, 0] = 2
            return logits

    first = np.cumsum(dataset.lengths) - dataset.lengths
    expected = float((dataset.y[first] == 0).sum() / len(dataset.y))
    assert score(Echo(), dataset, get_metric("accuracy")) == pytest.approx(expected, abs=1e-12)


def run_select(tmp_path, *arguments):
    source = tmp_path / "d.npz"
    dataset = data()
    np.savez(source, x=dataset.x, lengths=dataset.lengths, y=dataset.y)
    common = ["--data", str(source), "--hidden-sizes", "3,2", "--folds", "2", "--epochs", "1"]
    return CliRunner().invoke(app, ["select", *common, "-o", str(tmp_path / "m.safetensors"), *arguments])


@pytest.mark.long
@pytest.mark.slow
def test_the_command_chooses_trains_writes_and_goes_on_with_its_study(tmp_path, monkeypatch):
    result = run_select(tmp_path, "--json", "--plot", str(tmp_path / "p.svg"), "--max-bytes", "1M")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    chosen = report["chosen"]
    assert load_checkpoint(tmp_path / "m.safetensors").config.hidden == chosen["hidden"]
    assert [(c["hidden"], c["layers"], len(c["scores"])) for c in report["candidates"]] == [(2, 1, 2), (3, 1, 2)]
    # Gates i f g o, input 3, both biases; linear to 2 classes.
    assert [c["parameters"] for c in report["candidates"]] == [4 * h * (3 + h + 2) + 2 * h + 2 for h in (2, 3)]
    assert all(1000 < c["int8_bytes"] < 20_000 and c["step_us"] > 0 for c in report["candidates"])
    assert "<svg" in (tmp_path / "p.svg").read_text()
    assert (tmp_path / "m.selection-study.sqlite3").is_file()
    trained = []
    monkeypatch.setattr("lstm_edge.training.selection.train", lambda *a, **k: trained.append(k) or real(*a, **k))
    from lstm_edge.training.selection.candidates import train as real

    again = run_select(tmp_path)
    assert again.exit_code == 0, again.stderr
    # The model of all data alone: the four trials are in the study.
    assert len(trained) == 1
    assert max(map(len, again.stdout.splitlines()[:8])) <= 80
    assert f"chosen: {chosen['hidden']} x 1, the smallest file within one standard error of the best" in again.stdout


@pytest.mark.long
@pytest.mark.slow
def test_a_limit_that_nothing_meets_writes_nothing(tmp_path):
    result = run_select(tmp_path, "--max-bytes", "1k")
    assert result.exit_code == 1
    assert "error: select: no candidate is within the limits (1,000 bytes): the smallest, 2 x 1, has " in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["d.npz"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--hidden-sizes", "a"), "--hidden-sizes is 'a', expected integers"),
        (("--folds", "1"), "--folds is '1', expected 2 or more"),
        (("--metric", "mean-squared-error"), "metric mean-squared-error: data "),
        (
            ("--metric", "agreement"),
            "metric agreement: not available for selection; expected one of accuracy, cross-",
        ),
        (("--metric", "si-sdr"), "metric si-sdr: not available for selection; expected one of accuracy, cross-"),
        (
            ("--metric", "accuracy:output=y"),
            "metric accuracy:output=y: the models of a selection have one output; leave",
        ),
        (("--task", "tagging"), "y holds a class (integer) for each sequence; expected"),
        (("--storage", "nonsense"), "storage: not a database's URL; expected sqlite:///study.sqlite3 or postgresql://"),
        (("--storage", "mysql://a/b"), "storage: mysql is not supported, expected sqlite or postgresql"),
        (("--plot", "p.gif"), "p.gif: the name of a plot must end in"),
    ],
)
def test_wrong_arguments_get_one_sentence_and_write_nothing(tmp_path, monkeypatch, arguments, sentence):
    from lstm_edge.training.selection.candidates import Measured

    sizes = {Architecture(hidden=2, layers=1): Measured(parameters=1, int8_bytes=1, step_us=1.0, streamed=True)}
    monkeypatch.setattr("lstm_edge.training.selection.measure", lambda *_, **__: sizes)
    result = run_select(tmp_path, *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "m.safetensors").exists()


def report_of(*candidates):
    return SelectionReport(
        data="japanese-vowels:train",
        samples=270,
        task="classification",
        metric="accuracy",
        split="stratified",
        folds=2,
        seed=0,
        limits=Limits(max_bytes=100e3),
        study="s",
        best=candidates[0].architecture,
        chosen=candidates[0].architecture,
        candidates=candidates,
    )


@pytest.mark.slow
def test_equal_reports_are_drawn_equally(tmp_path):
    report = report_of(candidate(128, (0.5, 0.6), 50_000), candidate(256, (0.6, 0.8), 200_000, within=False))
    for name in ("a.svg", "b.svg"):
        plot_selection(report, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert [row[-1] for row in report.rows()] == ["chosen", "too big"]


def test_the_vowels_can_be_split_as_the_docs_say():
    dataset = load("japanese-vowels", default_split="train")
    assert choose_split(dataset) == "stratified"
    for fold in make_folds(dataset, folds=5, split="stratified", seed=0):
        assert np.bincount(dataset.y[fold.test]).tolist() == [6] * 9
