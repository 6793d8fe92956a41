"""Names of classes and the task of a module of one's own: checked, written to the card, printed by run."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from support.networks import Classifier, seeded
from typer.testing import CliRunner

import lstm_edge
from lstm_edge.cli import app
from lstm_edge_runtime import Session
from lstm_edge_runtime.commands.class_names import name_classes
from lstm_edge_runtime.errors import InputError

NAMES = ("yes", "no", "other", "silence")
X = "x: float32[batch, time, 3]"


def call(*arguments, stdin=None, exit_code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    assert result.exit_code == exit_code, result.output
    return result.stdout


@pytest.fixture(scope="module")
def spotter(tmp_path_factory):
    """A classifier exported with labels, and the file of its inputs."""
    folder = tmp_path_factory.mktemp("labels")
    path, x = folder / "kws.onnx", np.random.default_rng(1).normal(size=(3, 6, 3)).astype(np.float32)
    lstm_edge.export(seeded(Classifier()), output=path, inputs=[X], labels=NAMES, task="classification")
    np.save(folder / "x.npy", x)
    return path, folder / "x.npy", x


def names_of(scores):
    return np.array(NAMES)[scores.argmax(axis=-1)].tolist()


def test_the_card_says_the_task_and_the_labels_and_quantize_keeps_them(spotter, tmp_path):
    path, _, _ = spotter
    lstm_edge.quantize(path, tmp_path / "int8.onnx", scheme="int8")
    for file in (path, tmp_path / "int8.onnx"):
        card = Session(file).card
        assert (card.task, card.labels) == ("classification", NAMES)
        shown = call("inspect", file)
        assert "task classification" in shown
        assert "labels: 4 (yes, no, other, silence)" in shown


def test_run_prints_labels(spotter):
    path, file, x = spotter
    [scores] = Session(path).run(x)[0].values()
    printed = json.loads(call("run", path, file))
    assert printed.pop("labels") == names_of(scores)
    np.testing.assert_array_equal(np.array(next(iter(printed.values())), np.float32), scores)
    assert lstm_edge.run(path, x).labels == names_of(scores)


def test_a_stream_prints_labels_on_request(spotter):
    path, _, x = spotter
    lines = "".join(json.dumps(frame.tolist()) + "\n" for frame in x[0])
    plain = [json.loads(line) for line in call("run", path, "--stream", stdin=lines).splitlines()]
    named = [json.loads(line) for line in call("run", path, "--stream", "--show-labels", stdin=lines).splitlines()]
    [name] = set(named[0]) - {"labels"}
    assert [line[name] for line in named] == plain
    assert [line["labels"] for line in named] == [names_of(np.array(scores)) for scores in plain]


class Everything(torch.nn.Module):
    """Scores of four classes at every step and for the whole, and a value of another size."""

    def __init__(self):
        super().__init__()
        self.rnn = torch.nn.GRU(3, 5, batch_first=True)
        self.head = torch.nn.Linear(5, 4)

    def forward(self, x):
        y, _ = self.rnn(x)
        return self.head(y), self.head(y[:, -1]), y


def test_several_outputs_have_names_where_they_have_the_classes(tmp_path):
    path, x = tmp_path / "m.onnx", np.random.default_rng(2).normal(size=(2, 3, 3)).astype(np.float32)
    (tmp_path / "names").write_text("\ufeffyes\nno\nother\nsilence\n\n", encoding="utf-8")
    lstm_edge.export(
        seeded(Everything()),
        output=path,
        inputs=[X],
        labels=f"@{tmp_path / 'names'}",
        output_names=["steps", "whole", "hidden"],
    )
    report = lstm_edge.run(path, x)
    assert Session(path).card.task == "generic"
    assert report.labels == {name: names_of(report.outputs[name]) for name in ("steps", "whole")}


def test_padding_has_no_name(tmp_path):
    class Tagger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = torch.nn.LSTM(3, 4, batch_first=True)

        def forward(self, x):
            return self.rnn(x)[0]

    path, x = tmp_path / "m.onnx", np.random.default_rng(2).normal(size=(2, 3, 3)).astype(np.float32)
    lstm_edge.export(seeded(Tagger()), output=path, inputs=[X], labels=",".join(NAMES), lengths=True, task="tagging")
    report = lstm_edge.run(path, x, row_lengths=[3, 1])
    expected = names_of(next(iter(report.outputs.values())))
    assert report.labels == [expected[0], [expected[1][0], None, None]]


def test_a_score_that_is_no_number_has_no_name(spotter):
    session = Session(spotter[0])
    scores = np.array([[0, 1, 2, 3], [0, np.nan, 9, 0], [3, 2, 1, -np.inf]], np.float32)
    assert name_classes(session, {session.outputs[0].name: scores}) == ["silence", None, None]
    assert name_classes(session, {session.outputs[0].name: scores[0]}) == "silence"
    assert name_classes(session, {session.outputs[0].name: scores[:0]}) == []


def adoptable(path):
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.uniform(-0.5, 0.5, shape).astype(np.float32), name)
        for name, shape in {"W": (1, 16, 3), "R": (1, 16, 4)}.items()
    ]
    weights.append(numpy_helper.from_array(np.array([1]), "one"))
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R"], ["Y"], name="rnn", hidden_size=4),
        helper.make_node("Squeeze", ["Y", "one"], ["y"], name="flat"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "rows", 3])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "rows", 4])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def test_adopt_takes_them_too(tmp_path):
    source, path = adoptable(tmp_path / "in.onnx"), tmp_path / "out.onnx"
    call("adopt", source, "-o", path, "--labels", "yes, no, other, silence", "--task", "tagging")
    card = Session(path).card
    assert (card.task, card.labels) == ("tagging", NAMES)
    assert card.undetermined[0] == "the vocabulary: the file does not say it"
    call("adopt", source, "-o", path, "--task", "tagging")
    assert Session(path).card.undetermined[0] == "the labels and vocabulary: the file does not say them"
    call("adopt", source, "-o", path)
    assert Session(path).card.undetermined[0] == "the task, labels and vocabulary: the file does not say them"
    with pytest.raises(InputError, match=r"^labels has 3 names, and .* are y \[time, batch, 4\]$"):
        lstm_edge.adopt(source, path, labels=NAMES[:3])


@pytest.mark.parametrize(
    ("labels", "task", "sentence"),
    [
        (
            NAMES[:3],
            None,
            r"^labels has 3 names, and no output has as many elements on its last axis: the outputs",
        ),
        ("", None, r"^labels\[0\] is '', expected the name of a class$"),
        ((), None, r"^labels is empty: give the name of each class"),
        ("a,b,,c", None, r"^labels\[2\] is '', expected the name of a class$"),
        ("a,b,c,a", None, r"^labels has 'a' twice: each class needs its own name$"),
        ((1, 2, 3, 4), None, r"^labels\[0\] is 1, expected the name of a class$"),
        ("@none", None, r"^--labels @none: the labels cannot be read \(.*No such file"),
        (NAMES, "forecast", r"^labels are the names of classes, and a model of the task 'forecast' has none"),
        (None, "walking", r"^task must be one of classification, tagging, .*, got 'walking'$"),
    ],
)
def test_what_cannot_be_names_is_refused_and_nothing_is_written(tmp_path, monkeypatch, labels, task, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=sentence):
        lstm_edge.export(seeded(Classifier()), output="m.onnx", inputs=[X], labels=labels, task=task)
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_labels_cannot_show_them(spotter, tmp_path):
    path, _, _ = spotter
    source, plain = adoptable(tmp_path / "in.onnx"), tmp_path / "plain.onnx"
    lstm_edge.adopt(source, plain)
    for arguments, sentence in (
        (
            {"model": plain, "stream": [b"[1, 2, 3]"]},
            r"^--show-labels: the model's card has no labels; export",
        ),
        ({"model": path, "prompt": "a"}, r"^--show-labels requires --stream or an array input$"),
    ):
        with pytest.raises(InputError, match=sentence):
            lstm_edge.run(**arguments, show_labels=True)
    assert lstm_edge.run(plain, np.zeros((2, 1, 3), np.float32)).labels is None
