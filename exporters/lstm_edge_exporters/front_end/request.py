"""What ``--front-end`` says: the kind of features and their parameters, in one text."""

import math
from dataclasses import dataclass
from typing import Literal

from lstm_edge_runtime.errors import InputError

__all__ = ["FrontEnd", "parse_front_end"]

EXPECTED = "log-mel:40, mfcc:13 or log-mel:40,rate=16000,window=400,hop=160,fft=512,low=20,high=7600,floor=1e-6,mel=htk"
# Weights are computed when a file is opened, from tables of 4 * window * fft bytes: 256 MiB at these limits.
MOST_RATE_HZ, MOST_WINDOW, MOST_FFT, MOST_BANDS = 768_000, 8_192, 8_192, 512


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """The parameters of a front end; docs/audio.md has the formulas.

    Attributes:
        kind: ``log-mel`` or ``mfcc``.
        bands: number of mel bands.
        coefficients: number of cepstral coefficients of ``mfcc``; 0 for ``log-mel``.
        rate_hz: sample rate.
        window: samples of a frame.
        hop: samples from the start of a frame to the start of the next one.
        fft: points of the discrete Fourier transform, at least ``window``.
        low_hz: lower edge of the first band.
        high_hz: upper edge of the last band.
        floor: least value of a band's energy before the logarithm.
        mel: ``htk`` (bands of height 1) or ``slaney`` (bands of area 1).
        input: name of the model's input that takes the features; empty: the only one that can.
    """

    kind: Literal["log-mel", "mfcc"]
    bands: int
    coefficients: int
    rate_hz: int
    window: int
    hop: int
    fft: int
    low_hz: float
    high_hz: float
    floor: float
    mel: Literal["htk", "slaney"]
    input: str = ""

    @property
    def features(self) -> int:
        """Number of values of a frame."""
        return self.coefficients or self.bands

    @property
    def text(self) -> str:
        """The request with every parameter, without the input's name."""
        head = f"mfcc:{self.coefficients},bands={self.bands}" if self.kind == "mfcc" else f"log-mel:{self.bands}"
        return (
            f"{head},rate={self.rate_hz},window={self.window},hop={self.hop},fft={self.fft},low={self.low_hz:g},"
            f"high={self.high_hz:g},floor={self.floor:g},mel={self.mel}"
        )

    def samples(self, frames: int) -> int:
        """Return how many samples make that many frames; 0 for 0."""
        return self.window + self.hop * (frames - 1) if frames > 0 else 0

    def frames(self, samples: int) -> int:
        """Return how many frames that many samples complete."""
        return (samples - self.window) // self.hop + 1 if samples >= self.window else 0


def parse_front_end(text: str) -> FrontEnd:
    """Read a front end as it is written on the command line.

    Without options, frames are 25 ms every 10 ms, the transform has the next power of two, and bands go from 20 Hz to
    95 % of half the rate: at 16 kHz ``window=400,hop=160,fft=512,low=20,high=7600``.

    Raises:
        InputError: the text does not have this form, or a parameter is out of its range.
    """
    head, *parts = text.strip().split(",")
    kind, _, number = head.partition(":")
    if kind not in ("log-mel", "mfcc"):
        raise InputError(f"front end {text!r}: the kind is {kind!r}, expected log-mel or mfcc, as in {EXPECTED}")
    given = _pairs(text, parts)
    count = _whole(text, f"the number behind {kind}:", number, 1, MOST_BANDS)
    if kind == "log-mel" and "bands" in given:
        raise InputError(f"front end {text!r}: log-mel:{count} has {count} bands already: leave bands= out")
    bands = count if kind == "log-mel" else _whole(text, "bands", given.pop("bands", "40"), 1, MOST_BANDS)
    if kind == "mfcc" and count > bands:
        raise InputError(f"front end {text!r}: {count} coefficients of {bands} bands: at most as many as bands=")
    rate = _whole(text, "rate", given.pop("rate", "16000"), 1000, MOST_RATE_HZ)
    window = _whole(text, "window", given.pop("window", str(round(rate * 0.025))), 2, MOST_WINDOW)
    default_fft = str(1 << (window - 1).bit_length())
    found = FrontEnd(
        kind="log-mel" if kind == "log-mel" else "mfcc",
        bands=bands,
        coefficients=count if kind == "mfcc" else 0,
        rate_hz=rate,
        window=window,
        hop=_whole(text, "hop", given.pop("hop", str(round(rate * 0.01))), 1, window),
        fft=_whole(text, "fft", given.pop("fft", default_fft), window, MOST_FFT),
        low_hz=_number(text, "low", given.pop("low", "20")),
        high_hz=_number(text, "high", given.pop("high", f"{rate * 0.475:.12g}")),
        floor=_number(text, "floor", given.pop("floor", "1e-6")),
        mel=_scale(text, given.pop("mel", "htk")),
        input=given.pop("input", ""),
    )
    if given:
        raise InputError(f"front end {text!r}: the option {next(iter(given))!r} is unknown, expected {EXPECTED}")
    if not 0 <= found.low_hz < found.high_hz <= rate / 2:
        raise InputError(
            f"front end {text!r}: bands from {found.low_hz:g} to {found.high_hz:g} Hz, expected 0 <= low < high <= "
            f"{rate / 2:g}, half the rate"
        )
    if not 1e-30 <= found.floor <= 1e6:
        raise InputError(f"front end {text!r}: floor is {found.floor:g}, expected 1e-30 to 1e6")
    return found


def _pairs(text: str, parts: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or not value:
            raise InputError(f"front end {text!r}: {part!r} must look like rate=16000, as in {EXPECTED}")
        if key in found:
            raise InputError(f"front end {text!r}: {key} is given twice")
        found[key] = value
    return found


def _whole(text: str, name: str, value: str, least: int, most: int) -> int:
    number = int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else -1
    if not least <= number <= most:
        raise InputError(f"front end {text!r}: {name} is {value!r}, expected a whole number from {least} to {most}")
    return number


def _number(text: str, name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"front end {text!r}: {name} is {value!r}, expected a number")
    return number


def _scale(text: str, value: str) -> Literal["htk", "slaney"]:
    if value == "htk":
        return "htk"
    if value == "slaney":
        return "slaney"
    raise InputError(f"front end {text!r}: mel is {value!r}, expected htk or slaney")
