"""Options that several commands share, each written once: one name, one meaning, one grammar."""

from dataclasses import replace
from pathlib import Path

from lstm_edge_runtime.cli.definition import OptionDefinition

__all__ = [
    "AS_JSON",
    "BATCH_SIZE",
    "KERNELS",
    "MINIMUM_VERSION",
    "MODEL",
    "PROVIDER",
    "SIGNATURE_FORMAT",
    "SIGNED_NAME",
    "THREADS",
    "TRUST",
    "TRUSTED_KEYS",
    "TRUST_PANEL",
    "VERBOSITY",
    "with_old_flag",
]

TRUST_PANEL = "Signature (docs/signing.md)"

MODEL = OptionDefinition(name="model", required=True, metavar="MODEL.onnx", help="The .onnx file to open.")
AS_JSON = OptionDefinition(
    name="as_json", flags=("--json",), kind=bool, default=False, help="Print the report as one JSON object."
)
BATCH_SIZE = OptionDefinition(
    name="batch_size", flags=("--batch-size",), kind=int, default=1, minimum=1, help="Rows in a batch."
)
KERNELS = OptionDefinition(
    name="kernels",
    flags=("--kernels",),
    default="auto",
    choices=("auto", "required", "off"),
    help="Fused kernels: if they are available, or fail without them, or none.",
)
PROVIDER = OptionDefinition(
    name="provider",
    flags=("--provider",),
    default="cpu",
    choices=("cpu", "cuda"),
    help="Execution provider of onnxruntime.",
)
THREADS = OptionDefinition(
    name="threads", flags=("--threads",), kind=int, default=1, minimum=1, help="Number of compute threads."
)
SIGNATURE_FORMAT = OptionDefinition(
    name="format",
    flags=("--format",),
    default="lstm-edge",
    choices=("lstm-edge", "model-signing"),
    panel=TRUST_PANEL,
    help="Format of the signature: lstm-edge (Ed25519), or a bundle of OpenSSF's model-signing (ECDSA).",
)
TRUSTED_KEYS = OptionDefinition(
    name="trusted_keys",
    flags=("--trusted-key",),
    kind=Path,
    repeatable=True,
    metavar="K.pub",
    panel=TRUST_PANEL,
    help="Refuse the file unless this public key signed it. Repeatable: any of them.",
)
SIGNED_NAME = OptionDefinition(
    name="signed_name",
    flags=("--signed-name",),
    metavar="NAME",
    panel=TRUST_PANEL,
    help="Name of the model that the signature must give.",
)
MINIMUM_VERSION = OptionDefinition(
    name="minimum_version",
    flags=("--minimum-version",),
    metavar="VERSION",
    panel=TRUST_PANEL,
    help="Refuse a file that is signed as an older version.",
)
# Which signature a file must have before it is parsed.
TRUST = (
    TRUSTED_KEYS,
    OptionDefinition(
        name="signature",
        flags=("--signature",),
        kind=Path,
        metavar="FILE",
        panel=TRUST_PANEL,
        help="Signature file. By default MODEL.onnx.sig.",
    ),
    SIGNED_NAME,
    MINIMUM_VERSION,
    OptionDefinition(
        name="require_clock",
        flags=("--require-clock",),
        kind=bool,
        default=False,
        panel=TRUST_PANEL,
        help="Refuse a signature that expires if the clock is evidently not set. By default a note says so.",
    ),
)
# What every command has: the frames around a command read them (verbosity.py), not its function.
VERBOSITY = (
    OptionDefinition(
        name="quiet", flags=("-q", "--quiet"), kind=bool, default=False, help="Print results and errors only."
    ),
    OptionDefinition(
        name="verbose",
        flags=("-v", "--verbose"),
        kind=bool,
        default=False,
        help="Print also what happens: versions, kernels, times, and the traceback of an error.",
    ),
)


def with_old_flag(option: OptionDefinition, flag: str) -> OptionDefinition:
    """Return an option that also has an old name."""
    return replace(option, old_flag=flag)
