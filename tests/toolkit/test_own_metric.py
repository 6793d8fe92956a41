"""A metric of the user's own: what it is called with, what it may return, and a sentence for whatever it does wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.judged_models import matrix_model, tagged

from lstm_edge.data import Dataset
from lstm_edge.validation.judge import validate
from lstm_edge.validation.own_metric import load_metric
from lstm_edge_runtime.errors import InputError

ROOT = Path(__file__).parents[2]
CODE = """
import numpy as np

print("imported")
calls = []

def share(outputs, targets):
    calls.append((outputs.copy(), targets.copy()))
    print("called")
    return float((outputs.argmax(axis=1) == targets).mean())

share.more_is_better = True
share.unit = "share"

def scores(outputs, targets):
    outputs[:] *= 1  # what it does to its arrays stays its own
    targets[:] = targets
    return outputs.argmax(axis=1) != targets

def spoils(outputs, targets):
    outputs[:] = 0
    return 1.0

def nan(outputs, targets):
    return float("nan")

def one_nan(outputs, targets):
    return np.where(np.arange(len(targets)) == 2, np.inf, 1.0)

def raises(outputs, targets):
    raise ValueError("nothing to\\nmeasure")

def leaves(outputs, targets):
    raise SystemExit(0)

def pair(outputs, targets):
    return np.ones((len(targets), 2))

def text(outputs, targets):
    return "good"

def nothing(outputs, targets):
    return None

def masked(outputs, targets):
    return np.ma.masked_all(3).mean()


def complex_number(outputs, targets):
    return 1j

def fussy(outputs, targets):
    if len(np.unique(targets)) < 3:
        raise ValueError("a class is missing")
    return 0.5

def ragged(outputs, targets):
    return [[1.0], [2.0, 3.0]]

def one_argument(outputs):
    return 1.0

def wrong_direction(outputs, targets):
    return 1.0

wrong_direction.more_is_better = "yes"
number = 3
"""
EYE, SKEWED = np.eye(3), np.array([[1, 0.8, 0], [0, 1, 0], [0, 0, 1]])


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    """A module beside the user, under a name that no other test has imported."""
    name = f"mine_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    sys.modules.pop(name, None)


def sequences(samples=30):
    y = np.arange(samples) % 3
    x = np.eye(3, dtype=np.float32)[y] + np.random.default_rng(0).normal(size=(samples, 3)).astype(np.float32)
    return Dataset(name="made", x=x, lengths=np.ones(samples, np.int64), y=y)


def judge(metric, data=None, **options):
    per_step = data is not None and data.per_step
    candidate, reference = (matrix_model(weight, per_step=per_step) for weight in (SKEWED, EYE))
    return validate(candidate, reference, data or sequences(), metric=metric, **options)


def test_a_number_is_the_metric_and_is_measured_anew_on_each_resample(mine, capfd):
    data = sequences()
    report = judge(f"{mine}:share", data)
    known = judge("accuracy", data)
    assert (report.metric, report.unit, report.resamples) == (f"{mine}:share", "share", 1000)
    assert (report.reference, report.candidate, report.drop) == pytest.approx(
        (known.reference, known.candidate, known.drop)
    )
    # The first 1,000 of the same 10,000 draws.
    assert report.drop_high == pytest.approx(known.drop_high, abs=2 / 30)
    assert report.drop_low < report.drop_high
    outputs, targets = sys.modules[mine].calls[0]
    assert (outputs.shape, outputs.dtype, targets.tolist()) == ((30, 3), np.float32, data.y.tolist())
    out, err = capfd.readouterr()
    assert out == "", "standard output is for results"
    assert "imported" in err
    assert "called" in err


def test_a_number_for_each_sample_is_averaged(mine):
    report, known = judge(f"{mine}:scores:less", max_drop="50%", confidence=0.9), judge("accuracy", confidence=0.9)
    assert (report.metric, report.unit, report.resamples) == (f"{mine}:scores", "", 10_000)
    assert report.candidate == pytest.approx(1 - known.candidate)
    assert report.drop == pytest.approx(known.drop)
    assert (report.drop_low, report.drop_bound) == pytest.approx((known.drop_low, known.drop_bound))
    assert report.max_drop == pytest.approx(report.reference / 2)
    # Without a unit of its own a point is 1, not a hundredth.
    assert judge(f"{mine}:scores:less", max_drop="0.5pt").max_drop == 0.5
    assert judge(f"{mine}:share", max_drop="0.5pt").max_drop == 0.005


@pytest.mark.parametrize("name", ["share", "scores:less"])
def test_steps_are_samples_and_sequences_are_drawn(mine, name):
    report, known = judge(f"{mine}:{name}", tagged(), max_drop="90pt"), judge("accuracy", tagged(), max_drop="90pt")
    assert (report.samples, report.units, report.samples_are) == (known.samples, 12, "steps")
    assert report.drop == pytest.approx(known.drop)
    calls = sys.modules[mine].calls
    if calls:
        sizes = {len(outputs) for outputs, _ in calls}
        assert len(sizes) > 10, "sequences have different lengths, so a resample has another number of steps"


def test_what_a_function_does_to_its_arrays_stays_there(mine):
    spoilt, known = judge(f"{mine}:spoils:more"), judge("accuracy")
    assert (spoilt.agreement, spoilt.max_abs_difference) == (known.agreement, known.max_abs_difference)
    assert spoilt.max_abs_difference > 0


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("nan:less", "returned nan; expected one number, or 30, one for each sample"),
        ("one_nan:less", "returned inf for sample 2; expected one number, or 30, one for each sample"),
        ("raises:less", "raised ValueError: nothing to"),
        ("leaves:less", "raised SystemExit: 0"),
        ("pair:less", "returned numbers of shape [30, 2]; expected one number, or 30, one for each sample"),
        ("text:less", "returned a str; expected one number, or 30, one for each sample"),
        ("nothing:less", "returned a NoneType; expected one number, or 30, one for each sample"),
        ("complex_number:less", "returned a complex; expected one number, or 30, one for each sample"),
        # The mean of nothing that is not masked; the zero behind the mask would be the best of losses.
        ("masked:less", "returned a MaskedConstant; expected one number, or 30, one for each sample"),
        ("ragged:less", "returned a list; expected one number, or 30, one for each sample"),
    ],
)
def test_a_wrong_answer_is_one_sentence(mine, function, sentence):
    name = f"{mine}:{function.partition(':')[0]}"
    with pytest.raises(InputError, match="^" + re.escape(f"model: metric {name}: {sentence}") + "$"):
        judge(f"{mine}:{function}")


def test_a_function_that_needs_what_a_resample_lacks_says_so(mine):
    few = sequences(3)
    expected = (
        f"metric {mine}:fussy: raised ValueError: a class is missing (on a resample of the bootstrap, which also needs"
    )
    with pytest.raises(InputError, match="^" + re.escape(expected)):
        judge(f"{mine}:fussy:more", few)


def test_a_wrong_number_of_arguments_is_told(mine):
    with pytest.raises(InputError, match=r"raised TypeError: one_argument\(\) takes 1 positional argument but 2 were"):
        judge(f"{mine}:one_argument:more")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "{mine}:none:more",
            "metric {mine}:none: cannot be imported (AttributeError: module '{mine}' has no attribute",
        ),
        (
            "no_such_module:f",
            "metric no_such_module:f: cannot be imported (ModuleNotFoundError: No module named 'no_su",
        ),
        (
            "broken:f",
            "metric broken:f: cannot be imported (ModuleNotFoundError: No module named 'nothing_of_this_name')",
        ),
        (":f", "metric :f: cannot be imported (ValueError: Empty module name); expected package.module:function"),
        ("{mine}:number:more", "metric {mine}:number: is a int, expected a function (outputs, targets)"),
        (
            "{mine}:scores",
            "metric {mine}:scores: got no better direction; write {mine}:scores:more or {mine}:scores:less, "
            "or give the function an attribute more_is_better",
        ),
        ("{mine}:share:less", "metric {mine}:share: got the suffix less, but its more_is_better is True"),
        (
            "{mine}:wrong_direction",
            "metric {mine}:wrong_direction: its more_is_better is 'yes', expected True or False",
        ),
        ("f2", "metric 'f2': unknown; expected one of accuracy, cross-entropy, mean-squared-error"),
    ],
)
def test_a_name_that_cannot_be_used_is_one_sentence(mine, name, sentence):
    with pytest.raises(InputError, match="^" + re.escape(sentence.format(mine=mine))):
        load_metric(name.format(mine=mine))


def test_the_direction_may_be_said_twice_alike(mine):
    assert load_metric(f"{mine}:share:more") == load_metric(f"{mine}:share")
    assert not load_metric(f"{mine}:scores:less").more_is_better


def test_the_function_on_the_data_page_works(tmp_path):
    page = (ROOT / "docs" / "data.md").read_text()
    code = re.findall(r"```python\n(# mine\.py\n.*?)```", page, re.DOTALL)[0]
    (tmp_path / "mine_of_the_page.py").write_text(code)
    data = sequences()
    report = judge("mine_of_the_page:cost", data, max_drop="50%")
    decided = (data.x @ EYE).argmax(axis=1)
    wrong = decided != data.y
    assert report.reference == pytest.approx((10.0 * ((data.y == 1) & (decided == 0)) + wrong).mean())
    assert report.reference > 0


def test_a_text_or_data_without_targets_is_refused(mine):
    with pytest.raises(InputError, match=rf"^metric {mine}:share: data king-james is a text, expected perplexity"):
        validate(b"", b"", "king-james", metric=f"{mine}:share")


@pytest.mark.slow
def test_the_command_finds_a_function_in_the_current_folder(tmp_path, mine):
    data = sequences()
    np.savez(tmp_path / "d.npz", x=data.x, lengths=data.lengths, y=data.y)
    (tmp_path / "m.onnx").write_bytes(matrix_model(EYE, per_step=False))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "exporters", ROOT / "runtime")))}
    command = [sys.executable, "-c", "import sys; sys.path.remove(''); from lstm_edge.cli import main; main()"]
    arguments = ["validate", "m.onnx", "--against", "m.onnx", "--data", "d.npz", "--json", "--metric"]

    def run(metric):
        return subprocess.run(
            [*command, *arguments, metric], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    good = run(f"{mine}:share")
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["metric"] == f"{mine}:share"
    bad = run(f"{mine}:nan:more")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.splitlines()[-1].startswith(f"error: model m.onnx: metric {mine}:nan: returned nan; expected one")
