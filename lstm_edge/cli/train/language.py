"""`lstm-edge train language-model`: train a model that predicts the next token of a text."""

from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from lstm_edge.cli.train._run import open_run
from lstm_edge.cli.train.options import (
    DATA,
    MODEL,
    RUN,
    TRAINING,
    AsJson,
    ClipNorm,
    Dropout,
    Epochs,
    ForgetBias,
    HeldOutData,
    Hidden,
    LabelSmoothing,
    Layers,
    LearningRate,
    MaxBytes,
    MaxMinutes,
    MaxUpdates,
    Momentum,
    Optimizer,
    OptimizerName,
    Output,
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
    Start,
    StepEpochs,
    StepFactor,
    Warmup,
    WeightDecay,
)

__all__ = ["EPILOG", "VocabularyKind", "language_model"]

EPILOG = """
Examples:

`lstm-edge train language-model --data king-james -o kjv.safetensors --max-minutes 14`

`lstm-edge train language-model --data king-james --from kjv.safetensors -o kjv4.safetensors --quantize-aware int4`

`lstm-edge train language-model --data notes.txt --vocabulary bpe --vocabulary-size 1024 -o notes.safetensors`
"""


class VocabularyKind(StrEnum):
    """What `--vocabulary` takes."""

    CHARACTER = "character"
    BYTE = "byte"
    WORD = "word"
    BPE = "bpe"


def language_model(
    *,
    data: Annotated[
        str,
        typer.Option(
            help="`king-james` (bundled), or a text file in UTF-8: its first 90 % are trained on, the next 5 % held "
            "out, the last 5 % never read.",
            show_default=False,
        ),
    ],
    output: Output,
    held_out_data: HeldOutData = None,
    vocabulary: Annotated[
        VocabularyKind, typer.Option(rich_help_panel=DATA, help="What a token is.")
    ] = VocabularyKind.CHARACTER,
    vocabulary_size: Annotated[
        int | None, typer.Option(rich_help_panel=DATA, help="Keep the most frequent tokens only.")
    ] = None,
    max_vocabulary: Annotated[
        int | None, typer.Option(rich_help_panel=DATA, help="The device's budget: refuse more tokens than this.")
    ] = None,
    max_bytes: MaxBytes = None,
    lines: Annotated[
        bool,
        typer.Option("--lines", rich_help_panel=DATA, help="Each line is a text of its own, closed by an end token."),
    ] = False,
    embedding: Annotated[
        int | None,
        typer.Option(rich_help_panel=MODEL, help="Size of a token's vector. By default 64; tied: the output's size."),
    ] = None,
    hidden: Hidden = 384,
    layers: Layers = 1,
    peephole: PeepholeKind = Peephole.NONE,
    projection: Projection = 0,
    tied: Annotated[
        bool, typer.Option("--tied", rich_help_panel=MODEL, help="Use the embedding as the last layer's matrix too.")
    ] = False,
    dropout: Dropout = 0.0,
    forget_bias: ForgetBias = 1.0,
    epochs: Epochs = 10,
    batch_size: Annotated[int, typer.Option(rich_help_panel=TRAINING, help="Rows of text read side by side.")] = 64,
    window: Annotated[
        int, typer.Option(rich_help_panel=TRAINING, help="Tokens that the gradient goes back through.")
    ] = 100,
    reset_probability: Annotated[
        float,
        typer.Option(
            rich_help_panel=TRAINING, help="Probability with which a row of text starts a window from a fresh state."
        ),
    ] = 0.0,
    label_smoothing: LabelSmoothing = 0.0,
    optimizer: OptimizerName = Optimizer.ADAMW,
    learning_rate: LearningRate = 3e-3,
    momentum: Momentum = 0.9,
    weight_decay: WeightDecay = 0.01,
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
    seed: Annotated[int, typer.Option(rich_help_panel=TRAINING, help="Decides first weights, dropout and resets.")] = 0,
    threads: Annotated[
        int | None, typer.Option(rich_help_panel=RUN, help="Threads that compute. By default: one a core.", min=1)
    ] = None,
    resume_file: ResumeFile = None,
    resume: Resume = False,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Train a language model: the next token, at every step.

    The recurrent state goes on from one window of the text to the next; the gradient stays inside a window.
    """
    from lstm_edge.amounts import parse_amount
    from lstm_edge.training import LanguageOptions, train_language_model
    from lstm_edge.training.corpus import check_device_bytes, load_corpus
    from lstm_edge.training.models import LanguageModel, LanguageModelConfig

    with open_run(output=output, resume_file=resume_file, resume=resume, plot=plot, as_json=as_json) as run:
        corpus = load_corpus(
            data,
            validation=held_out_data,
            kind=vocabulary.value,
            size=vocabulary_size,
            max_size=max_vocabulary,
            lines=lines,
        )
        config = LanguageModelConfig(
            tokens=len(corpus.vocabulary),
            embedding=((projection or hidden) if tied else 64) if embedding is None else embedding,
            hidden=hidden,
            layers=layers,
            peephole=peephole.value,
            projection=projection,
            dropout=dropout,
            tied=tied,
            vocabulary=corpus.vocabulary.tokens,
            text=corpus.vocabulary.text,
        )
        check_device_bytes(config, None if max_bytes is None else parse_amount("--max-bytes", max_bytes))
        options = LanguageOptions(
            epochs=epochs,
            batch_size=batch_size,
            window=window,
            reset_probability=reset_probability,
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
            patience=patience,
            max_minutes=max_minutes,
            max_updates=max_updates,
            quantize_aware=quantize_aware,
            threads=threads,
        )
        run.say(
            f"training on {corpus.name}: {len(corpus.train):,} tokens, {len(corpus.vocabulary):,} in the vocabulary, "
            f"seed {seed}"
        )
        train = partial(train_language_model, corpus.train, corpus.held_out, config, options=options, seed=seed)
        run.train(partial(train, data=corpus.name, start=run.load_start(LanguageModel, start)), epochs)
