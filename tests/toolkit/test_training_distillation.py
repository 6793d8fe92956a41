"""Training with a teacher: the loss of whole texts and sequences, resumable bits, the record, wrong teachers."""

import hashlib
import json
import re

import numpy as np
import pytest
import torch
from support.training_cases import ids, model_of, sequences, train
from typer.testing import CliRunner

import lstm_edge
from lstm_edge.checkpoint import load_checkpoint, save_checkpoint
from lstm_edge.cli import app
from lstm_edge.training import Checkpoint, Distillation
from lstm_edge.training.models import ClassifierConfig, Distilled, SequenceClassifier, TaggerConfig
from lstm_edge_runtime.errors import ArtifactError, InputError

TASKS = ("classification", "tagging", "language-model")
# Layers, sizes and cells that the students do not have.
LARGE = {"layers": 2, "hidden": 9, "peephole": "full", "dropout": 0.4}
SIZES = {
    "classification": {"features": 2, "classes": 3, "input_noise": 1.2, "bidirectional": True},
    "tagging": {"features": 2, "classes": 2, "bidirectional": True},
    "language-model": {"tokens": 7, "projection": 4},
}
# Steps so small that the weights stay what they were.
STILL = {"epochs": 1, "learning_rate": 1e-12, "optimizer": "sgd", "momentum": 0.0}


def teacher_of(task, seed=5, **changes):
    changes = LARGE | SIZES[task] | changes
    if task == "language-model":
        return model_of(task, seed, **changes)
    kind = type(model_of(task))
    torch.manual_seed(seed)
    made = kind({"classification": ClassifierConfig, "tagging": TaggerConfig}[task](**changes))
    # Statistics that differ from those of the training data.
    made.set_standardization(torch.tensor([0.5, -0.3]), torch.tensor([2.0, 0.7]))
    return made.eval()


def distillation(task, seed=5, **numbers):
    return Distillation(teacher=teacher_of(task, seed), **{"temperature": 3.0, "alpha": 0.7} | numbers)


def equal(first, second):
    mine, theirs = first.state_dict(), second.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("task", TASKS)
def test_alpha_0_is_plain_training_to_the_bit(task):
    plain, expected = train(task)
    taught, report = train(task, distillation=distillation(task, alpha=0.0))
    assert equal(plain, taught)
    assert report.history == expected.history
    assert not equal(plain, train(task, distillation=distillation(task))[0])


@pytest.mark.parametrize("reset", [0.0, 1.0])
def test_the_teachers_state_is_carried_through_a_text_and_reset_with_the_students(reset):
    teach = distillation("language-model")
    options = STILL | {"reset_probability": reset, "window": 25, "batch_size": 4}
    student, report = train("language-model", options=options, distillation=teach)
    # Four rows of 174 inputs each, read in one piece, or (reset) in windows that start from zeros.
    rows = torch.from_numpy(ids()[: 4 * 174 + 1])
    x, y = rows[:-1].reshape(4, 174), rows[1:].reshape(4, 174)
    total = 0.0
    for start in range(0, 174, 25) if reset else [0]:
        piece = slice(start, start + 25) if reset else slice(None)
        logits = [model(x[:, piece]).detach() for model in (student, teach.teacher)]
        loss = lstm_edge.distillation_loss(*logits, y[:, piece], temperature=3.0, alpha=0.7)
        total += loss.item() * y[:, piece].numel()
    assert abs(report.best.train_loss - total / y.numel()) < 1e-5


@pytest.mark.parametrize("pack", [True, False])
def test_padding_has_no_teacher(pack):
    teach = distillation("tagging")
    data = sequences("tagging")
    options = STILL | {"pack": pack, "pad": "pre", "bucket": False, "batch_size": 5}
    student, report = train("tagging", options=options, validation=data, distillation=teach)
    ends = np.cumsum(data.lengths)
    loss = 0.0
    for end, length in zip(ends, data.lengths, strict=True):
        x, y = (torch.from_numpy(array[end - length : end]).unsqueeze(0) for array in (data.x, data.y))
        logits = [model(x).detach() for model in (student, teach.teacher)]
        loss += lstm_edge.distillation_loss(*logits, y, temperature=3.0, alpha=0.7).item() * length
    # The loop's mean weighs each batch by its steps.
    assert abs(report.best.train_loss - loss / ends[-1]) < 1e-5


def test_a_student_that_hears_the_teacher_alone_comes_close_to_it():
    teach = distillation("language-model", alpha=1.0)
    how = {"epochs": 12, "learning_rate": 0.03, "schedule": "constant", "weight_decay": 0.0}
    _, report = train("language-model", options=how, distillation=teach)
    assert report.history[-1].train_loss < 0.2 * report.history[0].train_loss


@pytest.mark.parametrize("task", TASKS)
def test_the_teacher_is_not_changed(task):
    teacher = teacher_of(task).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    first, _ = train(task, distillation=Distillation(teacher=teacher))
    assert teacher.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    # Neither its dropout nor its noise is drawn: it teaches the same in evaluation mode.
    assert equal(first, train(task, distillation=Distillation(teacher=teacher.eval()))[0])


class InterruptionError(Exception):
    pass


def interrupt(epoch):
    if epoch.number == 2:
        raise InterruptionError


@pytest.mark.parametrize("task", TASKS)
def test_an_interrupted_training_gives_the_same_bits_and_refuses_another_teacher(tmp_path, task):
    teach, options = distillation(task), {"epochs": 3}
    config = {"layers": 2, "dropout": 0.3}
    whole, expected = train(task, options=options, config=config, distillation=teach)
    checkpoint = Checkpoint(path=tmp_path / "state")
    with pytest.raises(InterruptionError):
        train(task, options=options, config=config, distillation=teach, checkpoint=checkpoint, on_epoch=interrupt)
    resume = {"options": options, "config": config, "checkpoint": Checkpoint(path=tmp_path / "state", resume=True)}
    for other, place in (
        (distillation(task, seed=6), "config.distilled.teacher was"),
        (distillation(task, alpha=0.6), "config.distilled.alpha was 0.7, now it is 0.6"),
        (distillation(task, temperature=2.0), "config.distilled.temperature was 3.0, now it is 2.0"),
        (None, "config.distilled was"),
    ):
        with pytest.raises(ArtifactError, match=re.escape(place)):
            train(task, distillation=other, **resume)
    resumed, report = train(task, distillation=teach, **resume)
    assert equal(whole, resumed)
    assert report.history == expected.history


@pytest.mark.parametrize("task", TASKS)
def test_with_quantization_aware_training_and_from(task):
    start, _ = train(task)
    options = {"quantize_aware": "int4:32"}
    fine, report = train(task, options=options, start=start, distillation=distillation(task))
    assert fine.config.trained_for == "int4:32"
    assert fine.config.distilled.alpha == 0.7
    assert not equal(fine, train(task, options=options, start=start)[0])
    # A later training without a teacher is not a distillation.
    assert train(task, start=fine)[0].config.distilled is None
    assert ("distilled from", str(fine.config.distilled)) in report.rows()


@pytest.mark.parametrize("task", TASKS)
def test_a_sparse_student(task):
    options = {"sparse": "0.4", "epochs": 3}
    student, report = train(task, options=options, config={"hidden": 32}, distillation=distillation(task))
    assert (student.config.sparse, student.config.distilled.temperature) == ("0.4", 3.0)
    kept = (student.state_dict()["lstm.weight_hh_l0"] != 0).double().mean().item()
    assert kept < 0.5
    assert {"sparse", "distilled"} <= report.to_json()["config"].keys()


def test_the_record_is_in_the_checkpoint(tmp_path):
    path = tmp_path / "big.safetensors"
    save_checkpoint(teacher_of("classification"), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    read = Distillation.read(path, SequenceClassifier, temperature=4, alpha=0.25)
    # A model in memory has the digest of the file that it would become.
    assert read.record() == distillation("classification", temperature=4.0, alpha=0.25).record()
    student, report = train("classification", distillation=read)
    assert student.config.distilled == Distilled(teacher=digest, temperature=4.0, alpha=0.25)
    save_checkpoint(student, tmp_path / "small.safetensors")
    assert load_checkpoint(tmp_path / "small.safetensors").config == student.config
    assert report.to_json()["config"]["distilled"] == {"teacher": digest, "temperature": 4.0, "alpha": 0.25}
    assert "distilled" not in train("classification")[0].config.to_json()


BAD_RECORDS = {
    "expected an object with teacher, temperature, alpha": {"teacher": "0" * 64},
    "expected a SHA-256 of 64 hexadecimal digits": {"teacher": "x", "temperature": 2.0, "alpha": 0.5},
    "temperature is '2'": {"teacher": "0" * 64, "temperature": "2", "alpha": 0.5},
    "alpha is -1": {"teacher": "0" * 64, "temperature": 2.0, "alpha": -1},
}


@pytest.mark.parametrize("sentence", BAD_RECORDS)
def test_a_damaged_record_is_refused(sentence):
    values = teacher_of("classification").config.to_json() | {"distilled": BAD_RECORDS[sentence]}
    with pytest.raises(InputError, match=re.escape(sentence)):
        ClassifierConfig.from_json(values)


NAMES = {"labels": ("a", "b", "c")}
WRONG = {
    "it is a SequenceTagger, expected a classifier": ("classification", lambda: teacher_of("tagging"), {}),
    "it is a Linear, expected a tagger": ("tagging", lambda: torch.nn.Linear(2, 2), {}),
    "it has 5 features, this training has 2": ("classification", lambda: model_of("classification"), {}),
    "it has 3 classes, this training has 2": ("tagging", lambda: teacher_of("tagging", classes=3), {}),
    "it has labels with no names, this training has 3 entries": (
        "classification",
        lambda: teacher_of("classification"),
        NAMES,
    ),
    "it has labels with 'c' as entry 1, this training has 'b' as entry 1": (
        "classification",
        lambda: teacher_of("classification", labels=("a", "c", "b")),
        NAMES,
    ),
    "it has 11 tokens, this training has 7": ("language-model", lambda: model_of("language-model"), {}),
    "it has a vocabulary with 'x' as entry 6, this training has 'g' as entry 6": (
        "language-model",
        lambda: teacher_of("language-model", vocabulary=tuple("abcdefx")),
        {"vocabulary": tuple("abcdefg")},
    ),
    "a forecaster has values and no logits": ("forecast", lambda: model_of("forecast"), {}),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_wrong_teacher_is_refused(sentence):
    task, make, config = WRONG[sentence]
    with pytest.raises(InputError, match=re.escape(sentence)):
        train(task, config=config, distillation=Distillation(teacher=make()))


def invoke(*arguments):
    result = CliRunner().invoke(app, ["train", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_the_command(tmp_path):
    text, big, small = (tmp_path / name for name in ("t.txt", "big.safetensors", "small.safetensors"))
    text.write_text("".join("abcdefg"[number] for number in ids(900)))
    sizes = ("--embedding", 3, "--batch-size", 4, "--window", 20, "--threads", 1, "--epochs", 1)
    common = ("language-model", "--data", text, *sizes)
    assert invoke(*common, "--hidden", 12, "-o", big).exit_code == 0
    options = ("--hidden", 5, "--teacher", big, "--temperature", 3, "--alpha", 0.8)
    result = invoke(*common, *options, "-o", small, "--json")
    assert result.exit_code == 0, result.output
    digest = hashlib.sha256(big.read_bytes()).hexdigest()
    record = {"teacher": digest, "temperature": 3.0, "alpha": 0.8}
    assert json.loads(result.stdout.splitlines()[-1])["config"]["distilled"] == record
    assert f"learning from teacher {big}, temperature 3, alpha 0.8" in result.stderr
    assert load_checkpoint(small).config.distilled == Distilled(**record)


def test_what_the_command_refuses(tmp_path):
    big, output = tmp_path / "big.safetensors", tmp_path / "m.safetensors"
    save_checkpoint(teacher_of("tagging"), big)
    vowels = ("classification", "--data", "japanese-vowels", "-o", output)
    for arguments, sentence in (
        ((*vowels, "--alpha", 0.5), "--alpha is for --teacher"),
        ((*vowels, "--temperature", 2), "--temperature is for --teacher"),
        ((*vowels, "--teacher", big), "it is a checkpoint of another task, a SequenceTagger"),
        ((*vowels, "--teacher", tmp_path / "none"), "no such file"),
        ((*vowels, "--teacher", big, "--alpha", 2), "alpha is 2.0, expected a share from 0"),
        ((*vowels, "--teacher", big, "--temperature", 0), "temperature is 0.0, expected a number from 0.01 to 1000"),
    ):
        result = invoke(*arguments)
        assert result.exit_code != 0
        assert sentence in " ".join(result.stderr.split()), (sentence, result.stderr)
    with pytest.raises(InputError, match="teacher is not an option of forecast: a forecaster has no logits"):
        lstm_edge.train("forecast", data="d.npz", output=output, teacher=big)
