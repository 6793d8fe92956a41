"""``lstm-edge run``: run a model on a file of arrays, stream JSON lines through it, or write and score text."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from lstm_edge.cli._options import AsJson, BatchSize, Kernels, Model, Provider, Threads
from lstm_edge.cli._renamed import with_old_names
from lstm_edge.cli._text import PromptOptions, print_continuation, print_scores

if TYPE_CHECKING:
    from lstm_edge_runtime.library import KernelChoice
    from lstm_edge_runtime.session import Session
    from lstm_edge_runtime.state import State

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("run", no_args_is_help=True)(with_old_names(run, "run"))


def run(
    model: Model,
    inputs: Annotated[
        str | None, typer.Argument(help="An .npy array, or an .npz of arrays by name.", metavar="INPUT.npy|.npz")
    ] = None,
    *,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the outputs here (.npy or .npz) instead of as JSON.")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="JSON lines on standard input and output.")] = False,
    batch_size: BatchSize = 1,
    load_state: Annotated[Path | None, typer.Option(help="Start from the state in this .npz file.")] = None,
    save_state: Annotated[Path | None, typer.Option(help="Write the last state to this .npz file.")] = None,
    row_lengths: Annotated[str | None, typer.Option(help="Valid steps of each row, for example 5,3.")] = None,
    prompt: Annotated[str | None, typer.Option(help="A language model writes on from this text.")] = None,
    tokens: Annotated[int | None, typer.Option(help="With --prompt: the most tokens to write. [default: 200]")] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="With --prompt: below 1 more careful, above 1 bolder, 0 the most probable. [default: 1]"),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="With --prompt: of the k most probable tokens only.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="With --prompt: of the most probable tokens with this share together.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="With --prompt: of the draws. [default: 0]")] = None,
    score: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|-", help="How probable each token of a text is: .txt, .xz, .gz, or - for standard input."
        ),
    ] = None,
    as_json: AsJson = False,
    provider: Provider = "cpu",
    threads: Threads = 1,
    kernels: Kernels = "auto",
) -> None:
    """Run a model on an array file, stream JSON lines through it, or write and score text with a language model.

    Without -o the outputs are printed as one JSON object. With --stream a line of standard input is a frame or a chunk
    (a list), or an object of named inputs; each gives one line. {"reset": true} starts anew. The first bad line (NaN,
    a wrong shape, no JSON) is named with its number and ends the command with exit code 2. NaN and infinity in an
    output are printed as null.

    With --prompt a language model writes on, its text is printed as it comes, or with --json as one object at the end.
    With --score each token of a text gets a line with its log-probability (with --json a line of JSON), and the last
    line has perplexity and bits per character; the first token has nothing before it and is not scored.

    For example:

        lstm-edge run model.onnx utterance.npy -o logits.npy

        lstm-edge run model.onnx in.npz --row-lengths 5,3 --save-state s.npz -o out.npz

        echo '[0.1, 0.2, 0.3]' | lstm-edge run model.onnx --stream

        lstm-edge run lm.onnx --prompt "In the beginning" --tokens 200 --temperature 0.8 --seed 1

        lstm-edge run lm.onnx --score text.txt
    """
    from lstm_edge_runtime.generate import check_drawing
    from lstm_edge_runtime.session import Session

    drawing = {"tokens": tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    given: dict[str, Any] = {name: value for name, value in drawing.items() if value is not None}
    _check_mode(inputs, stream=stream, prompt=prompt, score=score)
    arrays = {"-o": output, "--row-lengths": row_lengths, "--load-state": load_state, "--save-state": save_state}
    _check_options(prompt=prompt, score=score, stream=stream, drawing=given, arrays=arrays)
    if prompt is not None:
        options = PromptOptions(**given)
        check_drawing(options.tokens, options.temperature, options.top_k, options.top_p, options.seed)
    session = Session(model, provider=provider, threads=threads, kernels=cast("KernelChoice", kernels))
    if prompt is not None:
        print_continuation(session, prompt, PromptOptions(**given), as_json=as_json)
        return
    if score is not None:
        print_scores(session, score, as_json=as_json)
        return
    _check_targets(session, output, save_state)
    start = None if load_state is None else _read_state(session, load_state)
    if stream:
        last = _run_stream(session, start, batch_size)
    else:
        last = _run_file(session, str(inputs), start, _parse_lengths(row_lengths), output)
    if save_state is not None:
        from lstm_edge_runtime.files import write_arrays

        write_arrays(save_state, last.to_arrays())


def _check_mode(inputs: str | None, *, stream: bool, prompt: str | None, score: str | None) -> None:
    """Refuse anything but one of the four things that the command does."""
    from lstm_edge_runtime.errors import InputError

    modes = {"INPUT": inputs, "--stream": stream or None, "--prompt": prompt, "--score": score}
    chosen = [name for name, value in modes.items() if value is not None]
    if len(chosen) > 1:
        raise InputError(f"{' and '.join(chosen)} exclude one another: give one of {', '.join(modes)}")
    if not chosen:
        raise InputError(
            "give an INPUT.npy or INPUT.npz, or --stream to read JSON lines from standard input; for a language model "
            "--prompt TEXT or --score FILE"
        )


def _check_options(
    *,
    prompt: str | None,
    score: str | None,
    stream: bool,
    drawing: dict[str, Any],
    arrays: dict[str, Path | str | None],
) -> None:
    """Refuse options that belong to another mode, rather than ignore them."""
    from lstm_edge_runtime.errors import InputError

    text_mode = "--prompt" if prompt is not None else "--score" if score is not None else None
    if prompt is None and drawing:
        raise InputError(f"--{next(iter(drawing)).replace('_', '-')} goes with --prompt")
    misplaced = [name for name, value in arrays.items() if value is not None]
    if text_mode is not None and misplaced:
        raise InputError(f"{misplaced[0]} goes with arrays, {text_mode} is about text: leave it out")
    if stream and (arrays["-o"] is not None or arrays["--row-lengths"] is not None):
        raise InputError("--stream reads standard input and writes standard output: leave out -o and --row-lengths")


def _check_targets(session: "Session", output: Path | None, save_state: Path | None) -> None:
    """Refuse unwritable paths before anything runs: no half of the results is left behind."""
    from lstm_edge_runtime.errors import OutputError
    from lstm_edge_runtime.files import check_array_target

    if output is not None:
        check_array_target(output, len(session.outputs))
    if save_state is not None:
        if not session.states:
            raise OutputError(f"{save_state}: the model has no explicit state to save")
        if save_state.suffix != ".npz":
            raise OutputError(f"{save_state}: a state is saved as .npz")
        check_array_target(save_state, len(session.states))


def _read_state(session: "Session", path: Path) -> "State":
    from lstm_edge_runtime.errors import InputError
    from lstm_edge_runtime.files import read_arrays
    from lstm_edge_runtime.state import State

    arrays = read_arrays(path)
    if not isinstance(arrays, dict):
        raise InputError(f"{path}: expected an .npz file with an array for each state, as --save-state writes it")
    try:
        return State.from_arrays(session.states, arrays)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _parse_lengths(text: str | None) -> list[int] | None:
    from lstm_edge_runtime.errors import InputError

    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"--row-lengths must be integers with commas between them, as 5,3; got {text!r}") from error


def _run_file(
    session: "Session", path: str, state: "State | None", lengths: list[int] | None, output: Path | None
) -> "State":
    from lstm_edge.cli._frame import print_json
    from lstm_edge_runtime.errors import InputError
    from lstm_edge_runtime.files import read_arrays, write_arrays
    from lstm_edge_runtime.lines import to_json

    try:
        outputs, last = session.run(read_arrays(path), state, lengths)
    except InputError as error:
        raise error if str(error).startswith(path) else InputError(f"{path}: {error}") from error
    if output is None:
        print_json(to_json(outputs))
    else:
        write_arrays(output, outputs)
    return last


def _run_stream(session: "Session", state: "State | None", batch_size: int) -> "State":
    from lstm_edge_runtime.lines import stream_lines

    stream = session.stream(batch_size)
    if state is not None:
        stream.state = state
    # typer.echo flushes: a consumer sees each answer at once.
    for line in stream_lines(stream, session.inputs, typer.get_binary_stream("stdin")):
        typer.echo(line)
    return stream.state
