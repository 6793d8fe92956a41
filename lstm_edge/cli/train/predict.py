"""`lstm-edge train forecast`: train a forecaster."""

from functools import partial

from lstm_edge.cli.train._run import load_parts, open_run
from lstm_edge.cli.train.options import (
    AsJson,
    BatchSize,
    Bidirectional,
    Bucket,
    ClipNorm,
    ColumnSpec,
    DataSpec,
    Dropout,
    Epochs,
    ForgetBias,
    HeldOut,
    HeldOutData,
    Hidden,
    InputNoise,
    Layers,
    LearningRate,
    LossForValues,
    LossOfValues,
    MaxLength,
    MaxMinutes,
    MaxUpdates,
    Momentum,
    Optimizer,
    OptimizerName,
    Output,
    Pack,
    Pad,
    PadAt,
    Patience,
    Peephole,
    PeepholeKind,
    Plot,
    Projection,
    QuantizeAware,
    Resume,
    ResumeFile,
    Schedule,
    ScheduleName,
    Seed,
    Start,
    StepEpochs,
    StepFactor,
    Threads,
    TruncateAt,
    Warmup,
    WeightDecay,
)

__all__ = ["EPILOG", "forecast"]

EPILOG = """
Examples:

`lstm-edge train forecast --data machines.npz -o forecast.safetensors`

`lstm-edge train forecast --data load.csv --columns sequence=day,step=hour,target=peak -o f.safetensors --loss mae`
"""


def forecast(
    *,
    data: DataSpec,
    output: Output,
    held_out_data: HeldOutData = None,
    columns: ColumnSpec = None,
    held_out: HeldOut = 0.1,
    pad: PadAt = Pad.POST,
    truncate: TruncateAt = Pad.POST,
    max_length: MaxLength = None,
    bucket: Bucket = True,
    pack: Pack = False,
    hidden: Hidden = 64,
    layers: Layers = 1,
    peephole: PeepholeKind = Peephole.NONE,
    projection: Projection = 0,
    bidirectional: Bidirectional = False,
    dropout: Dropout = 0.0,
    input_noise: InputNoise = 0.0,
    forget_bias: ForgetBias = 1.0,
    epochs: Epochs = 80,
    batch_size: BatchSize = 16,
    loss: LossForValues = LossOfValues.MSE,
    optimizer: OptimizerName = Optimizer.ADAM,
    learning_rate: LearningRate = 3e-3,
    momentum: Momentum = 0.9,
    weight_decay: WeightDecay = 0.0,
    schedule: ScheduleName = Schedule.COSINE,
    warmup: Warmup = 0.0,
    step_epochs: StepEpochs = 10,
    step_factor: StepFactor = 0.5,
    clip_norm: ClipNorm = 1.0,
    patience: Patience = 30,
    max_minutes: MaxMinutes = None,
    max_updates: MaxUpdates = None,
    quantize_aware: QuantizeAware = None,
    start: Start = None,
    seed: Seed = 0,
    threads: Threads = 1,
    resume_file: ResumeFile = None,
    resume: Resume = False,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Train a forecaster: a number or a vector for a whole sequence.

    A tenth of the sequences (of the groups, where there are any; the latest, where they have times) is held out for
    early stopping. The targets are standardized for the loss; the model answers in their own units.
    """
    from lstm_edge.training import TrainingOptions, train_forecaster
    from lstm_edge.training.models import ForecasterConfig, SequenceForecaster

    with open_run(output=output, resume_file=resume_file, resume=resume, plot=plot, as_json=as_json) as run:
        dataset, validation = load_parts(data, held_out_data, columns, "forecast")
        config = ForecasterConfig(
            features=dataset.features,
            targets=dataset.targets,
            hidden=hidden,
            layers=layers,
            peephole=peephole.value,
            projection=projection,
            bidirectional=bidirectional,
            dropout=dropout,
            input_noise=input_noise,
        )
        options = TrainingOptions(
            epochs=epochs,
            batch_size=batch_size,
            loss=loss.value,
            optimizer=optimizer.value,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            schedule=schedule.value,
            warmup=warmup,
            step_epochs=step_epochs,
            step_factor=step_factor,
            clip_norm=clip_norm or None,
            forget_bias=forget_bias,
            held_out=held_out,
            patience=patience,
            max_minutes=max_minutes,
            max_updates=max_updates,
            quantize_aware=quantize_aware,
            threads=threads,
            bucket=bucket,
            pack=pack,
            pad=pad.value,
            truncate=truncate.value,
            max_length=max_length,
        )
        run.say(f"training on {dataset.name}: {len(dataset)} sequences, {dataset.targets} targets, seed {seed}")
        train = partial(train_forecaster, dataset, config, options=options, seed=seed, validation=validation)
        run.train(partial(train, start=run.load_start(SequenceForecaster, start)), epochs)
