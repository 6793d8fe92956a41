"""`lstm-edge train tagging`: train a labeller of steps."""

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
    LabelSmoothing,
    Layers,
    LearningRate,
    LossForClasses,
    LossOfClasses,
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

__all__ = ["EPILOG", "tagging"]

EPILOG = """
Examples:

`lstm-edge train tagging --data frames.npz -o tagger.safetensors --bidirectional`

`lstm-edge train tagging --data frames.csv --columns sequence=utterance,step=frame,target=phone -o t.safetensors`
"""


def tagging(
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
    loss: LossForClasses = LossOfClasses.CROSS_ENTROPY,
    label_smoothing: LabelSmoothing = 0.0,
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
    """Train a tagger: a label for every step of a sequence.

    A tenth of the sequences (of the groups, where there are any; the latest, where they have times) is held out for
    early stopping. With --bidirectional a step sees what comes after it; the model can then not be streamed.
    """
    from lstm_edge.training import TrainingOptions, train_tagger
    from lstm_edge.training.models import SequenceTagger, TaggerConfig

    with open_run(output=output, resume_file=resume_file, resume=resume, plot=plot, as_json=as_json) as run:
        dataset, validation = load_parts(data, held_out_data, columns, "tagging")
        config = TaggerConfig(
            features=dataset.features,
            classes=dataset.classes,
            labels=dataset.labels,
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
            label_smoothing=label_smoothing,
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
        run.say(f"training on {dataset.name}: {len(dataset)} sequences, {dataset.classes} classes, seed {seed}")
        train = partial(train_tagger, dataset, config, options=options, seed=seed, validation=validation)
        run.train(partial(train, start=run.load_start(SequenceTagger, start)), epochs)
