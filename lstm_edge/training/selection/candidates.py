"""One candidate: its configuration, its training and score on a fold, its size and speed as an int8 file."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

from lstm_edge.data import Dataset, collate
from lstm_edge.sparsity import BlockSparsity
from lstm_edge.training import TASKS, TrainingReport
from lstm_edge.training.models import SequenceClassifier, SequenceConfig, SequenceForecaster, SequenceTagger
from lstm_edge.training.selection.settings import Architecture, SelectionSettings
from lstm_edge.validation.judge import default_metric
from lstm_edge_runtime.errors import InputError
from lstm_edge_runtime.metrics import METRICS, Metric, get_metric

__all__ = ["Measured", "measure", "metric_for", "score", "train"]

Model = SequenceClassifier | SequenceTagger | SequenceForecaster

# Rounds of timings; the candidates take turns, so that other load on the machine affects all of them. The median
# counts.
_ROUNDS = 3
_STEPS = 500
# Sequences that are evaluated together; the longest one decides the cost of a batch.
_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Size and speed of a candidate on the device.

    ``int8_bytes``: size of its exported and quantized file, with its initial weights (trained weights change some
    figures in the card). ``step_us``: median time of a step on this machine, one thread; ``streamed``: whether it is a
    step of a stream; if the model cannot be streamed, it is the time of a whole sequence divided by its steps.
    """

    parameters: int
    int8_bytes: int
    step_us: float
    streamed: bool


def metric_for(dataset: Dataset, settings: SelectionSettings) -> Metric:
    """Return the requested metric, or the task's default.

    Raises:
        InputError: the metric does not exist, or does not fit the data's targets.
    """
    metric = get_metric(settings.metric or default_metric(dataset))
    if metric.target not in ("class", "value"):
        known = ", ".join(name for name, each in METRICS.items() if each.target in ("class", "value"))
        raise InputError(f"metric {metric.name}: not available for selection; expected one of {known}")
    if metric.output is not None:
        raise InputError(f"metric {metric.name}: the models of a selection have one output; leave out output=")
    if (metric.target == "class") != dataset.is_classes:
        wanted = "integer classes" if metric.target == "class" else "float32 values"
        raise InputError(f"metric {metric.name}: data {dataset.name} has y of {dataset.y.dtype}, expected {wanted}")
    return metric


def train(
    dataset: Dataset,
    architecture: Architecture,
    settings: SelectionSettings,
    *,
    classes: int = 0,
) -> tuple[Model, TrainingReport]:
    """Train one candidate; ``classes`` is the number in the whole data set, of which ``dataset`` may be a part.

    Raises:
        DataError, InputError: the errors of the task's training.
    """
    config = _config(dataset, architecture, settings, **({"classes": classes} if classes else {}))
    options = settings.options
    if architecture.density < 1.0:
        options = replace(options, sparse=architecture.density)
    trained: tuple[Model, TrainingReport] = TASKS[dataset.task](dataset, config, options=options, seed=settings.seed)
    return trained


def score(model: Model, dataset: Dataset, metric: Metric) -> float:
    """Return the metric of a float32 model: the mean over sequences, or over all steps for targets per step."""
    outputs, targets = [], []
    order = np.argsort(dataset.lengths, kind="stable")
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            batch = collate(dataset, order[start : start + _BATCH])
            y = model(torch.from_numpy(batch.x), torch.from_numpy(batch.lengths)).numpy()
            outputs.append(y[batch.mask] if dataset.per_step else y)
            targets.append(batch.y[batch.mask] if dataset.per_step else batch.y)
    expected = np.concatenate(targets)
    found = np.concatenate(outputs)
    return metric(found if dataset.is_classes else found.reshape(expected.shape), expected)


def measure(
    dataset: Dataset,
    settings: SelectionSettings,
    *,
    say: Callable[[str], None],
    folder: Path | None = None,
) -> dict[Architecture, Measured]:
    """Export and quantize each architecture, and time the steps of all of them in turns.

    Args:
        dataset: the source of sizes and labels.
        settings: the candidates.
        say: called with a sentence before each stage.
        folder: folder of the files; None: a temporary folder, removed at the end.

    Raises:
        LstmEdgeError: a candidate cannot be exported or quantized.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="lstm-edge-select-") as name:
            return measure(dataset, settings, say=say, folder=Path(name))
    files = {}
    for number, architecture in enumerate(settings.architectures):
        say(f"exporting {architecture} to int8")
        files[architecture] = _write(dataset, architecture, settings, folder / f"{number}.onnx")
    say("timing the candidates")
    length = int(np.median(dataset.lengths))
    times: dict[Architecture, list[tuple[float, bool]]] = {architecture: [] for architecture in files}
    for _ in range(_ROUNDS):
        for architecture, (path, _) in files.items():
            times[architecture].append(_time(path, length))
    return {
        architecture: Measured(
            parameters=parameters,
            int8_bytes=path.stat().st_size,
            step_us=median(time for time, _ in times[architecture]),
            streamed=times[architecture][0][1],
        )
        for architecture, (path, parameters) in files.items()
    }


def _config(dataset: Dataset, architecture: Architecture, settings: SelectionSettings, **sizes: int) -> SequenceConfig:
    chosen = {"hidden": architecture.hidden, "layers": architecture.layers, **settings.model} | sizes
    config: SequenceConfig = TASKS[dataset.task].config.for_data(dataset, **chosen)
    return config


def _write(dataset: Dataset, architecture: Architecture, settings: SelectionSettings, path: Path) -> tuple[Path, int]:
    from lstm_edge_exporters.pytorch.export import build
    from lstm_edge_exporters.quantize import Parent, quantize_bytes

    config = _config(dataset, architecture, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = TASKS[dataset.task].model(config).eval()
    if architecture.density < 1.0:
        BlockSparsity(model, architecture.density, end=0).step()
    built = build(model, None)
    path.write_bytes(quantize_bytes(Parent.built(built.artifact, built.proto), scheme="int8").data)
    return path, sum(parameter.numel() for parameter in model.parameters())


def _time(path: Path, length: int) -> tuple[float, bool]:
    from lstm_edge_runtime.bench import bench

    report = bench(path, threads=1, steps=_STEPS, time_steps=length, repeats=max(1, _STEPS // (10 * length)))
    if report.step is not None:
        return report.step.p50_us, True
    if report.sequence is None:
        raise InputError("select: a candidate runs neither in a stream nor on a sequence, so it cannot be timed")
    return report.sequence.p50_us / length, False
