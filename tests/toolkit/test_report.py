"""What the HTML report of a quantization to a budget says."""

import re

import pytest
from support.html_page import Page, rows, section
from support.report_cases import example, failed, timed, with_budget

from lstm_edge.html_report import render_report
from lstm_edge.html_report.words import step_time


def test_the_summary_has_the_figures_of_the_held_out_data_and_not_of_the_tuning_data():
    report = with_budget(example())
    report["validation"] = None
    report["metric"] = {"name": "perplexity", "unit": "", "more_is_better": False}
    report["held_out_data"] |= {"name": "king-james test", "samples": 206_892, "samples_are": "characters"}
    report["evaluations"] = [item for item in report["evaluations"] if item["stage"] != "held-out"]
    final = {"value": 3.5, "drop": 0.0125, "low": 0.0102, "high": 0.0148, "passed": True, "bytes": 1, "step_us": None}
    report["evaluations"].append({"number": 99, "stage": "held-out", "parts": {}} | final)
    report["result"]["bytes"], report["source"]["bytes"] = 700_000, 3_500_000
    report["baselines"] = [
        {"name": "int8", "value": 1.0, "drop": 1.0, "low": 1.0, "high": 1.0} | {"bytes": 933_333, "step_us": None}
    ]
    text = section(Page(render_report(report)), "summary")["text"]
    for expected in (
        "Within the budget",
        "0.20×",
        "700 kB instead of 3.50 MB",
        "−25% against int8",
        "3.5",
        "float32: 3.4875",
        "less is better",
        "+0.0125",
        "at most +0.0148 at 95% confidence",
        "+0.36% of float32",
        "a drop of 0.0167",
        "Judged once on king-james test (206,892 characters), which the search does not see.",
    ):
        assert expected in " ".join(text.split()), expected


def test_of_several_looks_at_the_held_out_data_the_last_that_passed_counts():
    report = example()
    final = next(item for item in report["evaluations"] if item["stage"] == "held-out")
    others = [item for item in report["evaluations"] if item["stage"] != "held-out"]
    looks = [(7.25, False), (4.25, True), (5.25, True), (6.25, False)]
    judged = [final | {"value": value, "passed": passed} for value, passed in looks]
    text = section(Page(render_report(report | {"evaluations": others + judged})), "summary")["text"]
    assert [value for value, _ in looks if str(value) in text] == [5.25]
    assert "Judged 4 times on" in text


def test_a_look_with_a_confidence_of_its_own_says_so():
    report = with_budget(example())
    for item in report["evaluations"]:
        if item["stage"] == "held-out":
            item["confidence"] = 0.99
    text = section(Page(render_report(report)), "summary")["text"]
    assert "at 99% confidence" in text
    assert "95% confidence" in text  # the budget's


def test_the_interval_of_the_metric_is_shown_where_the_validation_has_it():
    report = example()
    report["validation"] |= {"candidate_low": None, "candidate_high": None}
    assert "interval" not in section(Page(render_report(report)), "summary")["text"]
    report["validation"] |= {"candidate_low": 3.41, "candidate_high": 3.45}
    assert "interval 3.41 to 3.45" in section(Page(render_report(report)), "summary")["text"]


def test_the_budget_of_the_summary_is_that_of_the_held_out_data():
    report = with_budget(example())
    report["validation"]["max_drop"] = 0.0171
    page = Page(render_report(report))
    assert "a drop of 0.0171" in section(page, "summary")["text"]
    assert "a drop of 0.0167" in page.all("desc")[0]["text"]
    report["validation"].pop("max_drop")
    assert "a drop of 0.0167" in section(Page(render_report(report)), "summary")["text"]


def test_the_chosen_file_has_the_size_that_was_written_and_a_part_may_make_a_file_larger():
    report = example()
    report["source"]["bytes"], report["result"]["bytes"] = 3_500_000, 711_111
    report["layers"][0]["sensitivity"][0]["bytes"] = 3_501_234
    page = Page(render_report(report))
    assert rows(page, "Size, metric and drop")[-1][:3] == ["● chosen, on held-out data", "711 kB", "0.20×"]
    assert "−1.23 kB" in section(page, "sensitivity")["text"]


def test_the_time_of_a_step_stands_beside_the_size_where_it_was_measured():
    report = example()
    report["source"].pop("step_us", None)
    assert "step" not in section(Page(render_report(report)), "summary")["text"]
    report["source"]["step_us"], report["result"]["step_us"] = 123.4, 21.26
    assert "step 21.3 µs instead of 123 µs" in section(Page(render_report(report)), "summary")["text"]


def test_a_failed_search_has_a_report_that_says_what_came_closest():
    page = Page(render_report(failed()))
    text = " ".join(section(page, "summary")["text"].split())
    assert "No file within the budget was found, and none was written" in text
    best = min((e for e in failed()["evaluations"] if e["stage"] == "search"), key=lambda e: e["high"])
    assert f"number {best['number']} (search)" in text
    assert "Nothing was judged on held-out data." in text
    assert "Within the budget" not in page.text
    assert "● chosen" not in page.text


def test_a_result_over_the_budget_is_not_called_within_it():
    report = example()
    report["passed"] = False
    for item in report["evaluations"]:
        item["passed"] = False
    page = Page(render_report(report))
    assert "Over the budget" in section(page, "summary")["text"]
    assert page.all("p", **{"class": "verdict failed"})
    assert page.all("title")[0]["text"].startswith("Over the budget")


def test_every_layer_has_its_bytes_its_schemes_and_the_worst_of_its_chosen_schemes_alone():
    report = with_budget(example())
    layer = report["layers"][2]
    alone = {"bytes": 1, "high": 0.02, "snr_db": 30.0}
    layer.update(
        {"name": "a.lstm", "operator": "LSTM", "parameters": 12_345, "bytes_before": 50_000, "bytes_after": 9_000}
    )
    layer["parts"] = {"a.lstm.W": "int8", "a.lstm.R.i": "int4:128", "other": "float16"}
    layer["sensitivity"] = [
        {"part": "a.lstm.W", "scheme": "int8", "drop": 0.001} | alone,
        {"part": "a.lstm.R.i", "scheme": "int4:128", "drop": 0.0123} | alone,
        {"part": "a.lstm.R.i", "scheme": "int4", "drop": 9.0} | alone,
    ]
    report["layers"][0]["parts"] = {}
    found = rows(Page(render_report(report)), "What each layer became")
    assert [row[0].split()[0] for row in found[1:]] == [layer["name"] for layer in report["layers"]]
    assert found[3][0] == "a.lstm LSTM"
    assert found[3][1:] == ["12,345", "50.0 kB", "9.00 kB", "0.18×", "W int8 R.i int4:128 other float16", "+0.0123"]
    assert found[1][5:] == ["as the source", "not measured"]


def test_sensitivities_are_sorted_and_bars_are_as_long_as_they_say():
    report = with_budget(example())
    everything = [item for layer in report["layers"] for item in layer["sensitivity"]]
    assert len(everything) > 12  # so that some are folded away
    for number, item in enumerate(everything):
        item.update({"drop": (number * 7 % 11) / 1000, "high": (number * 7 % 11) / 1000 + 0.001})
    everything[5] |= {"drop": None, "high": None}
    everything[6]["drop"] = -0.001
    everything[2] |= {"drop": 0.016, "high": 0.017}
    everything[3] |= {"drop": 0.02, "high": 0.021}
    page = Page(render_report(report))
    shown, folded = (rows(page, f"What each part loses alone: the {which}")[1:] for which in ("most", "others"))
    assert len(shown) == 12
    found = shown + folded
    assert len(found) == len(everything)
    expected = sorted((item["drop"] for item in everything if item["drop"] is not None), reverse=True)
    assert [row[2] for row in found] == [drop_text(value) for value in expected] + ["not measured"]
    assert [row[:2] for row in found[:2]] == [[everything[n]["part"], everything[n]["scheme"]] for n in (3, 2)]
    assert [row[3] for row in found] == ["✗ over"] * 2 + [""] * (len(found) - 2)
    widths = [float(e["style"].strip("width:%")) for e in page.all("span") if e.get("style")][-len(found) :]
    assert widths == pytest.approx([100 * max(0, drop) / 0.02 for drop in expected] + [0], abs=0.1)


def drop_text(value):
    """A drop as a budget of 0.0167 has it written."""
    return "0" if value == 0 else f"{value:+.4f}".replace("-", "−")


def test_every_evaluation_is_listed_with_its_parts():
    report = example()
    found = rows(Page(render_report(report)), "In the order of judging")[1:]
    assert len(found) == 2 * len(report["evaluations"])
    for item, row, parts in zip(report["evaluations"], found[::2], found[1::2], strict=True):
        assert row[:2] == [str(item["number"]), item["stage"]]
        assert row[-1] == ("✓ within" if item["passed"] else "✗ over")
        mix = ", ".join(f"{part} {scheme}" for part, scheme in item["parts"].items())
        assert parts[1] == (mix or "as the source")


def test_what_is_needed_to_do_it_again_is_there():
    report = example()
    text = section(Page(render_report(report)), "reproduce")["text"]
    digests = [report[k]["sha256"] for k in ("source", "result", "tuning_data", "held_out_data", "calibration")]
    for expected in (report["command"], report["machine"], *digests):
        assert expected in text
    for name, version in report["versions"].items():
        assert f"{name} {version}" in text


def test_null_is_shown_as_not_measured_everywhere_it_is_allowed():
    report = example()
    for item in report["evaluations"] + report["baselines"]:
        item.update(dict.fromkeys(("value", "drop", "low", "high", "step_us"), None))
    for layer in report["layers"]:
        layer["bytes_after"] = None
        for item in layer["sensitivity"]:
            item.update(dict.fromkeys(("bytes", "drop", "high", "snr_db"), None))
    for item in report["evaluations"]:
        item.update({"bytes": None, "passed": None})
    report |= dict.fromkeys(("held_out_data", "calibration", "differences", "validation", "elapsed_s"), None)
    page = Page(render_report(report))
    for name in ("summary", "compare", "layers", "sensitivity", "differences", "evaluations", "reproduce"):
        assert "not measured" in section(page, name)["text"], name
    assert not re.search(r"\bNone\b|\bnan\b|\bnull\b", page.text)
    assert "Size against" not in page.text  # nothing to draw


def test_equal_outputs_have_no_noise_to_measure():
    report = example()
    report["layers"][0]["sensitivity"][0] |= {"drop": 0.0, "high": 0.0, "snr_db": None}
    assert "outputs equal" in section(Page(render_report(report)), "sensitivity")["text"]


def test_times_are_drawn_first_where_they_are_what_counts():
    report = timed()
    final = next(item for item in report["evaluations"] if item["stage"] == "held-out")
    final |= {"value": 0.95792, "drop": 0.00408}
    page = Page(render_report(report))
    headings = [e["text"] for e in page.all("h2")]
    assert headings[:3] == ["Summary", "Step time against accuracy", "Size against accuracy"]
    assert rows(page, "Size, metric and drop")[0][-1] == "Step"
    assert rows(page, "Size, metric and drop")[1][-1] == step_time(report["baselines"][0]["step_us"])
    text = section(page, "summary")["text"]
    for expected in ("more is better", "held at the estimate", "95.79%", "float32: 96.20%", "+0.408 pt"):
        assert expected in text


def test_where_the_estimate_decides_a_bound_above_the_budget_is_not_over_it():
    for confidence, mark in ((None, ""), (0.95, "✗ over")):
        report = with_budget(example(), confidence=confidence)
        report["layers"][0]["sensitivity"][0] |= {"drop": 0.0159, "high": 0.9}
        page = Page(render_report(report))
        found = rows(page, "What each part loses alone: the most") + rows(page, "What each part loses alone: the oth")
        assert [row[3] for row in found if row[2:5:2] == ["+0.0159", "+0.9000"]] == [mark]
