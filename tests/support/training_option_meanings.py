"""What the options mean that only ``train`` has; ``option_meanings.py`` has the others."""

from typing import NamedTuple

__all__ = ["LOGITS", "SECOND_MEANINGS", "SEQUENCES", "TRAIN", "TRAINING_MEANINGS", "Row"]

SEQUENCES = ("train classification", "train tagging", "train forecast")
TRAIN = (*SEQUENCES, "train language-model")
LOGITS = ("train classification", "train tagging", "train language-model")


class Row(NamedTuple):
    """What kind of value an option takes, what it means, and which commands have it."""

    kind: str
    meaning: str
    commands: tuple[str, ...]


TRAINING_MEANINGS = {
    "--alpha": Row("number", "Share of the teacher in the loss.", LOGITS),
    "--bucket/--no-bucket": Row("flag", "Whether batches hold sequences of similar lengths.", (*SEQUENCES,)),
    "--clip-norm": Row("number", "Bound of the gradients' norm.", (*TRAIN,)),
    "--embedding": Row("integer", "Size of a token's vector.", ("train language-model",)),
    "--forget-bias": Row("number", "First bias of the forget gates.", (*TRAIN,)),
    "--from": Row("path", "Trained model that a training starts from.", (*TRAIN,)),
    "--held-out": Row("number", "Share of --data that is held out.", (*SEQUENCES,)),
    "--hidden": Row("integer", "Size of the hidden state.", (*TRAIN,)),
    "--input-noise": Row(
        "number", "Standard deviation of the noise on standardized inputs in training.", (*SEQUENCES,)
    ),
    "--label-smoothing": Row(
        "number",
        "Share of probability spread over all classes.",
        (
            "train classification",
            "train tagging",
            "train language-model",
        ),
    ),
    "--layers": Row("integer", "Number of LSTM layers.", (*TRAIN,)),
    "--lines": Row("flag", "Each line of a text is a text by itself.", ("train language-model",)),
    "--loss": Row("choice", "What training lowers.", (*SEQUENCES,)),
    "--max-length": Row("integer", "Limit on the steps of a sequence in training.", (*SEQUENCES,)),
    "--max-minutes": Row("number", "Limit on the minutes of a training.", (*TRAIN,)),
    "--max-updates": Row("integer", "Limit on the updates of a training.", (*TRAIN,)),
    "--max-vocabulary": Row(
        "integer", "Limit on the tokens of a vocabulary: more are refused.", ("train language-model",)
    ),
    "--momentum": Row("number", "Momentum of sgd.", (*TRAIN,)),
    "--optimizer": Row("choice", "What makes the steps of a training.", (*TRAIN,)),
    "--pack/--no-pack": Row("flag", "Whether training packs sequences of different lengths.", (*SEQUENCES,)),
    "--pad": Row("choice", "Where padding goes in training.", (*SEQUENCES,)),
    "--projection": Row("integer", "Size of the projected output.", (*TRAIN,)),
    "--precision": Row("choice", "Arithmetic of the passes of training.", ("train language-model",)),
    "--quantize-aware": Row("text", "Quantization scheme whose arithmetic training uses.", (*TRAIN,)),
    "--reset-probability": Row(
        "number", "Probability that a row of text starts a window from the initial state.", ("train language-model",)
    ),
    "--resume-file": Row("path", "File that an unfinished training is kept in.", (*TRAIN,)),
    "--schedule": Row("choice", "How the learning rate falls.", (*TRAIN,)),
    "--sparse-begin": Row("number", "Share of a training at which pruning begins.", (*TRAIN,)),
    "--sparse-diagonal": Row("flag", "Whether pruning keeps the diagonals of recurrent matrices.", (*TRAIN,)),
    "--sparse-end": Row("number", "Share of a training at which pruning ends.", (*TRAIN,)),
    "--step-epochs": Row("integer", "Epochs between cuts of the learning rate.", (*TRAIN,)),
    "--step-factor": Row("number", "Factor of a cut of the learning rate.", (*TRAIN,)),
    "--teacher": Row("path", "Trained model that a smaller one learns from.", LOGITS),
    "--tied": Row("flag", "Use the embedding as the last layer's matrix.", ("train language-model",)),
    "--truncate": Row("choice", "Which steps over the limit are dropped in training.", (*SEQUENCES,)),
    "--vocabulary": Row("choice", "What a token is.", ("train language-model",)),
    "--vocabulary-size": Row("integer", "Tokens that are kept, the most frequent first.", ("train language-model",)),
    "--warmup": Row("number", "Share of a training in which the learning rate rises.", (*TRAIN,)),
    "--weight-decay": Row("number", "Weight decay of the matrices.", (*TRAIN,)),
    "--window": Row("integer", "Tokens that the gradient goes back through.", ("train language-model",)),
}

# Sparse layers are trained to a density, and stored or not.
SECOND_MEANINGS = {"--sparse": Row("text", "Density to which training prunes the recurrent layers.", (*TRAIN,))}
