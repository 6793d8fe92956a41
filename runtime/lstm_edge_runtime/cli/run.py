"""``lstm-edge run``: run a model on a file of arrays, stream JSON lines through it, or write and score text."""

import json
import re
import sys
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from lstm_edge_runtime.cli.definition import CommandDefinition
from lstm_edge_runtime.cli.printing import print_json, printable, progress, say
from lstm_edge_runtime.cli.refusals import refuse_run
from lstm_edge_runtime.cli.run_options import OPTIONS
from lstm_edge_runtime.cli.service import Stopped, stoppable
from lstm_edge_runtime.commands.run_modes import standard_input

if TYPE_CHECKING:
    from lstm_edge_runtime.arrays import Array
    from lstm_edge_runtime.commands.run import RunReport, TextScore, TokenScore
    from lstm_edge_runtime.text import Vocabulary

__all__ = ["COMMAND"]


def run(model: str, inputs: str | None, *, stream: bool, calls: bool, as_json: bool, **options: Any) -> None:
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
    refuse_run({"model": model, "inputs": inputs, "stream": stream, "calls": calls, **options})
    table = _Scores(as_json=as_json)
    try:
        report = _compute(model, inputs, options, stream=stream, calls=calls, as_json=as_json, table=table)
    except Stopped as stopped:
        # Whoever stops a service may have closed its pipes already; the exit code still says why it ended.
        with suppress(OSError):
            progress(f"{stopped.name} ended the stream")
        raise SystemExit(stopped.code) from None
    if report.score is not None:
        table.finish(report.score)
    elif report.text is not None and not as_json:
        say("")
    elif report.lines is None and (report.path is None or as_json):
        print_json(report.to_json())
    if report.path is not None:
        progress(f"wrote {report.path}: {_arrays(report.outputs or {})}")


def _arrays(outputs: "Mapping[str, Array]") -> str:
    """Return names, dtypes and shapes, such as ``logits float32 [2, 5, 4]``."""
    return ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in outputs.items())


def _compute(
    model: str,
    inputs: str | None,
    options: Mapping[str, Any],
    *,
    stream: bool,
    calls: bool,
    as_json: bool,
    table: "_Scores",
) -> "RunReport":
    """Run the model; answers are printed as they come."""
    from lstm_edge_runtime.commands.run import run as compute

    given = standard_input() if stream or calls else None
    with stoppable(given) if stream and given is not None else nullcontext() as lines:
        return compute(
            model,
            inputs,
            **options,
            stream=lines,
            calls=given if calls else None,
            on_answer=_write_answer,
            on_line=say,
            on_text=None if as_json else lambda piece: print(_shown(piece), end="", flush=True),
            on_score=table.add,
            progress=_without_drawing if as_json else progress,
        )


def _write_answer(answer: bytes) -> None:
    """Write an answer to a call, and flush it: the caller waits for it."""
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()


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
            say(f"{'position':>10}  {'id':>7}  {'log p (nats)':>12}  token")
            self.begun = True
        if self.lines:
            say("\n".join(self.lines))
            self.lines.clear()

    def finish(self, score: "TextScore") -> None:
        self._flush()
        if self.as_json:
            say(json.dumps(vars(score)))
            return
        shown = "over e^709" if score.perplexity is None else f"{score.perplexity:.4f}"
        say(
            f"{score.tokens:,} tokens scored: perplexity {shown}, {score.bits_per_character:.4f} bits per character, "
            f"{score.unknown_tokens:,} unknown tokens in the text"
        )


def _shown(text: str) -> str:
    """Return text without terminal control sequences: the vocabulary comes from a file that others made.

    Tabs and the zero-width joiners of some scripts (U+200C and U+200D) stay.
    """
    return re.sub(r"[^\t\u200c\u200d]+", lambda match: printable(match[0]), text)


COMMAND = CommandDefinition(name="run", run=run, options=OPTIONS)
