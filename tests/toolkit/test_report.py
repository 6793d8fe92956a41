"""What the HTML report of a quantization to a budget says."""

import re
from dataclasses import replace

import pytest
from support.html_page import Page, rows, section
from support.report_cases import example, failed, timed, with_budget, with_evaluations, with_sensitivities

from lstm_edge.html_report import render_report
from lstm_edge.html_report.words import step_time
from lstm_edge.precision_search import Evaluation
from lstm_edge.precision_search.report import DataNote, MetricNote, Sensitivity
from lstm_edge.validation.figures import difference_text
from lstm_edge_runtime.errors import BudgetError


def summary(report):
    return " ".join(section(Page(render_report(report)), "summary")["text"].split())


def with_looks(report, *looks):
    """The report with other looks at the held-out data; each gets what is said of it in place of the real one."""
    others = tuple(found for found in report.evaluations if found.stage != "held-out")
    return replace(report, evaluations=others + tuple(replace(report.answer, **look) for look in looks))


def with_layer(report, number, **changes):
    layers = list(report.layers)
    layers[number] = replace(layers[number], **changes)
    return replace(report, layers=tuple(layers))


def with_sensitivity(report, **changes):
    """The report with another first sensitivity."""
    [first, *others] = report.layers[0].sensitivity
    first = replace(first, evaluation=replace(first.evaluation, **changes))
    return with_layer(report, 0, sensitivity=(first, *others))


def alone(part, scheme, drop, *, high=0.02, snr_db=30.0, bytes_=1):
    """What one part lost alone."""
    known = {"number": 1, "stage": "sensitivity", "saved": 0, "step_us": None, "parts": {part: scheme}}
    found = Evaluation(**known, bytes=bytes_, drop=drop, high=high, snr_db=snr_db)
    return Sensitivity(part=part, scheme=scheme, evaluation=found)


def test_the_summary_has_the_figures_of_the_held_out_data_and_not_of_the_tuning_data():
    report = with_budget(example())
    held_out = DataNote(name="king-james test", samples=206_892, samples_are="characters", sha256="0")
    report = with_looks(report, {"value": 3.5, "drop": 0.0125, "low": 0.0102, "high": 0.0148, "bytes": 1})
    int8 = next(entry for entry in report.baselines if entry.name == "int8")
    report = replace(
        report,
        metric=MetricNote(name="perplexity", unit="", more_is_better=False),
        held_out_data=held_out,
        source=replace(report.source, bytes=3_500_000),
        result=replace(report.result, bytes=700_000),
        baselines=(replace(int8, evaluation=replace(int8.evaluation, bytes=933_333, value=1.0, drop=1.0)),),
        validation=replace(report.validation, max_drop=0.0167),
    )
    text = summary(report)
    for expected in (
        "Within the budget",
        "700 kB instead of 3.50 MB",
        "0.20× of the original, 3.50 MB",
        "−25% against int8 for all layers",
        "3.5",
        "original: 3.4875",
        "less is better",
        "+0.0125",
        "at most +0.0148, 95% confidence",
        "The loss is at most 0.0148 with 95% confidence, and the budget allows 0.0167.",
        "+0.36% of the original",
        "a loss of at most 0.0167",
        "Held-out data, which the search does not use: king-james test (206,892 characters). One file was",
    ):
        assert expected in text, expected


def test_of_several_looks_at_the_held_out_data_the_one_that_passed_counts():
    looks = [(7.25, False), (4.25, False), (5.25, True)]
    report = with_looks(example(), *({"value": value, "passed": passed} for value, passed in looks))
    text = summary(report)
    assert [value for value, _ in looks if str(value) in text] == [5.25]
    assert "3 files were judged on them." in text


def test_the_interval_of_the_metric_is_shown_where_it_is_finite():
    report = example()
    for low, high in ((None, None), (3.41, float("inf")), (float("nan"), 3.45)):
        validation = replace(report.validation, candidate_low=low, candidate_high=high)
        assert "range 3" not in summary(replace(report, validation=validation))
    validation = replace(report.validation, candidate_low=3.41, candidate_high=3.45)
    assert "range 3.41 to 3.45" in summary(replace(report, validation=validation))


def test_the_budget_of_the_summary_is_that_of_the_held_out_data():
    report = with_budget(example())
    page = Page(render_report(replace(report, validation=replace(report.validation, max_drop=0.0171))))
    assert "a loss of at most 0.0171" in section(page, "summary")["text"]
    assert "a loss of at most 0.0167" in page.all("desc")[0]["text"]
    assert "a loss of at most 0.0167" in summary(with_budget(failed()))


def test_the_chosen_file_has_the_size_that_was_written_and_a_part_may_make_a_file_larger():
    report = example()
    report = replace(
        report, source=replace(report.source, bytes=3_500_000), result=replace(report.result, bytes=711_111)
    )
    page = Page(render_report(with_sensitivity(report, bytes=3_501_234)))
    assert rows(page, "Size, metric and loss")[-1][:3] == ["● chosen", "711 kB", "0.20×"]
    assert "−1.23 kB" in section(page, "sensitivity")["text"]
    # The result may be plain int8.
    int8 = next(entry for entry in example().baselines if entry.name == "int8").evaluation.bytes
    assert "as large as int8 for all layers" in summary(
        replace(example(), result=replace(example().result, bytes=int8))
    )


def test_the_time_of_a_step_stands_beside_the_size():
    report = example()
    source, result = replace(report.source, step_us=123.4), replace(report.result, step_us=21.26)
    assert "step 21.3 µs instead of 123 µs" in summary(replace(report, source=source, result=result))


def test_a_failed_search_has_a_report_that_says_what_came_closest():
    page = Page(render_report(failed()))
    text = " ".join(section(page, "summary")["text"].split())
    assert "No file within the budget was found, and none was written" in text
    best = min((found for found in failed().evaluations if found.parts), key=lambda found: found.high)
    assert f"number {best.number} ({best.stage})" in text
    # The error of the command has the same figure.
    with pytest.raises(BudgetError, match=re.escape(difference_text(best.high, failed().metric.unit))):
        failed().check()
    assert "Nothing was evaluated on held-out data." in text
    assert "Within the budget" not in page.text
    assert "● chosen" not in page.text
    assert page.all("p", **{"class": "verdict failed"})
    source = tuple(found for found in failed().evaluations if not found.parts)
    assert source
    assert "Closest to itnot measured" in summary(replace(failed(), evaluations=source))


def test_every_layer_has_its_bytes_its_schemes_and_the_worst_of_its_chosen_schemes_alone():
    report = with_layer(with_budget(example()), 0, parts={})
    report = with_layer(
        report,
        2,
        name="a.lstm",
        operator="LSTM",
        parameters=12_345,
        bytes_before=50_000,
        bytes_after=9_000,
        parts={"a.lstm.W": "int8", "a.lstm.R.i": "int4:128", "other": "float16"},
        sensitivity=(
            alone("a.lstm.W", "int8", 0.001),
            alone("a.lstm.R.i", "int4:128", 0.0123),
            alone("a.lstm.R.i", "int4", 9.0),
        ),
    )
    found = rows(Page(render_report(report)), "The scheme of each layer")
    assert [row[0].split()[0] for row in found[1:]] == [layer.name for layer in report.layers]
    assert found[3][0] == "a.lstm LSTM"
    assert found[3][1:] == ["12,345", "50.0 kB", "9.00 kB", "0.18×", "W int8 R.i int4:128 other float16", "+0.0123"]
    assert found[1][5:] == ["as the source", "none"]


def test_sensitivities_are_sorted_and_bars_are_as_long_as_they_say():
    report = with_budget(example())
    everything = [entry for layer in report.layers for entry in layer.sensitivity]
    assert len(everything) > 12  # so that some are folded away
    drops = [(number * 7 % 11) / 1000 for number in range(len(everything))]
    drops[6], drops[2], drops[3] = -0.001, 0.016, 0.02
    numbers = {(entry.part, entry.scheme): number for number, entry in enumerate(everything)}

    def change(entry):
        drop = drops[numbers[entry.part, entry.scheme]]
        return replace(entry, evaluation=replace(entry.evaluation, drop=drop, high=drop + 0.001))

    page = Page(render_report(with_sensitivities(report, change)))
    shown, folded = (rows(page, f"Loss of each part alone: the {which}")[1:] for which in ("most", "others"))
    assert len(shown) == 12
    found = shown + folded
    assert len(found) == len(everything)
    expected = sorted(drops, reverse=True)
    assert [row[2] for row in found] == [drop_text(value) for value in expected]
    assert [row[:2] for row in found[:2]] == [[everything[n].part, everything[n].scheme] for n in (3, 2)]
    assert [row[3] for row in found] == ["✗ over"] * 2 + [""] * (len(found) - 2)
    # Of equal losses the part with the most noise is first: with a metric that is 0 everywhere the noise is the order.
    noise = [row[6] for row in rows(Page(render_report(with_sensitivities(report, flat))), "Loss of each part alone")]
    assert noise[1:] == sorted(noise[1:], key=lambda text: float(text.removesuffix(" dB")))
    widths = [float(e["style"].strip("width:%")) for e in page.all("span") if e.get("style")][-len(found) :]
    assert widths == pytest.approx([100 * max(0, drop) / 0.02 for drop in expected], abs=0.1)


def flat(entry):
    return replace(entry, evaluation=replace(entry.evaluation, drop=0.0, high=0.0))


def drop_text(value):
    """A drop as a budget of 0.0167 has it written."""
    return "0" if value == 0 else f"{value:+.4f}".replace("-", "−")


def test_the_bound_is_held_against_the_budget_and_not_the_estimate():
    for high, mark in ((0.016, ""), (0.9, "✗ over")):
        report = with_sensitivity(with_budget(example()), drop=0.0159, high=high)
        page = Page(render_report(report))
        found = rows(page, "Loss of each part alone: the most") + rows(page, "Loss of each part alone: the oth")
        assert [row[3] for row in found if row[2:5:2] == ["+0.0159", f"{high:+.4f}"]] == [mark]


def test_every_evaluation_is_listed_with_its_parts():
    report = example()
    found = rows(Page(render_report(report)), "In the order of evaluation")[1:]
    assert len(found) == 2 * len(report.evaluations)
    for item, row, parts in zip(report.evaluations, found[::2], found[1::2], strict=True):
        assert row[:2] == [str(item.number), item.stage]
        assert row[-1] == ("✓ within" if item.passed else "✗ over")
        mix = ", ".join(f"{part} {scheme}" for part, scheme in item.parts.items())
        assert parts[1] == (mix or "as the source")


def test_what_is_needed_to_do_it_again_is_there():
    report = example()
    text = section(Page(render_report(report)), "reproduce")["text"]
    notes = (report.source, report.result, report.tuning_data, report.held_out_data, report.calibration)
    for expected in (report.command, report.machine, *(note.sha256 for note in notes)):
        assert expected in text
    for name, version in report.versions.items():
        assert f"{name} {version}" in text


def test_what_was_not_measured_is_said_to_be_so():
    def change(found):
        unknown = dict.fromkeys(("value", "drop", "low", "high", "snr_db", "passed", "confidence"))
        return found if found.stage == "sensitivity" else replace(found, **unknown)

    report = with_evaluations(failed(), change)
    report = with_sensitivity(report, snr_db=None, drop=0.01)
    page = Page(render_report(report))
    for name in ("sensitivity", "evaluations"):
        assert "not measured" in section(page, name)["text"], name
    # Nothing was quantized, so no layer lost anything.
    assert "not measured" not in section(page, "layers")["text"]
    assert "unchangednone" in section(page, "layers")["text"]
    assert "No file was chosen" in section(page, "differences")["text"]
    assert "worst difference" not in section(page, "differences")["text"]
    assert "resultnone" in section(page, "reproduce")["text"]
    assert not re.search(r"\bNone\b|\bnan\b|\bnull\b", page.text)
    assert "Step time and loss" not in page.text  # nothing to draw
    # Labels have no signal and no noise, nor have equal outputs.
    for snr_db in (None, float("inf")):
        validation = replace(example().validation, snr_db=snr_db)
        text = section(Page(render_report(replace(example(), validation=validation))), "differences")["text"]
        assert "signal to noisenot measured" in text


def test_equal_outputs_have_no_noise_to_measure():
    report = with_sensitivity(example(), drop=0.0, high=0.0, snr_db=None)
    assert "outputs equal" in section(Page(render_report(report)), "sensitivity")["text"]


def test_times_are_drawn_first_where_they_are_what_counts():
    report = with_looks(timed(), {"value": 0.95792, "drop": 0.00408})
    page = Page(render_report(report))
    headings = [e["text"] for e in page.all("h2")]
    assert headings[:3] == [
        "Summary",
        "Step time and loss of accuracy, on the tuning data",
        "Size and loss of accuracy, on the tuning data",
    ]
    assert rows(page, "Size, metric and loss")[0][-1] == "Step"
    assert rows(page, "Size, metric and loss")[2][-1] == step_time(report.baselines[0].evaluation.step_us)
    text = section(page, "summary")["text"]
    for expected in ("more is better", "95.79%", "original: 96.20%", "+0.408 points"):
        assert expected in text
