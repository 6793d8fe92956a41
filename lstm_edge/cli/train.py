"""`lstm-edge train`: train a ready-made model on a data set."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lstm_edge.cli._bar import progress_bar
from lstm_edge.cli._frame import print_json, print_table, progress

__all__ = ["add_to"]

# The numbers repeat the defaults of ClassifierConfig and TrainingOptions: importing those here would load torch
# before `--help`. A test holds the two together.


class Peephole(StrEnum):
    """What `--peephole` takes."""

    NONE = "none"
    DIAGONAL = "diagonal"
    FULL = "full"


def add_to(app: typer.Typer) -> None:
    """Add the group `train` with its command `classification`."""
    group = typer.Typer(no_args_is_help=True, help="Train a model; one file for each, `.safetensors`.")
    group.callback()(_group)
    group.command("classification", epilog=EPILOG, no_args_is_help=True)(classification)
    app.add_typer(group, name="train")


EPILOG = """
Examples:

`lstm-edge train classification --data japanese-vowels -o model.safetensors`

`lstm-edge train classification --data my.npz -o my.safetensors --hidden 32`
"""


def _group() -> None:
    # A callback keeps `train` a group while it has only one command.
    pass


def classification(
    *,
    data: Annotated[
        str,
        typer.Option(
            help="`japanese-vowels` (its training split), or an `.npz` with `x` (float32, all sequences stacked), "
            "`lengths` and `y` (classes)."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The `.safetensors` file to write.")],
    hidden: Annotated[int, typer.Option(help="Size of the hidden state.")] = 64,
    layers: Annotated[int, typer.Option(help="LSTM layers.")] = 1,
    peephole: Annotated[Peephole, typer.Option(help="Peephole connections from the cell state.")] = Peephole.NONE,
    bidirectional: Annotated[bool, typer.Option("--bidirectional", help="Read in both directions.")] = False,
    input_noise: Annotated[
        float, typer.Option(help="Standard deviation of the noise added to the standardized inputs.")
    ] = 1.2,
    epochs: Annotated[int, typer.Option(help="The most epochs; training stops early.")] = 80,
    batch_size: Annotated[int, typer.Option(help="Sequences in a batch.")] = 16,
    learning_rate: Annotated[float, typer.Option(help="Adam's learning rate at the start.")] = 3e-3,
    seed: Annotated[int, typer.Option(help="Decides first weights, order, noise and the held-out part.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Train a classifier of whole sequences.

    A tenth of every class is held out of the training data for early stopping; a test split is never read.
    """
    from lstm_edge.checkpoint import save_checkpoint
    from lstm_edge.data import load
    from lstm_edge.models import ClassifierConfig
    from lstm_edge.training import TrainingOptions, train_classifier
    from lstm_edge_runtime.artifact import check_target

    check_target(output)
    dataset = load(data, default_split="train")
    config = ClassifierConfig(
        features=dataset.features,
        classes=dataset.classes,
        labels=dataset.labels,
        hidden=hidden,
        layers=layers,
        peephole=peephole.value,
        bidirectional=bidirectional,
        input_noise=input_noise,
    )
    options = TrainingOptions(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    progress(f"training on {dataset.name}: {len(dataset)} sequences, {dataset.classes} classes, seed {seed}")
    with progress_bar("training", epochs) as update:
        model, report = train_classifier(
            dataset,
            config,
            options=options,
            seed=seed,
            on_epoch=lambda epoch: update(epoch.number, f"held-out loss {epoch.held_out_loss:.3f}"),
        )
    save_checkpoint(model, output)
    if as_json:
        print_json(report.to_json())
    else:
        rows = [*report.rows(), ("file", f"{output} ({output.stat().st_size:,} bytes)")]
        print_table(("training", ""), rows)
