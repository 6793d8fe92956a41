"""The errors of lstm-edge: one base class, and one class for each problem that a caller can act on.

Every message says what was got, what was expected, where, and what to do. ``exit_code`` is the exit code of the
command line: 1 when a check or a budget failed, 2 when the input or the environment is at fault.
"""

import re

__all__ = [
    "REASONS",
    "ArtifactError",
    "BudgetError",
    "CaptureError",
    "CardError",
    "CoverageError",
    "DataError",
    "DeployError",
    "DeviceError",
    "InputError",
    "IntegrityError",
    "LstmEdgeError",
    "MissingExtraError",
    "MissingLibraryError",
    "MissingToolError",
    "OutputError",
    "ParityError",
    "ProviderError",
    "QuantizationError",
    "SignatureError",
    "StreamingError",
    "WorkerError",
    "first_line",
    "printable",
]

_SPACES = " \t\n\r\v\f"
_LINE_END = re.compile("[\n\r\v\f]")


# Why a push or a line is refused, as a fixed set of labels: an input's name, dtype or shape is wrong; an input is not
# finite; the new state is not finite; the sequence has ended; onnxruntime refused the call; ``out`` does not fit; the
# end of the sequence cannot be computed; the graph contradicts its card; a line of ``run --stream`` is not JSON of such
# an input; anything else.
REASONS = (
    "name", "dtype", "shape", "not_finite", "state_not_finite", "ended", "onnxruntime", "out", "flush", "card", "line",
    "other",
)  # fmt: skip


class LstmEdgeError(Exception):
    """Base class of every error that lstm-edge raises on purpose."""

    exit_code = 2
    # One of REASONS.
    reason = "other"


class ArtifactError(LstmEdgeError):
    """A file is missing, is not an ONNX model, or cannot be read by onnxruntime."""


class IntegrityError(ArtifactError):
    """The bytes of a file do not agree with its integrity trailer."""

    exit_code = 1


class SignatureError(ArtifactError):
    """A file has no signature that the trusted keys and the rules for it accept.

    Attributes:
        rule: the rule that refused the file: ``"missing"`` (there is no signature), ``"malformed"``, ``"key"`` (not a
            trusted key), ``"signature"`` (not one of that key), ``"file"`` (the file was altered), ``"name"``,
            ``"version"``, ``"expired"`` or ``"clock"`` (the device's clock is not set, and a set one is required).
    """

    exit_code = 1

    def __init__(self, message: str, *, rule: str = "") -> None:
        super().__init__(message)
        self.rule = rule


class CardError(ArtifactError):
    """A model card has an unknown version, a missing key, a wrong type, or contradicts its graph."""

    reason = "card"


class InputError(LstmEdgeError):
    """An input has a wrong name, dtype or shape, is empty, or holds NaN or infinity.

    ``reason`` is one of ``REASONS``, by which ``Metrics`` counts refused pushes.
    """

    def __init__(self, message: str = "", *, reason: str = "other") -> None:
        """Keep the message, and the reason."""
        super().__init__(message)
        self.reason = reason


class ProviderError(LstmEdgeError):
    """onnxruntime did not give the execution provider that was requested."""


class StreamingError(LstmEdgeError):
    """The model cannot be streamed; the message says why. ``reason`` is as in ``InputError``."""

    def __init__(self, message: str = "", *, reason: str = "other") -> None:
        """Keep the message, and the reason."""
        super().__init__(message)
        self.reason = reason


class MissingExtraError(LstmEdgeError, ImportError):
    """A package of an optional extra is not installed; the message names the extra."""


class MissingLibraryError(LstmEdgeError):
    """A compiled library is not part of this installation; the message says how to get it."""


class MissingToolError(LstmEdgeError):
    """A program of another project is not installed; the message names Debian's package."""


class DataError(LstmEdgeError):
    """A data set is missing, or one of its keys, shapes or dtypes differs from the documented one."""


class OutputError(LstmEdgeError):
    """A result cannot be written to the requested path."""


class CaptureError(LstmEdgeError):
    """A module cannot be captured as ONNX; the message names the module and what to change."""


class QuantizationError(LstmEdgeError):
    """A layer has an attribute or input that the quantizer does not support; the message names it."""


class WorkerError(LstmEdgeError):
    """Worker processes ended twice at the same work, or cannot be started; the message names the work."""


class ParityError(LstmEdgeError):
    """Two answers that must agree differ by more than their tolerance."""

    exit_code = 1


class DeployError(LstmEdgeError):
    """A device did not take a model, or cannot be reached; the old model is still served."""

    exit_code = 1


class DeviceError(DeployError):
    """A device cannot be reached, or does not answer for a model: nothing is known about the model's answers."""

    exit_code = 2


class CoverageError(LstmEdgeError):
    """A recurrent layer stayed float32 without a request to keep it so."""

    exit_code = 1


class BudgetError(LstmEdgeError):
    """A candidate loses more of the task's metric than its budget allows."""

    exit_code = 1


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, at most 300 characters, for use in our messages.

    onnxruntime's prefix is removed. If onnxruntime quotes bytes that are not UTF-8, its binding raises
    UnicodeDecodeError, which holds the message. An error without a message gives the name of its class.
    What a file made it quote is escaped: see ``printable``.
    """
    text = error.object.decode("utf-8", "backslashreplace") if isinstance(error, UnicodeDecodeError) else str(error)
    line = _LINE_END.split(text.strip(_SPACES), maxsplit=1)[0] or type(error).__name__
    return printable(line.removeprefix("[ONNXRuntimeError] : "))[:300]


def printable(text: str) -> str:
    r"""Return a text with every character escaped (``\x1b``, ``\u202e``) that a terminal might obey or not show."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
