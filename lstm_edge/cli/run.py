"""``lstm-edge run``: run a model on a file of arrays, stream JSON lines through it, or write and score text."""

import json
import re
from contextlib import nullcontext, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lstm_edge.cli._arguments import Command
from lstm_edge.cli._frame import print_json, printable, progress
from lstm_edge.cli._options import (
    AsJson,
    BatchSize,
    Kernels,
    MinimumVersion,
    Model,
    Provider,
    RequireClock,
    Signature,
    SignedName,
    Threads,
    TrustedKeys,
)
from lstm_edge.cli._renamed import with_old_names
from lstm_edge.cli._service import Stopped, stoppable

if TYPE_CHECKING:
    from lstm_edge.commands.run import TextScore, TokenScore
    from lstm_edge_runtime.text import Vocabulary

__all__ = ["add_to"]


class MetricsForm(StrEnum):
    """What `--metrics-format` takes."""

    PROMETHEUS = "prometheus"
    JSONL = "jsonl"


class BadLine(StrEnum):
    """What `--on-bad-line` takes."""

    STOP = "stop"
    SKIP = "skip"
    HOLD = "hold"


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("run", no_args_is_help=True, cls=Command)(with_old_names(run, "run"))


def run(
    model: Model,
    inputs: Annotated[
        str | None, typer.Argument(help="An .npy array, or an .npz file of named arrays.", metavar="INPUT.npy|.npz")
    ] = None,
    *,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the outputs to this .npy or .npz file instead of JSON.")
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Read and write JSON lines on standard input and output.")
    ] = False,
    calls: Annotated[
        bool,
        typer.Option("--calls", help="Answer calls with .npz files on standard input (docs/deploy.md); for validate."),
    ] = False,
    batch_size: BatchSize = 1,
    on_bad_line: Annotated[
        BadLine,
        typer.Option(help="With --stream: end, go on, or go on with the last good line, at a line that cannot be run."),
    ] = BadLine.STOP,
    show_labels: Annotated[
        bool, typer.Option("--show-labels", help="With --stream: print the names of the classes too.")
    ] = False,
    metrics: Annotated[
        Path | None,
        typer.Option(
            help="With --stream: write counters, latency, norms of states and input drift to this .prom or .jsonl file."
        ),
    ] = None,
    metrics_every: Annotated[
        int | None, typer.Option(min=1, help="With --metrics: sample every k-th push. [default: 100]")
    ] = None,
    metrics_format: Annotated[
        MetricsForm | None, typer.Option(help="With --metrics: the format, for a file with another ending.")
    ] = None,
    load_state: Annotated[Path | None, typer.Option(help="Start from the state in this .npz file.")] = None,
    save_state: Annotated[Path | None, typer.Option(help="Write the final state to this .npz file.")] = None,
    row_lengths: Annotated[str | None, typer.Option(help="Valid steps of each row, such as 5,3.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Text that the language model continues.")] = None,
    tokens: Annotated[
        int | None, typer.Option(help="With --prompt: largest number of tokens to generate. [default: 200]")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="With --prompt: sampling temperature; below 1 favours probable tokens, 0 takes the most probable. "
            "[default: 1]"
        ),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="With --prompt: sample from the k most probable tokens.")] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="With --prompt: sample from the most probable tokens with this total probability."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="With --prompt: random seed. [default: 0]")] = None,
    score: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help="Score each token of this text: .txt, .xz, .gz, or - for standard input."),
    ] = None,
    as_json: AsJson = False,
    provider: Provider = "cpu",
    threads: Threads = 1,
    kernels: Kernels = "auto",
    trusted_keys: TrustedKeys = None,
    signature: Signature = None,
    signed_name: SignedName = None,
    minimum_version: MinimumVersion = None,
    require_clock: RequireClock = False,
) -> None:
    """Run a model on an array file or a stream of JSON lines, or generate or score text with a language model.

    Without -o the outputs are printed as one JSON object; if the card has labels, it has the names of the classes too.
    With --stream each line of standard input is a frame or a chunk (a list), or an object of named inputs, and gives
    one line of output: a list, or with --show-labels an object. {"reset": true} resets the state, {"flush": true} ends
    the sequence. The first invalid line (NaN, a wrong shape, not JSON) is reported with its number and ends the command
    with exit code 2. With --on-bad-line skip it is answered by {"line": 3, "error": "..."}, and the state stays as it
    was; with hold the last good line is also pushed again in its place, and the object has its "answer". NaN and
    infinity in an output are printed as null.

    The end of the input gives the outputs that are left, if any, and exit code 0; with --save-state the sequence goes
    on later instead, and the file holds all that the stream knows. A closed output ends the stream with exit code 0,
    SIGINT (Ctrl-C) with 130 and SIGTERM with 143: the line that is being answered is finished, and --save-state is
    written.

    With --prompt a language model continues a text. The text is printed as it is generated, or with --json as one
    object at the end. With --score each token of a text gets a line with its log-probability (with --json a line of
    JSON). The last line has perplexity and bits per character. The first token has no context and is not scored.

    For example:

        lstm-edge run model.onnx utterance.npy -o logits.npy

        lstm-edge run model.onnx in.npz --row-lengths 5,3 --save-state s.npz -o out.npz

        echo '[0.1, 0.2, 0.3]' | lstm-edge run model.onnx --stream

        lstm-edge run lm.onnx --prompt "In the beginning" --tokens 200 --temperature 0.8 --seed 1

        lstm-edge run lm.onnx --score text.txt
    """
    from lstm_edge.commands.run import run as compute

    options: dict[str, Any] = {
        "output": output,
        "batch_size": batch_size,
        "on_bad_line": on_bad_line.value,
        "show_labels": show_labels,
        "metrics": metrics,
        "metrics_every": metrics_every,
        "metrics_format": None if metrics_format is None else metrics_format.value,
        "load_state": load_state,
        "save_state": save_state,
        "row_lengths": row_lengths,
        "prompt": prompt,
        "tokens": tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "score": score,
        "provider": provider,
        "threads": threads,
        "kernels": kernels,
        "trusted_keys": trusted_keys,
        "signature": signature,
        "signed_name": signed_name,
        "minimum_version": minimum_version,
        "require_clock": require_clock,
    }
    table = _Scores(as_json=as_json)
    try:
        with stoppable(typer.get_binary_stream("stdin")) if stream else nullcontext() as lines:
            report = compute(
                model,
                inputs,
                **options,
                stream=lines,
                calls=typer.get_binary_stream("stdin") if calls else None,
                on_answer=_write_answer,
                # typer.echo flushes: a consumer sees each answer at once.
                on_line=typer.echo,
                on_text=None if as_json else lambda piece: typer.echo(_shown(piece), nl=False),
                on_score=table.add,
                progress=_without_drawing if as_json else progress,
            )
    except Stopped as stopped:
        # Whoever stops a service may have closed its pipes already; the exit code still says why it ended.
        with suppress(OSError):
            progress(f"{stopped.name} ended the stream")
        raise typer.Exit(stopped.code) from None
    if report.score is not None:
        table.finish(report.score)
    elif report.text is not None and not as_json:
        typer.echo("")
    elif report.lines is None and (report.path is None or as_json):
        print_json(report.to_json())


def _write_answer(answer: bytes) -> None:
    """Write an answer to a call, and flush it: the caller waits for it."""
    output = typer.get_binary_stream("stdout")
    output.write(answer)
    output.flush()


def _without_drawing(message: str) -> None:
    """Print progress except the sampling options, which the JSON object contains."""
    if not message.startswith("at most "):
        progress(message)


class _Scores:
    """Prints each token's log-probability as a line of a table or of JSON, then the figures of the whole text."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.lines: list[str] = []
        self.begun = as_json

    def add(self, token: "TokenScore", vocabulary: "Vocabulary") -> None:
        if self.as_json:
            values = {"position": token.position, "id": token.id, "token": vocabulary.tokens[token.id]}
            values["log_probability_nats"] = token.log_probability_nats
            self.lines.append(printable(json.dumps(values, ensure_ascii=False)))
        else:
            # The table shows the text of a token; byte pairs encode a space as another character.
            text = repr(vocabulary.decode([token.id]))
            figures = f"{token.position:>10}  {token.id:>7}  {token.log_probability_nats:>12.4f}"
            self.lines.append(f"{figures}  {text}")
        if len(self.lines) >= 256:
            self._flush()

    def _flush(self) -> None:
        if not self.begun:
            typer.echo(f"{'position':>10}  {'id':>7}  {'log p (nats)':>12}  token")
            self.begun = True
        if self.lines:
            typer.echo("\n".join(self.lines))
            self.lines.clear()

    def finish(self, score: "TextScore") -> None:
        self._flush()
        if self.as_json:
            typer.echo(json.dumps(vars(score)))
            return
        shown = "over e^709" if score.perplexity is None else f"{score.perplexity:.4f}"
        typer.echo(
            f"{score.tokens:,} tokens scored: perplexity {shown}, {score.bits_per_character:.4f} bits per character, "
            f"{score.unknown_tokens:,} unknown tokens in the text"
        )


def _shown(text: str) -> str:
    """Return text without terminal control sequences: the vocabulary comes from a file that others made.

    Tabs and the zero-width joiners of some scripts (U+200C and U+200D) stay.
    """
    return re.sub(r"[^\t\u200c\u200d]+", lambda match: printable(match[0]), text)
