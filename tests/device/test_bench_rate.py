"""bench --rate: calls that start at fixed times, the missed deadlines, and what the rate may be."""

import json
from pathlib import Path

import pytest

from lstm_edge_runtime.bench import bench
from lstm_edge_runtime.bench_rate import time_at_rate
from lstm_edge_runtime.bench_report import read_report
from lstm_edge_runtime.errors import InputError

MODELS = Path(__file__).parent / "models"
MODEL = MODELS / "exported_int8.onnx"
MS = 1_000_000


class Simulation:
    """A clock in ns that only calls and sleeps move; ``wakes`` ns late after each sleep."""

    def __init__(self, durations, wakes=0):
        self.now, self.durations, self.wakes, self.starts = 7 * MS, durations, wakes, []

    def call(self, index):
        self.starts.append(self.now)
        self.now += self.durations[index]

    def sleep(self, seconds):
        self.now += round(seconds * 1e9) + self.wakes

    def run(self, rate_hz):
        return time_at_rate(self.call, len(self.durations), rate_hz, clock=lambda: self.now, sleep=self.sleep)


def test_a_late_answer_misses_each_start_that_passed_and_the_next_call_waits_for_its_time():
    # Starts are 5 ms apart. 6 ms miss one start, 12 ms miss two, and 5 ms miss the start at the same moment.
    simulation = Simulation([1 * MS, 6 * MS, 1 * MS, 12 * MS, 5 * MS, 1 * MS])
    paced = simulation.run(200)
    first = 12 * MS  # a period after the clock began
    assert [(start - first) / (5 * MS) for start in simulation.starts] == [0, 1, 3, 4, 7, 9]
    assert paced.missed_deadlines == 1 + 2 + 1
    assert (paced.calls, paced.rate_hz, paced.worst_wake_us) == (6, 200.0, 0.0)
    assert (paced.p50_us, paced.worst_us) == (1000.0, 12000.0)


def test_a_late_wake_is_part_of_the_deadline_but_not_of_the_latency():
    simulation = Simulation([3 * MS] * 4, wakes=2500_000)
    paced = simulation.run(200)
    assert (paced.worst_us, paced.worst_wake_us) == (3000.0, 2500.0)
    assert paced.missed_deadlines == 4  # 2.5 ms late and 3 ms of work are over 5 ms


def test_each_quantile_is_a_time_that_was_measured():
    paced = Simulation([number * 1000 for number in range(1, 1991)]).run(100)
    assert (paced.p50_us, paced.p99_us, paced.p999_us, paced.worst_us) == (995.0, 1971.0, 1989.0, 1990.0)
    assert Simulation([1000]).run(100).p999_us == 1.0


def test_a_model_is_timed_at_a_rate_and_the_report_is_read_again():
    report = bench(MODEL, steps=20, repeats=1, time_steps=5, rate_hz=400)
    assert report.step is None
    paced = report.paced
    assert (paced.calls, paced.rate_hz) == (20, 400.0)
    assert 0 < paced.p50_us <= paced.p99_us <= paced.p999_us <= paced.worst_us
    assert read_report(json.dumps(report.to_json()), "r.json") == report
    rows = dict(report.rows())
    assert rows["step, batch 1, 400 Hz: p50 / p99 / p99.9 / worst"].count("/") == 3
    assert rows["step, batch 1, 400 Hz: missed deadlines"] == f"{paced.missed_deadlines} (20 pushes)"


def test_a_rate_that_the_model_cannot_keep_misses_deadlines():
    assert bench(MODEL, steps=20, repeats=1, time_steps=5, rate_hz=1e6).paced.missed_deadlines >= 20


def test_a_report_written_before_the_rate_existed_is_read():
    report = bench(MODEL, steps=3, repeats=1, time_steps=5)
    values = report.to_json()
    assert values.pop("paced") is None
    assert read_report(json.dumps(values), "r.json") == report


@pytest.mark.parametrize("rate", [0, -1.0, 1.1e6, float("nan"), float("inf"), True, "200"])
def test_another_rate_is_refused(rate):
    with pytest.raises(InputError, match=r"rate_hz is .*, expected calls per second, from 0\.001 to 1,000,000"):
        bench(MODEL, rate_hz=rate)


@pytest.mark.parametrize("name", ["bidirectional.onnx", "no_card.onnx"])
def test_a_model_without_steps_has_no_rate(name):
    with pytest.raises(InputError, match=rf"{name} cannot be streamed: it has no steps to time at a rate"):
        bench(MODELS / name, rate_hz=200)
