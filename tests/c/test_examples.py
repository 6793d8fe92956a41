"""examples/c: built against the installed library and run."""

import re
import sys
import wave

import numpy as np
import pytest
from support.c_build import ROOT
from support.c_programs import compile_with_cmake, install, run_program

pytestmark = [pytest.mark.slow, pytest.mark.long]

EXAMPLES = ROOT / "examples" / "c"
SILERO = ROOT / ".cache" / "silero"


@pytest.fixture(scope="module")
def prefix(c_build, tmp_path_factory):
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def program(prefix, tmp_path):
    """Build an example; returns its program."""
    warnings = "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror"
    return lambda name: compile_with_cmake(EXAMPLES / name, prefix, tmp_path / name, warnings) / name


def test_the_policy_balances_the_rod_at_200_steps_a_second(program, tmp_path):
    model = tmp_path / "policy.onnx"
    run_program(sys.executable, EXAMPLES / "control_loop" / "make_policy.py", model)
    said = run_program(program("control_loop"), model, 10)
    found = re.fullmatch(
        r"(\d+) steps, (\d+) missed deadlines, slowest step ([\d.]+) us, mean angle ([\d.]+) rad\n", said
    )
    assert found, said
    assert int(found[1]) == 2000
    # A rod that nobody holds falls over within a second and turns on: several radians.
    assert float(found[4]) < 0.2


def test_speech_is_found_where_python_finds_it(program, tmp_path):
    source = SILERO / "silero_vad_16k_sequence.onnx"
    recordings = sorted((SILERO / "speech").rglob("*.wav"))
    if not source.exists() or not recordings:
        pytest.skip("silero's files are missing: benchmarks/silero.py --fetch")
    from lstm_edge_exporters.adopt import adopt
    from lstm_edge_exporters.quantize import quantize
    from lstm_edge_runtime import Session

    adopt(source, tmp_path / "vad.onnx")
    quantize(tmp_path / "vad.onnx", tmp_path / "vad.int8.onnx", scheme="int8", layers="recurrent")
    detector = program("voice_detector")
    for recording in recordings[:3]:
        said = run_program(detector, tmp_path / "vad.int8.onnx", recording)
        spans = [tuple(map(float, span)) for span in re.findall(r"([\d.]+) s to ([\d.]+) s", said)]
        with wave.open(str(recording)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
        stream = Session(tmp_path / "vad.int8.onnx").stream()
        padded = np.concatenate([np.zeros(64, np.float32), samples, np.zeros(-len(samples) % 512, np.float32)])
        likely = [float(stream.push(padded[at : at + 576]).reshape(())) for at in range(0, len(padded) - 64, 512)]
        assert spans
        for step, probability in enumerate(likely):
            within = any(begin - 0.005 <= step * 0.032 <= end + 0.005 for begin, end in spans)
            assert within or probability < 0.5, (recording.name, step)


def test_a_file_that_is_no_recording_is_refused(program, tmp_path):
    (tmp_path / "text.wav").write_bytes(b"RIFF of somebody else")
    model = ROOT / "tests" / "device" / "models" / "exported_int8.onnx"
    run_program(program("voice_detector"), model, tmp_path / "text.wav", exit_code=2)
