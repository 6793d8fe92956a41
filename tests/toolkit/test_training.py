"""Training: determinism, early stopping, what is held out, and what is never touched."""

import json
import re

import numpy as np
import pytest
import torch

import lstm_edge.data._files as files
from lstm_edge.data import Dataset, load, pad
from lstm_edge.training import TrainingOptions, hold_out, train_classifier
from lstm_edge.training.models import ClassifierConfig
from lstm_edge_runtime.errors import DataError, InputError

# Two epochs on half of the hidden size: about 0.2 s.
SHORT = TrainingOptions(epochs=2)


def small(**changes):
    arrays = {
        "name": "small",
        "x": np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32),
        "lengths": np.full(12, 5),
        "y": np.arange(12) % 3,
    }
    return Dataset(**(arrays | changes))


@pytest.fixture(scope="module")
def vowels():
    return load("japanese-vowels", default_split="train")


@pytest.fixture(scope="module")
def trained(vowels):
    return train_classifier(vowels, options=SHORT, seed=3)


def test_the_loss_falls_within_two_epochs(trained):
    model, report = trained
    first, second = report.history
    assert second.train_loss < 0.8 * first.train_loss
    # 2.197 nats is the cross-entropy of guessing among nine speakers.
    assert second.held_out_loss < first.held_out_loss < 2.197
    assert report.best == second
    assert not model.training


def test_two_runs_give_equal_bits_and_leave_the_global_generator_alone(vowels, trained):
    before = torch.get_rng_state()
    model, report = train_classifier(vowels, options=SHORT, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert report.history == trained[1].history
    for name, value in model.state_dict().items():
        assert torch.equal(value, trained[0].state_dict()[name]), name


def test_another_seed_gives_another_model(vowels, trained):
    model, report = train_classifier(vowels, options=TrainingOptions(epochs=1), seed=4)
    assert report.history[0] != trained[1].history[0]
    assert not torch.equal(model.linear.weight, trained[0].linear.weight)


def test_the_report_says_what_was_done(vowels, trained):
    _, report = trained
    assert (report.data, report.seed) == ("japanese-vowels:train", 3)
    assert (report.trained, report.held_out, report.unit) == (243, 27, "sequences")
    # 4 gates x 64 x (12 inputs + 64 hidden + 2 biases), and 64 x 9 + 9 of the linear layer.
    assert report.parameters == 4 * 64 * (12 + 64 + 2) + 64 * 9 + 9
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["best"]["number"] == 2
    assert document["config"]["labels"][0] == "speaker 1"


def test_the_test_split_is_never_read(monkeypatch):
    read = []
    original = files._read  # private: every array of a file goes through it, and only its arguments name them

    def spy(path, *, required, optional=()):
        read.extend(required)
        return original(path, required=required, optional=optional)

    monkeypatch.setattr(files, "_read", spy)
    dataset = load("japanese-vowels", default_split="train")
    _, report = train_classifier(dataset, options=TrainingOptions(epochs=1))
    assert read == ["x_train", "len_train", "y_train"]
    assert report.trained + report.held_out == 270


def test_statistics_come_from_the_training_part_only(vowels, trained):
    model, _ = trained
    train, _ = hold_out(vowels.y, 0.1, seed=3)
    steps = np.concatenate([vowels[index] for index in train])
    np.testing.assert_allclose(model.mean.numpy(), steps.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(model.std.numpy(), steps.std(axis=0), atol=1e-6)
    assert np.abs(model.mean.numpy() - vowels.x.mean(axis=0)).max() > 1e-4


@pytest.mark.slow
def test_the_weights_of_the_best_epoch_are_kept(vowels):
    # Without a decaying rate and at 0.05 the held-out loss goes up and down, so the last epoch is not the best.
    options = TrainingOptions(epochs=12, learning_rate=0.05, patience=4)
    config = ClassifierConfig(features=12, classes=9, hidden=8)
    model, report = train_classifier(vowels, config, options=options, seed=1)
    assert report.best != report.history[-1]
    assert report.best.held_out_loss == min(epoch.held_out_loss for epoch in report.history)
    _, held_out = hold_out(vowels.y, 0.1, seed=1)
    x, lengths = pad([vowels[index] for index in held_out])
    with torch.no_grad():
        logits = model(torch.from_numpy(x), torch.from_numpy(lengths))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(vowels.y[held_out])).item()
    assert loss == report.best.held_out_loss


def test_patience_ends_training():
    # Noise has nothing to learn: the held-out loss soon rises.
    options = TrainingOptions(epochs=200, learning_rate=0.02, patience=3)
    _, report = train_classifier(small(), ClassifierConfig(features=2, classes=3, hidden=4), options=options)
    assert len(report.history) == report.best.number + 3 < 200


@pytest.mark.parametrize("peephole", ["none", "diagonal", "full"])
def test_every_cell_trains(peephole):
    config = ClassifierConfig(features=2, classes=3, hidden=4, layers=2, bidirectional=True, peephole=peephole)
    seen = []
    model, report = train_classifier(small(), config, options=SHORT, on_epoch=seen.append)
    assert tuple(seen) == report.history
    assert model.config.peephole == peephole


def test_every_class_is_held_out_in_its_share():
    y = np.repeat([0, 1, 2], [30, 10, 1])
    train, held_out = hold_out(y, 0.1, seed=5)
    assert np.bincount(y[held_out], minlength=3).tolist() == [3, 1, 0]
    assert sorted([*train, *held_out]) == list(range(41))
    assert not np.array_equal(held_out, hold_out(y, 0.1, seed=6)[1])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"epochs": 0}, "training: epochs is 0, expected 1 or more"),
        ({"batch_size": -1}, "training: batch_size is -1, expected 1 or more"),
        ({"learning_rate": 0.0}, "training: learning_rate is 0.0, expected above 0 and at most 1"),
        ({"learning_rate": float("nan")}, "training: learning_rate is nan, expected above 0 and at most 1"),
        ({"clip_norm": float("inf")}, "training: clip_norm is inf, expected a finite number above 0"),
    ],
)
def test_wrong_options_get_one_sentence(options, sentence):
    with pytest.raises(InputError, match="^" + re.escape(sentence) + "$"):
        TrainingOptions(**options)


def test_a_wrong_share_or_too_few_samples_are_refused():
    with pytest.raises(InputError, match=r"^training: the held-out share is 0, expected above 0 and at most 0.5$"):
        hold_out(np.zeros(4), 0, seed=0)
    with pytest.raises(DataError, match=r"^training: no class has two samples, so none can be held out"):
        hold_out(np.arange(4), 0.1, seed=0)
    with pytest.raises(DataError, match=r"^data mine\.csv: no class has two samples, so none can be held out"):
        hold_out(np.arange(4), 0.1, seed=0, name="data mine.csv")


@pytest.mark.parametrize(
    ("changes", "config", "sentence"),
    [
        (
            {"y": np.zeros(12, np.float32)},
            {},
            "data small: y is float32, one for each sequence, expected integer classes",
        ),
        ({}, {"features": 3}, "data small: has 2 features, the model expects 3"),
        ({}, {"classes": 4}, "data small: has 3 classes, the model expects 4"),
    ],
)
def test_data_that_does_not_fit_the_model_is_refused(changes, config, sentence):
    chosen = ClassifierConfig(**({"features": 2, "classes": 3, "hidden": 4} | config))
    with pytest.raises(DataError, match=f"^{sentence}"):
        train_classifier(small(**changes), chosen)


def test_a_diverging_run_says_what_to_change():
    # Noise of this size overflows float32: infinity minus infinity in the first gate sum.
    config = ClassifierConfig(features=2, classes=3, hidden=4, input_noise=3e38)
    sentence = "training: the loss became nan; choose a learning rate below 0.003, or less input noise"
    with pytest.raises(InputError, match=f"^{re.escape(sentence)}$"):
        train_classifier(small(), config)


def test_training_runs_on_one_thread_and_restores_the_setting():
    before = torch.get_num_threads()
    seen = []
    train_classifier(small(), options=SHORT, on_epoch=lambda _: seen.append(torch.get_num_threads()))
    assert seen == [1, 1]
    assert torch.get_num_threads() == before


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match=r"^training: seed is -1, expected an integer from 0"):
        train_classifier(small(), seed=-1)
