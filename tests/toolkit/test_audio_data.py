"""Folders of WAV files: labels, pairs, formats of samples, and what is refused with which sentence."""

import subprocess
import sys

import numpy as np
import pytest
from support.wav_files import FLOAT, wav_bytes, write_wav

import lstm_edge
from lstm_edge.data import is_audio, load_audio
from lstm_edge_runtime.errors import DataError, MissingExtraError

pytest.importorskip("soundfile")

FORMATS = {
    "int8": ({"bits": 8}, 1 / 128),
    "int16": ({"bits": 16}, 2.0**-15),
    "int24": ({"bits": 24}, 2.0**-23),
    "int32": ({"bits": 32}, 2.0**-24),
    "float32": ({"bits": 32, "kind": FLOAT}, 0),
    "float64": ({"bits": 64, "kind": FLOAT}, 2.0**-25),
}


def tone(count, seed=0):
    return np.random.default_rng(seed).uniform(-0.9, 0.9, count).astype(np.float32)


def refused(folder):
    with pytest.raises(DataError) as caught:
        load_audio(folder)
    return str(caught.value)


def test_folders_are_labels(tmp_path):
    for seed, name in enumerate(("yes/b.wav", "yes/a.WAV", "no/a.wav", "up/x.wav")):
        write_wav(tmp_path / name, tone(50 + seed, seed), rate=8000)
    (tmp_path / "LICENSE").write_text("free")
    (tmp_path / "yes" / "notes.txt").write_text("not a sound")
    (tmp_path / ".cache").mkdir()
    data = load_audio(str(tmp_path))
    assert is_audio(str(tmp_path))
    assert data.labels == ("no", "up", "yes")
    assert data.ids == ("no/a.wav", "up/x.wav", "yes/a.WAV", "yes/b.wav")
    assert data.classes.tolist() == [0, 1, 2, 2]
    assert data.rate_hz == 8000
    assert [row.shape for row in data.inputs[""]] == [(52,), (53,), (51,), (50,)]
    assert all(row.dtype == np.float32 for row in data.inputs[""])
    np.testing.assert_allclose(data.inputs[""][3], tone(50, 0), atol=2.0**-15, rtol=0)


@pytest.mark.parametrize("name", FORMATS)
def test_formats(tmp_path, name):
    options, step = FORMATS[name]
    write_wav(tmp_path / "a.wav", tone(101), **options)
    [row] = load_audio(tmp_path).inputs[""]
    assert np.abs(row.astype(np.float64) - tone(101)).max() <= step


def test_noisy_and_clean_are_pairs(tmp_path):
    for side, level in (("noisy", 1.0), ("clean", 0.5)):
        for seed, name in enumerate(("b.wav", "a.wav")):
            write_wav(tmp_path / side / name, level * tone(60 + seed, seed))
    data = load_audio(tmp_path)
    assert (data.ids, data.labels) == (("a.wav", "b.wav"), ())
    for noisy, clean in zip(data.inputs[""], data.targets[""], strict=True):
        np.testing.assert_allclose(0.5 * noisy, clean, atol=2.0**-15, rtol=0)


@pytest.mark.parametrize(("side", "other"), [("noisy", "clean"), ("clean", "noisy")])
def test_an_incomplete_pair_is_named(tmp_path, side, other):
    write_wav(tmp_path / "noisy" / "a.wav", tone(60))
    write_wav(tmp_path / "clean" / "a.wav", tone(60))
    write_wav(tmp_path / side / "b.wav", tone(60))
    assert f"{side}/b.wav has no file of its name in {other}" in refused(tmp_path)


def test_a_pair_of_two_lengths_is_named(tmp_path):
    write_wav(tmp_path / "noisy" / "a.wav", tone(60))
    write_wav(tmp_path / "clean" / "a.wav", tone(61))
    assert "noisy/a.wav has 60 samples and clean/a.wav 61; expected the same number" in refused(tmp_path)


def test_another_rate_is_refused_with_both(tmp_path):
    write_wav(tmp_path / "no" / "a.wav", tone(60))
    write_wav(tmp_path / "yes" / "a.wav", tone(60), rate=44100)
    message = refused(tmp_path)
    assert "yes/a.wav: is at 44100 Hz" in message
    assert "no/a.wav at 16000 Hz; expected one sample rate: resample the file first" in message


BAD = {
    "two channels": (wav_bytes(np.zeros((9, 2))), "has 2 channels, expected 1"),
    "cut off": (wav_bytes(np.zeros(90))[:-40], "is cut off: 184 bytes, its header says 224"),
    "no samples": (wav_bytes(np.zeros(0)), "has 0 samples in 44 bytes"),
    "text": (b"this is not a sound at all", "is not a WAV file: it begins with b'this is not '"),
    "empty": (b"", "is not a WAV file: it begins with b''"),
    "no format": (b"RIFF\x24\0\0\0WAVEfmt \0\0\0\0" + b"\0" * 24, "cannot be read as WAV: "),
    "integers as floats": (wav_bytes(np.full(9, 20000.0), bits=32, kind=FLOAT), "its largest sample is 20000"),
    "NaN": (wav_bytes(np.full(9, np.nan), bits=32, kind=FLOAT), "holds NaN or infinity"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named(tmp_path, name):
    data, message = BAD[name]
    write_wav(tmp_path / "no" / "a.wav", tone(60))
    (tmp_path / "no" / "b.wav").write_bytes(data)
    found = refused(tmp_path)
    assert "no/b.wav" in found
    assert message in found


def test_folders_that_say_nothing(tmp_path):
    assert "has no WAV file; expected a folder of them for each label" in refused(tmp_path)
    (tmp_path / "yes").mkdir()
    assert "the folder yes has no WAV file" in refused(tmp_path)
    write_wav(tmp_path / "a.wav", tone(5))
    assert "has both WAV files (a.wav, ...) and folders (yes, ...)" in refused(tmp_path)


def test_data_check_says_what_a_folder_is(tmp_path):
    for number, label in enumerate(("no", "yes", "yes/../no")):
        write_wav(tmp_path / label / f"{number}.wav", tone(50 + number), rate=8000)
    report = lstm_edge.check_data(str(tmp_path))
    assert (report.kind, report.sequences, report.steps) == ("folder of WAV files", 3, 153)
    assert (report.lengths.least, report.lengths.most) == (50, 52)
    assert report.classes == {"no": 2, "yes": 1}
    assert "8,000 samples a second" in report.notes


def test_slow_reading_says_how_far_it_is(tmp_path, monkeypatch):
    from lstm_edge.data import _audio

    for number in range(3):
        write_wav(tmp_path / f"{number}.wav", tone(5))
    lines = []
    load_audio(tmp_path, say=lines.append)
    assert lines == []
    monkeypatch.setattr(_audio, "SECONDS_BETWEEN_LINES", -1.0)
    load_audio(tmp_path, say=lines.append)
    assert lines[-1] == f"reading {tmp_path}: 3 of 3 files"


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    write_wav(tmp_path / "a.wav", tone(5))
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lstm-edge\[audio\]'"):
        load_audio(tmp_path)


def test_the_package_is_loaded_for_folders_alone():
    code = "import sys, lstm_edge.data; assert 'soundfile' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
