"""``run --stream`` as a service: bad lines, streams that keep steps, and every way in which the process ends."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lstm_edge
from lstm_edge_runtime import Session
from lstm_edge_runtime.errors import InputError, StreamingError
from lstm_edge_runtime.lines import stream_lines
from lstm_edge_runtime.reading import LONGEST_LINE

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "tests" / "device" / "models"
TAGGER, STRIDED, LOOK_AHEAD = (str(MODELS / f"{name}.onnx") for name in ("tagger", "kept_strided", "kept_look_ahead"))
# Seconds. Nothing waits for time to pass: this only ends a test that would wait for ever.
PATIENCE = 300


def answers(model, lines, **options):
    """What Python's ``run`` answers, as JSON values."""
    found = []
    report = lstm_edge.run(model, stream=[line.encode() for line in lines], on_line=found.append, **options)
    assert report.lines == len(found)
    return [json.loads(line) for line in found], report


def test_skip_goes_on_with_the_old_state():
    bad = ["[NaN, 0, 0]", "[0, 0]", "not JSON", '{"y": 1}', "[0, 1e60, 0]"]
    got, report = answers(TAGGER, ["[1, 2, 3]", *bad, "[4, 5, 6]"], on_bad_line="skip")
    expected, other = answers(TAGGER, ["[1, 2, 3]", "[4, 5, 6]"])
    assert [got[0], got[-1]] == expected
    assert report.state == other.state
    assert [told["line"] for told in got[1:-1]] == [2, 3, 4, 5, 6]
    assert all(set(told) == {"line", "error"} for told in got[1:-1])
    assert got[1]["error"] == "NaN is not JSON; every value must be a finite number"
    assert got[5]["error"].startswith("step 1: input 'x' holds inf at index [1]")


def test_hold_repeats_the_last_good_line():
    got, report = answers(TAGGER, ["[NaN, 0, 0]", "[1, 2, 3]", "[NaN, 0, 0]", "[4, 5, 6]"], on_bad_line="hold")
    expected, other = answers(TAGGER, ["[1, 2, 3]", "[1, 2, 3]", "[4, 5, 6]"])
    assert set(got[0]) == {"line", "error"}, "nothing is held before the first good line"
    assert [got[1], got[2]["answer"], got[3]] == expected
    assert got[2]["line"] == 3
    assert report.state == other.state


def test_hold_forgets_at_a_reset():
    got, _ = answers(TAGGER, ["[1, 2, 3]", '{"reset": true}', "[NaN, 0, 0]", "[1, 2, 3]"], on_bad_line="hold")
    assert set(got[1]) == {"line", "error"}
    assert got[2] == got[0]


def test_a_held_line_that_overflows_the_state_is_told_too():
    lines = ["[[[3e38]]]", "[[[NaN]]]", "[[[NaN]]]"]
    got, _ = answers(str(MODELS / "accumulator.onnx"), lines, on_bad_line="hold")
    assert "answer" not in got[-1]
    assert "; the last good line cannot be repeated: step 1: the new state is not finite" in got[-1]["error"]


def test_a_line_over_the_limit_is_skipped_to_its_end(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"[1, 2, 3]\n" + b"[" + b" " * (LONGEST_LINE + 2**21) + b"\n[1, 2, 3]\n")
    session = Session(TAGGER)
    with path.open("rb") as lines:
        got = [json.loads(line) for line in stream_lines(session.stream(), session.inputs, lines, on_bad_line="skip")]
    assert len(got) == 3
    assert got[1] == {
        "line": 2,
        "error": f"the line has more than {LONGEST_LINE:,} characters, at most that many are read",
    }
    assert isinstance(got[2], list)


def test_stop_is_the_default_and_the_policies_are_named():
    with pytest.raises(InputError, match=r"^line 2: NaN is not JSON"):
        answers(TAGGER, ["[1, 2, 3]", "[NaN, 0, 0]"])
    with pytest.raises(InputError, match=r"^on_bad_line must be one of stop, skip, hold, got 'ignore'$"):
        answers(TAGGER, ["[1, 2, 3]"], on_bad_line="ignore")
    with pytest.raises(InputError, match=r"^--on-bad-line requires --stream$"):
        lstm_edge.run(TAGGER, np.zeros((1, 2, 3), np.float32), on_bad_line="skip")


def frames(count, seed=0):
    return np.random.default_rng(seed).normal(size=(1, count, 3)).astype(np.float32)


def lines_of(x):
    return [json.dumps(frame.tolist()) for frame in x[0]]


@pytest.mark.parametrize("model", [STRIDED, LOOK_AHEAD])
def test_the_end_of_the_input_gives_what_is_left(model):
    x = frames(8)
    got, report = answers(model, lines_of(x))
    whole = Session(model).run(x)[0]["logits"][0]
    np.testing.assert_allclose(np.concatenate([np.array(rows).reshape(-1, 4) for rows in got]), whole, atol=2e-6)
    # One line for each line, and one more where the end completes outputs.
    assert len(got) == 8 + (model == LOOK_AHEAD)
    assert report.state.blocked


def test_a_line_can_end_the_sequence():
    lines = lines_of(frames(5))
    got, _ = answers(LOOK_AHEAD, [*lines, '{"flush": true}', '{"reset": true}', *lines])
    assert got[:6] == got[6:]
    assert len(got[5]) == 3
    with pytest.raises(StreamingError, match=r"^line 7: the stream has ended with flush\(\): call reset\(\)"):
        answers(LOOK_AHEAD, [*lines, '{"flush": true}', lines[0]])
    got, _ = answers(TAGGER, ["[1, 2, 3]", '{"flush": true}'])
    assert got[1] == []


@pytest.mark.parametrize("model", [TAGGER, STRIDED, LOOK_AHEAD])
@pytest.mark.parametrize("done", [1, 2, 5])
def test_a_saved_stream_goes_on_elsewhere(tmp_path, model, done):
    lines = lines_of(frames(9))
    whole, _ = answers(model, lines)
    early, _ = answers(model, lines[:done], save_state=tmp_path / "s.npz")
    late, _ = answers(model, lines[done:], load_state=tmp_path / "s.npz")
    assert early + late == whole


def test_arrays_whose_state_is_saved_are_cut_where_no_step_is_lost(tmp_path):
    x = frames(9)
    whole = Session(STRIDED).run(x)[0]["logits"]
    one = lstm_edge.run(STRIDED, x[:, :5], save_state=tmp_path / "s.npz")
    two = lstm_edge.run(STRIDED, x[:, 5:], load_state=tmp_path / "s.npz")
    np.testing.assert_allclose(np.concatenate([r.outputs["logits"] for r in (one, two)], axis=1), whole, atol=2e-6)
    with pytest.raises(InputError, match=r"^--save-state: the sequence goes on later: with end=False the first call"):
        lstm_edge.run(STRIDED, x[:, :4], save_state=tmp_path / "s.npz")
    with pytest.raises(InputError, match=r"^input 'x' has shape"):
        lstm_edge.run(STRIDED, x[:, :5, :2], save_state=tmp_path / "s.npz")


@contextlib.contextmanager
def service(*arguments):
    """The command in a process of its own, which is ended with the test."""
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("", "exporters", "runtime"))
    process = subprocess.Popen(
        [sys.executable, "-c", "from lstm_edge.cli import main; main()", "run", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def ask(process, line):
    process.stdin.write(line.encode() + b"\n")
    process.stdin.flush()
    readable, _, _ = select.select([process.stdout], [], [], PATIENCE)
    assert readable, "no answer while the input is open"
    return json.loads(process.stdout.readline())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_waiting_service_and_its_state_is_kept(tmp_path, number, code):
    lines = lines_of(frames(6))
    whole, _ = answers(STRIDED, lines)
    with service(STRIDED, "--stream", "--save-state", tmp_path / "s.npz", "--on-bad-line", "skip") as process:
        early = [ask(process, line) for line in lines[:3]]
        assert ask(process, "[NaN, 0, 0]")["line"] == 4
        early.append(ask(process, lines[3]))
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (code, b"")
    assert err.decode() == f"· {number.name} ended the stream\n"
    late, _ = answers(STRIDED, lines[4:], load_state=tmp_path / "s.npz")
    assert early + late == whole


def test_a_signal_after_the_pipes_were_closed_is_still_the_exit_code():
    with service(TAGGER, "--stream") as process:
        ask(process, "[1, 2, 3]")
        process.stdout.close()
        process.stderr.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 143


def test_a_closed_output_ends_a_service_and_its_state_is_kept(tmp_path):
    lines = lines_of(frames(3))
    with service(TAGGER, "--stream", "--save-state", tmp_path / "s.npz") as process:
        ask(process, lines[0])
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            for line in lines[1:]:
                process.stdin.write(line.encode() + b"\n")
                process.stdin.flush()
        assert process.wait(timeout=PATIENCE) == 0
        assert process.stderr.read() == b""
    with np.load(tmp_path / "s.npz") as saved:
        assert "lstm.0.h" in saved.files


def test_the_end_of_the_input_ends_a_service(tmp_path):
    with service(LOOK_AHEAD, "--stream", "--on-bad-line", "hold") as process:
        x = frames(4)
        first = [ask(process, line) for line in lines_of(x)]
        held = ask(process, "[1, 2, NaN]")
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, b"")
    repeated = np.concatenate([x, x[:, -1:]], axis=1)
    whole = Session(LOOK_AHEAD).run(repeated)[0]["logits"][0]
    rows = [*first, held["answer"], json.loads(out)]
    np.testing.assert_allclose(np.concatenate([np.array(r).reshape(-1, 4) for r in rows]), whole, atol=2e-6)


def test_a_bad_line_ends_a_service_that_is_to_stop():
    with service(TAGGER, "--stream") as process:
        ask(process, "[1, 2, 3]")
        out, err = process.communicate(b"[NaN, 2, 3]\n[1, 2, 3]\n", timeout=PATIENCE)
    assert (process.returncode, out) == (2, b"")
    assert err == b"error: line 2: NaN is not JSON; every value must be a finite number\n"
