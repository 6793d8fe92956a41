"""What ``lstm-edge run`` does with a language model: write on from a prompt, and score a text."""

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from lstm_edge.cli._frame import print_json, printable, progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lstm_edge_runtime.session import Session
    from lstm_edge_runtime.text import Vocabulary

__all__ = ["PromptOptions", "print_continuation", "print_scores"]


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """How to write on: at most ``tokens``, drawn as ``lstm_edge_runtime.generate.generate`` says."""

    tokens: int = 200
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0


def print_continuation(session: "Session", prompt: str, options: PromptOptions, *, as_json: bool) -> None:
    """Print the prompt and what the model writes on, each piece as it comes; or one JSON object at the end."""
    from lstm_edge_runtime.generate import check_language_model, generate
    from lstm_edge_runtime.text import Vocabulary

    check_language_model(session)
    vocabulary = Vocabulary.from_card(session.card)
    ids = vocabulary.encode(prompt)
    _note_unknown(vocabulary, ids, "the prompt")
    continuation = generate(
        session,
        ids,
        options.tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
    )
    if as_json:
        written = list(continuation)
        text = vocabulary.decode(written)
        print_json({"prompt": prompt, "text": text, "ids": written, "seed": options.seed})
        return
    progress(f"at most {options.tokens} tokens, temperature {options.temperature:g}, seed {options.seed}")
    decoder = vocabulary.decoder()
    typer.echo(_shown(prompt), nl=False)
    for index in continuation:
        typer.echo(_shown(decoder.push(index)), nl=False)  # typer.echo flushes: the text is seen as it is written
    typer.echo(_shown(decoder.finish()))


def print_scores(session: "Session", source: str, *, as_json: bool) -> None:
    """Print the log-probability of each token of a text, as a table or as JSON lines, and the summary last."""
    from lstm_edge_runtime.generate import check_language_model, score_in_chunks
    from lstm_edge_runtime.text import Vocabulary

    check_language_model(session)
    vocabulary = Vocabulary.from_card(session.card)
    text = _read(source)
    ids = vocabulary.encode(text)
    parts = score_in_chunks(session, ids)
    unknown = _note_unknown(vocabulary, ids, source)
    if not as_json:
        typer.echo(f"{'position':>10}  {'id':>7}  {'log p (nats)':>12}  token")
    position, total = 1, 0.0
    for part in parts:
        total += float(part.sum())
        lines = [
            _line(vocabulary, at, int(ids[at]), float(value), as_json=as_json)
            for at, value in enumerate(part, start=position)
        ]
        typer.echo("\n".join(lines))
        position += len(part)
    _print_summary(total / (position - 1), position - 1, len(ids) / len(text), unknown, as_json=as_json)


def _shown(text: str) -> str:
    """Text without what a terminal would obey: a vocabulary comes out of a file that others made.

    Tabs and the joiners that scripts are written with (zero width, U+200C and U+200D) stay.
    """
    return re.sub(r"[^\t\u200c\u200d]+", lambda match: printable(match[0]), text)


def _line(vocabulary: "Vocabulary", position: int, index: int, value: float, *, as_json: bool) -> str:
    if as_json:
        token = vocabulary.tokens[index]
        line = {"position": position, "id": index, "token": token, "log_probability_nats": value}
        return printable(json.dumps(line, ensure_ascii=False))
    # For people the text: byte pairs name a space otherwise.
    return f"{position:>10}  {index:>7}  {value:>12.4f}  {vocabulary.decode([index])!r}"


def _print_summary(mean: float, tokens: int, per_character: float, unknown: int, *, as_json: bool) -> None:
    """Print the figures of the whole text; ``mean`` is the mean log-probability in nats, ``per_character`` tokens."""
    # A float64 holds e to the 709; beyond it there is no figure to give.
    perplexity = math.exp(-mean) if -mean < 709 else None
    bits = -mean / math.log(2.0) * per_character
    values: dict[str, Any] = {
        "tokens": tokens,
        "log_probability_nats": mean * tokens,
        "perplexity": perplexity,
        "bits_per_character": bits,
        "unknown_tokens": unknown,
    }
    if as_json:
        typer.echo(json.dumps(values))
    else:
        shown = "over e^709" if perplexity is None else f"{perplexity:.4f}"
        typer.echo(
            f"{tokens:,} tokens scored: perplexity {shown}, {bits:.4f} bits per character, "
            f"{unknown:,} unknown tokens in the text"
        )


def _read(source: str) -> str:
    from lstm_edge.data.text import decode_text, load_text

    if source == "-":
        return decode_text(typer.get_binary_stream("stdin").read, "standard input")
    return load_text(source).text


def _note_unknown(vocabulary: "Vocabulary", ids: "NDArray[np.int64]", what: str) -> int:
    """Say on stderr how many tokens the model does not know; returns their number."""
    unknown = 0 if vocabulary.unknown_id is None else int((ids == vocabulary.unknown_id).sum())
    if unknown:
        progress(
            f"{what}: {unknown:,} of {len(ids):,} tokens are not in the model's vocabulary, they are read as unknown"
        )
    return unknown
