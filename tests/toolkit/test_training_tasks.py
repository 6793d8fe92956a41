"""Tagging, forecasting, padding, what is held out, and what is recorded of an epoch."""

import itertools
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.training_cases import LENGTHS, TASKS, sequences, train

from lstm_edge.data import Dataset
from lstm_edge.training import TrainingOptions, hold_out_sequences, train_classifier, train_forecaster, train_tagger
from lstm_edge.training.losses import IGNORED, accuracy, cross_entropy, value_error, value_loss
from lstm_edge.training.models import ClassifierConfig, SequenceTagger, TaggerConfig
from lstm_edge.training.sequences import make_batch
from lstm_edge_runtime.errors import DataError, InputError

# float32 rounding of sums over a batch of other composition: measured below 3e-7 on losses of order one.
SAME_ARITHMETIC = 2e-6


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("peephole", ["none", "diagonal", "full"])
def test_every_task_and_cell_learns(task, peephole):
    options = {"epochs": 25, "learning_rate": 0.02}
    config = {"peephole": peephole, "hidden": 6, "projection": 4} | (
        {} if task == "language-model" else {"input_noise": 0.0}
    )
    model, report = train(task, options=options, config=config)
    assert (report.task, model.training) == (task, False)
    assert report.history[-1].train_loss < 0.8 * report.history[0].train_loss
    assert report.best.held_out_loss <= report.history[0].held_out_loss


@pytest.mark.parametrize("task", TASKS)
def test_an_epoch_records_norms_rate_and_speed(task):
    _, report = train(task, options={"epochs": 3, "clip_norm": 1e-3})
    for epoch in report.history:
        # Norms are those before clipping.
        assert 1e-3 < epoch.grad_norm_mean <= epoch.grad_norm_max
        assert epoch.seconds > 0
        assert epoch.per_second > 0
        assert math.isfinite(epoch.held_out_metric)
    assert report.history[0].learning_rate > report.history[2].learning_rate > 0
    text = dict(report.rows())
    assert ("held-out perplexity" in text) == (task == "language-model")
    assert f"{report.unit} a second" in text


@pytest.mark.parametrize("task", ["classification", "tagging", "forecast"])
@pytest.mark.parametrize("pad", ["pre", "random"])
def test_where_the_padding_goes_never_changes_a_bit(task, pad):
    config = {"bidirectional": True, "peephole": "diagonal"}
    after, expected = train(task, config=config)
    model, report = train(task, config=config, options={"pad": pad})
    assert report.history == expected.history
    assert all(torch.equal(value, weights(after)[name]) for name, value in weights(model).items())


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_batchs_loss_and_gradient_are_those_of_its_rows_alone(bidirectional):
    data = sequences("tagging")
    torch.manual_seed(0)
    model = SequenceTagger(TaggerConfig(features=2, classes=2, hidden=5, bidirectional=bidirectional))
    loss = cross_entropy()
    together = make_batch(data, np.arange(6), TrainingOptions(), None)
    assert together.count == LENGTHS[:6].sum()
    assert (together.y == IGNORED).sum() == 6 * 7 - LENGTHS[:6].sum()
    batch_loss = loss(model(together.x, together.lengths), together.y)
    batch_loss.backward()
    gradient = model.linear.weight.grad.clone()
    model.zero_grad()
    total = torch.zeros(())
    for row in range(6):
        alone = make_batch(data, np.array([row]), TrainingOptions(), None)
        assert alone.lengths is None
        assert alone.x.shape[1] == LENGTHS[row]
        total = total + loss(model(alone.x, None), alone.y) * LENGTHS[row] / LENGTHS[:6].sum()
    total.backward()
    assert abs(batch_loss.item() - total.item()) < SAME_ARITHMETIC
    assert (gradient - model.linear.weight.grad).abs().max() < SAME_ARITHMETIC


@pytest.mark.parametrize("task", ["classification", "tagging", "forecast"])
@pytest.mark.parametrize("layers", [1, 2])
def test_training_unpacked_gives_the_same_losses(task, layers):
    config = {"layers": layers, "input_noise": 0.0}
    _, packed = train(task, config=config, options={"epochs": 3})
    _, padded = train(task, config=config, options={"epochs": 3, "pack": False})
    for mine, theirs in zip(packed.history, padded.history, strict=True):
        assert abs(mine.train_loss - theirs.train_loss) < 10 * SAME_ARITHMETIC
        assert abs(mine.grad_norm_mean - theirs.grad_norm_mean) < 10 * SAME_ARITHMETIC * mine.grad_norm_mean
        assert abs(mine.held_out_loss - theirs.held_out_loss) < 10 * SAME_ARITHMETIC


def test_unpacked_the_padding_reaches_no_gradient():
    data = sequences("tagging")
    torch.manual_seed(0)
    model = SequenceTagger(TaggerConfig(features=2, classes=2, hidden=5))
    model.pack = False
    batch = make_batch(data, np.arange(6), TrainingOptions(), None)
    gradients = []
    for filler in (0.0, torch.nan):
        past = torch.arange(batch.x.shape[1]) >= batch.lengths.unsqueeze(1)
        model.zero_grad()
        cross_entropy()(model(batch.x.masked_fill(past.unsqueeze(-1), filler), batch.lengths), batch.y).backward()
        gradients.append(model.lstm.weight_ih_l0.grad.clone())
    assert torch.equal(*gradients)


def test_a_real_zero_is_not_padding():
    data = sequences("tagging")
    zeros = Dataset(name="zeros", x=np.zeros_like(data.x), lengths=LENGTHS, y=np.zeros_like(data.y), per_step=True)
    batch = make_batch(zeros, np.arange(3), TrainingOptions(), None)
    assert batch.count == LENGTHS[:3].sum()
    assert (batch.y == 0).sum() == LENGTHS[:3].sum()


def test_steps_over_the_longest_are_cut_in_training_only():
    _, report = train("tagging", options={"max_length": 2, "epochs": 1})
    _, whole = train("tagging", options={"epochs": 1})
    assert report.history[0].train_loss != whole.history[0].train_loss
    data = sequences("tagging")
    cut = make_batch(data, np.arange(4), TrainingOptions(max_length=2, truncate="pre"), None)
    assert cut.x.shape == (4, 2, 2)
    np.testing.assert_array_equal(cut.x[0].numpy(), data[0][-2:])


@pytest.mark.parametrize("task", ["classification", "tagging"])
def test_a_large_held_out_part_is_evaluated_in_pieces(task, monkeypatch):
    _, whole = train(task, options={"epochs": 1})
    monkeypatch.setattr("lstm_edge.training.sequences.EVALUATED_STEPS", 15)
    _, pieces = train(task, options={"epochs": 1})
    assert abs(whole.best.held_out_loss - pieces.best.held_out_loss) < SAME_ARITHMETIC
    assert abs(whole.best.held_out_metric - pieces.best.held_out_metric) < 1e-12


def test_buckets_pad_less_and_train_every_sequence():
    _, report = train("tagging", options={"bucket": True})
    assert report.history[0].updates == 3
    assert report.history[-1].train_loss < 1


@pytest.mark.slow
def test_a_forecast_is_in_the_targets_own_units():
    model, report = train("forecast", options={"epochs": 60, "learning_rate": 0.02, "loss": "mae"})
    y = sequences("forecast").y
    assert report.metric == "mean-absolute-error"
    assert abs(model.target_mean[0].item() - 100) < 25
    batch = make_batch(sequences("forecast"), np.arange(12), TrainingOptions(), None)
    with torch.no_grad():
        answers = model(batch.x, batch.lengths).numpy()
    spread = np.abs(y - y.mean(axis=0)).mean(axis=0)
    assert (np.abs(answers - y).mean(axis=0) < spread).all()
    # The held-out metric is the one that `validate` would give: recomputed here from the held-out rows.
    _, held_out = hold_out_sequences(sequences("forecast"), 0.25, seed=0)
    assert abs(np.abs(answers[held_out] - y[held_out]).mean() - report.best.held_out_metric) < 1e-4


def test_a_number_is_forecast_from_a_vector_of_targets_without_an_axis():
    data = sequences("forecast", values=1)
    assert data.y.ndim == 1
    model, _ = train_forecaster(data, options=TrainingOptions(loss="mse", epochs=1))
    assert model(torch.zeros(3, 4, 2)).shape == (3, 1)


def test_the_losses_are_what_their_names_say():
    logits, y = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [9.0, 9.0]]]), torch.tensor([[0, 0, IGNORED]])
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.e)) / 2
    assert abs(cross_entropy()(logits, y).item() - expected) < 1e-6
    smoothed = expected * 0.9 + 0.1 * (expected + (math.log(1 + math.exp(2)) + math.log(1 + math.exp(-1))) / 2) / 2
    assert abs(cross_entropy(0.1)(logits, y).item() - smoothed) < 1e-6
    assert accuracy(logits, y) == 0.5
    outputs, values, std = torch.tensor([[1.0, 10.0]]), torch.tensor([[3.0, 30.0]]), torch.tensor([2.0, 10.0])
    assert value_loss("mse", std)(outputs, values).item() == 2.5
    assert value_loss("mae", std)(outputs, values).item() == 1.5
    assert value_error("mse")(outputs, values) == 202
    assert value_error("mae")(outputs, values) == 11


def test_groups_are_held_out_whole_and_times_from_their_end():
    data = sequences("classification")
    grouped = Dataset(name="g", x=data.x, lengths=LENGTHS, y=data.y, groups=np.arange(12) // 3)
    train_rows, held_out = hold_out_sequences(grouped, 0.25, seed=2)
    assert len(held_out) == 3
    assert len(set(held_out // 3)) == 1
    assert not set(train_rows // 3) & set(held_out // 3)
    timed = Dataset(name="t", x=data.x, lengths=LENGTHS, y=data.y, times=np.arange(12)[::-1].astype(np.float64))
    assert hold_out_sequences(timed, 0.25, seed=0)[1].tolist() == [0, 1, 2]
    one = Dataset(name="o", x=data.x, lengths=LENGTHS, y=data.y, groups=np.zeros(12, np.int64))
    with pytest.raises(DataError, match=r"^data o: has one of groups, so none can be held out; expected two or more$"):
        hold_out_sequences(one, 0.25, seed=0)


def test_validation_data_is_held_out_instead():
    data, other = sequences("tagging"), sequences("tagging", seed=5)
    _, report = train_tagger(data, options=TrainingOptions(epochs=1), validation=other)
    assert (report.trained, report.held_out) == (12, 12)
    named = sequences("classification")
    labelled = Dataset(name="a", x=named.x, lengths=LENGTHS, y=named.y, labels=("x", "y", "z"))
    strange = Dataset(name="b", x=named.x, lengths=LENGTHS, y=named.y, labels=("x", "y", "new"))
    with pytest.raises(DataError, match=r"^data b: the label 'new' was never seen in training; expected one of 'x'"):
        train_classifier(labelled, options=TrainingOptions(epochs=1), validation=strange)
    # Class 1 of three: the training data has room for it, and no target of it.
    gap = Dataset(name="gap", x=named.x, lengths=LENGTHS, y=np.where(named.y == 1, 0, named.y))
    with pytest.raises(DataError, match=r"^data small: the label 1 was never seen in training; expected one that"):
        train_classifier(gap, options=TrainingOptions(epochs=1), validation=named)
    with pytest.raises(DataError, match=r"^data small: task is tagging, the training data has classification$"):
        train_classifier(labelled, options=TrainingOptions(epochs=1), validation=data)


def rare(task, place, **parts):
    """Return a data set whose class 2, "rare", is in the sequence at this place alone."""
    data = sequences(task)
    starts = np.concatenate([[0], np.cumsum(LENGTHS)])
    y = data.y % 2
    if task == "tagging":
        y[starts[place + 1] - 1] = 2
    else:
        y[place] = 2
    labels = ("a", "b", "rare")
    return Dataset(name="r", x=data.x, lengths=LENGTHS, y=y, labels=labels, per_step=task == "tagging", **parts)


# Of classes of sequences without groups or times every one keeps a sequence to train on: test_training.py.
@pytest.mark.parametrize(
    ("task", "parts", "why"),
    [
        ("classification", {"groups": np.arange(12) // 3}, " (whole groups)"),
        ("classification", {"times": np.arange(12.0)}, " (the latest)"),
        ("tagging", {"groups": np.arange(12) // 3}, " (whole groups)"),
        ("tagging", {"times": np.arange(12.0)}, " (the latest)"),
        ("tagging", {}, ""),
    ],
)
def test_a_class_that_only_the_held_out_part_has_is_refused_by_name(task, parts, why):
    held_out = hold_out_sequences(rare(task, 0, **parts), 0.25, seed=0)[1]
    function = train_classifier if task == "classification" else train_tagger
    sentence = (
        f"data r: the class 'rare' is only in the 3 sequences that are held out{why}, so training would never see it; "
        "add sequences of that class, or give held-out data, another share or another seed"
    )
    options = TrainingOptions(epochs=1, held_out=0.25)
    with pytest.raises(DataError, match="^" + re.escape(sentence) + "$"):
        function(rare(task, held_out[0], **parts), options=options)
    # In a sequence that is trained on it is none of the kind; without labels the class has its number.
    trained = np.setdiff1d(np.arange(12), held_out)[0]
    function(rare(task, trained, **parts), options=options)
    unnamed = rare(task, held_out[0], **parts)
    with pytest.raises(DataError, match=r"^data u: the class 2 is only in the 3 sequences that are held out"):
        function(
            Dataset(name="u", x=unnamed.x, lengths=LENGTHS, y=unnamed.y, per_step=unnamed.per_step, **parts),
            options=options,
        )


def test_steps_that_are_always_cut_off_are_not_trained_on():
    # The class is in the last step of a sequence of 7, and of another one that judges.
    data, other = rare("tagging", 2), rare("tagging", 9)
    for how in ({}, {"max_length": 7}, {"max_length": 2, "truncate": "pre"}, {"max_length": 2, "truncate": "random"}):
        train_tagger(data, options=TrainingOptions(epochs=1, **how), validation=other)
    sentence = (
        "data r: the label 'rare' was never seen in training; expected one that r has targets of in the 6 steps that "
        "--max-length keeps"
    )
    with pytest.raises(DataError, match="^" + re.escape(sentence) + "$"):
        train_tagger(data, options=TrainingOptions(epochs=1, max_length=6), validation=other)


@pytest.mark.parametrize(
    ("function", "task", "sentence"),
    [
        (
            train_tagger,
            "classification",
            "data small: y is int64, one for each sequence, expected integer classes to t",
        ),
        (
            train_classifier,
            "tagging",
            "data small: y is int64, one for each step, expected integer classes to train a c",
        ),
        (train_forecaster, "tagging", "data small: y is int64, one for each step, expected float32 values to train a"),
    ],
)
def test_data_for_another_task_is_refused(function, task, sentence):
    with pytest.raises(DataError, match="^" + re.escape(sentence)):
        function(sequences(task))


@pytest.mark.parametrize(
    ("task", "loss", "sentence"),
    [
        ("forecast", "cross-entropy", "training: loss is cross-entropy, expected mse or mae for forecast"),
        ("tagging", "mse", "training: loss is mse, expected cross-entropy for tagging"),
        ("language-model", "mae", "training: loss is mae, expected cross-entropy for language-model"),
    ],
)
def test_a_loss_that_a_task_has_no_use_for_is_refused(task, loss, sentence):
    with pytest.raises(InputError, match=f"^{sentence}$"):
        train(task, options={"loss": loss})


@pytest.mark.slow
def test_the_classic_recipe_runs():
    """LSTM(128) and a softmax layer, Adam, categorical cross-entropy, 10 epochs, batch 64, validation data."""
    generator = np.random.default_rng(0)
    y = np.arange(512) % 4
    x = (generator.normal(size=(512, 6, 3)) + 3 * y[:, None, None]).astype(np.float32).reshape(-1, 3)
    data = Dataset(name="train", x=x, lengths=np.full(512, 6), y=y)
    config = ClassifierConfig(features=3, classes=4, hidden=128, input_noise=0.0)
    options = TrainingOptions(epochs=10, batch_size=64, learning_rate=1e-3, schedule="constant")
    _, report = train_classifier(data, config, options=options, validation=data)
    assert len(report.history) == 10
    assert report.best.held_out_metric > 0.7


def test_the_forget_bias_is_set_before_training():
    _, report = train("tagging", options={"forget_bias": 3.0, "epochs": 1, "learning_rate": 1e-9})
    model, _ = train("tagging", options={"forget_bias": 3.0, "epochs": 1, "learning_rate": 1e-9})
    bias = model.lstm.bias_ih_l0.detach().chunk(4)
    assert torch.allclose(bias[1], torch.full((4,), 3.0), atol=1e-6)
    assert torch.allclose(bias[0], torch.zeros(4), atol=1e-6)
    assert report.options.forget_bias == 3.0


@pytest.mark.slow
def test_a_time_budget_ends_training_within_an_epoch(monkeypatch):
    # A clock that goes on by a millisecond whenever it is read.
    clock = SimpleNamespace(perf_counter=itertools.count(0.0, 0.001).__next__)
    monkeypatch.setattr("lstm_edge.training.loop.time", clock)
    _, report = train("language-model", options={"epochs": 10**6, "max_minutes": 0.3 / 60, "patience": 10**6})
    assert 0.3 <= report.seconds < 0.32
    # Near the end of the budget the cosine is near 0, wherever in the million epochs that is.
    assert report.history[-1].learning_rate < 1e-3
    assert len(report.history) < 10**4
