"""The public API is the command line: each command is a function of its name, with its options under their names."""

import inspect
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from support.api_only import CALLBACKS, ONLY_FROM_PYTHON, PRESENTATION
from support.budget_models import write_classifier, write_data
from torch import nn

import lstm_edge
import lstm_edge_runtime.errors
from lstm_edge.cli import COMMANDS, app
from lstm_edge_runtime.errors import LstmEdgeError

TAGGER = Path(__file__).parents[1] / "device" / "models" / "tagger.onnx"


def of_the_command(name):
    """The options and arguments of a command by name, with their defaults; those of all tasks for `train`."""
    command = typer.main.get_command(app).commands[name]
    commands = command.commands.values() if hasattr(command, "commands") else [command]
    return {parameter.name: parameter.default for one in commands for parameter in one.params if not hidden(parameter)}


def hidden(parameter):
    return getattr(parameter, "hidden", False) or parameter.name == "help"


def function_of(name):
    """The function of a command; `lstm_edge.data` and `lstm_edge.zoo` are packages."""
    return {"data": lstm_edge.check_data, "zoo": lstm_edge.zoo_get}.get(name) or getattr(lstm_edge, name)


def differences(name, command=None, function=None):
    """What a command has and its function lacks, and the other way round, apart from what the tables name."""
    command = of_the_command(name) if command is None else command
    function = inspect.signature(function_of(name) if function is None else function).parameters
    expected = set(command) - set(PRESENTATION)
    found = set(function) - set(CALLBACKS) - set(ONLY_FROM_PYTHON.get(name, ()))
    return expected ^ found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_function_has_the_options_of_its_command(name):
    assert differences(name) == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_comparison_sees_an_option_that_one_of_the_two_lacks(name):
    whole = of_the_command(name)
    for option in set(whole) - set(PRESENTATION):
        assert differences(name, command={key: value for key, value in whole.items() if key != option}) == {option}
    assert differences(name, command=whole | {"more": None}) == {"more"}
    signature = inspect.signature(function_of(name))

    def lacking(*_arguments, **_options):
        pass

    lacking.__signature__ = signature.replace(
        parameters=[parameter for key, parameter in signature.parameters.items() if key != "output"]
    )
    assert differences(name, function=lacking) == ({"output"} & set(whole))


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "train"])
def test_the_defaults_are_the_same(name):
    # None on the command line: not given, and the function decides. Training has defaults for each task.
    command, function = of_the_command(name), inspect.signature(function_of(name)).parameters
    for option, default in command.items():
        if option in function and default is not None and function[option].default is not inspect.Parameter.empty:
            expected = None if option in ("stream", "calls") else default
            assert function[option].default == expected, option


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_is_described(name):
    function = function_of(name)
    described = function.__doc__
    for parameter in inspect.signature(function).parameters:
        assert f" {parameter}" in described.partition("Args:")[2], parameter
    assert "Raises:" in described


def test_all_errors_can_be_imported():
    errors = {name for name in lstm_edge_runtime.errors.__all__ if name.endswith("Error")}
    assert {name for name in lstm_edge.__all__ if name.endswith("Error")} == errors
    assert all(issubclass(getattr(lstm_edge, name), LstmEdgeError) for name in errors)
    assert all(getattr(lstm_edge_runtime, name) is getattr(lstm_edge, name) for name in errors)
    assert lstm_edge.__version__ == version("lstm-edge")
    assert set(dir(lstm_edge)) == set(lstm_edge.__all__)


def test_no_module_takes_a_functions_name():
    folder = Path(lstm_edge.__file__).parent
    modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert modules & set(lstm_edge.__all__) == set()


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, lstm_edge; print([m for m in ('torch', 'onnx', 'onnxruntime', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_the_smallest_mix_from_python(tmp_path):
    model = write_classifier(tmp_path / "model.onnx")
    data = write_data(tmp_path / "data.npz", model)
    heard = []
    report = lstm_edge.quantize(
        model,
        tmp_path / "small.onnx",
        data=str(data),
        scheme="auto",
        metric="cross-entropy",
        max_drop="30%",
        parts={"head": "int8"},
        report=tmp_path / "r.html",
        max_evaluations=40,
        calibration_samples=20,
        on_evaluation=heard.append,
    )
    report.check()
    assert len(heard) == len(report.evaluations)
    assert report.command == (
        f"lstm-edge quantize {model} --output {tmp_path / 'small.onnx'} --scheme auto --part head=int8 --data {data} "
        f"--calibration-samples 20 --metric cross-entropy --max-drop 30% --max-evaluations 40 "
        f"--report {tmp_path / 'r.html'}"
    )
    assert (tmp_path / "r.json").exists()
    with pytest.raises(lstm_edge.InputError, match="--scheme auto needs --max-drop"):
        lstm_edge.quantize(model, tmp_path / "no.onnx", data=str(data), scheme="auto")
    with pytest.raises(lstm_edge.InputError, match="--metric requires --scheme auto; leave it out"):
        lstm_edge.quantize(model, tmp_path / "no.onnx", metric="accuracy")


def test_the_device_functions_and_run(tmp_path):
    report = lstm_edge.inspect(TAGGER)
    assert (report.verified, report.card.task) == (True, "tagging")
    assert lstm_edge.check(TAGGER).passed
    x = np.random.default_rng(0).normal(size=(1, 4, 3)).astype(np.float32)
    whole = lstm_edge.run(TAGGER, x, save_state=tmp_path / "s.npz")
    first = lstm_edge.run(TAGGER, x[:, :2])
    second = lstm_edge.run(TAGGER, {"x": x[:, 2:]}, load_state=first.state)
    together = np.concatenate([first.outputs["logits"], second.outputs["logits"]], axis=1)
    np.testing.assert_allclose(together, whole.outputs["logits"], atol=1e-6)
    answers = []
    streamed = lstm_edge.run(TAGGER, stream=[b"[1, 2, 3]", b"[1, 2, 3]"], on_line=answers.append)
    assert streamed.lines == len(answers) == 2
    with pytest.raises(lstm_edge.InputError, match="give an INPUT"):
        lstm_edge.run(TAGGER)


@pytest.mark.slow
def test_old_names_of_arguments_still_work(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x):
            return self.rnn(x)[0]

    x, path = torch.zeros(2, 3, 3), tmp_path / "m.onnx"
    with pytest.warns(DeprecationWarning, match="^(path is the old name of output|state is the old name of states)$"):
        report = lstm_edge.export(Net().eval(), x, path=path, state="hidden")
    assert report.card.states == ()
    with pytest.warns(DeprecationWarning, match="^layers is the old name of layer_kinds$"):
        lstm_edge.quantize(path, tmp_path / "q.onnx", layers="recurrent")
    with pytest.raises(lstm_edge.InputError, match="path is the old name of output: give only output"):
        lstm_edge.quantize(path, output=tmp_path / "q.onnx", path=path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lstm_edge.quantize(path, tmp_path / "q.onnx")
    with pytest.raises(lstm_edge.InputError, match="window is not an option of tagging; leave it out"):
        lstm_edge.train("tagging", data="d.npz", output="m.safetensors", window=3)
