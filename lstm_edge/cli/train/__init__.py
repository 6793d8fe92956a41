"""`lstm-edge train`: train a ready-made model; one command for each task, generated from one table."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, get_args

import typer

from lstm_edge.cli._arguments import add_command
from lstm_edge.cli._frame import CommandGroup
from lstm_edge.cli._renamed import with_old_names
from lstm_edge.cli.train._run import run_task
from lstm_edge.cli.train.options import KINDS, TEXT_KINDS, VALUE_LOSS, Peephole
from lstm_edge.commands.task_options import REQUIRED, TASK_OPTIONS

__all__ = ["TASKS", "Peephole", "add_to", "make_command"]

HELP = """Train a model and write it to a `.safetensors` file.

--resume continues an interrupted training. `torchrun --nproc-per-node 2 -m lstm_edge train ...` trains with several
processes. docs/training.md has the recipes.
"""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task's command: its help, its examples, and the options whose type differs from the other tasks'."""

    help: str
    examples: tuple[str, ...]
    kinds: dict[str, Any] = field(default_factory=dict)


TASKS = {
    "classification": Task(
        help="""Train a classifier of whole sequences.

        A tenth of every class is held out of the training data for early stopping. A test split is never read.
        """,
        examples=(
            "--data japanese-vowels -o model.safetensors",
            "--data my.npz -o my.safetensors --hidden 32 --plot curves.svg",
        ),
    ),
    "tagging": Task(
        help="""Train a tagger: a label for every step of a sequence.

        A tenth of the sequences (of the groups, where there are any; the latest, where they have times) is held out for
        early stopping. With --bidirectional a step also depends on later steps, so the model cannot be streamed.
        """,
        examples=(
            "--data frames.npz -o tagger.safetensors --bidirectional",
            "--data frames.csv --columns sequence=utterance,step=frame,target=phone -o t.safetensors",
        ),
    ),
    "forecast": Task(
        help="""Train a forecaster: a number or a vector for a whole sequence.

        A tenth of the sequences (of the groups, where there are any; the latest, where they have times) is held out for
        early stopping. The targets are standardized for the loss; the model's outputs have the units of the targets.
        """,
        examples=(
            "--data machines.npz -o forecast.safetensors",
            "--data load.csv --columns sequence=day,step=hour,target=peak -o f.safetensors --loss mae",
        ),
        kinds={"loss": VALUE_LOSS},
    ),
    "language-model": Task(
        help="""Train a language model: the next token, at every step.

        The recurrent state is carried from one window of the text to the next; the gradient stays inside a window.
        """,
        examples=(
            "--data king-james -o kjv.safetensors --max-minutes 14",
            "--data king-james --from kjv.safetensors -o kjv4.safetensors --quantize-aware int4",
            "--data notes.txt --vocabulary bpe --vocabulary-size 1024 -o notes.safetensors",
        ),
        kinds=TEXT_KINDS,
    ),
}


def add_to(app: typer.Typer) -> None:
    """Add the group `train` with a command for each task."""
    group = typer.Typer(cls=CommandGroup, no_args_is_help=True, help=HELP)
    for name, task in TASKS.items():
        examples = "".join(f"\n`lstm-edge train {name} {example}`\n" for example in task.examples)
        command = with_old_names(make_command(name), "train")
        add_command(group, name, command, epilog=f"\nExamples:\n{examples}")
    app.add_typer(group, name="train")


def make_command(name: str) -> Callable[..., None]:
    """Return a function whose signature has a task's options and defaults, for typer to read."""
    task = TASKS[name]
    kinds = KINDS | task.kinds
    required = dict.fromkeys(REQUIRED, inspect.Parameter.empty) | {"output": None}
    options = required | dict(TASK_OPTIONS[name]) | {"as_json": False}

    def command(**values: Any) -> None:
        run_task(name, {key: value.value if isinstance(value, Enum) else value for key, value in values.items()})

    parameters = []
    for option, default in options.items():
        kind = get_args(kinds[option])[0]
        choice = kind(default) if isinstance(kind, type) and issubclass(kind, Enum) else default
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(option, keyword, default=choice, annotation=kinds[option]))
    command.__doc__ = task.help
    command.__annotations__ = {option: kinds[option] for option in options}
    command.__dict__["__signature__"] = inspect.Signature(parameters)
    return command
