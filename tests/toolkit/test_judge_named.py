"""Models of any form, quantized with their data and judged on them: a keyword spotter, a denoiser, a policy, ids."""

import json

import numpy as np
import pytest
from support.named_models import (
    Conditioned,
    Denoiser,
    KeywordSpotter,
    Policy,
    conditioned_arrays,
    denoiser_arrays,
    exported,
    keyword_arrays,
    policy_arrays,
    run_policy,
)
from typer.testing import CliRunner

import lstm_edge
from lstm_edge.cli import app
from lstm_edge.data import NamedDataset
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("named")


@pytest.fixture(scope="module")
def files(folder):
    """Return a function that exports a model and quantizes it with data, once."""
    made = {}

    def pair(kind, data):
        source = exported(kind, folder)
        if kind not in made:
            made[kind] = source.with_suffix(".int8.onnx")
            lstm_edge.quantize(source, made[kind], data=data)
            assert Session(made[kind]).card.quantization.calibration_sha256
        return source, made[kind]

    return pair


def joined(x):
    """Return [samples, time, ...] joined along time."""
    return x.reshape(-1, *x.shape[2:])


def saved(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def figures(report):
    return {key: value for key, value in report.to_json().items() if key != "data"}


def test_a_keyword_spotter_takes_its_features_in_any_layout(folder, files):
    x, y = keyword_arrays(exported(KeywordSpotter, folder))
    data = saved(folder / "model.npz", x=x, y=y)
    source, int8 = files(KeywordSpotter, data)
    first = lstm_edge.validate(int8, source, data, max_drop="50pt")
    decided = Session(int8).run(x)[0]["word"].argmax(axis=1)
    assert (first.reference, first.samples, first.units, first.samples_are) == (1.0, 60, 60, "sequences")
    assert first.candidate == first.agreement == np.mean(decided == y)
    assert first.snr_db > 20
    lengths = np.full(60, 25)
    others = [
        saved(folder / "time.npz", x=x.transpose(0, 2, 1), y=y),
        saved(folder / "flat.npz", x=joined(x.transpose(0, 2, 1)), lengths=lengths, y=y),
        saved(folder / "padded.npz", x=np.pad(x, ((0, 0), (0, 0), (0, 4))), lengths=lengths, target=y),
        saved(folder / "named.npz", **{"input.x": x.astype(np.float64), "target.word": y.astype(np.int16)}),
    ]
    for other in others:
        assert figures(lstm_edge.validate(int8, source, other, max_drop="50pt")) == figures(first), other
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    pair = lstm_edge.validate(
        int8, source, str(folder / "x.npy"), targets=str(folder / "y.npy"), metric="accuracy", max_drop="50pt"
    )
    assert figures(pair) == figures(first)


def share(outputs, targets):
    """Return the share of right words, which takes all sequences at once."""
    assert outputs.shape == (60, 12)
    return float((outputs.argmax(axis=1) == targets).mean())


share.more_is_better, share.unit = True, "share"


def test_a_function_judges_a_keyword_spotter(folder, files):
    x, y = keyword_arrays(exported(KeywordSpotter, folder))
    source, int8 = files(KeywordSpotter, saved(folder / "own.npz", x=x, y=y))
    built_in = lstm_edge.validate(int8, source, str(folder / "own.npz"), max_drop="50pt")
    own = lstm_edge.validate(int8, source, str(folder / "own.npz"), metric=share, max_drop="50pt")
    assert (own.candidate, own.reference, own.drop) == (built_in.candidate, built_in.reference, built_in.drop)
    assert own.metric == f"{__name__}:share"


def test_a_denoiser_takes_spectra_with_channels_first_or_last(folder, files):
    x, y = denoiser_arrays(exported(Denoiser, folder))
    source, int8 = files(Denoiser, saved(folder / "den.npz", x=x, y=y))
    first = lstm_edge.validate(int8, source, str(folder / "den.npz"), max_drop="50%")
    answers = Session(int8).run(x)[0]["clean"].astype(np.float64)
    assert first.metric == "mean-squared-error"
    assert first.candidate == pytest.approx(np.square(answers - y).mean(), rel=1e-4)
    assert (first.samples, first.samples_are, first.units) == (40 * 12, "steps", 40)
    for order in ((0, 3, 1, 2), (0, 2, 3, 1), (0, 3, 2, 1)):
        data = saved(folder / "turned.npz", x=x.transpose(order), y=y)
        assert figures(lstm_edge.validate(int8, source, data, max_drop="50%")) == figures(first), order
    flat = saved(
        folder / "joined.npz",
        x=joined(x.transpose(0, 3, 1, 2)),
        y=joined(y.transpose(0, 3, 2, 1)),
        lengths=np.full(40, 12),
    )
    assert figures(lstm_edge.validate(int8, source, flat, max_drop="50%")) == figures(first)


def gain_db(predictions, targets, lengths, inputs):
    """Return by how many dB each spectrum is nearer to its target than the noisy one."""
    assert lengths.tolist() == [12] * len(lengths)
    assert inputs["x"].shape == targets["clean"].shape == (40, 12, 2, 17)  # time first
    noise = [np.square(array - targets["clean"]).sum(axis=(1, 2, 3)) for array in (inputs["x"], predictions["clean"])]
    before, after = noise
    return 10 * np.log10(before / after)


gain_db.more_is_better, gain_db.unit = True, "dB"


def test_a_function_judges_a_denoiser(folder, files):
    x, y = denoiser_arrays(exported(Denoiser, folder))
    data = saved(folder / "gain.npz", x=x.transpose(0, 2, 3, 1), clean=y)  # channels last
    source, int8 = files(Denoiser, data)
    report = lstm_edge.validate(int8, source, data, metric=gain_db, max_drop="1dB", confidence=0.9)
    answers = Session(int8).run(x)[0]["clean"]
    before, after = (np.square(array - y).sum(axis=(1, 2, 3)) for array in (x, answers))
    assert report.candidate == pytest.approx((10 * np.log10(before / after)).mean(), abs=1e-3)
    assert (report.unit, report.units, report.passed) == ("dB", 40, True)


def action_error(predictions, targets, lengths, inputs):
    """Return the error of the actions of each episode, as a user would write it."""
    assert set(predictions) == {"action", "value"}
    assert set(inputs) == {"observation", "previous_action", "episode_start", "h", "c"}
    return [
        np.abs(predictions["action"][number] - targets["action"][number]).sum() / length
        for number, length in enumerate(lengths)
    ]


action_error.more_is_better = False


def policy_files(folder):
    """Return the data of episodes of different lengths, joined along time and padded, with noisy targets."""
    arrays = policy_arrays()
    generator = np.random.default_rng(9)
    lengths = generator.integers(3, 15, 30)
    answers = run_policy(exported(Policy, folder), arrays, lengths)
    noisy = {
        name: [row + 0.1 * generator.normal(size=row.shape).astype(np.float32) for row in rows]
        for name, rows in answers.items()
    }
    per_step = ("observation", "previous_action", "episode_start")
    flat = {
        name: np.concatenate([array[number, :length] for number, length in enumerate(lengths)])
        for name, array in arrays.items()
        if name in per_step
    }
    padded = {
        name: np.stack([np.pad(row, ((0, 14 - len(row)), (0, 0))) for row in rows]) for name, rows in noisy.items()
    }
    states = {name: arrays[name] for name in ("h", "c")}
    targets = {f"target.{name}": np.concatenate(rows) for name, rows in noisy.items()}
    one = saved(folder / "flat_policy.npz", **flat, **states, **targets, lengths=lengths)
    two = saved(folder / "padded_policy.npz", **arrays, **padded, lengths=lengths)
    return one, two, arrays, lengths, noisy


def test_a_policy_is_run_step_by_step_with_its_states(folder, files):
    flat, padded, arrays, lengths, targets = policy_files(folder)
    source, int8 = files(Policy, flat)
    report = lstm_edge.validate(int8, source, flat, metric="mean-squared-error:output=action", max_drop="50pt")
    answers = run_policy(int8, arrays, lengths)
    errors = np.concatenate(answers["action"]) - np.concatenate(targets["action"])
    assert report.candidate == pytest.approx(np.square(errors.astype(np.float64)).mean(), rel=1e-5)
    assert (report.samples, report.samples_are, report.units) == (lengths.sum(), "steps", 30)
    [value] = report.others
    errors = np.concatenate(answers["value"]) - np.concatenate(targets["value"])
    assert (value.output, value.metric) == ("value", "mean-squared-error")
    assert value.candidate == pytest.approx(np.square(errors.astype(np.float64)).mean(), rel=1e-5)
    assert value.drop == pytest.approx(value.candidate - value.reference)
    assert any(row[0] == "mean-squared-error of value, both" for row in report.rows())
    other = lstm_edge.validate(int8, source, padded, metric="mean-squared-error:output=action", max_drop="50pt")
    assert figures(other) == figures(report)
    own = lstm_edge.validate(int8, source, flat, metric=action_error, max_drop="50pt", confidence=0.9)
    expected = [np.abs(a - b).sum() / len(a) for a, b in zip(answers["action"], targets["action"], strict=True)]
    assert own.candidate == pytest.approx(np.mean(expected), rel=1e-5)
    assert (own.samples, own.samples_are, own.units) == (30, "sequences", 30)
    assert figures(lstm_edge.validate(int8, source, padded, metric=action_error, max_drop="50pt", confidence=0.9)) == (
        figures(own)
    )


def test_without_initial_states_they_are_zeros(folder, files):
    arrays = {name: array for name, array in policy_arrays().items() if name not in ("h", "c")}
    source = exported(Policy, folder)
    expected = np.stack(run_policy(source, arrays)["action"])
    data = saved(folder / "zeros.npz", **arrays, action=expected)
    report = lstm_edge.validate(source, source, data, metric="mean-absolute-error", max_drop="1pt")
    assert report.reference == 0.0
    shifted = saved(folder / "shifted.npz", **arrays, action=expected, **{n: np.ones((30, 20)) for n in ("h", "c")})
    assert lstm_edge.validate(source, source, shifted, metric="mean-absolute-error", max_drop="1pt").reference > 1e-3


def test_ids_with_a_condition_and_two_kinds_of_targets(folder, files):
    arrays = conditioned_arrays()
    source = exported(Conditioned, folder)
    session = Session(source)
    rows = [
        session.run({"ids": ids[None, :length], "speaker": speaker[None].astype(np.float32)})[0]
        for ids, speaker, length in zip(arrays["ids"], arrays["speaker"], arrays["lengths"], strict=True)
    ]
    classes = np.zeros((40, 9), np.int64)
    for number, row in enumerate(rows):
        classes[number, : len(row["logits"][0])] = row["logits"][0].argmax(axis=1)
    values = np.array([row["value"][0, 0] for row in rows])
    data = saved(folder / "ids.npz", **arrays, logits=classes, value=values)
    _, int8 = files(Conditioned, data)
    report = lstm_edge.validate(int8, source, data, metric="accuracy:output=logits", max_drop="50pt")
    assert (report.reference, report.samples, report.units) == (1.0, arrays["lengths"].sum(), 40)
    assert report.agreement == report.candidate
    assert [(other.output, other.metric) for other in report.others] == [("value", "mean-squared-error")]
    value = lstm_edge.validate(int8, source, data, metric="mean-squared-error:output=value", max_drop="50pt")
    assert value.reference == pytest.approx(0, abs=1e-12)
    assert (value.samples, value.samples_are) == (40, "sequences")
    assert [(other.metric, other.reference, other.candidate) for other in value.others] == [
        ("accuracy", 1.0, report.candidate)
    ]
    agreed = lstm_edge.validate(int8, source, data, metric="agreement:output=logits", max_drop="50pt")
    assert agreed.candidate == report.candidate


def test_data_in_memory_have_a_list_of_arrays_for_each_name(folder):
    arrays = conditioned_arrays()
    source = exported(Conditioned, folder)
    rows = [ids[:length] for ids, length in zip(arrays["ids"], arrays["lengths"], strict=True)]
    data = NamedDataset(
        name="memory", inputs={"ids": rows, "speaker": list(arrays["speaker"])}, targets={"value": [np.float32(0)] * 40}
    )
    report = lstm_edge.validate(source, source, data, max_drop="1pt")
    assert (report.metric, report.samples, report.drop) == ("mean-squared-error", 40, 0.0)


def test_the_command_takes_a_pair_of_arrays(folder, files):
    x, y = keyword_arrays(exported(KeywordSpotter, folder))
    source, int8 = files(KeywordSpotter, saved(folder / "cli.npz", x=x, y=y))
    np.save(folder / "cli_x.npy", x)
    np.save(folder / "cli_y.npy", y)
    words = [
        "--against",
        source,
        "--data",
        folder / "cli_x.npy",
        "--targets",
        folder / "cli_y.npy",
        "--max-drop",
        "9pt",
    ]
    result = CliRunner().invoke(app, ["validate", str(int8), *map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["reference"] == 1.0


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "metric"),
    [(KeywordSpotter, "accuracy"), (Denoiser, None), (Policy, "mean-squared-error:output=action")],
)
def test_auto_searches_on_any_data(folder, kind, metric):
    source = exported(kind, folder)
    arrays = {
        KeywordSpotter: lambda: dict(zip("xy", keyword_arrays(source, samples=80), strict=True)),
        Denoiser: lambda: dict(zip("xy", denoiser_arrays(source, samples=60), strict=True)),
        Policy: lambda: policy_arrays(60) | {"action": np.zeros((60, 14, 2), np.float32)},
    }[kind]()
    data = saved(folder / f"auto_{kind.__name__}.npz", **arrays)
    report = lstm_edge.quantize(
        source,
        folder / f"auto_{kind.__name__}.onnx",
        scheme="auto",
        data=data,
        metric=metric,
        max_drop="20pt",
        calibration_samples=20,
        max_evaluations=60,
    )
    report.check()
    assert report.result.bytes < source.stat().st_size
    assert report.validation.data.startswith(data)
    assert report.validation.units == report.held_out_data.samples == len(next(iter(arrays.values()))) // 2


def test_an_export_is_validated_on_them(folder):
    from support.named_models import KeywordSpotter as Module
    from torch import randn

    source = exported(Module, folder)
    x, y = keyword_arrays(source)
    module = Module().eval()
    data = saved(folder / "export.npz", x=x, word=y)
    report = lstm_edge.export(
        module,
        randn(2, 40, 20),
        folder / "validated.onnx",
        output_names=["word"],
        scheme="int8",
        data=data,
        max_drop="90pt",
    )
    assert report.validation.metric == "accuracy"
    assert report.validation.samples == 60


def test_which_output_is_measured_is_never_guessed(folder):
    flat, *_ = policy_files(folder)
    source = exported(Policy, folder)
    expected = (
        f"metric mean-squared-error: data {flat} has targets for action, value; name the output to measure, such as "
        "mean-squared-error:output=action, or give a function that takes all outputs"
    )
    with pytest.raises(InputError) as refused:
        lstm_edge.validate(source, source, flat, metric="mean-squared-error")
    assert str(refused.value) == expected
    with pytest.raises(
        InputError, match=r"has targets for action, value; name a metric with --metric, such as mean-sq"
    ):
        lstm_edge.validate(source, source, flat)
    with pytest.raises(InputError, match=r"has no output 'speed'; expected one of action, value$"):
        lstm_edge.validate(source, source, flat, metric="mean-squared-error:output=speed")
    with pytest.raises(InputError, match=r"the targets of 'action' in data .* are float32, expected integer classes$"):
        lstm_edge.validate(source, source, flat, metric="accuracy:output=action")
