"""`train --sparse`: density, record, early stopping, resumption to the same bits, quantization, --from."""

import json
import re

import numpy as np
import pytest
import torch
from support.training_cases import LENGTHS, TASKS, sequences, train
from typer.testing import CliRunner

from lstm_edge.checkpoint import load_checkpoint
from lstm_edge.cli import app
from lstm_edge.sparsity import measure, parse_densities
from lstm_edge.training import Checkpoint, TrainingOptions
from lstm_edge_runtime.errors import ArtifactError, InputError

SPARSE = {"epochs": 6, "sparse": "0.34", "sparse_end": 0.6, "optimizer": "adamw", "weight_decay": 0.1}
SIZES = {"hidden": 40, "layers": 2, "dropout": 0.3}


class InterruptionError(Exception):
    pass


def interrupt_after(number):
    def on_epoch(epoch):
        if epoch.number == number:
            raise InterruptionError

    return on_epoch


def equal(first, second):
    mine, theirs = first.state_dict(), second.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task_reaches_the_density_and_goes_on_after_an_interruption(tmp_path, task):
    whole, expected = train(task, options=SPARSE, config=SIZES)
    densities = [epoch.density for epoch in expected.history]
    assert densities == sorted(densities, reverse=True)
    assert densities[0] > densities[1] > densities[-1] == expected.sparsity.density == measure(whole).density
    for matrix in expected.sparsity.matrices:
        assert abs(matrix.density - 0.34) <= 0.5 / matrix.blocks
    # The best epoch is one of those with the final density, although earlier ones may be better.
    assert densities[expected.best.number - 1] == densities[-1]
    assert whole.config.sparse == expected.config.sparse == "0.34"
    for cut in (2, 5):
        path = tmp_path / f"state{cut}"
        with pytest.raises(InterruptionError):
            train(task, options=SPARSE, config=SIZES, checkpoint=Checkpoint(path=path), on_epoch=interrupt_after(cut))
        torch.manual_seed(12345)
        resumed, report = train(task, options=SPARSE, config=SIZES, checkpoint=Checkpoint(path=path, resume=True))
        assert report.history == expected.history
        assert equal(whole, resumed)


def test_the_test_notices_forgotten_masks(tmp_path, monkeypatch):
    path = tmp_path / "state"
    with pytest.raises(InterruptionError):
        train("tagging", options=SPARSE, config=SIZES, checkpoint=Checkpoint(path=path), on_epoch=interrupt_after(5))
    monkeypatch.setattr("lstm_edge.sparsity.masks.Masks.load", lambda *_: None)
    again, _ = train("tagging", options=SPARSE, config=SIZES, checkpoint=Checkpoint(path=path, resume=True))
    assert not equal(again, train("tagging", options=SPARSE, config=SIZES)[0])


def test_the_state_of_other_densities_is_refused(tmp_path):
    path = tmp_path / "state"
    train("tagging", options=SPARSE, config=SIZES, checkpoint=Checkpoint(path=path))
    with pytest.raises(ArtifactError, match=r"config\.sparse was \"0\.34\", now it is \"0\.5\""):
        train("tagging", options=SPARSE | {"sparse": 0.5}, config=SIZES, checkpoint=Checkpoint(path=path, resume=True))


def test_a_training_without_pruning_writes_no_new_keys():
    values = TrainingOptions().to_json()
    assert [name for name in values if name.startswith("sparse")] == []
    model, report = train("tagging")
    assert "sparse" not in model.config.to_json()
    assert (report.sparsity, report.history[0].density) == (None, None)


def test_patience_does_not_end_a_training_before_the_density_is_reached():
    # At this rate the held-out loss goes up from the first epoch on.
    options = {"epochs": 9, "optimizer": "sgd", "learning_rate": 1.0, "schedule": "constant", "clip_norm": None}
    _, dense = train("forecast", options=options | {"patience": 2}, config=SIZES)
    assert len(dense.history) < 9
    model, report = train(
        "forecast",
        options=options | {"patience": 2, "sparse": 0.5, "sparse_begin": 0.5, "sparse_end": 0.6},
        config=SIZES,
    )
    assert measure(model).density == pytest.approx(0.5, abs=0.02)
    assert report.history[report.best.number - 1].density == report.history[-1].density


@pytest.mark.parametrize("limit", [{"max_updates": 3}, {"max_updates": 1}, {"max_minutes": 1e-4}])
def test_a_limit_in_the_middle_of_an_epoch_ends_at_the_density(limit):
    model, report = train("language-model", options={"epochs": 5, "sparse": "0.34", **limit}, config={"hidden": 40})
    assert len(report.history) == 1
    assert measure(model).density == pytest.approx(0.34, abs=0.02)


def test_quantization_aware_training_keeps_the_zero_blocks():
    dense, _ = train("tagging", config={"hidden": 40})
    options = {"epochs": 3, "sparse": "w=1,r=0.25", "quantize_aware": "int8"}
    model, report = train("tagging", options=options, config={"hidden": 40}, start=dense)
    w, r = report.sparsity.matrices
    assert (w.kept, w.blocks, r.kept, r.blocks) == (12, 12, 30, 120)
    assert (model.config.trained_for, model.config.sparse) == ("int8", "0.25,w=1")
    # A second training from the sparse model keeps its blocks, from the first update on.
    again, second = train(
        "tagging", options=options | {"epochs": 1, "max_updates": 1}, config={"hidden": 40}, start=model
    )
    assert second.sparsity == report.sparsity
    zero = model.lstm.weight_hh_l0 == 0
    assert torch.equal(zero, again.lstm.weight_hh_l0 == 0)
    assert not torch.equal(model.lstm.weight_hh_l0, again.lstm.weight_hh_l0)


def test_the_command_prints_the_density_and_writes_it(tmp_path):
    data = sequences("classification")
    np.savez(tmp_path / "d.npz", x=data.x, lengths=LENGTHS, y=data.y)
    command = ["train", "classification", "--data", str(tmp_path / "d.npz"), "--hidden", "32", "--epochs", "3"]
    command += ["--held-out", "0.25", "--sparse", "0.5,w=1"]
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    result = CliRunner().invoke(app, [*command, "--json", "-o", str(first)])
    assert result.exit_code == 0, result.output
    *epochs, report = [json.loads(line) for line in result.stdout.splitlines()]
    assert [epoch["density"] < 1 for epoch in epochs] == [True, True, True]
    assert report["sparsity"]["matrices"][1]["density"] == 0.5
    assert (report["options"]["sparse"], report["config"]["sparse"]) == ("0.5,w=1", "0.5,w=1")
    assert load_checkpoint(first).config.sparse == "0.5,w=1"
    result = CliRunner().invoke(app, [*command[:-2], "--from", str(first), "-o", str(second)])
    assert result.exit_code == 0, result.output
    assert f"{first} is sparse; without --sparse this training fills its zero blocks again" in result.stderr
    assert measure(load_checkpoint(second)).density == 1
    result = CliRunner().invoke(app, [*command, "-o", str(second)])
    assert "density of the recurrent layers" in result.stdout
    assert "their bytes, sparse / dense int8" in result.stdout


@pytest.mark.parametrize(
    ("text", "found", "canonical"),
    [
        ("0.33", (0.33, None, None), "0.33"),
        (0.25, (0.25, None, None), "0.25"),
        ("w=0.5, r=0.25", (0.25, 0.5, None), "0.25,w=0.5"),
        ("0.5,r=0.25", (0.5, None, 0.25), "0.5,r=0.25"),
        ("i=0.5,f=0.25,g=1,o=0.75", ({"i": 0.5, "f": 0.25, "g": 1, "o": 0.75}, None, None), None),
        (".r=0.5,z=0.25,n=1", ({"r": 0.5, "z": 0.25, "n": 1}, None, None), ".n=1,.r=0.5,.z=0.25"),
        ("w=1,r.r=0.5,r.z=0.25,r.n=1", ({"r": 0.5, "z": 0.25, "n": 1}, 1.0, None), None),
    ],
)
def test_the_text_of_densities(text, found, canonical):
    densities = parse_densities(text)
    assert (densities.density, densities.input_density, densities.recurrent_density) == found
    assert canonical in (None, densities.text)
    assert parse_densities(densities.text) == densities


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "density in '' is nan, expected a number above 0 and at most 1"),
        ("33%", "density in '33%' is nan"),
        ("0", "is 0.0, expected a number above 0"),
        ("w=0.5", "'w=0.5' has no density for r, expected w and r"),
        ("0.3,0.4", "gives the density twice"),
        ("x=0.5", "has the key 'x', expected w, r, a gate"),
        ("r=0.5,r.i=0.5,w=1", "gives r a density and its gates others"),
    ],
)
def test_a_text_that_is_no_density(text, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        parse_densities(text)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sparse": 2}, "sparsity: density is 2, expected a number above 0 and at most 1"),
        ({"sparse": 0.5, "sparse_end": 1.0}, "sparse_end is 1.0, expected below 1, because the masks are fixed"),
        ({"sparse": 0.5, "sparse_begin": 0.7}, "sparse_begin is 0.7, expected 0 to sparse_end"),
        ({"sparse_diagonal": True}, "sparse_diagonal is for sparse layers"),
        ({"sparse_end": 0.2}, "sparse_end is for sparse layers"),
        ({"sparse_begin": 0.1}, "sparse_begin is for sparse layers"),
    ],
)
def test_options_out_of_their_range(options, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        TrainingOptions(**options)


def test_gates_that_the_model_does_not_have():
    with pytest.raises(InputError, match=re.escape("density has no density for gate i of lstm.weight_ih_l0")):
        train("tagging", options={"sparse": ".r=0.5,z=0.5,n=0.5"})
