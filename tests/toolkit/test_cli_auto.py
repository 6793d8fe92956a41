"""`lstm-edge quantize --scheme auto` and its library: against brute force, interrupted, refused; and `--part`."""

import hashlib
import itertools
import json
import os

import pytest
from support.auto_cases import DROP, METRIC, SCHEMES, clock, command, no_timer, request, search
from support.budget_models import write_classifier, write_data
from support.report_cases import read_report
from typer.testing import CliRunner

from lstm_edge.cli import app
from lstm_edge.html_report import render_report
from lstm_edge.precision_search import quantize_to_budget
from lstm_edge.precision_search.compose import Composer
from lstm_edge.precision_search.data import calibration_feeds, load_roles
from lstm_edge.validation.judge import Judge
from lstm_edge_exporters.quantize import Scheme, quantize_bytes
from lstm_edge_runtime.session import Session

pytestmark = pytest.mark.slow

NEAR = 1.02


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("budget")
    # Large enough for four-bit weights to save more than their operators' bodies take. Of the draws that were tried,
    # this one has a smallest mix within DROP on the tuning data that is over it on the held-out data.
    model = write_classifier(folder / "model.onnx", hidden=96, seed=1)
    return model, write_data(folder / "data.npz", model)


@pytest.fixture(scope="module", autouse=True)
def few_schemes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lstm_edge.precision_search.space.SCHEMES", SCHEMES)
        patch.setattr("lstm_edge.precision_search.smallest.UNIFORM", ("float16", *SCHEMES))
        yield


@pytest.fixture(scope="module")
def whole(files, few_schemes, tmp_path_factory):
    """A search through every mix: its report and the bytes it wrote."""
    folder = tmp_path_factory.mktemp("whole")
    report = search(files, folder)
    assert os.listdir(folder) == ["out.onnx"]
    return report, (folder / "out.onnx").read_bytes()


def brute_force(files, tmp_path):
    """Build and judge every mix; returns (bytes, loss and verdict on the tuning data, verdict on held-out data)."""
    asked = request(files, tmp_path)
    roles = load_roles(asked.data, None, metric=METRIC)
    composer = Composer.read(files[0])
    composer.calibrate(calibration_feeds(Session(composer.source), roles.calibration, 40))
    judges = Judge(composer.source, roles.tuning, metric=METRIC), Judge(composer.source, roles.held_out, metric=METRIC)
    found = {}
    for mix in itertools.product(("float32", *SCHEMES), repeat=3):
        parts = {p: s for p, s in zip(("lstm.W", "lstm.R", "head"), mix, strict=True) if s != "float32"}
        if parts:
            data = composer.build(parts).data
            levels = asked.confidence, asked.look_confidence
            reports = [j.judge(data, max_drop=DROP, confidence=c) for j, c in zip(judges, levels, strict=True)]
            loss = 10 ** (-reports[0].snr_db / 10)
            found[mix] = (len(data), loss, *(report.passed for report in reports))
    return found


@pytest.mark.long
def test_the_answer_is_near_the_best_of_all_mixes(files, tmp_path, whole):
    """The smallest within the budget on the tuning data fails; the smallest clearly safer one is the answer."""
    found = brute_force(files, tmp_path)
    first = min(mix for mix in found.values() if mix[2])
    second = min(mix for mix in found.values() if mix[2] and 4 * mix[1] <= first[1])
    assert not first[3]
    assert second[3]
    assert any(size < first[0] for size, *_ in found.values()), "the budget must forbid something"
    assert whole[0].exhaustive
    looks = [(look.name, look.bytes, look.passed) for look in whole[0].looks[2:]]
    assert looks == [("candidate 1", first[0], False), ("candidate 2", second[0], True)]
    bounded = search(files, tmp_path, max_evaluations=24)
    assert not bounded.exhaustive
    assert len(bounded.evaluations) <= 24
    assert bounded.answer.bytes <= NEAR * second[0]


def test_the_report_says_all(whole):
    report, written = whole
    values = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert [row["name"] for row in values["baselines"]] == ["float32", "float16", "int8", "int4:32"]
    assert {(row["part"], row["scheme"]) for layer in values["layers"] for row in layer["sensitivity"]} == {
        (part, scheme) for part in ("lstm.W", "lstm.R", "head") for scheme in SCHEMES
    }
    assert values["result"]["bytes"] == len(written)
    assert values["result"]["sha256"] == hashlib.sha256(written).hexdigest()
    assert values["validation"]["passed"]
    assert values["differences"]["worst"] > 0
    # Four logits of each sample: about half of the 120.
    assert sum(values["differences"]["counts"]) == 4 * report.held_out_data.samples
    assert len(values["differences"]["edges"]) == len(values["differences"]["counts"]) + 1


def test_the_written_file_says_where_it_came_from_and_keeps_the_metric(files, whole):
    report, written = whole
    quantization = Session(written).card.quantization
    assert quantization.parent_sha256 == hashlib.sha256(files[0].read_bytes()).hexdigest()
    assert (
        quantize_bytes(
            files[0].read_bytes(),
            scheme="float32",
            parts={part: Scheme.parse(text) for part, text in report.answer.parts.items()},
        ).card.quantization.parts
        == quantization.parts
    )
    assert quantization.calibration_sha256 == report.calibration.sha256
    metric = quantization.metric
    assert (metric.name, metric.value) == (METRIC, report.validation.candidate)
    assert metric.low <= metric.value <= metric.high
    assert metric.data == report.held_out_data.name != report.tuning_data.name
    # Anyone can check it again, from the two files and the data.
    roles = load_roles(str(files[1]), None, metric=METRIC)
    again = Judge(files[0], roles.held_out, metric=METRIC).judge(written, max_drop=DROP, confidence=0.99)
    assert again.candidate == metric.value
    assert again.passed


class KilledError(Exception):
    """Stands for a process that ends here."""


@pytest.mark.long
@pytest.mark.parametrize("after", [1, 12, 25])
def test_an_interrupted_search_goes_on_to_the_same_bytes(files, tmp_path, whole, after, monkeypatch):
    report, expected = whole

    def kill(found):
        if found.number == after:
            raise KilledError

    with pytest.raises(KilledError):
        quantize_to_budget(request(files, tmp_path), timer=no_timer, on_evaluation=kill)
    assert os.listdir(tmp_path) == ["out.onnx.search"]
    built = []
    build = Composer.build
    monkeypatch.setattr(Composer, "build", lambda self, parts: built.append(dict(parts)) or build(self, parts))
    resumed = search(files, tmp_path, resume=True)
    assert (tmp_path / "out.onnx").read_bytes() == expected
    assert resumed.evaluations == report.evaluations
    assert len(built) <= len(report.evaluations) - after + 1, "what the journal has is not built again"
    assert os.listdir(tmp_path) == ["out.onnx"]


@pytest.mark.long
def test_the_same_search_twice_is_the_same_and_other_options_are_another_search(files, tmp_path, whole):
    assert search(files, tmp_path, output=tmp_path / "two.onnx").evaluations == whole[0].evaluations
    assert (tmp_path / "two.onnx").read_bytes() == whole[1]

    def kill(_found):
        raise KilledError

    with pytest.raises(KilledError):
        quantize_to_budget(request(files, tmp_path), timer=no_timer, on_evaluation=kill)
    arguments = ["--scheme", "auto", "--data", files[1], "--metric", METRIC, "--max-evaluations", 60]
    arguments += ["--calibration-samples", 40]
    result = command(files[0], "-o", tmp_path / "out.onnx", *arguments, "--max-drop", DROP, exit_code=2)
    assert (
        "this is the journal of an interrupted search; continue it with --resume, or delete the file" in result.stderr
    )
    result = command(files[0], "-o", tmp_path / "out.onnx", *arguments, "--max-drop", "1%", "--resume", exit_code=2)
    assert 'it is the journal of another search: max_drop was "8%", now it is "1%"' in result.stderr
    assert not (tmp_path / "out.onnx").exists()


def test_a_budget_that_cannot_be_met_is_exit_1_and_the_report_is_written(files, tmp_path):
    arguments = [files[0], "-o", tmp_path / "out.onnx", "--scheme", "auto", "--data", files[1], "--metric", METRIC]
    arguments += ["--max-drop", "0.0000001%", "--report", tmp_path / "r.html", "--calibration-samples", 40]
    result = command(*arguments, exit_code=1)
    assert "no assignment of schemes keeps cross-entropy within 0.0000001% (" in result.stderr
    assert "Nothing was written" in result.stderr
    assert sorted(os.listdir(tmp_path)) == ["r.html", "r.json"]
    values = json.loads((tmp_path / "r.json").read_text())
    assert (values["passed"], values["result"], values["validation"]) == (False, None, None)
    assert values["command"].startswith("lstm-edge quantize ")
    assert "--max-drop 0.0000001%" in values["command"]
    assert (tmp_path / "r.html").read_text() == render_report(read_report(values))


def test_the_command_prints_the_sensitivity_and_the_json_is_the_report(files, tmp_path):
    arguments = [files[0], "-o", tmp_path / "out.onnx", "--scheme", "auto", "--data", files[1], "--metric", METRIC]
    arguments += ["--max-drop", DROP, "--calibration-samples", 40, "--max-evaluations", 22]
    result = command(*arguments)
    for text in ("part alone", "lstm.W", "lstm.R", "int4", "signal to noise", "drop, bound at 0.99", "of the source"):
        assert text in result.stdout
    *lines, wrote = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert wrote.startswith(f"wrote {tmp_path / 'out.onnx'}, ")
    values = json.loads(command(*arguments, "--json").stdout)
    assert values["result"]["bytes"] == (tmp_path / "out.onnx").stat().st_size
    assert values["schema"] == "1.1"


def test_an_interrupt_is_one_sentence_and_exit_130(files, tmp_path, monkeypatch):
    def interrupt(self, parts):
        if parts:
            raise KeyboardInterrupt
        return build(self, parts)

    build = Composer.build
    monkeypatch.setattr(Composer, "build", interrupt)
    arguments = [files[0], "-o", tmp_path / "out.onnx", "--scheme", "auto", "--data", files[1], "--metric", METRIC]
    arguments += ["--max-drop", DROP, "--calibration-samples", 40]
    result = command(*arguments, exit_code=130)
    assert "out.onnx.search keeps the measurements; continue with --resume" in result.stderr
    assert os.listdir(tmp_path) == ["out.onnx.search"]
    monkeypatch.undo()


def test_the_fastest_is_not_the_smallest(files, tmp_path):
    asked = request(files, tmp_path, prefer="latency", max_drop="50%")
    fast = quantize_to_budget(asked, timer=clock)
    assert set(fast.answer.parts) == {"lstm", "head"}, "W and R of one layer go together"
    assert set(fast.answer.parts.values()) == {"int8"}
    assert fast.answer.step_us == min(found.step_us for found in fast.evaluations)
    small = search(files, tmp_path, output=tmp_path / "small.onnx", max_drop="50%")
    assert small.answer.bytes < fast.answer.bytes


def test_what_cannot_work_is_refused_before_it_starts(files, tmp_path):
    model, data = files
    output = ["-o", tmp_path / "out.onnx"]
    auto = [*output, "--scheme", "auto"]
    full = [*auto, "--data", data, "--metric", METRIC, "--max-drop", DROP]
    plain = tmp_path / "int8.onnx"
    plain.write_bytes(quantize_bytes(model.read_bytes()).data)
    narrow = write_data(tmp_path / "narrow.npz", model, features=7)
    few = write_data(tmp_path / "few.npz", model, samples=30)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(model.read_bytes()[:-500])
    cases = [
        ([model, *auto], "--scheme auto needs --data, --max-drop"),
        ([model, *output, "--metric", METRIC], "--metric requires --scheme auto; leave it out"),
        ([model, *output, "--resume"], "--resume requires --scheme auto; leave it out"),
        ([model, *output, "--no-clip"], "--no-clip requires calibration data: give --data"),
        ([model, *full, "--block", "128"], "--block requires a fixed scheme, not --scheme auto"),
        ([model, *full, "--max-evaluations", "9"], "--max-evaluations is 9, expected 16 or more: 10 for the sensitivi"),
        ([model, *full, "--confidence", "1"], "--confidence is 1.0, expected a share above 0 and below 1"),
        ([model, *full, "--resume"], "no such file, so there is nothing to resume; leave --resume out"),
        ([model, *full, "--report", tmp_path / "r.txt"], "the name of a report must end in .html"),
        ([model, *full, "--part", "lstm.R"], "--part 'lstm.R': expected PART=SCHEME, such as lstm.R=int4:128"),
        ([model, *full, "--part", "lstm.R=int5"], "unknown scheme 'int5'"),
        ([model, *full, "--held-out-data", data], "are the same samples, or one is part of the other"),
        ([model, *full[:-2], "--max-drop", "1x"], "--max-drop is '1x', expected a number, 0 or more"),
        ([model, *auto, "--data", narrow, "--metric", METRIC, "--max-drop", DROP], "7"),
        ([model, *auto, "--data", few, "--metric", METRIC, "--max-drop", DROP], "expected 20 or more to verify a b"),
        ([plain, *full], "the model is quantized already (int8), expected the float32 file that it was made from"),
        (
            [plain, *output, "--data", data],
            "the model is quantized already (int8), expected the float32 file that it was ",
        ),
        ([model, *full, "--part", "lstm.X=int8"], "the model has no part 'lstm.X'; its parts are lstm (and .W, .R"),
        (
            [model, *full, "--columns", "target=who"],
            "--columns, --step-every and --missing are for tables, leave them out",
        ),
        ([model, *full, "--held-out-data", narrow], "narrow.npz has float32[batch, time, 7]"),
        ([tmp_path / "none.onnx", *full], "none.onnx: no such file"),
        ([model, "-o", model, *full[2:]], "this is the file that is read; give the result another name"),
    ]
    for arguments, sentence in cases:
        assert sentence in command(*arguments, exit_code=2).stderr, arguments
    for arguments in ([damaged, *full], [damaged, *output, "--data", data]):
        assert "damaged.onnx: the file is truncated: " in command(*arguments, exit_code=1).stderr
    assert sorted(os.listdir(tmp_path)) == ["damaged.onnx", "few.npz", "int8.onnx", "narrow.npz"]


def test_a_metric_that_is_nan_is_one_sentence(files, tmp_path, monkeypatch):
    (tmp_path / "my_metric.py").write_text("def nothing(outputs, targets):\n    return float('nan')\n")
    monkeypatch.chdir(tmp_path)
    arguments = ["--scheme", "auto", "--data", files[1], "--metric", "my_metric:nothing:less", "--max-drop", "1pt"]
    result = command(files[0], "-o", tmp_path / "out.onnx", *arguments, exit_code=2)
    assert "metric my_metric:nothing: returned nan; expected one number" in result.stderr
    assert not list(tmp_path.glob("out.onnx*"))


def test_a_search_that_fails_half_way_says_that_its_journal_stays(files, tmp_path, monkeypatch):
    """A metric of one's own that raises at the fourth file: repaired, the search need not start again."""
    (tmp_path / "brittle.py").write_text(
        "calls = []\n\ndef share(outputs, targets):\n    calls.append(0)\n"
        "    if len(calls) > 6:\n        raise ValueError('bang')\n    return (outputs.argmax(1) == targets) * 1.0\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = ["--scheme", "auto", "--data", files[1], "--metric", "brittle:share:more", "--max-drop", "1pt"]
    result = command(files[0], "-o", tmp_path / "out.onnx", *arguments, exit_code=2)
    assert "metric brittle:share: raised ValueError: bang" in result.stderr
    assert "out.onnx.search keeps the measurements; continue with --resume, or delete the file" in result.stderr
    assert [path.name for path in tmp_path.glob("out.onnx*")] == ["out.onnx.search"]


def test_inspect_shows_what_the_file_was_found_to_keep(whole, tmp_path):
    report, written = whole
    (tmp_path / "small.onnx").write_bytes(written)
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "small.onnx")])
    text = " ".join(result.stdout.split())
    low, high = (f"{getattr(Session(written).card.quantization.metric, end):.4g}" for end in ("low", "high"))
    value = f"{report.validation.candidate:.4g}"
    assert f"{METRIC} {value} ({low} to {high} at confidence 0.99) on {report.held_out_data.name}" in text
    assert f"calibrated on data with SHA-256 {report.calibration.sha256}" in text
    # A path is never broken, however long.
    assert max(len(line) for line in result.stdout.splitlines() if "/" not in line) <= 80
