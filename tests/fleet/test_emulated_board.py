"""Deploys to emulated 64-bit ARM boards behind real OpenSSH servers; their own programs check and answer.

Each test runs on a board with busybox and `lstm-edge-device`, and on one with dash, coreutils and Python's
`lstm-edge-runtime`.
"""

import re

import numpy as np
import pytest
from support.c_damage import damaged_golden
from support.emulated_board import DeviceBoard, PythonBoard, arm64_programs, missing_board
from support.fleet_cases import NEW, OLD, digest
from support.sshd import Fleet, make_key
from support.text_models import CHARACTERS, exported_model, quantized_model

import lstm_edge
from lstm_edge_runtime.errors import DeviceError

pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(missing_board()), reason=missing_board() or "there is one")]
OLD_SHA, NEW_SHA = digest(OLD), digest(NEW)
# A processor that is emulated takes tens of times as long.
STEP_SECONDS = 600
# Answers of float32 layers of another processor: onnxruntime sums in another order.
ANOTHER_PROCESSOR = 1e-4


@pytest.fixture(scope="module", params=[DeviceBoard, PythonBoard], ids=lambda kind: kind.name)
def boards(request, tmp_path_factory):
    with arm64_programs(), Fleet(tmp_path_factory.mktemp("boards"), 3, request.param) as fleet:
        yield fleet


def access(fleet):
    return {"known_hosts": fleet.known_hosts, "identity": fleet.key}


def deploy(fleet, model, *boards, **more):
    return lstm_edge.deploy(model, **fleet.options(*boards, step_seconds=STEP_SECONDS, **more)).hosts


@pytest.fixture
def old_model(boards):
    """Every board serves the old model."""
    for board in boards.devices:
        if board.names()[0] != OLD_SHA:
            [result] = deploy(boards, OLD, board)
            assert result.result == "deployed", result
    return boards


def test_deploy_status_and_rollback(old_model):
    board = old_model.devices[0]
    machine = board.root.parent / "machine"
    options = {"reload": "uname -m >/srv/machine", "health": "test -s /srv/machine", "watch_seconds": 1}
    [result] = deploy(old_model, NEW, board, **options)
    assert (result.result, result.before, result.after, result.sentence) == ("deployed", OLD_SHA, NEW_SHA, "")
    assert machine.read_text() == "aarch64\n"
    assert board.names() == (NEW_SHA, OLD_SHA, None)
    assert board.current() == NEW.read_bytes()
    [unchanged] = deploy(old_model, NEW, board)
    assert (unchanged.result, unchanged.sent_bytes) == ("unchanged", 0)
    status = lstm_edge.status(**old_model.options(board))
    status.check()
    [host] = status.hosts
    assert (host.state, host.current, host.previous, host.whole) == ("idle", NEW_SHA, OLD_SHA, True)
    [back] = lstm_edge.rollback(**old_model.options(board, step_seconds=STEP_SECONDS)).hosts
    assert (back.result, back.before, back.after) == ("rolled back", NEW_SHA, OLD_SHA), back
    assert board.current() == OLD.read_bytes()


def test_a_canary_whose_check_fails_stops_the_others(old_model, tmp_path):
    """The file is whole, and its golden vectors are wrong: only the run on the board can show it."""
    name, data = next(damaged_golden(OLD.read_bytes()))
    assert name == "golden: another answer"
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(data)
    results = deploy(old_model, broken, max_failures=3)
    assert [result.result for result in results] == ["failed", "not tried", "not tried"]
    assert re.match(
        r"the check failed \(exit code 1\): error: .*(worst difference 1 is over|'logits' differs by 1 from)",
        results[0].sentence,
    ), results[0]
    assert [board.names()[0] for board in old_model.devices] == [OLD_SHA] * 3
    assert [board.current() for board in old_model.devices] == [OLD.read_bytes()] * 3
    models = [board.root / "models" / f"{digest(broken)}.onnx" for board in old_model.devices]
    assert [model.exists() for model in models] == [True, False, False]


def test_a_wrong_host_key_is_refused(boards, tmp_path):
    board = boards.devices[2]
    make_key(tmp_path / "another")
    wrong = tmp_path / "known_hosts"
    wrong.write_text(f"[127.0.0.1]:{board.port} {(tmp_path / 'another.pub').read_text()}")
    before = sorted(board.root.rglob("*"))
    options = boards.options(board) | {"known_hosts": wrong}
    [result] = lstm_edge.deploy(NEW, **options).hosts
    assert (result.result, result.sentence.partition(" in ")[0]) == ("failed", "its host key differs from the one")
    [host] = lstm_edge.status(**options).hosts
    assert (host.state, host.sentence.partition(" in ")[0]) == ("unreachable", "its host key differs from the one")
    with pytest.raises(DeviceError, match="its host key differs from the one in"):
        lstm_edge.validate(
            NEW, OLD, steps(tmp_path), max_drop="50pt", on=board.to, **access(boards) | {"known_hosts": wrong}
        )
    assert sorted(board.root.rglob("*")) == before


def steps(folder):
    """Write sequences with a class for each step."""
    rng = np.random.default_rng(1)
    lengths = np.array([9, 4, 7])
    x = rng.normal(size=(lengths.sum(), 6)).astype(np.float32)
    np.savez(folder / "steps.npz", x=x, y=rng.integers(0, 4, size=lengths.sum()), lengths=lengths)
    return str(folder / "steps.npz")


def nearly(values):
    """What a report has to be, with the numbers of another processor."""
    return {
        name: pytest.approx(value, rel=ANOTHER_PROCESSOR, abs=ANOTHER_PROCESSOR) if isinstance(value, float) else value
        for name, value in values.items()
    }


def validate_on(boards, candidate, reference, data, **options):
    """Return the reports of this machine and of the first board, and the board's facts."""
    here = lstm_edge.validate(candidate, reference, data, **options).to_json()
    device = {"on": boards.devices[0].to, "step_seconds": STEP_SECONDS, "kernels": "required", **access(boards)}
    there = lstm_edge.validate(candidate, reference, data, **options, **device).to_json()
    assert here.pop("device") is None
    assert list(boards.devices[0].temporary.glob("lstm-edge-*")) == []
    return here, there, there.pop("device")


def test_validation_judges_the_answers_of_the_board(boards, tmp_path):
    here, there, facts = validate_on(boards, NEW, OLD, steps(tmp_path), metric="cross-entropy", max_drop="50%")
    # lstm-edge-device does not say its machine; no other processor has these kernels.
    is_c = isinstance(boards.devices[0], DeviceBoard)
    program, machine = ("lstm-edge-device", None) if is_c else ("lstm-edge", "aarch64")
    assert (facts["program"], facts["machine"], facts["candidate_kernels"]) == (program, machine, "neon")
    assert there == nearly(here)


def test_validation_on_a_text(boards, tmp_path):
    random = np.random.default_rng(0)
    text = tmp_path / "made.txt"
    text.write_text("".join(random.choice(list(CHARACTERS.tokens[2:]), 5000)))
    here, there, _ = validate_on(boards, quantized_model(), exported_model(), str(text), max_drop="90%")
    assert (there["samples"], there["metric"]) == (4998, "perplexity")
    assert there == nearly(here)
