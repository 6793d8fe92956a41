"""The options of ``lstm-edge run``."""

from pathlib import Path

from lstm_edge_runtime.cli.definition import OptionDefinition
from lstm_edge_runtime.cli.options import AS_JSON, BATCH_SIZE, KERNELS, MODEL, PROVIDER, THREADS, TRUST

__all__ = ["OPTIONS"]

_TEXT = (
    OptionDefinition(
        name="prompt",
        flags=("--prompt",),
        help="Text that the language model continues.",
    ),
    OptionDefinition(
        name="tokens",
        flags=("--tokens",),
        kind=int,
        minimum=1,
        help="With --prompt: largest number of tokens to generate. [default: 200]",
    ),
    OptionDefinition(
        name="temperature",
        flags=("--temperature",),
        kind=float,
        help="With --prompt: sampling temperature; below 1 favours probable tokens, 0 takes the most probable. "
        "[default: 1]",
    ),
    OptionDefinition(
        name="top_k",
        flags=("--top-k",),
        kind=int,
        minimum=1,
        help="With --prompt: sample from the k most probable tokens.",
    ),
    OptionDefinition(
        name="top_p",
        flags=("--top-p",),
        kind=float,
        help="With --prompt: sample from the most probable tokens with this total probability.",
    ),
    OptionDefinition(
        name="seed",
        flags=("--seed",),
        kind=int,
        minimum=0,
        help="With --prompt: random seed. [default: 0]",
    ),
    OptionDefinition(
        name="score",
        flags=("--score",),
        metavar="FILE|-",
        help="Score each token of this text: .txt, .xz, .gz, or - for standard input.",
    ),
)
OPTIONS = (
    MODEL,
    OptionDefinition(
        name="inputs",
        metavar="INPUT.npy|.npz",
        help="An .npy array, or an .npz file of named arrays.",
    ),
    OptionDefinition(
        name="output",
        flags=("-o", "--output"),
        kind=Path,
        help="Write the outputs to this .npy or .npz file instead of JSON.",
    ),
    OptionDefinition(
        name="stream",
        flags=("--stream",),
        kind=bool,
        default=False,
        help="Read and write JSON lines on standard input and output.",
    ),
    OptionDefinition(
        name="calls",
        flags=("--calls",),
        kind=bool,
        default=False,
        help="Answer calls with .npz files on standard input (docs/deploy.md); for validate.",
    ),
    BATCH_SIZE,
    OptionDefinition(
        name="on_bad_line",
        flags=("--on-bad-line",),
        default="stop",
        choices=("stop", "skip", "hold"),
        help="With --stream: end, go on, or go on with the last good line, at a line that cannot be run.",
    ),
    OptionDefinition(
        name="show_labels",
        flags=("--show-labels",),
        kind=bool,
        default=False,
        help="With --stream: print the names of the classes too.",
    ),
    OptionDefinition(
        name="metrics",
        flags=("--metrics",),
        kind=Path,
        help="With --stream: write counters, latency, norms of states and input drift to this .prom or .jsonl file.",
    ),
    OptionDefinition(
        name="metrics_every",
        flags=("--metrics-every",),
        kind=int,
        minimum=1,
        help="With --metrics: sample every k-th push. [default: 100]",
    ),
    OptionDefinition(
        name="metrics_format",
        flags=("--metrics-format",),
        choices=("prometheus", "jsonl"),
        help="With --metrics: the format, for a file with another ending.",
    ),
    OptionDefinition(
        name="load_state",
        flags=("--load-state",),
        kind=Path,
        old_flag="--state",
        help="Start from the state in this .npz file.",
    ),
    OptionDefinition(
        name="save_state",
        flags=("--save-state",),
        kind=Path,
        help="Write the final state to this .npz file.",
    ),
    OptionDefinition(
        name="row_lengths",
        flags=("--row-lengths",),
        old_flag="--lengths",
        help="Valid steps of each row, such as 5,3.",
    ),
    *_TEXT,
    AS_JSON,
    PROVIDER,
    THREADS,
    KERNELS,
    *TRUST,
)
