"""The coordinator of `make bench-peers`, with fake peers: turns, medians, a peer that crashes, and one that hangs."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "peers"
# A peer that notes each call in a common file, and answers with what its form says.
PEER = """
import os, time
from pathlib import Path
import numpy as np

def convert(case, form, folder):
    if form == "refuses":
        raise ValueError("no operator for this\\nsecond line")
    (folder / "model").write_bytes(b"12345")
    return 5

def runtime():
    return "fake 1.0"

class Open:
    def __init__(self, case, form):
        self.case, self.form, self.calls = case, form, 0
        self.inner = self.bare if form == "steady" else None
        self.reset()

    def reset(self):
        self.state = case_sum(self.case)

    def bare(self):
        return None

    def step(self, frame):
        self.calls += 1
        with open(self.case.folder / "calls", "a") as file:
            file.write(self.form[0])
        if self.calls > 20 and self.form == "crashes":
            print("something broke", file=__import__("sys").stderr)
            os._exit(3)
        if self.calls > 20 and self.form == "hangs":
            time.sleep(600)
        self.state = self.state + frame.sum()
        return np.array([self.state * (0.5 if self.form == "wrong" else 1)], np.float32)

def case_sum(case):
    return sum(float(state.sum()) for state in case.initial.values())

def open_step(case, form, folder):
    assert (folder / "model").read_bytes() == b"12345"
    return Open(case, form)

def open_sequence(case, form, folder):
    return None
"""


@pytest.fixture(scope="module")
def peers():
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    import entries
    import given
    import page
    import race
    import turns

    yield {"entries": entries, "given": given, "page": page, "race": race, "turns": turns}
    sys.path.remove(str(FOLDER))
    for name in {path.stem for path in FOLDER.glob("*.py")} - before:
        sys.modules.pop(name, None)


def make_case(peers, folder, frames=5):
    arrays = {"x": np.arange(frames * 3, dtype=np.float32).reshape(frames, 3), "initial.h": np.ones(2, np.float32)}
    folder.mkdir()
    case = peers["given"].Case(
        name="fake", cell="", inputs=0, hidden=0, layers=0, x="x", y="y", states={"h": "h_out"}, constant={},
        source="", folder=folder, arrays=arrays,
    )  # fmt: skip
    np.savez(folder / "arrays.npz", **arrays)
    names = {name: value for name, value in vars(case).items() if name not in ("folder", "arrays")}
    (folder / "case.json").write_text(json.dumps(names))
    return case


def race(peers, tmp_path, forms, limit_s=60):
    """Run forms of the fake peer; returns the results by form, and the calls in their order."""
    (tmp_path / "fake_peer.py").write_text(PEER)
    case = make_case(peers, tmp_path / "case")
    entries = [
        peers["entries"].Entry(
            peer="fake", precision=form, module="fake_peer", environment="", form=form, bits=32, reference="dense"
        )
        for form in forms
    ]
    where = peers["race"].Peers(pythons={"": Path(sys.executable)}, models=tmp_path / "models", folder=tmp_path)
    plan = peers["turns"].Plan(turns=3, settling=1, calls=4, limit_s=limit_s)
    exact = {"dense": 2 + np.cumsum(case.arrays["x"].sum(axis=1)).reshape(-1, 1)}
    found = peers["race"].run_case(case, entries, where, {"step": plan}, exact)
    return {result.entry.form: result for result in found}, (case.folder / "calls").read_text()


def test_turns_are_interleaved_and_a_wrong_answer_is_visible(peers, tmp_path):
    found, calls = race(peers, tmp_path, ["steady", "wrong", "refuses"])
    steady, wrong, refused = found["steady"], found["wrong"], found["refuses"]
    # One call when it is opened and five to compare, then three rounds of 1 + 4 calls, in an order that turns round.
    assert calls == "s" * 6 + "w" * 6 + ("s" * 5 + "w" * 5) + ("w" * 5 + "s" * 5) + ("s" * 5 + "w" * 5)
    assert steady.step.us == pytest.approx(np.median(steady.step.turns))
    assert len(steady.step.turns) == len(steady.inner.turns) == len(wrong.step.turns) == 3
    assert wrong.inner.reason == "no such call"
    assert steady.db > 120
    assert not steady.wrong
    assert wrong.db == pytest.approx(6.02, abs=0.01)
    assert wrong.wrong
    assert (steady.size_bytes, steady.version) == (5, "fake 1.0")
    assert refused.reason == "ValueError: no operator for this"
    text = peers["page"].table(list(found.values()), 100)
    assert "**6.0 WRONG**" in text
    assert text.splitlines()[-1].startswith("| fake | refuses | ValueError: no operator for this |")


@pytest.mark.long
def test_a_peer_that_crashes_and_one_that_hangs_stop_nobody_else(peers, tmp_path):
    start = time.monotonic()
    found, _calls = race(peers, tmp_path, ["steady", "crashes", "hangs"], limit_s=3)
    assert time.monotonic() - start < 100
    assert found["crashes"].step.reason == "ended with exit code 3 at 'turn': something broke"
    assert found["hangs"].step.reason == "stopped: no answer to 'turn' within 3 s"
    assert len(found["steady"].step.turns) == 3
    assert not found["hangs"].step.turns


def test_no_environment_is_a_row_with_its_reason(peers, tmp_path):
    (tmp_path / "fake_peer.py").write_text(PEER)
    case = make_case(peers, tmp_path / "case")
    entry = peers["entries"].Entry(
        peer="fake", precision="float32", module="fake_peer", environment="absent", form="steady", bits=32
    )
    where = peers["race"].Peers(pythons={"absent": "not installed: no such version"}, models=tmp_path, folder=tmp_path)
    (result,) = peers["race"].run_case(case, [entry], where, {"step": peers["turns"].Plan()}, {})
    assert result.reason == "not installed: no such version"


def test_a_ratio_is_taken_round_by_round(peers):
    measured = peers["turns"].Measured
    # The machine was three times as slow in the last two rounds: the ratio of the medians would be 3.
    ours, theirs = measured(turns=(10.0, 30.0, 30.0)), measured(turns=(10.0, 10.0, 30.0))
    assert peers["turns"].ratio(ours, theirs) == 1
    assert peers["turns"].ratio(ours, measured(reason="it crashed")) is None


def test_a_pruned_matrix_keeps_a_third_of_its_blocks_within_gates(peers):
    rng = np.random.default_rng(0)
    arrays = {}
    for layer in range(2):
        arrays[f"weight_ih_l{layer}"] = rng.standard_normal((4 * 32, 24 if layer == 0 else 32)).astype(np.float32)
        arrays[f"weight_hh_l{layer}"] = rng.standard_normal((4 * 32, 32)).astype(np.float32)
    case = peers["given"].Case(
        name="small", cell="LSTM", inputs=24, hidden=32, layers=2, x="x", y="y", states={}, constant={}, source="",
        folder=Path(), arrays=arrays,
    )  # fmt: skip
    for name, matrix in peers["given"].pruned(case).items():
        blocks = np.abs(matrix).reshape(8, 16, -1, 4).sum(axis=(1, 3))
        kept = np.count_nonzero(blocks)
        assert kept == round(blocks.size / 3), name
        assert np.count_nonzero(matrix) == kept * 64
        assert set(np.unique(matrix)) - {0.0} <= set(np.unique(arrays[name]))
