"""Fine-tuning with the quantized file's arithmetic: what it wins, resuming, what is refused, the command."""

import json

import numpy as np
import pytest
import torch
from support.training_cases import ids, model_of, sequences, train
from typer.testing import CliRunner

from lstm_edge.checkpoint import load_checkpoint, save_checkpoint
from lstm_edge.cli import app
from lstm_edge.layers import LSTM
from lstm_edge.training import Checkpoint, TrainingOptions
from lstm_edge.training.losses import cross_entropy
from lstm_edge.training.models import (
    TaggerConfig,
)
from lstm_edge.training.quantize_aware import parse_scheme, quantized
from lstm_edge.training.schedules import Position, learning_rate
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.session import Session

TRAINED = {"hidden": 24, "embedding": 8}
FLOAT = {"epochs": 12, "learning_rate": 0.02}
AWARE = {"epochs": 4, "learning_rate": 0.003, "quantize_aware": "int4:32"}


@pytest.fixture(scope="module")
def parent():
    return train("language-model", config=TRAINED, options=FLOAT)[0]


def held_out_loss(model, scheme):
    text = torch.from_numpy(ids(200))[None]
    with torch.no_grad(), quantized(model, scheme):
        return cross_entropy()(model(text[:, :-1]), text[:, 1:]).item()


@pytest.mark.slow
def test_fine_tuning_wins_back_what_rounding_lost_and_reports_the_quantized_loss(parent):
    int4 = parse_scheme("int4:32")
    tuned, report = train("language-model", config=TRAINED, options=AWARE, start=parent)
    assert report.best.held_out_loss == pytest.approx(held_out_loss(tuned, int4), rel=1e-6)
    assert abs(held_out_loss(tuned, None) - held_out_loss(tuned, int4)) > 1e-4
    assert held_out_loss(tuned, int4) < held_out_loss(parent, int4)
    assert tuned.config.trained_for == "int4:32"
    assert type(tuned.lstm) is LSTM
    assert ("quantization-aware", "int4:32; held-out figures are the quantized model's") in report.rows()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "tagging", "forecast", "language-model"])
def test_every_task_trains_aware_and_an_interruption_changes_nothing(tmp_path, task):
    options = {"epochs": 3, "quantize_aware": "int8", "optimizer": "adamw"}
    config = {"layers": 2, "dropout": 0.3}
    whole, expected = train(task, options=options, config=config)

    def stop(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        train(task, options=options, config=config, checkpoint=Checkpoint(path=path), on_epoch=stop)
    resumed, report = train(task, options=options, config=config, checkpoint=Checkpoint(path=path, resume=True))
    assert report.history == expected.history
    assert all(torch.equal(whole.state_dict()[name], value) for name, value in resumed.state_dict().items())
    plain, _ = train(task, options=options | {"quantize_aware": None}, config=config)
    assert not torch.equal(plain.linear.weight, whole.linear.weight)


def test_training_starts_from_the_model_with_its_statistics():
    first, _ = train("forecast")
    rate = {"learning_rate": 1e-9, "epochs": 1}
    second, _ = train("forecast", options=rate, start=first, seed=9)
    for name, value in first.state_dict().items():
        assert torch.allclose(second.state_dict()[name], value, atol=1e-7), name
    with pytest.raises(
        InputError, match=r"^training: forget_bias is 3, but the model to start from has its own biases;"
    ):
        train("forecast", options=rate | {"forget_bias": 3.0}, start=first)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden": 9}, "training: the model to start from has hidden 5, this training asks for 9: give the same"),
        ({"peephole": "full"}, 'training: the model to start from has peephole "none", this training asks for "full"'),
    ],
)
def test_another_configuration_is_refused(changes, sentence):
    start, _ = train("language-model", options={"epochs": 1})
    with pytest.raises(InputError) as caught:
        train("language-model", config=changes, start=start)
    assert str(caught.value).startswith(sentence)
    train("language-model", config={"dropout": 0.5}, options={"epochs": 1}, start=start)
    with pytest.raises(InputError, match="the model to start from is a LanguageModel, expected a tagger"):
        train("tagging", start=start)


@pytest.mark.parametrize("text", ["int5", "", "float16", "float32", "int8:32:zero", "int4:64"])
def test_what_is_no_scheme_to_train_for_is_refused(text):
    with pytest.raises(InputError, match=f"^training: quantize_aware is '{text}'.* expected int8, int4:32, int4:128"):
        TrainingOptions(quantize_aware=text)


def test_a_weight_that_became_nan_is_one_sentence():
    model = model_of("tagging")
    with torch.no_grad():
        model.lstm.weight_hh_l0[2, 3] = torch.nan
    with (
        quantized(model, parse_scheme("int4:32")),
        pytest.raises(InputError, match=r"^training: lstm_l0.r became NaN or infinite; choose a lower learning rate$"),
    ):
        model(torch.zeros(2, 3, 5))


def test_updates_end_the_training_and_the_schedule_follows_them():
    _, report = train("language-model", options={"max_updates": 12, "epochs": 5, "learning_rate": 0.01})
    # Nine windows of 20 in each epoch of 700 ids in four rows.
    assert [epoch.updates for epoch in report.history] == [9, 3]
    assert 0 < report.history[1].learning_rate < 0.0005
    chosen = TrainingOptions(max_updates=10, learning_rate=0.1)
    half = Position(epochs_done=0, updates_done=5, updates=100, time_share=0.5, held_out_losses=())
    assert learning_rate(chosen, half) == pytest.approx(0.05)
    with pytest.raises(InputError, match="training: max_updates is 0, expected 1 or more"):
        TrainingOptions(max_updates=0)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_the_command_starts_from_a_model_and_file_and_card_say_what_it_was_trained_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = sequences("tagging")
    np.savez("tagging.npz", x=data.x, lengths=data.lengths, y=data.y)
    (tmp_path / "text.txt").write_text("".join("abcdefg"[number] for number in ids(1500)))
    short = ("tagging", "--data", "tagging.npz", "--hidden", 4, "--batch-size", 4, "--epochs", 2)
    assert run("train", *short, "-o", "a.safetensors").exit_code == 0
    aware = ("--from", "a.safetensors", "--quantize-aware", "int4", "--plot", "c.svg", "--json")
    result = run("train", *short, *aware, "-o", "b.safetensors")
    assert result.exit_code == 0, result.output
    assert "starting from a.safetensors" in result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert (report["config"]["trained_for"], report["options"]["quantize_aware"]) == ("int4:128", "int4:128")
    assert load_checkpoint("b.safetensors").config.trained_for == "int4:128"
    assert b"trained_for" not in (tmp_path / "a.safetensors").read_bytes()

    said = "b.safetensors was trained quantization-aware for int4:128, and becomes int8"
    for scheme, expected in (("int8", True), ("int4", False)):
        result = run("export", "b.safetensors", "-o", f"{scheme}.onnx", "--scheme", scheme)
        assert result.exit_code == 0, result.output
        assert (said in result.stderr) is expected
        assert Session(f"{scheme}.onnx").card.trained_for == "int4:128"

    result = run("train", *short, "--from", "a.safetensors", "--hidden", 5, "-o", "c.safetensors")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == (
        "error: training: the model to start from has hidden 4, this training asks for 5: give the same configuration"
    )
    text = ("language-model", "--data", "text.txt", "--from", "a.safetensors", "-o", "c.safetensors")
    result = run("train", *text)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(
        "error: checkpoint a.safetensors: it is a checkpoint of another task, a SequenceTagger; expected a Language"
    )
    result = run("train", *short, "--quantize-aware", "int3", "-o", "c.safetensors")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("error: --quantize-aware is 'int3', expected int8, int4:32")
    assert not (tmp_path / "c.safetensors").exists()


def test_an_old_checkpoint_is_read_and_a_wrong_field_refused(tmp_path):
    model = model_of("tagging")
    assert "trained_for" not in model.config.to_json()
    save_checkpoint(model, tmp_path / "m.safetensors")
    assert load_checkpoint(tmp_path / "m.safetensors").config.trained_for is None
    with pytest.raises(InputError, match="tagger: trained_for is 4, expected text or null"):
        TaggerConfig(features=1, classes=2, trained_for=4)
