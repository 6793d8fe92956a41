"""The classifier and its checkpoints."""

import contextlib
import json
import re
import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from lstm_edge.checkpoint import CHECKPOINT_KEY, load_checkpoint, save_checkpoint
from lstm_edge.training.models import ClassifierConfig, SequenceClassifier
from lstm_edge_runtime.errors import ArtifactError, InputError, LstmEdgeError, OutputError

# float32 rounding of sums over a batch of other composition: measured below 3e-7 on logits of order one.
SAME_ARITHMETIC = 2e-6

CONFIGS = {
    "one-layer": {"hidden": 5},
    "deep": {"hidden": 4, "layers": 3, "dropout": 0.2},
    "bidirectional": {"hidden": 4, "layers": 2, "bidirectional": True},
    "diagonal": {"hidden": 5, "peephole": "diagonal", "labels": ("a", "b", "c")},
    "full": {"hidden": 3, "peephole": "full", "bidirectional": True},
}


def build(seed=1, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SequenceClassifier(ClassifierConfig(**({"features": 2, "classes": 3} | changes)))
        model.set_standardization(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0]))
    return model.eval()


def inputs(batch=4, time=7):
    return torch.from_numpy(np.random.default_rng(3).normal(size=(batch, time, 2)).astype(np.float32))


@pytest.mark.parametrize("name", CONFIGS)
def test_lengths_give_each_rows_answer_alone(name):
    model, x, lengths = build(**CONFIGS[name]), inputs(), torch.tensor([7, 1, 4, 6])
    poisoned = x.clone()
    for row, length in enumerate(lengths):
        poisoned[row, length:] = 1e6
    with torch.no_grad():
        together = model(poisoned, lengths)
        alone = torch.cat([model(x[row : row + 1, :length]) for row, length in enumerate(lengths.tolist())])
    assert together.shape == (4, 3)
    assert (together - alone).abs().max() < SAME_ARITHMETIC


def test_inputs_are_standardized_inside():
    model = build(hidden=5)
    plain = build(hidden=5)
    plain.set_standardization(torch.zeros(2), torch.ones(2))
    x = inputs()
    with torch.no_grad():
        expected = plain((x - torch.tensor([1.0, -2.0])) / torch.tensor([0.5, 3.0]))
        assert torch.equal(model(x), expected)
        assert not torch.allclose(model(x), plain(x), atol=1e-3)


def test_a_constant_feature_does_not_divide_by_zero():
    model = build(hidden=5)
    model.set_standardization(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]))
    assert model.std.tolist() == [1.0, 2.0]


def test_noise_is_added_in_training_only():
    model = build(hidden=5, input_noise=0.5)
    x = inputs()
    with torch.no_grad():
        assert torch.equal(model(x), model(x))
        model.train()
        assert not torch.equal(model(x), model(x))
        quiet = build(hidden=5, input_noise=0.0).train()
        assert torch.equal(quiet(x), quiet(x))


def test_the_model_describes_itself_for_the_card():
    description = build(**CONFIGS["diagonal"]).describe_model()
    assert description["task"] == "classification"
    assert description["labels"] == ("a", "b", "c")
    assert description["inputs"] == ["x: float32[batch, time, 2]"]
    assert "standardized" in description["preprocessing"][0]
    assert build().describe_model()["labels"] is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden": 0}, "classifier: hidden is 0, expected an integer from 1 to 16384"),
        ({"hidden": 2.0}, "classifier: hidden is 2.0, expected an integer from 1 to 16384"),
        ({"layers": 33}, "classifier: layers is 33, expected an integer from 1 to 32"),
        ({"classes": 1}, "classifier: classes is 1, expected an integer from 2 to 16384"),
        ({"features": True}, "classifier: features is True, expected an integer from 1 to 16384"),
        ({"peephole": "some"}, "classifier: peephole is 'some', expected none, diagonal, full"),
        ({"bidirectional": 1}, "classifier: bidirectional is 1, expected true or false"),
        ({"dropout": 1.0}, "classifier: dropout is 1.0, expected a number below 1, 0 or more"),
        ({"input_noise": float("nan")}, "classifier: input_noise is nan, expected a finite number, 0 or more"),
        ({"labels": ("a",)}, "classifier: got 1 labels, expected 3, one for each class"),
        ({"labels": (1, 2, 3)}, "classifier: labels is (1, 2, 3), expected a tuple of text"),
    ],
)
def test_a_wrong_configuration_gets_one_sentence(changes, sentence):
    with pytest.raises(InputError, match="^" + re.escape(sentence) + "$"):
        ClassifierConfig(**({"features": 2, "classes": 3} | changes))


@pytest.mark.parametrize(
    ("mean", "std", "sentence"),
    [
        (torch.zeros(3), torch.ones(2), "classifier: mean has shape [3], expected [2]"),
        (torch.zeros(2), torch.tensor([1.0, float("inf")]), "classifier: std holds NaN or infinity"),
        (torch.zeros(2), torch.tensor([1.0, -1.0]), "classifier: std holds a negative number"),
    ],
)
def test_wrong_statistics_are_refused(mean, std, sentence):
    with pytest.raises(InputError, match="^" + re.escape(sentence)):
        build().set_standardization(mean, std)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_checkpoint_gives_the_same_model_and_the_same_bytes(tmp_path, name):
    model, x, lengths = build(**CONFIGS[name]), inputs(), torch.tensor([7, 2, 4, 6])
    save_checkpoint(model, tmp_path / "a.safetensors")
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    assert loaded.config == model.config
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert not loaded.mean.requires_grad
    with torch.no_grad():
        assert torch.equal(loaded(x, lengths), model(x, lengths))
    save_checkpoint(loaded, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_a_loaded_model_can_be_trained_on(tmp_path):
    save_checkpoint(build(hidden=5), tmp_path / "m.safetensors")
    model = load_checkpoint(tmp_path / "m.safetensors").train()
    model(inputs(), torch.tensor([7, 2, 4, 6])).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def rewrite(path, *, description=None, drop=(), extra=None, replace=None):
    """Write a checkpoint whose metadata or tensors were changed."""
    model = build(hidden=5)
    content = {"version": "1", "kind": "sequence-classifier", "config": model.config.to_json()}
    content |= description or {}
    tensors = {name: value for name, value in model.state_dict().items() if name not in drop}
    save_file(tensors | (extra or {}) | (replace or {}), path, metadata={CHECKPOINT_KEY: json.dumps(content)})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"description": {"version": "2"}}, "version is '2', this version of lstm-edge reads '1'"),
        (
            {"description": {"kind": "tagger"}},
            "kind is 'tagger', this version of lstm-edge reads 'sequence-classifier', 'sequence-tagger', "
            "'sequence-forecaster', 'language-model'",
        ),
        ({"description": {"config": [1]}}, "config must be an object, got list"),
        ({"description": {"config": {"features": 2}}}, "classifier: configuration key 'bidirectional' is missing"),
        ({"drop": ("mean",)}, "the tensor 'mean' is missing"),
        ({"extra": {"more": torch.zeros(1)}}, "the tensor 'more' is not one of this model's"),
        (
            {"replace": {"linear.bias": torch.zeros(4)}},
            "the tensor 'linear.bias' is torch.float32 [4], its configuration asks for torch.float32 [3]",
        ),
        (
            {"replace": {"linear.bias": torch.zeros(3, dtype=torch.float64)}},
            "the tensor 'linear.bias' is torch.float64 [3], its configuration asks for torch.float32 [3]",
        ),
        ({"replace": {"linear.bias": torch.full((3,), torch.nan)}}, "the tensor 'linear.bias' holds NaN or infinity"),
    ],
)
def test_a_checkpoint_that_contradicts_itself_gets_one_sentence(tmp_path, changes, sentence):
    path = tmp_path / "m.safetensors"
    rewrite(path, **changes)
    with pytest.raises(ArtifactError, match="^" + re.escape(f"checkpoint {path}: {sentence}") + "$"):
        load_checkpoint(path)


def test_a_configuration_of_absurd_size_allocates_nothing(tmp_path):
    path = tmp_path / "m.safetensors"
    config = build(hidden=5).config.to_json() | {"hidden": 16384, "layers": 32, "bidirectional": True}
    rewrite(path, description={"config": config})
    with pytest.raises(ArtifactError, match=r"is missing$"):
        load_checkpoint(path)


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    foreign, pickled, lying = (tmp_path / name for name in ("f.safetensors", "p.safetensors", "l.safetensors"))
    save_file({"w": torch.zeros(1)}, foreign)
    torch.save({"w": torch.zeros(1)}, pickled)
    lying.write_bytes(struct.pack("<Q", 2**40) + b"{}")
    for path, sentence in (
        (tmp_path / "none.safetensors", "no such file"),
        (tmp_path, "not a file"),
        (foreign, "its metadata has no key 'lstm_edge.checkpoint'; expected a file written by `lstm-edge train`"),
        (pickled, "not a readable .safetensors file"),
        (lying, "not a readable .safetensors file"),
    ):
        with pytest.raises(ArtifactError, match="^" + re.escape(f"checkpoint {path}: {sentence}")):
            load_checkpoint(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 4000), value=st.integers(0, 255), cut=st.integers(0, 4000))
def test_a_damaged_checkpoint_never_gives_another_error(tmp_path, position, value, cut):
    whole = tmp_path / "whole.safetensors"
    if not whole.exists():
        save_checkpoint(build(hidden=2), whole)
    data = whole.read_bytes()
    # Half of the damage falls into the header, where the configuration is.
    header = 8 + struct.unpack("<Q", data[:8])[0]
    place = position % (header if position % 2 else len(data))
    path = tmp_path / "damaged.safetensors"
    for damaged in (data[:place] + bytes([value]) + data[place + 1 :], data[: cut % len(data)]):
        path.write_bytes(damaged)
        # Any other error than ours fails the test.
        with contextlib.suppress(LstmEdgeError):
            load_checkpoint(path)


def test_only_a_ready_made_model_is_saved(tmp_path):
    with pytest.raises(InputError, match=r"^checkpoint: got a Linear, expected one of SequenceClassifier, SequenceTag"):
        save_checkpoint(torch.nn.Linear(2, 2), tmp_path / "m.safetensors")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\)$"):
        save_checkpoint(build(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
