"""``lstm-edge run``: run a model on arrays, on a stream of JSON lines, or on text; numpy and onnxruntime only."""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from lstm_edge_runtime.arrays import Array
from lstm_edge_runtime.commands.calls import answer_calls
from lstm_edge_runtime.commands.class_names import check_has_labels, name_classes, with_class_names
from lstm_edge_runtime.commands.run_modes import check_modes, parse_lengths, standard_input
from lstm_edge_runtime.commands.run_options import check_targets, watching
from lstm_edge_runtime.commands.streaming import keeps_steps, read_state, run_stream
from lstm_edge_runtime.drawing import Drawing
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.files import read_arrays, write_arrays
from lstm_edge_runtime.generate import check_language_model, generate, score_in_chunks
from lstm_edge_runtime.library import KernelChoice
from lstm_edge_runtime.lines import OnBadLine, check_on_bad_line, to_json
from lstm_edge_runtime.metrics_format import MetricsFormat
from lstm_edge_runtime.session import Session
from lstm_edge_runtime.state import State
from lstm_edge_runtime.text import Vocabulary
from lstm_edge_runtime.text_files import check_text, decode_text, load_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["RunReport", "TextScore", "TokenScore", "run"]

AnyPath = str | os.PathLike[str]
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class TokenScore:
    """One token of a scored text: position from 0, id, and log-probability in nats given the earlier tokens."""

    position: int
    id: int
    log_probability_nats: float


@dataclass(frozen=True, kw_only=True)
class TextScore:
    """The figures of a scored text; ``perplexity`` is None above e to the 709, which overflows float64."""

    tokens: int
    log_probability_nats: float
    perplexity: float | None
    bits_per_character: float
    unknown_tokens: int


@dataclass(frozen=True, kw_only=True, eq=False)
class RunReport:
    """The results of a run.

    Attributes:
        outputs: for arrays: the outputs by name, float32 or the dtype of the file; None in the other modes.
        path: the file of the outputs, or None.
        labels: for arrays of a model with labels: the names of the classes with the largest scores, as nested lists
            without the last axis of the output; by output name where several outputs have a column for each label.
        state: for arrays and a stream: the final state; None for a text.
        lines: for a stream: number of answered lines; for calls: their number.
        prompt, text, ids, seed: for a prompt: the given text, the generated text, its token ids, the seed.
        score: for a scored text: its figures.
    """

    outputs: Mapping[str, Array] | None = None
    path: str | None = None
    labels: Any = None
    state: State | None = None
    lines: int | None = None
    prompt: str | None = None
    text: str | None = None
    ids: tuple[int, ...] | None = None
    seed: int | None = None
    score: TextScore | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the outputs by name, or the other modes' results, as JSON values; NaN and infinity become None."""
        if self.path is not None:
            return {"file": self.path}
        if self.outputs is not None:
            values: dict[str, Any] = to_json(self.outputs)
            return values if self.labels is None else {"labels": self.labels} | values
        if self.score is not None:
            return dict(vars(self.score))
        if self.lines is not None:
            return {"lines": self.lines}
        return {"prompt": self.prompt, "text": self.text, "ids": list(self.ids or ()), "seed": self.seed}


def run(
    model: AnyPath,
    inputs: AnyPath | Array | Mapping[str, Array] | None = None,
    *,
    output: AnyPath | None = None,
    stream: Iterable[bytes] | None = None,
    calls: BinaryIO | None = None,
    batch_size: int = 1,
    on_bad_line: OnBadLine = "stop",
    show_labels: bool = False,
    metrics: AnyPath | None = None,
    metrics_every: int | None = None,
    metrics_format: MetricsFormat | None = None,
    load_state: AnyPath | State | None = None,
    save_state: AnyPath | None = None,
    row_lengths: Sequence[int] | str | None = None,
    prompt: str | None = None,
    tokens: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    score: str | None = None,
    provider: str = "cpu",
    threads: int = 1,
    kernels: KernelChoice = "auto",
    trusted_keys: Sequence[AnyPath] | None = None,
    signature: AnyPath | None = None,
    signed_name: str | None = None,
    minimum_version: str | None = None,
    require_clock: bool = False,
    on_line: Say | None = None,
    on_answer: Callable[[bytes], None] | None = None,
    on_text: Say | None = None,
    on_score: Callable[[TokenScore, Vocabulary], None] | None = None,
    progress: Say | None = None,
) -> RunReport:
    """Run a model on arrays, on a stream of JSON lines, or on text; implements ``lstm-edge run``.

    Give one of ``inputs``, ``stream``, ``calls``, ``prompt`` and ``score``.

    Args:
        model: the ``.onnx`` file.
        inputs: the model's input, float32 ``[batch, time, features]`` in the file's order of axes (or token ids), a
            mapping of inputs by name, or the path of an ``.npy`` or ``.npz`` file of them.
        output: an ``.npy`` or ``.npz`` file to write the outputs to.
        stream: lines of JSON, each a frame, a chunk, an object of inputs by name, ``{"reset": true}`` or
            ``{"flush": true}``.
        calls: calls with named arrays, in the format of ``lstm_edge_runtime.commands.calls``.
        batch_size: rows of a batch in the stream.
        on_bad_line: what a line of the stream that cannot be run does: ``"stop"`` ends the stream, ``"skip"`` gives an
            object with the line's number and the error, ``"hold"`` also pushes the last good line again in its place.
        show_labels: answer the stream with objects that have the outputs by name, and as ``labels`` the names of the
            classes with the largest scores. Arrays have them without this option.
        metrics: a file for counters and samples of the stream, Prometheus text (``.prom``) or JSON lines (``.jsonl``);
            see docs/watch.md. A file that cannot be written is reported as progress, and the stream goes on.
        metrics_every: sample every so many pushes, 100 by default.
        metrics_format: ``"prometheus"`` or ``"jsonl"``, for a file with another ending.
        load_state: the initial state, or the ``.npz`` file of one.
        save_state: an ``.npz`` file to write the final state to. The sequence then goes on later: its end is not
            padded. A stream writes the file also when KeyboardInterrupt or BrokenPipeError ends it.
        row_lengths: valid steps of each row, ``[5, 3]`` or ``"5,3"``.
        prompt: a text that a language model continues.
        tokens: largest number of tokens to generate, 200 by default.
        temperature: sampling temperature; below 1 favours probable tokens, 0 takes the most probable; 1 by default.
        top_k: sample only from the k most probable tokens.
        top_p: sample only from the most probable tokens with this total probability.
        seed: random seed, 0 by default.
        score: text to score: a bundled text, a text file, or ``"-"`` for standard input.
        provider: ``"cpu"`` or ``"cuda"``.
        threads: threads that compute.
        kernels: ``"auto"``, ``"required"`` or ``"off"``, as for ``Session``.
        trusted_keys: public keys, one of which must have signed the file; None: no signature is checked.
        signature: the signature file; None: the model's path with ``.sig`` behind it.
        signed_name: the name that the signature must give; None: any.
        minimum_version: the smallest version that is accepted, such as ``"1.4.2"``; None: any.
        require_clock: refuse a signature that expires if the device's clock is evidently not set.
        on_line: called with each answer of the stream, a line of JSON.
        on_answer: called with the bytes of each answer to ``calls``.
        on_text: called with each piece of generated text.
        on_score: called with each token's score and the vocabulary.
        progress: called with one line for each step of the work.

    Returns:
        The results.

    Raises:
        InputError: not exactly one of the five modes is given, an option belongs to another mode, or an input does not
            fit.
        DataError: the text cannot be read.
        StreamingError: the model cannot be streamed.
        ArtifactError, IntegrityError, CardError, ProviderError: the file cannot be opened with these options.
        SignatureError: no trusted key signed the file, or a rule refuses it.
        OutputError: a file cannot be written.
    """
    check_on_bad_line(on_bad_line)
    drawing = {"tokens": tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    check_modes(
        {
            "inputs": inputs,
            "stream": stream is not None,
            "calls": calls is not None,
            "prompt": prompt,
            "score": score,
            "output": output,
            "row_lengths": row_lengths,
            "load_state": load_state,
            "save_state": save_state,
            "on_bad_line": on_bad_line,
            "show_labels": show_labels,
            "metrics": metrics,
            "metrics_every": metrics_every,
            "metrics_format": metrics_format,
        }
        | drawing
    )
    given: dict[str, Any] = {name: value for name, value in drawing.items() if value is not None}
    how = Drawing(**given) if prompt is not None else None
    if score not in (None, "-"):
        check_text(score)
    session = Session(
        model,
        provider=provider,
        threads=threads,
        kernels=kernels,
        trusted_keys=trusted_keys,
        signature=signature,
        signed_name=signed_name,
        minimum_version=minimum_version,
        require_clock=require_clock,
    )
    if progress is not None and session.signature is not None and session.signature.note:
        progress(session.signature.note)
    if show_labels:
        check_has_labels(session)
    if prompt is not None and how is not None:
        return _continue(session, prompt, how, on_text=on_text, say=progress)
    if score is not None:
        return _score(session, score, on_score=on_score, say=progress)
    if calls is not None:
        return RunReport(lines=answer_calls(session, calls, on_answer or _unheard))
    check_targets(session, output, save_state, streamed=stream is not None)
    if stream is not None:
        last, lines = run_stream(
            session,
            stream,
            batch_size=batch_size,
            load_state=load_state,
            save_state=save_state,
            on_bad_line=on_bad_line,
            on_line=on_line,
            metrics=watching(metrics, metrics_every, metrics_format, progress),
            shown=partial(with_class_names, session) if show_labels else None,
        )
        return RunReport(state=last, lines=lines)
    assert inputs is not None
    start = load_state if load_state is None or isinstance(load_state, State) else read_state(session, load_state)
    end = save_state is None or not keeps_steps(session)
    report = _run_arrays(session, inputs, start, parse_lengths(row_lengths), output, end=end)
    if save_state is not None and report.state is not None:
        write_arrays(save_state, report.state.to_arrays())
    return report


def _unheard(answer: bytes) -> None:
    """Ignore an answer."""
    del answer


def _run_arrays(
    session: Session,
    inputs: AnyPath | Array | Mapping[str, Array],
    state: State | None,
    lengths: "Sequence[int] | Array | None",
    output: AnyPath | None,
    *,
    end: bool,
) -> RunReport:
    from_file = isinstance(inputs, str | os.PathLike)
    arrays: Any = read_arrays(inputs) if from_file else inputs  # type: ignore[arg-type]  # a path then
    try:
        # A data file has the lengths beside the ids; the option says the same.
        if from_file and isinstance(arrays, dict) and session.lengths in arrays and lengths is None:
            lengths = arrays.pop(session.lengths)
        outputs, last = session.run(arrays, state, lengths, end=end)
    except InputError as error:
        if str(error).startswith("with end=False"):
            error = InputError(f"--save-state: the sequence goes on later: {error}")
        known = not from_file or str(error).startswith(str(inputs))
        raise error if known else InputError(f"{inputs}: {error}") from error
    if output is not None:
        write_arrays(output, outputs)
    return RunReport(
        outputs=outputs,
        path=None if output is None else os.fspath(output),
        labels=name_classes(session, outputs, lengths),
        state=last,
    )


def _continue(session: Session, prompt: str, how: Drawing, *, on_text: Say | None, say: Say | None) -> RunReport:
    check_language_model(session)
    vocabulary = Vocabulary.from_card(session.card)
    ids = vocabulary.encode(prompt)
    _count_unknown(vocabulary, ids, "the prompt", say)
    options = {field.name: getattr(how, field.name) for field in fields(how) if field.name != "tokens"}
    continuation = generate(session, ids, how.tokens, **options)
    if say is not None:
        say(f"at most {how.tokens} tokens, temperature {how.temperature:g}, seed {how.seed}")
    decoder, written, pieces = vocabulary.decoder(), [], []
    tell = on_text or (lambda _piece: None)
    tell(prompt)
    for index in continuation:
        written.append(index)
        pieces.append(decoder.push(index))
        tell(pieces[-1])
    pieces.append(decoder.finish())
    tell(pieces[-1])
    return RunReport(prompt=prompt, text="".join(pieces), ids=tuple(written), seed=how.seed)


def _score(
    session: Session,
    source: str,
    *,
    on_score: Callable[[TokenScore, Vocabulary], None] | None,
    say: Say | None,
) -> RunReport:
    check_language_model(session)
    vocabulary = Vocabulary.from_card(session.card)
    text = decode_text(standard_input().read, "standard input") if source == "-" else load_text(source).text
    ids = vocabulary.encode(text)
    parts = score_in_chunks(session, ids)
    unknown = _count_unknown(vocabulary, ids, source, say)
    position, total = 1, 0.0
    for part in parts:
        total += float(part.sum())
        for at, value in enumerate(part, start=position):
            if on_score is not None:
                on_score(TokenScore(position=at, id=int(ids[at]), log_probability_nats=float(value)), vocabulary)
        position += len(part)
    tokens = position - 1
    mean = total / tokens
    score = TextScore(
        tokens=tokens,
        log_probability_nats=mean * tokens,
        perplexity=math.exp(-mean) if -mean < 709 else None,
        bits_per_character=-mean / math.log(2.0) * (len(ids) / len(text)),
        unknown_tokens=unknown,
    )
    return RunReport(score=score)


def _count_unknown(vocabulary: Vocabulary, ids: "NDArray[np.int64]", what: str, say: Say | None) -> int:
    """Return the number of unknown tokens, and report it as progress."""
    unknown = 0 if vocabulary.unknown_id is None else int((ids == vocabulary.unknown_id).sum())
    if unknown and say is not None:
        say(
            f"{what}: {unknown:,} of {len(ids):,} tokens are not in the model's vocabulary and become the unknown token"
        )
    return unknown
